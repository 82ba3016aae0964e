//! What the sweep, the checks and the dispatcher need of an operation.
//!
//! An [`Operation`] is one entry of the kernel list (`q8_matmul`): its configs, the cases a model's shapes make of it,
//! random cases for the checks, and what a case costs. [`Operation::prepare`] puts one [`Case`] on a device and gives a
//! [`Prepared`], which launches any config on it and knows the right answer from two other pieces of code: the plain CPU
//! reference and the plain kernel. A new operation is one new file under [`crate::ops`] and one line in
//! [`crate::ops::all`].
//!
//! The sequence of a check, which the command line and the tests share ([`check`]):
//! ```text
//! poison -> launch(config) -> output -> compare_bytes(cpu_reference or plain, output)
//! ```

pub mod call;
mod case;
mod check;
mod compare;
pub mod data;
pub mod random;
pub mod spec;

pub use case::{Case, Values, typed};
pub use check::{CheckError, Compared, Expected, Want, check, check_after, check_against, check_bytes, cpu_answer};
pub use compare::{Mismatch, compare_bytes, compare_within};

use crate::cost::{Math, Work};
use crate::device::{Buffer, Device, DeviceError, Stream, image};
use crate::shapes::ShapeSet;

/// The order of arithmetic a config follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The operation's canonical order: same bytes as the reference. Strict mode admits only these.
    Canonical,
    /// Another order: within the tolerance, not byte-equal. Fast mode only.
    Fast,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Order::Canonical => "canonical",
            Order::Fast => "fast",
        })
    }
}

/// One tile config of an operation, as lists and records show it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConfigInfo {
    /// The stable id, e.g. `t2_r1_kw4_u2_s2_b4`.
    pub id: String,
    /// The kernel family: the name of the embedded image that holds the kernel.
    pub family: &'static str,
    /// The kernel's symbol.
    pub kernel: &'static str,
    /// The order it adds in.
    pub order: Order,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block in bytes, at the least (a shape may need more: [`Operation::work`]).
    pub shared_bytes: u32,
    /// Blocks per SM its registers were limited for; 0 when not limited.
    pub min_blocks: u32,
    /// The architectures its kernel is built for (`sm_90a`); empty for all.
    pub archs: &'static [&'static str],
    /// It is the operation's plain kernel: nothing but the CPU reference can check it.
    pub plain: bool,
}

impl ConfigInfo {
    /// Whether a device of this architecture ([`crate::device::DeviceInfo::arch`]) can run it. The simulator runs every config.
    ///
    /// # Errors
    /// The reason why not: the architectures that it is built for, or that this build has left them out.
    pub fn runs_on(&self, arch: &str) -> Result<(), String> {
        if self.archs.is_empty() || arch == "simt" {
            return Ok(());
        }
        let built_for = self.archs.join(", ");
        if !self.archs.iter().any(|of| image::serves(of, arch)) {
            return Err(format!("built for {built_for} alone, and the device is {arch}"));
        }
        // Without any images this build plans for a device that it cannot run on.
        if !image::IMAGES.is_empty() && image::serving(arch, self.family).is_none() {
            return Err(format!(
                "built for {built_for} alone, and this build has no images of that"
            ));
        }
        Ok(())
    }
}

