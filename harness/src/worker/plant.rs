//! Faults planted on request, to show that checks fail and that a bad kernel costs one config. In debug builds and in
//! worker processes only: `LOCKSTEP_PLANT=crash:CONFIG`, `hang:CONFIG`, `fault:CONFIG` (as a kernel that takes the device
//! with it), `flip:CONFIG` (one bit of its output), `alone:CONFIG` (a part of a case comes out otherwise by itself); several
//! configs with commas between.

use host::device::{Buffer, Stream};
use host::op::spec::Dtype;
use host::op::{AloneCheck, Case, Mismatch, OpError, Prepared, Reference};

/// Whether a fault of this kind is planted for this config (or check).
pub fn planted(kind: &str, config: &str) -> bool {
    let names = |p: &str| {
        p.split_once(':')
            .is_some_and(|(k, configs)| k == kind && configs.split(',').any(|c| c == config))
    };
    cfg!(debug_assertions) && std::env::var("LOCKSTEP_PLANT").is_ok_and(|p| names(&p))
}

/// What a fault of this config's kernel would be reported as, if one is planted.
pub fn fault(config: &str) -> Option<String> {
    planted("fault", config).then(|| format!("planted fault of {config}"))
}

/// Crashes or hangs here, if that is planted for the config.
pub fn act(config: &str) {
    if planted("crash", config) {
        eprintln!("planted crash of {config}");
        std::process::abort();
    }
    while planted("hang", config) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A prepared case whose outputs have a flipped bit after a launch of the planted config.
pub struct Planted {
    inner: Box<dyn Prepared>,
    flip: std::cell::Cell<bool>,
}

impl Planted {
    /// Wraps a prepared case.
    pub fn new(inner: Box<dyn Prepared>) -> Planted {
        Planted {
            inner,
            flip: std::cell::Cell::new(false),
        }
    }
}

impl Prepared for Planted {
    fn case(&self) -> &Case {
        self.inner.case()
    }
    fn copies(&self) -> usize {
        self.inner.copies()
    }
    fn poison(&mut self) -> Result<(), OpError> {
        self.inner.poison()
    }
    fn launch(&self, config: &str, stream: &Stream, copy: usize) -> Result<(), OpError> {
        self.flip.set(planted("flip", config));
        self.inner.launch(config, stream, copy)
    }
    fn output(&self, copy: usize) -> Result<Vec<u8>, OpError> {
        let mut out = self.inner.output(copy)?;
        if self.flip.get()
            && let Some(byte) = out.last_mut()
        {
            *byte ^= 1 << 6;
        }
        Ok(out)
    }
    fn cpu_reference(&mut self) -> Result<Reference<'_>, OpError> {
        self.inner.cpu_reference()
    }
    fn plain(&mut self) -> Result<&[u8], OpError> {
        self.inner.plain()
    }
    fn within_tolerance(&mut self, expected: &[u8], got: &[u8]) -> Result<(), OpError> {
        self.inner.within_tolerance(expected, got)
    }
    fn coords(&self, byte: usize) -> String {
        self.inner.coords(byte)
    }
    fn all_as_plain(&mut self) -> Result<Option<bool>, OpError> {
        // What is planted shows on the host.
        if self.flip.get() {
            Ok(None)
        } else {
            self.inner.all_as_plain()
        }
    }
    fn tensor(&self, copy: usize, name: &str) -> Option<&Buffer> {
        self.inner.tensor(copy, name)
    }
    fn repeatable(&self) -> bool {
        self.inner.repeatable()
    }
    fn alone(&mut self, config: &str, stream: &Stream) -> Result<Vec<AloneCheck>, OpError> {
        let mut checks = self.inner.alone(config, stream)?;
        if planted("alone", config)
            && let Some(check) = checks.last_mut()
        {
            let text = String::from;
            check.outcome = Err(Mismatch {
                index: 0,
                coords: self.coords(0),
                expected: text("planted"),
                got: text("planted"),
                count: 1,
                total: 1,
            });
        }
        Ok(checks)
    }
    fn elements(&self, bytes: std::ops::Range<usize>) -> u64 {
        self.inner.elements(bytes)
    }
    fn element(&self, byte: usize) -> Option<(usize, Dtype)> {
        self.inner.element(byte)
    }
}
