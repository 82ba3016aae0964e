//! The tiles of `gemm_hopper` on the simulator, with all its checks and several schedules, against the plain kernel's bytes.

use cuda_std::bf16;
use cuda_std::launch::KernelArgs;
use cuda_std::tma::TensorMap;
use kernels_gpu::gemm::{self, Choice};
use kernels_gpu::gemm_hopper::{CONFIGS, Entry, STAGED, config};
use simt::tma::{Map, Swizzle};
use simt::{Launch, Schedule, memory};

/// Device memory of 16-bit elements.
struct Tensor {
    at: *mut u16,
    len: usize,
}

impl Tensor {
    fn new(len: usize, mut value: impl FnMut(usize) -> u16) -> Self {
        let at: *mut u16 = memory::alloc(2 * len.max(1), "test")
            .expect("the arena has room")
            .cast();
        let bytes: Vec<u8> = (0..len).flat_map(|i| value(i).to_le_bytes()).collect();
        // SAFETY: as many bytes as were allocated.
        unsafe { memory::write(at.cast(), &bytes) };
        Self { at, len }
    }

    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; 2 * self.len];
        // SAFETY: as many bytes as were allocated.
        unsafe { memory::read(self.at.cast(), &mut bytes) };
        bytes
    }

    fn map(&self, rows: u32, columns: u32, tile: [u32; 2]) -> TensorMap {
        let map = Map {
            base: self.at as u64,
            element_bytes: 2,
            rank: 2,
            sizes: [columns.into(), rows.into(), 1],
            strides: [2 * u64::from(columns), 0],
            tile: [tile[1], tile[0], 1],
            swizzle: Swizzle::B128,
        };
        map.check().expect("a map the hardware takes");
        TensorMap { words: map.encode() }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; no launch runs.
        unsafe { memory::free(self.at.cast()) };
    }
}

fn launch<A: KernelArgs>(
    kernel: &cuda_std::launch::Kernel<A>,
    [grid, block, cluster, shared_bytes]: [u32; 4],
    schedule: Schedule,
    args: &A,
) -> Result<(), simt::SimError> {
    args.with_pointers(|pointers| {
        let (params, entry) = (pointers.as_ptr() as usize, kernel.meta.entry);
        let launch = Launch {
            kernel: kernel.meta.name,
            grid: grid.into(),
            block: block.into(),
            cluster,
            shared_bytes,
            checks: true,
            schedule,
            workers: 1,
            tensor: Default::default(),
        };
        // SAFETY: the arguments are the kernel's own.
        launch
            .run(&|| unsafe { entry(params as *const *const core::ffi::c_void) })
            .map(|_| ())
    })
}

fn check(entry: &Entry, [m, n, k]: [u32; 3], schedule: Schedule) {
    let c = &entry.config;
    let value = |i: usize| bf16::from_f32((((i * 2_654_435_761) >> 7) % 2001) as f32 / 500.0 - 2.0).to_bits();
    let (a, w) = (
        Tensor::new((m * k) as usize, value),
        Tensor::new((n * k) as usize, |i| value(i + 77)),
    );
    let (y, plain) = (
        Tensor::new((m * n) as usize, |_| 0x7fc0),
        Tensor::new((m * n) as usize, |_| 0x7fc0),
    );
    let choice = Choice::Middle;
    let (tm, tn) = gemm::size(choice);
    let null = core::ptr::null();
    let args = (
        a.at.cast_const(),
        w.at.cast_const(),
        null,
        null,
        plain.at.cast(),
        m,
        n,
        k,
        0,
    );
    let dims = [
        m.div_ceil(tm) * n.div_ceil(tn),
        gemm::threads(choice),
        1,
        gemm::shared(choice),
    ];
    launch(&gemm::gemm_bf16_middle::KERNEL, dims, Schedule::InOrder, &args).expect("the plain kernel runs");
    let (ma, mw) = (
        a.map(m, k, [c.box_a(), config::COPY_K]),
        w.map(n, k, [c.box_w(), config::COPY_K]),
    );
    let staged = c.stages_y(n, false, y.at as usize, false);
    let my = if staged { y.map(m, n, config::STORE) } else { ma };
    let (p, q) = if c.swapped { (mw, ma) } else { (ma, mw) };
    let flags = if staged { STAGED } else { 0 };
    let args = (p, q, my, null, null, y.at.cast(), m, n, k, flags);
    let dims = [c.grid(m, n, 3), c.threads, c.cluster, c.shared_bytes];
    if let Err(error) = launch(&entry.bf16, dims, schedule, &args) {
        panic!("{} for {m} x {n} x {k}: {error}", c.id);
    }
    assert!(y.read() == plain.read(), "{} for {m} x {n} x {k}: other bytes", c.id);
}

/// Sizes that give a config a whole tile and a tail on each side, more k than its ring holds, and blocks several turns.
fn sizes(c: &config::Config) -> [u32; 3] {
    [c.tokens + 3, c.outputs + 8, c.bk * (c.stages + 1) + 8]
}

#[test]
fn every_tile_gives_the_plain_kernels_bytes() {
    for entry in CONFIGS {
        check(entry, sizes(&entry.config), Schedule::InOrder);
    }
}

#[test]
fn no_schedule_changes_a_byte_or_finds_a_race() {
    for (i, entry) in (0..).zip(CONFIGS) {
        // An odd number of outputs: none of them goes out by a tensor copy.
        let [m, n, k] = sizes(&entry.config);
        let n = if i % 2 == 0 { n } else { n - 1 };
        check(entry, [2 * m, n, k / 16 * 8], Schedule::Seeded(i + 1));
    }
}

#[test]
fn one_row_one_column_and_the_least_k() {
    for entry in CONFIGS {
        check(entry, [1, 1, 8], Schedule::InOrder);
        check(entry, [1, 24, 72], Schedule::Seeded(3));
    }
}

#[test]
fn a_map_with_another_swizzle_than_the_kernels_is_an_error() {
    let entry = &CONFIGS[0];
    let a = Tensor::new(64 * 64, |_| 0x3f80);
    let map = |swizzle| {
        let strides = [128, 0];
        let map = Map {
            base: a.at as u64,
            element_bytes: 2,
            rank: 2,
            sizes: [64, 64, 1],
            strides,
            tile: [64, 128, 1],
            swizzle,
        };
        TensorMap { words: map.encode() }
    };
    let y = Tensor::new(64 * 64, |_| 0);
    let (right, wrong) = (map(Swizzle::B128), map(Swizzle::None));
    let null = core::ptr::null();
    let args = (right, wrong, right, null, null, y.at.cast(), 64, 64, 64, 0);
    let c = &entry.config;
    let error = launch(&entry.bf16, [1, c.threads, 1, c.shared_bytes], Schedule::InOrder, &args)
        .expect_err("half of Q is not even copied");
    let text = error.to_string();
    assert!(text.contains("swizzle") || text.contains("bytes"), "{text}");
}
