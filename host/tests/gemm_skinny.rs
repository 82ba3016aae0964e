//! The kernels for few tokens or few outputs on the simulator: every config against the CPU reference at its own edges, what a config
//! refuses, the bytes of a row alone.

use half::{bf16, f16};
use host::device::{Buffer, Device, LaunchDims, Pod, SimtOptions};
use host::op::Values;
use host::op::data::{Draw, Float};
use host::reference::gemm::{Number, Operands};
use kernels_gpu::gemm_skinny::{Args, CONFIGS, Config, Entry};

/// A dtype and its kernels.
trait Kernels: Float + Number {
    fn kernel(entry: &Entry) -> cuda_std::launch::Kernel<Args>;
}

impl Kernels for bf16 {
    fn kernel(entry: &Entry) -> cuda_std::launch::Kernel<Args> {
        entry.bf16
    }
}

impl Kernels for f16 {
    fn kernel(entry: &Entry) -> cuda_std::launch::Kernel<Args> {
        entry.f16
    }
}

/// The tensors of a product on the CPU.
struct Product<T> {
    a: Vec<T>,
    w: Vec<T>,
    bias: Option<Vec<T>>,
    residual: Option<Vec<T>>,
    m: usize,
    n: usize,
    k: usize,
}

impl<T: Kernels> Product<T> {
    fn draw(m: usize, n: usize, k: usize, bias: bool, residual: bool, values: Values) -> Self {
        let draw = Draw { seed: 11, values };
        Self {
            a: draw.floats("a", m, k, 1.0),
            w: draw.floats("w", n, k, 1.0),
            bias: bias.then(|| draw.floats("bias", 1, n, 1.0)),
            residual: residual.then(|| draw.floats("residual", m, n, 1.0)),
            m,
            n,
            k,
        }
    }

    fn operands(&self) -> Operands<'_, T> {
        Operands {
            a: &self.a,
            w: &self.w,
            bias: self.bias.as_deref(),
            residual: self.residual.as_deref(),
            m: self.m,
            n: self.n,
            k: self.k,
        }
    }

    /// The output of a config, as bytes. A residual is in y itself.
    fn by(&self, entry: &Entry, out_f32: bool) -> Vec<u8> {
        let device = Device::simt_with(SimtOptions::default());
        let upload = |name: &str, data: &[T]| -> Buffer { uploaded(&device, name, data) };
        let (a, w) = (upload("a", &self.a), upload("w", &self.w));
        let bias = self.bias.as_ref().map(|bias| upload("bias", bias));
        let bytes = if out_f32 { 4 } else { 2 } * self.m * self.n;
        let y = match &self.residual {
            Some(residual) => upload("y", residual),
            None => device.alloc(bytes, "y").unwrap(),
        };
        let residual = self
            .residual
            .as_ref()
            .map_or(std::ptr::null(), |_| y.ptr_as::<u16>().cast_const());
        let [m, n, k] = [self.m, self.n, self.k].map(|size| size as u32);
        let Entry { config, .. } = entry;
        config.admits(m, n, k).unwrap();
        let args = (
            a.ptr_as::<u16>().cast_const(),
            w.ptr_as::<u16>().cast_const(),
            bias.as_ref()
                .map_or(std::ptr::null(), |bias| bias.ptr_as::<u16>().cast_const()),
            residual,
            y.ptr(),
            m,
            n,
            k,
            u32::from(out_f32),
        );
        let dims = LaunchDims::new(config.grid(m, n), config.threads).shared(config.shared_bytes());
        let stream = device.stream().unwrap();
        device.launch(&stream, &T::kernel(entry), dims, args).unwrap();
        y.download_vec(bytes).unwrap()
    }

    /// The output of the CPU reference, as bytes.
    fn wanted(&self, out_f32: bool) -> Vec<u8> {
        let operands = self.operands();
        let places = operands.everywhere();
        if out_f32 {
            bytemuck::cast_slice(&operands.f32_at(&places).unwrap()).to_vec()
        } else {
            bytemuck::cast_slice(&operands.at(&places).unwrap()).to_vec()
        }
    }

    fn check(&self, entry: &Entry, out_f32: bool) {
        let (got, wanted) = (self.by(entry, out_f32), self.wanted(out_f32));
        let width = if out_f32 { 4 } else { 2 };
        let bad = got
            .chunks(width)
            .zip(wanted.chunks(width))
            .position(|(got, wanted)| got != wanted);
        if let Some(i) = bad {
            panic!(
                "{}, m {}, n {}, k {}: row {}, column {}: {:x?}, not {:x?}",
                entry.config.id,
                self.m,
                self.n,
                self.k,
                i / self.n,
                i % self.n,
                &got[width * i..][..width],
                &wanted[width * i..][..width]
            );
        }
    }
}

