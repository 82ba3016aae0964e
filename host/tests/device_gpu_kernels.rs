//! A kernel on a real GPU, if there is one, gives the simulator's bytes: launched plainly, as a dependent launch, and from a
//! graph. Without a GPU, or without kernel images, the test says that it was skipped, and why.

use host::device::{Buffer, Device, DeviceSpec, LaunchDims, Result, Stream, image};
use kernels_gpu::q8;
use kernels_gpu::q8_quantize::{self, q8_quantize_f32::KERNEL};

/// Tokens and their length; a whole number of token tiles, so that every byte of the outputs is written.
const TOKENS: u32 = 16;
const K: u32 = 3 * 128 + 40;

struct Quantised {
    x: Buffer,
    xq: Buffer,
    dx: Buffer,
}

impl Quantised {
    fn new(device: &Device) -> Result<Quantised> {
        let tiles = (q8::token_tiles(TOKENS) * q8::quads(K)) as usize;
        let x: Vec<f32> = (0..TOKENS * K)
            .map(|i| ((i * 7919) % 1009) as f32 / 37.0 - 13.0)
            .collect();
        let buffers = Quantised {
            x: device.alloc(x.len() * 4, "x")?,
            xq: device.alloc(tiles * q8::QUAD_TOKEN_BYTES as usize, "xq")?,
            dx: device.alloc(tiles * q8::QUAD_TOKEN_SCALES as usize * 4, "dx")?,
        };
        buffers.x.upload(&x)?;
        Ok(buffers)
    }

    fn launch(&self, device: &Device, stream: &Stream, dependent: bool) -> Result<()> {
        let dims = LaunchDims::new(q8_quantize::grid(TOKENS, q8::quads(K), 1), q8_quantize::THREADS);
        self.launch_as(device, stream, LaunchDims { pdl: dependent, ..dims })
    }

    fn launch_as(&self, device: &Device, stream: &Stream, dims: LaunchDims) -> Result<()> {
        let (xq, dx) = (self.xq.ptr(), self.dx.ptr_as());
        device.launch(
            stream,
            &KERNEL,
            dims,
            (self.x.ptr_as::<f32>(), xq, dx, TOKENS, K, K, q8::quads(K)),
        )
    }

    /// What was written since the last call.
    fn take(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let bytes = |buffer: &Buffer| buffer.download_vec::<u8>(buffer.len_bytes());
        let taken = (bytes(&self.xq)?, bytes(&self.dx)?);
        self.xq.poison()?;
        self.dx.poison()?;
        Ok(taken)
    }
}

fn simulated() -> Result<(Vec<u8>, Vec<u8>)> {
    let device = Device::open(&DeviceSpec::Simt)?;
    let buffers = Quantised::new(&device)?;
    buffers.launch(&device, &device.stream()?, false)?;
    assert_eq!(
        buffers.xq.first_unwritten(),
        None,
        "every byte is written, so every byte can be compared"
    );
    assert_eq!(buffers.dx.first_unwritten(), None);
    buffers.take()
}

#[test]
fn a_kernel_gives_the_simulators_bytes() -> Result<()> {
    let expected = simulated()?;
    assert!(
        expected.0.iter().any(|&byte| byte != expected.0[0]),
        "the data is not all the same"
    );
    if let Err(why) = libcuda::available() {
        eprintln!("SKIPPED: {why}");
        return Ok(());
    }
    if image::IMAGES.is_empty() {
        eprintln!("SKIPPED: no kernel images were built, because there was no device compiler");
        return Ok(());
    }
    let device = Device::open(&DeviceSpec::Cuda(0))?;
    let stream = device.stream()?;
    let buffers = Quantised::new(&device)?;
    buffers.take()?;
    for dependent in [false, true] {
        buffers.launch(&device, &stream, dependent)?;
        assert!(buffers.take()? == expected, "launched with dependent = {dependent}");
    }
    let graph = device.capture(&stream, || {
        buffers.launch(&device, &stream, false)?;
        buffers.launch(&device, &stream, true)
    })?;
    assert_eq!(graph.nodes(), 2);
    for replay in 0..3 {
        graph.launch(&stream)?;
        assert!(buffers.take()? == expected, "replay {replay}");
    }
    // All the shared memory a block can have, which has to be asked for, leaves room for one block.
    let most = device.info().shared_bytes_per_block;
    assert_eq!(device.blocks_per_sm(&KERNEL, q8_quantize::THREADS, most)?, Some(1));
    let dims = LaunchDims::new(q8_quantize::grid(TOKENS, q8::quads(K), 1), q8_quantize::THREADS).shared(most);
    buffers.launch_as(&device, &stream, dims)?;
    assert!(buffers.take()? == expected, "with {most} bytes of shared memory");
    Ok(())
}
