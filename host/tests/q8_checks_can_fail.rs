//! The checks can fail: a wrong order, a flipped bit, an unwritten and a stale output are each caught, by the very function
//! that the sweep and `verify` call.

use std::cell::Cell;

use cuda_std::{float, kernel, mem, thread};
use host::device::{Device, LaunchDims, SimtOptions, Stream};
use host::op::{
    Case, CheckError, ConfigInfo, Mismatch, OpError, Operation, Order, Prepared, Reference, Values, check,
    compare_bytes,
};
use host::ops::q8::Q8MatmulOp;
use host::reference::q8 as reference;

const OP: Q8MatmulOp = Q8MatmulOp;
const N: usize = 19;

fn case() -> Case {
    let base = Case::new("q8_matmul", "m", "t", &[("n", N as u64), ("k", 2048), ("n_tok", 1)]);
    Case {
        values: Values::WideRange,
        ..base
    }
}

fn canonical() -> ConfigInfo {
    OP.configs()
        .into_iter()
        .find(|c| c.order == Order::Canonical && OP.admits(&case(), &c.id).is_ok())
        .unwrap()
}

/// What is wrong with it.
enum Fault {
    None,
    /// The output has this bit flipped.
    Flip(usize),
    /// The copy of this index is never launched.
    Skip(usize),
    /// Only the first so many launches run; the others leave the output as it was.
    Stale(Cell<usize>),
}

/// A prepared case with a fault.
struct Faulty {
    inner: Box<dyn Prepared>,
    fault: Fault,
    poisons: bool,
}

impl Faulty {
    fn new(device: &Device, copies: usize, fault: Fault) -> Self {
        Self {
            inner: OP.prepare(device, &case(), 3, copies).unwrap(),
            fault,
            poisons: true,
        }
    }
}

