//! The configs of `gemm` as one list: the plain kernel, then the tuned families, each with what follows from its own table in
//! `kernels-gpu`. No tile size is written down here.

use kernels_gpu::gemm::{self as plain, Choice};
use kernels_gpu::gemm_skinny;

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
    let skinny = gemm_skinny::CONFIGS.iter().map(Family::Skinny);
    std::iter::once(Family::Plain).chain(skinny)
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
            Family::Skinny(entry) => entry.config.admits_addresses(at.a, at.w),
        }
    }

    /// Where its work is cut, for cases at those edges; none for the plain one, whose cases are listed.
    pub fn pieces(&self) -> Option<Pieces> {
        match self {
            Family::Plain => None,
            Family::Skinny(e) => Some(Pieces {
                tokens: e.config.tokens,
                outputs: e.config.outputs,
                stage: 16 * e.config.steps,
                ring: 16 * e.config.steps * e.config.stages,
            }),
        }
    }

    /// What it does on a case.
    pub fn work(&self, dims: &Dims) -> Work {
        let Sizes { m, n, k } = Sizes::of(dims);
        let weights = 2 * u64::from(n) * u64::from(k);
        match self {
            Family::Plain => {
                let choice = plain::choose(m, n);
                work(choice, dims, weights, plain::shared(choice))
            }
            Family::Skinny(e) => {
                let config = &e.config;
                Cut {
                    tile: [config.tokens, config.outputs],
                    blocks: u64::from(config.grid(m, n)),
                    tiles: u64::from(config.grid(m, n)),
                    threads: config.threads,
                    shared_bytes: config.shared_bytes(),
                    in_flight: u64::from(config.stages.saturating_sub(2) * 32 * config.steps),
                    chain_cycles: mma_cycles(config.tokens, config.outputs, config.threads),
                }
                .work(dims)
            }
        }
    }
}

/// Cycles of a k16 step of a warp: the latency of a dependent mma.sync, or what it takes to issue several.
fn mma_cycles(tokens: u32, outputs: u32, threads: u32) -> f64 {
    // An instruction's 16 x 8 outputs; measured on an H200.
    let each = f64::from(tokens.next_multiple_of(8) * outputs) / 128.0 / (f64::from(threads) / 32.0);
    (14.5 * each).max(26.8)
}

/// How a product is cut, for the cost model.
struct Cut {
    /// Tokens and outputs of a tile.
    tile: [u32; 2],
    /// Blocks of the launch.
    blocks: u64,
    /// Tiles that they share.
    tiles: u64,
    threads: u32,
    shared_bytes: u32,
    /// Bytes that a block has on their way for each row of its tile.
    in_flight: u64,
    /// Cycles of a k16 step.
    chain_cycles: f64,
}

impl Cut {
    fn work(&self, dims: &Dims) -> Work {
        let (n, k, m) = (dims.u64("n"), dims.u64("k"), dims.u64("n_tok"));
        let once = 2 * k * (n + m);
        let rows = u64::from(self.tile[0] + self.tile[1]);
        let output = if dims.u64("out_f32") == 1 { 4 } else { 2 };
        Work {
            read_bytes: once,
            passes: 1,
            // What tiles of the same rows read again comes from L2.
            reread_bytes: (2 * k * rows * self.tiles).saturating_sub(once),
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