/// Why an operation could not be prepared, launched or read back.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor's size or shape does not fit the operation.
    #[error("{0}")]
    Shape(String),
    /// No config of that id.
    #[error("{op} has no config '{config}'; `harness list configs` names them")]
    UnknownConfig {
        /// The operation.
        op: &'static str,
        /// The id asked for.
        config: String,
    },
    /// A tensor could not be read from its file.
    #[error(transparent)]
    Gguf(#[from] crate::gguf::GgufError),
    /// No config can run.
    #[error(transparent)]
    NoConfig(#[from] crate::dispatch::NoConfig),
    /// The simulator found an output that no thread has written.
    #[error("{op} did not write {coords}")]
    Unwritten {
        /// The operation.
        op: &'static str,
        /// The first such output.
        coords: String,
    },
    /// The parts of an operation's description do not fit each other: a launch takes a tensor that the problem has not, a
    /// reference answers for another shape.
    #[error("{0}")]
    Binding(String),
    /// There is nothing to check a config against.
    #[error("{op}: no CPU reference for '{config}' ({why}), and a plain kernel is not compared with itself")]
    NoReference {
        /// The operation.
        op: String,
        /// The config.
        config: String,
        /// Why the CPU has no answer.
        why: String,
    },
    /// The CPU reference was given data that does not fit.
    #[error(transparent)]
    Reference(#[from] crate::reference::ReferenceError),
    /// An output differs from what it must be.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A copy of the operands that was not prepared.
    #[error("copy {copy} was asked for and {copies} were prepared")]
    NoSuchCopy {
        /// The index asked for.
        copy: usize,
        /// How many there are.
        copies: usize,
    },
}

impl OpError {
    /// The device's error, for [`Device::capture`], whose closure gives those; any other error becomes its text.
    pub fn into_device(self) -> DeviceError {
        match self {
            OpError::Device(error) => error,
            other => DeviceError::Misuse(other.to_string()),
        }
    }
}

/// An operation of the kernel list.
pub trait Operation: Send + Sync {
    /// The name, as on the command line: `q8_matmul`.
    fn name(&self) -> &'static str;

    /// One line for lists.
    fn summary(&self) -> &'static str;

    /// The dimensions, in the order of ids: what shape files and the command line may give.
    fn axes(&self) -> &'static [spec::Axis];

    /// The dtypes of the activations that it takes; the first is what shape files mean.
    fn dtypes(&self) -> &'static [&'static str] {
        &["f32"]
    }

    /// Every tile config, in a stable order.
    fn configs(&self) -> Vec<ConfigInfo>;

    /// The cases that a set of shapes makes of this operation: one for each of its rows and each `n_tok`. Empty when the
    /// set has none. Values are random ([`Values::Normal`]).
    fn cases(&self, shapes: &ShapeSet) -> Vec<Case>;

    /// The case of dimensions given by hand (`n=4096,k=4096,n_tok=1`). Model and name are `custom`.
    ///
    /// # Errors
    /// [`OpError::Shape`] naming the dimension that is missing, unknown or zero.
    fn custom_case(&self, dims: &[(String, u64)]) -> Result<Case, OpError>;

    /// `count` seeded random cases for the checks: small shapes, weighted to the edges of tiles and blocks, and every
    /// [`Values`] kind. The first cases are the operation's listed edge cases.
    fn random_cases(&self, seed: u64, count: usize) -> Vec<Case>;

    /// Whether a config takes a case. Needs no device.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    fn admits(&self, case: &Case, config: &str) -> Result<(), String>;

    /// The configs that take the case, the most promising first by a rule of thumb: what dispatch falls back to when
    /// nothing was measured. `sm_count`: multiprocessors of the device.
    fn heuristic(&self, case: &Case, sm_count: u32) -> Vec<String>;

    /// What a config does on a case: bytes, operations and launch shape, for floors and for the cost model. Needs no
    /// device.
    ///
    /// # Errors
    /// [`OpError::UnknownConfig`].
    fn work(&self, case: &Case, config: &str, sm_count: u32) -> Result<Work, OpError>;

    /// What one launch costs the simulator, roughly, in multiply-adds of its int8 tensor core: elsewhere a thread's multiply-add
    /// takes it some 16 times as long, and an element that is moved some 100 times.
    fn simulated_work(&self, case: &Case) -> u64 {
        let config = self.configs().into_iter().next();
        let work = config.and_then(|c| self.work(case, &c.id, 1).ok()).unwrap_or_default();
        let math = match work.math {
            Math::None | Math::F32 => 16,
            Math::Bf16 | Math::Int8 => 1,
        };
        work.multiply_adds
            .saturating_mul(math)
            .saturating_add(work.bytes().saturating_mul(50))
    }

    /// Makes the case's data from `seed`, puts it on the device with `copies` copies of the weights (to time them cold:
    /// copies * bytes should exceed the L2 cache), each with its own output, and does what precedes the timed launch.
    ///
    /// # Errors
    /// [`OpError::Shape`] for dimensions that do not fit, [`OpError::Device`] when memory or a launch fails.
    fn prepare(&self, device: &Device, case: &Case, seed: u64, copies: usize) -> Result<Box<dyn Prepared>, OpError>;
}

/// The CPU reference's answer, or why there is none.
#[derive(Debug)]
pub enum Reference<'a> {
    /// The bytes every canonical config must give.
    Bytes(&'a [u8]),
    /// Some of those bytes: the case is too large for all of them.
    Sampled(&'a [Part]),
    /// The case is too large for the CPU; the reason states the rule. [`Prepared::plain`] is the reference then.
    TooLarge(String),
}

/// Consecutive bytes of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first byte.
    pub offset: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How a part of a case came out by itself, against the same part of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AloneCheck {
    /// What was shown: `row alone`.
    pub name: &'static str,
    /// Bytes compared.
    pub compared: usize,
    /// The first difference, if any.
    pub outcome: Result<(), Mismatch>,
}

/// A case on a device.
pub trait Prepared {
    /// The case this was made from.
    fn case(&self) -> &Case;

    /// How many copies of the operands there are.
    fn copies(&self) -> usize;

    /// Overwrites every copy's output with a pattern no result has, and on the simulator marks it unwritten: an output
    /// that a kernel misses, or one left from an earlier run, cannot pass for a result.
    ///
    /// # Errors
    /// When the device fails.
    fn poison(&mut self) -> Result<(), OpError>;

    /// Launches one config on one copy. Does not wait; allocates nothing, so that it can be captured in a graph.
    ///
    /// # Errors
    /// Unknown or refusing config, unknown copy, or the device's error.
    fn launch(&self, config: &str, stream: &Stream, copy: usize) -> Result<(), OpError>;

    /// The output bytes of a copy, after waiting for the device.
    ///
    /// # Errors
    /// When a launch before it failed, or when the simulator finds bytes nobody wrote.
    fn output(&self, copy: usize) -> Result<Vec<u8>, OpError>;

    /// The plain CPU path's bytes, computed once and kept.
    ///
    /// # Errors
    /// When the data does not fit the reference's own checks.
    fn cpu_reference(&mut self) -> Result<Reference<'_>, OpError>;

    /// The plain kernel's bytes on the same device at full size, computed once and kept. Its code shares nothing with the
    /// tuned kernels but the canonical order.
    ///
    /// # Errors
    /// When the device fails.
    fn plain(&mut self) -> Result<&[u8], OpError>;

    /// Whether the outputs of all copies are the plain kernel's bytes, compared on the device and not on the host; none where
    /// that is not done, or before [`Prepared::plain`]. The device must be done.
    ///
    /// # Errors
    /// When the device fails.
    fn all_as_plain(&mut self) -> Result<Option<bool>, OpError> {
        Ok(None)
    }

    /// A copy's tensor by its name in the operation (`a`, `w`, `y`), for what launches on the same buffers with code of its own
    /// ([`crate::peer`]). None where there is no such tensor or the operation shows none.
    fn tensor(&self, copy: usize, name: &str) -> Option<&Buffer> {
        let _ = (copy, name);
        None
    }

    /// Whether a second launch on the same copy gives the same bytes: nothing is updated in place.
    fn repeatable(&self) -> bool {
        true
    }

    /// Level L2: runs a config on parts of the case by themselves and compares each with its bytes in the whole, both on this
    /// device. Empty for operations that show it elsewhere.
    ///
    /// # Errors
    /// When the device fails.
    fn alone(&mut self, config: &str, stream: &Stream) -> Result<Vec<AloneCheck>, OpError> {
        let _ = (config, stream);
        Ok(Vec::new())
    }

    /// Whether an output of a [`Order::Fast`] config is near enough to `expected`, by the operation's stated bound.
    ///
    /// # Errors
    /// [`OpError::Mismatch`]: the first output outside of it.
    fn within_tolerance(&mut self, expected: &[u8], got: &[u8]) -> Result<(), OpError>;

    /// What a byte of the output belongs to: `y[token 3][row 17] byte 2`.
    fn coords(&self, byte: usize) -> String;

    /// Elements in a range of the output's bytes; f32 unless the operation says otherwise.
    fn elements(&self, bytes: std::ops::Range<usize>) -> u64 {
        bytes.len().div_ceil(4) as u64
    }

    /// Where the element that a byte of the output belongs to begins, and its type, for messages; none where that is not
    /// known.
    fn element(&self, byte: usize) -> Option<(usize, spec::Dtype)> {
        let _ = byte;
        None
    }
}
