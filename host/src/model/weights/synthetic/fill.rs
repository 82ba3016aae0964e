//! Tensors filled on a device: one launch each, of the kernels of [`kernels_gpu::synthesize`].

use half::{bf16, f16};
use kernels_gpu::synthesize::{self as kernels, NORMAL_DEVIATION, SCALE_FACTOR, THREADS, UNIFORM_STEPS};

use crate::device::{DevPtr, Device, Dim3, LaunchDims, Result, Stream};

/// Standard deviation of a uniform E2M1 code: sqrt of the mean of 0, 0.5, 1, 1.5, 2, 3, 4, 6 squared.
const CODE_DEVIATION: f64 = 2.926_174_977_679_906_4;
/// Root of the mean square of E4M3 scales 16, 18, .. 30.
const SCALE_RMS: f64 = 23.452_078_799_117_15;
/// Standard deviation of a uniform int8.
const INT8_DEVIATION: f64 = 73.900_270_635_499_03;

/// E4M3 scales: three random bits below the exponent of 16.
pub(super) const E4M3: [u8; 2] = [7, 0x58];
/// Codes: all bits random.
pub(super) const CODES: [u8; 2] = [0xFF, 0];

/// The tensor scale (ModelOpt's, a factor) with which NVFP4 weights of random codes and scales have a standard deviation.
pub(super) fn nvfp4_scale(deviation: f64) -> f64 {
    deviation / (CODE_DEVIATION * SCALE_RMS)
}

/// The base of the scales with which Q8_0 weights have a standard deviation. Scales spread by 14 %, which adds 1 % to it.
pub(super) fn q8_base(deviation: f64) -> f32 {
    let scale_rms = (SCALE_FACTOR * SCALE_FACTOR + (512.0 * 512.0 - 1.0) / 12.0).sqrt();
    (deviation / (INT8_DEVIATION * scale_rms)) as f32
}

/// Fills tensors of one seed on one stream. Nothing waits.
#[derive(Clone, Copy)]
pub(super) struct Fill<'a> {
    pub device: &'a Device,
    pub stream: &'a Stream,
    pub seed: u64,
}

impl Fill<'_> {
    /// `len` values of about a normal distribution.
    pub fn normal(&self, out: DevPtr<u8>, len: u64, mean: f64, deviation: f64, tensor: u64) -> Result<()> {
        let scale = (deviation / NORMAL_DEVIATION) as f32;
        let args = (out.cast::<bf16>().get_mut(), len, mean as f32, scale, tensor, self.seed);
        let kernel = &kernels::synthesize_normal::KERNEL;
        self.device
            .launch(self.stream, kernel, dims(kernels::grid(2 * len)), args)
    }

    /// `len` values from `low` to `high`.
    pub fn uniform(&self, out: DevPtr<u8>, len: u64, [low, high]: [f64; 2], tensor: u64) -> Result<()> {
        let step = ((high - low) / UNIFORM_STEPS) as f32;
        let args = (out.cast::<f32>().get_mut(), len, low as f32, step, tensor, self.seed);
        let kernel = &kernels::synthesize_uniform::KERNEL;
        self.device
            .launch(self.stream, kernel, dims(kernels::grid(4 * len)), args)
    }

    /// `len` bytes: [`CODES`] or [`E4M3`].
    pub fn bytes(&self, out: DevPtr<u8>, len: u64, masks: [u8; 2], tensor: u64) -> Result<()> {
        let [keep, set] = masks.map(|byte| u32::from_ne_bytes([byte; 4]));
        let args = (out.get_mut(), len, keep, set, tensor, self.seed);
        let kernel = &kernels::synthesize_bytes::KERNEL;
        self.device.launch(self.stream, kernel, dims(kernels::grid(len)), args)
    }

    /// Q8_0 in the quad layout of `[n][k]`.
    pub fn q8(&self, [qs, ws]: [DevPtr<u8>; 2], [n, k]: [u32; 2], base: f32, tensor: u64) -> Result<()> {
        let [x, y] = kernels::grid_q8(n, k);
        let args = (qs.get_mut(), ws.cast::<f16>().get_mut(), n, k, base, tensor, self.seed);
        self.device
            .launch(self.stream, &kernels::synthesize_q8::KERNEL, dims((x, y)), args)
    }

    /// Q8_0 in GGUF's blocks.
    pub fn q8_0(&self, out: DevPtr<u8>, blocks: u64, base: f32, tensor: u64) -> Result<()> {
        let args = (out.get_mut(), blocks, base, tensor, self.seed);
        let grid = kernels::grid_q8_0(blocks);
        self.device
            .launch(self.stream, &kernels::synthesize_q8_0::KERNEL, dims(grid), args)
    }
}