impl Prepared for Faulty {
    fn case(&self) -> &Case {
        self.inner.case()
    }
    fn copies(&self) -> usize {
        self.inner.copies()
    }
    fn poison(&mut self) -> Result<(), OpError> {
        if self.poisons { self.inner.poison() } else { Ok(()) }
    }
    fn launch(&self, config: &str, stream: &Stream, copy: usize) -> Result<(), OpError> {
        match &self.fault {
            Fault::Skip(skipped) if *skipped == copy => Ok(()),
            Fault::Stale(left) if left.get() == 0 => Ok(()),
            Fault::Stale(left) => {
                left.set(left.get() - 1);
                self.inner.launch(config, stream, copy)
            }
            _ => self.inner.launch(config, stream, copy),
        }
    }
    fn output(&self, copy: usize) -> Result<Vec<u8>, OpError> {
        let mut bytes = self.inner.output(copy)?;
        if let Fault::Flip(bit) = self.fault {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Ok(bytes)
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
}

fn simulator(checks: bool) -> Device {
    Device::simt_with(SimtOptions {
        checks,
        ..SimtOptions::default()
    })
}

fn run(device: &Device, faulty: &mut Faulty, config: &ConfigInfo) -> Result<(), CheckError> {
    check(device, faulty, config, &device.stream().unwrap()).map(|_| ())
}

fn mismatch(outcome: Result<(), CheckError>) -> Mismatch {
    match outcome {
        Err(CheckError::Mismatch { mismatch, .. }) => *mismatch,
        Err(other) => panic!("another error: {other}"),
        Ok(()) => panic!("passed"),
    }
}

#[test]
fn a_kernel_without_fault_passes() {
    let device = simulator(true);
    run(&device, &mut Faulty::new(&device, 2, Fault::None), &canonical()).unwrap();
}

#[test]
fn one_flipped_bit_is_caught_and_placed() {
    let device = simulator(true);
    for bit in [0, 31, 32 * 7 + 13, 32 * N - 1] {
        let found = mismatch(run(
            &device,
            &mut Faulty::new(&device, 1, Fault::Flip(bit)),
            &canonical(),
        ));
        assert_eq!((found.index, found.count, found.total), (bit / 8, 1, N));
        assert_eq!(
            found.coords,
            format!("y[token 0][row {}] byte {}", bit / 32, bit / 8 % 4)
        );
    }
}

#[test]
fn a_kernel_of_another_order_does_not_pass_as_canonical() {
    let device = simulator(true);
    let fast: Vec<ConfigInfo> = OP
        .configs()
        .into_iter()
        .filter(|c| c.order == Order::Fast && OP.admits(&case(), &c.id).is_ok())
        .collect();
    assert!(!fast.is_empty());
    for config in fast {
        // As what it is, it passes: within the tolerance.
        run(&device, &mut Faulty::new(&device, 1, Fault::None), &config).unwrap();
        // As what it is not, it does not.
        let pretender = ConfigInfo {
            order: Order::Canonical,
            ..config
        };
        assert!(mismatch(run(&device, &mut Faulty::new(&device, 1, Fault::None), &pretender)).count > 0);
    }
}

#[test]
fn a_wrong_result_is_outside_the_tolerance_of_fast_configs() {
    let device = simulator(true);
    let fast = ConfigInfo {
        order: Order::Fast,
        ..canonical()
    };
    // The top bit of a float's exponent.
    let outcome = run(&device, &mut Faulty::new(&device, 1, Fault::Flip(32 * 5 + 30)), &fast);
    assert_eq!(mismatch(outcome).coords, "y[token 0][row 5] byte 0");
}

#[test]
fn an_unwritten_output_is_caught_with_and_without_the_simulators_checks() {
    let device = simulator(true);
    let outcome = run(&device, &mut Faulty::new(&device, 2, Fault::Skip(1)), &canonical());
    let text = outcome.unwrap_err().to_string();
    assert_eq!(text, "q8_matmul did not write y[token 0][row 0] byte 0");
    // Without checks, as on a GPU, the poison is what is found.
    let device = simulator(false);
    let found = mismatch(run(&device, &mut Faulty::new(&device, 2, Fault::Skip(1)), &canonical()));
    assert_eq!((found.count, found.got.contains("0xA5A5A5A5")), (N, true), "{found}");
}

#[test]
fn a_stale_output_is_caught_because_outputs_are_poisoned_first() {
    let device = simulator(false);
    let config = canonical();
    let mut faulty = Faulty::new(&device, 1, Fault::Stale(Cell::new(1)));
    run(&device, &mut faulty, &config).unwrap();
    // The second launch does nothing and leaves the right bytes of the first.
    assert_eq!(mismatch(run(&device, &mut faulty, &config)).count, N);
    // What would happen without poison: the old bytes pass.
    let mut faulty = Faulty {
        poisons: false,
        ..Faulty::new(&device, 1, Fault::Stale(Cell::new(1)))
    };
    run(&device, &mut faulty, &config).unwrap();
    run(&device, &mut faulty, &config).unwrap();
}

/// The plain product with its segments, or the blocks of a segment, in descending order.
///
/// # Safety
/// blocks `[n][nb][34]`, q [nb * 32], d [nb], y [n], on the device.
#[kernel]
pub unsafe fn descending(blocks: *const u8, q: *const i8, d: *const f32, y: *mut f32, n: u32, nb: u32, segments: u32) {
    let row = thread::index_1d();
    if row >= n {
        return;
    }
    let count = nb.div_ceil(16);
    let mut sum = 0.0f32;
    for i in 0..count {
        let first = if segments == 1 { count - 1 - i } else { i } * 16;
        let blocks_here = 16.min(nb - first);
        let mut acc = 0.0f32;
        for j in 0..blocks_here {
            let b = first + if segments == 1 { j } else { blocks_here - 1 - j };
            // SAFETY: row < n and b < nb.
            unsafe {
                let block = blocks.add(((row * nb + b) * 34) as usize);
                let bits = u16::from(mem::load(block)) | u16::from(mem::load(block.add(1))) << 8;
                let mut dot = 0;
                for k in 0..32 {
                    let w = mem::load(block.add(2 + k)) as i8;
                    dot += i32::from(w) * i32::from(mem::load(q.add(b as usize * 32 + k)));
                }
                let scale = half::f16::from_bits(bits).to_f32() * mem::load(d.add(b as usize));
                acc = float::fma(scale, dot as f32, acc);
            }
        }
        sum += acc;
    }
    // SAFETY: row < n.
    unsafe { mem::store(y.add(row as usize), sum) };
}

#[test]
fn a_kernel_in_descending_order_is_caught() {
    let device = simulator(true);
    let stream = device.stream().unwrap();
    let (n, nb) = (8usize, 40usize);
    // Blocks of one magnitude would hide little: scales from 2^-14 to 1.
    let block = |i: usize| {
        let scale = 0x0400u16 + ((i * 2_654_435_761) >> 7) as u16 % 0x3800;
        scale
            .to_le_bytes()
            .into_iter()
            .chain((0..32).map(move |j| (i * 29 + j * 71 + i * j) as u8))
    };
    let blocks: Vec<u8> = (0..n * nb).flat_map(block).collect();
    let x: Vec<f32> = (0..nb * 32).map(|i| ((i * 48_271) % 8191) as f32 - 4000.0).collect();
    let quantised = reference::quantise(reference::Input::F32(&x), 1, nb * 32).unwrap();
    let expected = reference::matmul_quantised(&blocks, &quantised, n, nb * 32, 1).unwrap();
    let bytes = |y: &[f32]| y.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let upload = |data: &[u8], name: &str| {
        let buffer = device.alloc(data.len(), name).unwrap();
        buffer.upload(data).unwrap();
        buffer
    };
    let weights = upload(&blocks, "blocks");
    let q = upload(&quantised.q.iter().map(|&v| v as u8).collect::<Vec<_>>(), "q");
    let d = upload(&bytes(&quantised.d), "d");
    for segments in [0u32, 1] {
        let y = device.alloc(n * 4, "y").unwrap();
        let args = (
            weights.ptr().cast_const(),
            q.ptr_as::<i8>().cast_const(),
            d.ptr_as::<f32>().cast_const(),
            y.ptr_as::<f32>(),
            n as u32,
            nb as u32,
            segments,
        );
        device
            .launch(&stream, &descending::KERNEL, LaunchDims::new(1, 32), args)
            .unwrap();
        let got: Vec<f32> = y.download_vec(n).unwrap();
        let wrong = compare_bytes(&bytes(&expected), &bytes(&got)).unwrap_err();
        assert!(wrong.count > 0, "{wrong}");
        // It is the order alone that is wrong: the values are near.
        let near = expected
            .iter()
            .zip(&got)
            .all(|(e, g)| (e - g).abs() <= 1e-4 * e.abs().max(1e3));
        assert!(near, "{expected:?} {got:?}");
    }
}
