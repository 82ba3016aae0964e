//! The configs of `gemm` as one list: the plain kernel, then the tuned families, each with what follows from its own table in
//! `kernels-gpu`. No tile size is written down here.

use kernels_gpu::gemm::{self as plain, Choice};
use kernels_gpu::{gemm_hopper, gemm_skinny};

use super::Gemm;
use super::common::{check_tiles, work};
use crate::cost::{Math, Work};
use crate::op::spec::{Config, Dims, PLAIN, Spec};
use crate::op::{OpError, Order};

/// A config's kernels, by its family.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    /// The plain kernel, whose tile goes by the shape.
    Plain,
    /// By the copy engine and `wgmma`: of sm_90a alone.
    Hopper(&'static gemm_hopper::Entry),
    /// Small tiles with deep rings, for few tokens or few outputs.
    Skinny(&'static gemm_skinny::Entry),
}

/// The sizes of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Rows of a: tokens.
    pub m: u32,
    /// Rows of w: outputs.
    pub n: u32,
    /// Columns of both: inputs.
    pub k: u32,
}

impl Sizes {
    pub fn of(dims: &Dims) -> Self {
        Self {
            m: dims.u32("n_tok"),
            n: dims.u32("n"),
            k: dims.u32("k"),
        }
    }

    /// Refuses what no config takes.
    pub fn check(&self) -> Result<(), String> {
        let Self { m, n, k } = *self;
        if n == 0 || k == 0 {
            return Err(format!("a product of [{m}][{k}] by [{n}][{k}]: n and k are at least 1"));
        }
        check_tiles(u64::from(m), u64::from(n))
    }
}

/// The pieces that a config cuts a product into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces {
    /// Rows of a tile.
    pub tokens: u32,
    /// Columns of a tile.
    pub outputs: u32,
    /// k of a stage of its ring.
    pub stage: u32,
    /// k of all stages.
    pub ring: u32,
}

/// The addresses of a product that a family's copies and stores care for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub a: usize,
    pub w: usize,
}

/// Every family's entries, the plain one first.
pub(super) fn all() -> impl Iterator<Item = Family> {
    let hopper = gemm_hopper::CONFIGS.iter().map(Family::Hopper);
    let skinny = gemm_skinny::CONFIGS.iter().map(Family::Skinny);
    std::iter::once(Family::Plain).chain(hopper).chain(skinny)
}

/// The config of an id.
pub(super) fn find(config: &str) -> Result<Family, OpError> {
    all()
        .find(|family| family.id() == config)
        .ok_or_else(|| OpError::UnknownConfig {
            op: Gemm::NAME,
            config: config.to_string(),
        })
}