fn dims(grid: impl Into<Dim3>) -> LaunchDims {
    LaunchDims::new(grid, THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Buffer;
    use crate::ops::q8::{Q8Packed, Q8Shape};
    use crate::reference::synthetic::{self as reference, Key};

    const KEY: Key = Key {
        seed: 0x1234_5678_9ABC_DEF0,
        tensor: 0xFEDC_BA98_7654_3210,
    };

    /// A device, a stream, and a buffer of so many bytes filled by `f`, as bytes.
    fn filled(bytes: usize, f: impl FnOnce(Fill, DevPtr<u8>) -> Result<()>) -> Vec<u8> {
        let device = Device::simt_with(Default::default());
        let (stream, buffer) = (device.stream().unwrap(), device.alloc(bytes, "out").unwrap());
        let fill = Fill {
            device: &device,
            stream: &stream,
            seed: KEY.seed,
        };
        f(fill, DevPtr::of(&buffer)).unwrap();
        stream.synchronize().unwrap();
        all(&buffer)
    }

    fn all(buffer: &Buffer) -> Vec<u8> {
        assert_eq!(buffer.first_unwritten(), None);
        buffer.download_vec(buffer.len_bytes()).unwrap()
    }

    /// Lengths around vectors, and one of more threads than a grid has.
    const LENGTHS: [usize; 9] = [1, 3, 4, 7, 8, 15, 16, 17, 5003];

    #[test]
    fn every_kernel_gives_the_reference_s_bytes() {
        for len in LENGTHS {
            let n = len as u64;
            let got = filled(2 * len, |fill, out| fill.normal(out, n, 0.5, 0.02, KEY.tensor));
            let scale = (0.02 / NORMAL_DEVIATION) as f32;
            let wanted = reference::normal(KEY, len, 0.5, scale);
            assert!(
                got == wanted.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
                "normal {len}"
            );

            let got = filled(4 * len, |fill, out| fill.uniform(out, n, [-7.0, 2.5], KEY.tensor));
            let wanted = reference::uniform(KEY, len, -7.0, (9.5 / UNIFORM_STEPS) as f32);
            assert!(
                got == wanted.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
                "uniform {len}"
            );

            for masks in [CODES, E4M3] {
                let got = filled(len, |fill, out| fill.bytes(out, n, masks, KEY.tensor));
                assert!(
                    got == reference::bytes(KEY, len, masks[0], masks[1]),
                    "bytes {len} {masks:?}"
                );
            }
            let got = filled(34 * len, |fill, out| fill.q8_0(out, n, 1e-6, KEY.tensor));
            assert!(got == reference::q8_0(KEY, len, 1e-6), "q8_0 {len}");
        }
    }

    /// The planes hold the blocks' matrix; rows and blocks of padding are zero.
    #[test]
    fn planes_are_the_blocks_repacked() {
        for (n, k) in [(1, 32), (16, 128), (19, 160), (33, 1024), (40, 4128)] {
            let shape = Q8Shape::new(n, k, 1).unwrap();
            let blocks = reference::q8_0(KEY, n as usize * shape.blocks(), 3e-6);
            let wanted = Q8Packed::from_blocks(&blocks, shape).unwrap();
            let (qs, ws) = (wanted.qs.len(), 2 * wanted.ws.len());
            let got = filled(qs + ws, |fill, out| {
                fill.q8([out, out.add(qs)], [n, k], 3e-6, KEY.tensor)
            });
            assert!(got[..qs] == wanted.qs[..], "{n} x {k}: integers");
            let scales: Vec<u8> = wanted.ws.iter().flat_map(|s| s.to_le_bytes()).collect();
            assert!(got[qs..] == scales[..], "{n} x {k}: scales");
        }
    }

    /// The bytes do not depend on the grid, where a thread does several shares; a tensor's beginning does not depend on its length.
    #[test]
    fn a_part_is_that_part_of_the_whole() {
        let whole = filled(20_000, |fill, out| fill.bytes(out, 20_000, CODES, 1));
        let part = filled(5000, |fill, out| fill.bytes(out, 5000, CODES, 1));
        assert!(whole[..5000] == part[..]);
        let one_block = filled(20_000, |fill, out| {
            let args = (out.get_mut(), 20_000, u32::MAX, 0, 1, KEY.seed);
            fill.device
                .launch(fill.stream, &kernels::synthesize_bytes::KERNEL, dims(1), args)
        });
        assert!(kernels::grid(20_000) > 1 && whole == one_block);
        assert_eq!([0, 1, 1 << 40].map(kernels::grid), [1, 1, kernels::MAX_BLOCKS]);
        // Another tensor, another seed: other bytes.
        let other = filled(5000, |fill, out| fill.bytes(out, 5000, CODES, 2));
        assert!(other != part);
        let seeded = filled(5000, |fill, out| Fill { seed: 1, ..fill }.bytes(out, 5000, CODES, 1));
        assert!(seeded != part);
    }

    #[test]
    fn deviations_are_what_the_constants_say() {
        let codes = [0.0_f64, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v * v, n + 1.0));
            f64::sqrt(sum / n)
        };
        assert!((mean(&mut codes.into_iter()) - CODE_DEVIATION).abs() < 1e-12);
        assert!((mean(&mut (8..16).map(|v| 2.0 * f64::from(v))) - SCALE_RMS).abs() < 1e-12);
        assert!((mean(&mut (-128..128).map(|v| f64::from(v) + 0.5)) - INT8_DEVIATION).abs() < 1e-12);
        assert_eq!(THREADS % 32, 0);
        let base = q8_base(0.01);
        assert!((f64::from(base) * SCALE_FACTOR * INT8_DEVIATION - 0.01).abs() < 2e-4);
        assert!((nvfp4_scale(1.0) * CODE_DEVIATION * SCALE_RMS - 1.0).abs() < 1e-12);
    }
}
