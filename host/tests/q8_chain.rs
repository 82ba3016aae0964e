//! Quantiser and matmul in a row without a wait, as a decode step launches them: each is a dependent launch that may start
//! while the two before it still run. The bytes are those of the same launches with a wait after each, launched plainly and
//! from a graph; on the simulator, and on a GPU if there is one.

use host::device::{Buffer, Device, DeviceSpec, Stream};
use host::op::{Case, OpError, Operation, Order};
use host::ops::q8::{Q8Activations, Q8Input, Q8Matmul, Q8MatmulOp, Q8Shape, Q8Weights};

/// Tokens of a step.
const N_TOK: u32 = 2;

/// A square layer, two inputs, and an output for each step.
struct Chain {
    device: Device,
    stream: Stream,
    weights: Q8Weights,
    /// One for all steps, so that each step overwrites what the one before it reads.
    activations: Q8Activations,
    x: [Buffer; 2],
    y: Vec<Buffer>,
}

impl Chain {
    fn new(device: &Device, size: u32, steps: usize) -> Result<Chain, OpError> {
        let shape = Q8Shape::new(size, size, 1)?;
        let mut blocks: Vec<u8> = (0..shape.gguf_bytes())
            .map(|i| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8)
            .collect();
        // Scales of about 2^-9, either sign.
        blocks.chunks_exact_mut(34).for_each(|b| b[1] = b[1] & 0x83 | 0x18);
        let values = size as usize * N_TOK as usize;
        let input = |seed: usize| -> Result<Buffer, OpError> {
            let x: Vec<f32> = (0..values)
                .map(|i| ((i * 7919 + seed) % 1009) as f32 / 37.0 - 13.0)
                .collect();
            let buffer = device.alloc(4 * values, "x")?;
            buffer.upload(&x)?;
            Ok(buffer)
        };
        Ok(Chain {
            device: device.clone(),
            stream: device.stream()?,
            weights: Q8Weights::from_blocks(device, &blocks, shape, "w")?,
            activations: Q8Activations::new(device, shape, N_TOK)?,
            x: [input(0)?, input(500)?],
            y: (0..steps)
                .map(|i| Ok(device.alloc(4 * values, &format!("y{i}"))?))
                .collect::<Result<_, OpError>>()?,
        })
    }

    /// Even steps take an input, odd ones the output of the step before.
    fn launch(&self, config: &str, mut after_each: impl FnMut() -> Result<(), OpError>) -> Result<(), OpError> {
        let matmul = Q8Matmul::new(config)?;
        for (i, y) in self.y.iter().enumerate() {
            let x = if i % 2 == 0 { &self.x[i / 2 % 2] } else { &self.y[i - 1] };
            self.activations
                .quantize(&self.device, &self.stream, Q8Input::F32(x), N_TOK)?;
            after_each()?;
            matmul.launch(&self.device, &self.stream, &self.weights, &self.activations, y, N_TOK)?;
            after_each()?;
        }
        Ok(())
    }

    /// The outputs; they are poisoned then.
    fn take(&self) -> Result<Vec<Vec<u8>>, OpError> {
        let take = |y: &Buffer| {
            let bytes = y.download_vec(y.len_bytes())?;
            y.poison()?;
            Ok(bytes)
        };
        self.y.iter().map(take).collect()
    }

    fn check(&self, config: &str, replays: usize) -> Result<(), OpError> {
        self.launch(config, || Ok(self.device.synchronize()?))?;
        let expected = self.take()?;
        assert!(expected[0] != expected[2], "the two inputs give different outputs");
        let same = |got: Vec<Vec<u8>>, how: &str| {
            for (i, (got, want)) in got.iter().zip(&expected).enumerate() {
                assert!(got == want, "{config}, {how}: step {i} has other bytes than with waits");
            }
        };
        self.launch(config, || Ok(()))?;
        same(self.take()?, "in a row");
        let graph = self.device.capture(&self.stream, || {
            self.launch(config, || Ok(())).map_err(OpError::into_device)
        })?;
        for _ in 0..replays {
            graph.launch(&self.stream)?;
            same(self.take()?, "from a graph");
        }
        Ok(())
    }
}

fn canonical(size: u32) -> Vec<String> {
    let op = Q8MatmulOp;
    let dims = [
        ("n", u64::from(size)),
        ("k", u64::from(size)),
        ("n_tok", u64::from(N_TOK)),
    ];
    let case = Case::new("q8_matmul", "test", "chain", &dims);
    let takes = |id: &String| op.admits(&case, id).is_ok();
    let strict = op.configs().into_iter().filter(|c| c.order == Order::Canonical);
    strict.map(|c| c.id).filter(takes).collect()
}

#[test]
fn on_the_simulator() -> Result<(), OpError> {
    let device = Device::open(&DeviceSpec::Simt)?;
    let chain = Chain::new(&device, 96, 4)?;
    canonical(96).iter().try_for_each(|config| chain.check(config, 1))
}

#[test]
fn on_a_gpu() -> Result<(), OpError> {
    if let Err(why) = libcuda::available() {
        eprintln!("SKIPPED: {why}");
        return Ok(());
    }
    let device = Device::open(&DeviceSpec::Cuda(0))?;
    // Small enough that several launches are on the GPU at a time, and large enough to fill it.
    for size in [1024, 4096] {
        let chain = Chain::new(&device, size, 64)?;
        canonical(size).iter().try_for_each(|config| chain.check(config, 20))?;
    }
    Ok(())
}