impl Family {
    pub fn id(&self) -> &'static str {
        match self {
            Family::Plain => PLAIN,
            Family::Hopper(entry) => entry.config.id,
            Family::Skinny(entry) => entry.config.id,
        }
    }

    /// As lists and records have it.
    pub fn config(&self) -> Config {
        let tuned = |kernel, threads, shared_bytes| Config {
            id: self.id().into(),
            kernel,
            order: Order::Canonical,
            threads,
            shared_bytes,
        };
        match self {
            Family::Plain => {
                let choice = Choice::Wide;
                let kernel = plain::gemm_bf16_wide::KERNEL.meta;
                Config::plain(kernel, plain::threads(choice), plain::shared(choice))
            }
            Family::Hopper(e) => tuned(e.bf16.meta, e.config.threads, e.config.shared_bytes),
            Family::Skinny(e) => tuned(e.bf16.meta, e.config.threads, e.config.shared_bytes()),
        }
    }

    /// Whether it takes these sizes.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    pub fn admits(&self, sizes: Sizes) -> Result<(), String> {
        let Sizes { m, n, k } = sizes;
        match self {
            Family::Plain => Ok(()),
            Family::Hopper(entry) => entry.config.admits(m, n, k),
            Family::Skinny(entry) => entry.config.admits(m, n, k),
        }
    }

    /// Whether it takes tensors at these addresses.
    ///
    /// # Errors
    /// The reason why not, with the address.
    pub fn takes(&self, at: Addresses) -> Result<(), String> {
        match self {
            Family::Plain => Ok(()),
            Family::Hopper(entry) => entry.config.admits_addresses(at.a, at.w),
            Family::Skinny(entry) => entry.config.admits_addresses(at.a, at.w),
        }
    }

    /// Where its work is cut, for cases at those edges; none for the plain one, whose cases are listed.
    pub fn pieces(&self) -> Option<Pieces> {
        match self {
            Family::Plain => None,
            Family::Hopper(e) => Some(Pieces {
                tokens: e.config.tokens,
                outputs: e.config.outputs,
                stage: e.config.bk,
                ring: e.config.bk * e.config.stages,
            }),
            Family::Skinny(e) => Some(Pieces {
                tokens: e.config.tokens,
                outputs: e.config.outputs,
                stage: 16 * e.config.steps,
                ring: 16 * e.config.steps * e.config.stages,
            }),
        }
    }

    /// What it does on a case, on a device of so many multiprocessors.
    pub fn work(&self, dims: &Dims, sms: u32) -> Work {
        let Sizes { m, n, k } = Sizes::of(dims);
        match self {
            Family::Plain => {
                let choice = plain::choose(m, n);
                let weights = 2 * u64::from(n) * u64::from(k);
                work(choice, dims, weights, plain::shared(choice))
            }
            Family::Hopper(e) => {
                let config = &e.config;
                let tiles = u64::from(m.div_ceil(config.tokens)) * u64::from(n.div_ceil(config.outputs));
                let (p, q) = match config.swapped {
                    true => (config.outputs, config.tokens),
                    false => (config.tokens, config.outputs),
                };
                // The blocks of a cluster read one side of their tiles together.
                let rows = match config.shares_p {
                    true => p / config.cluster + q,
                    false => p + q / config.cluster,
                };
                Cut {
                    rows,
                    blocks: u64::from(config.grid(m, n, sms)),
                    tiles,
                    threads: config.threads,
                    shared_bytes: config.shared_bytes,
                    in_flight: u64::from(2 * config.bk * (config.stages - 1)),
                    chain_cycles: wgmma_cycles(p, q),
                }
                .work(dims)
            }
            Family::Skinny(e) => {
                let config = &e.config;
                let blocks = u64::from(config.grid(m, n));
                Cut {
                    rows: config.tokens + config.outputs,
                    blocks,
                    tiles: blocks,
                    threads: config.threads,
                    shared_bytes: config.shared_bytes(),
                    in_flight: u64::from(32 * config.steps * config.stages.saturating_sub(2)),
                    chain_cycles: mma_cycles(config.tokens, config.outputs, config.threads),
                }
                .work(dims)
            }
        }
    }
}

/// Cycles of a k16 step of a tile of p by q on one multiprocessor: half a cycle for each column of 64 rows at the full rate, or the
/// latency of a dependent step. Measured on an H200.
fn wgmma_cycles(p: u32, q: u32) -> f64 {
    (f64::from(p) / 64.0 * f64::from(q) / 2.0).max(20.0)
}

/// Cycles of a k16 step of a warp: the latency of a dependent mma.sync, or what it takes to issue several. Measured on an H200.
fn mma_cycles(tokens: u32, outputs: u32, threads: u32) -> f64 {
    // An instruction has 16 x 8 outputs.
    let each = f64::from(tokens.next_multiple_of(8)) * f64::from(outputs) / 128.0 / (f64::from(threads) / 32.0);
    (14.5 * each).max(26.8)
}

/// How a product is cut, for the cost model.
struct Cut {
    /// Rows of a and of w, together, that a block reads for a tile.
    rows: u32,
    /// Blocks of the launch.
    blocks: u64,
    /// Tiles that they share.
    tiles: u64,
    threads: u32,
    shared_bytes: u32,
    /// Bytes that a block has on their way of each of those rows.
    in_flight: u64,
    /// Cycles of a k16 step of a tile.
    chain_cycles: f64,
}

impl Cut {
    fn work(&self, dims: &Dims) -> Work {
        let (n, k, m) = (dims.u64("n"), dims.u64("k"), dims.u64("n_tok"));
        let once = 2 * k * (n + m);
        let rows = u64::from(self.rows);
        let output = if dims.u64("out_f32") == 1 { 4 } else { 2 };
        Work {
            read_bytes: once,
            passes: 1,
            // What tiles of the same rows read again comes from L2, which merges the requests of neighbours for the same lines: at
            // the rate the model has for L2, tiles of 128 x 256 would not reach the tensor cores' rate, which they do.
            reread_bytes: (2 * k * rows * self.tiles).saturating_sub(once) / 2,
            write_bytes: output * m * n,
            multiply_adds: m * n * k,
            math: Math::Bf16,
            blocks: self.blocks,
            threads: self.threads,
            shared_bytes: self.shared_bytes,
            units: self.tiles,
            bytes_in_flight: self.in_flight * rows,
            chain: k.div_ceil(16),
            chain_cycles: self.chain_cycles,
            ..Work::default()
        }
    }
}