fn uploaded<T: Pod>(device: &Device, name: &str, data: &[T]) -> Buffer {
    let buffer = device.alloc(size_of_val(data), name).unwrap();
    buffer.upload(data).unwrap();
    buffer
}

/// Sizes at the edges of a config's tile and ring: m, n, k.
fn edges(config: &Config) -> Vec<[usize; 3]> {
    let (tokens, outputs, stage) = (
        config.tokens as usize,
        config.outputs as usize,
        16 * config.steps as usize,
    );
    vec![
        // One of each, and half a k16 step.
        [1, 1, 8],
        // A whole tile and whole stages; fewer of them than the ring has.
        [tokens, outputs, 2 * stage],
        // One more than a tile of outputs, and a k16 step more than a stage.
        [tokens - 1, outputs + 1, stage + 16],
        // One more than a tile of tokens, half a step less than a stage.
        [tokens + 1, outputs - 1, stage - 8],
        // Every stage of the ring is filled again.
        [1, 3, stage * config.stages as usize + 24],
    ]
}

#[test]
fn every_config_has_the_bytes_of_the_reference_at_its_edges() {
    for entry in CONFIGS {
        for (i, [m, n, k]) in edges(&entry.config).into_iter().enumerate() {
            let (bias, residual, out_f32) = (i % 2 == 0, i % 3 == 1, i % 3 == 2);
            Product::<bf16>::draw(m, n, k, bias, residual, Values::WideRange).check(entry, out_f32);
            if i % 2 == 1 {
                Product::<f16>::draw(m, n, k, bias, residual, Values::WideRange).check(entry, out_f32);
            }
        }
        Product::<bf16>::draw(3, 5, 40, true, false, Values::NonFinite).check(entry, true);
    }
}

#[test]
fn a_row_has_the_same_bytes_alone_and_in_any_config() {
    let (m, n, k) = (8, 17, 264);
    let all = Product::<bf16>::draw(m, n, k, true, true, Values::WideRange);
    let row = 5;
    let alone = Product {
        a: all.a[row * k..][..k].to_vec(),
        w: all.w.clone(),
        bias: all.bias.clone(),
        residual: all.residual.as_ref().map(|r| r[row * n..][..n].to_vec()),
        m: 1,
        n,
        k,
    };
    let first = all.by(&CONFIGS[0], false);
    for entry in CONFIGS {
        assert_eq!(all.by(entry, false), first, "{}", entry.config.id);
        assert_eq!(
            alone.by(entry, false),
            first[2 * row * n..][..2 * n],
            "{}",
            entry.config.id
        );
    }
}

#[test]
fn what_a_config_does_not_take_it_refuses_with_the_numbers() {
    for Entry { config, .. } in CONFIGS {
        let (tokens, outputs) = (config.tokens, config.outputs);
        config.admits(tokens, 4096, 64).unwrap();
        config.admits(8192, outputs, 64).unwrap();
        let refused = |m, n, k| config.admits(m, n, k).unwrap_err();
        assert!(refused(1, 16, 12).contains("K = 12 is no multiple of 8"));
        assert!(refused(0, 16, 8).contains("M = 0"));
        let both = refused(tokens + 1, outputs + 1, 64);
        assert!(
            both.contains(&format!("M = {}", tokens + 1)) && both.contains(&format!("{outputs} outputs")),
            "{both}"
        );
        config.admits_addresses(0x100, 0x2000).unwrap();
        assert!(
            config
                .admits_addresses(0x100, 0x2008)
                .unwrap_err()
                .contains("w is at 0x2008")
        );
        assert!(
            config
                .admits_addresses(0x102, 0x2000)
                .unwrap_err()
                .contains("a is at 0x102")
        );
    }
}

#[test]
fn ids_and_sizes_agree() {
    for (i, Entry { config, bf16, f16 }) in CONFIGS.iter().enumerate() {
        let Config {
            id,
            tokens,
            outputs,
            steps,
            stages,
            threads,
        } = *config;
        assert_eq!(
            id,
            format!("t{tokens}_n{outputs}_k{}_s{stages}_w{}", 16 * steps, threads / 32)
        );
        assert_eq!(bf16.meta.name, format!("gemm_skinny_bf16_{id}"));
        assert_eq!(f16.meta.name, format!("gemm_skinny_f16_{id}"));
        assert_eq!((bf16.meta.max_threads, f16.meta.max_threads), (threads, threads));
        // What a block may have on an H200.
        assert!(
            config.shared_bytes() <= 227 << 10,
            "{id}: {} bytes",
            config.shared_bytes()
        );
        assert!(CONFIGS[..i].iter().all(|other| other.config.id != id), "{id} twice");
    }
}
