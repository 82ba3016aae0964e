//! The tile configs as the host sees them: sizes, kernels, what each takes.

use cuda_std::launch::Kernel;
use cuda_std::tma::TensorMap;

use super::tiles::{BK, PING_PONG, SHARE_P, STORE_COLUMNS, SWAPPED, Tiles};
use super::{gemm_hopper_bf16, gemm_hopper_f16};

/// The kernels' parameters: maps of P, Q and y; bias, residual, y; m, n, k; flags ([`super::OUT_F32`], [`super::STAGED`]).
pub type Args = (
    TensorMap,
    TensorMap,
    TensorMap,
    *const u16,
    *const u16,
    *mut u8,
    u32,
    u32,
    u32,
    u32,
);

/// A config and its kernels.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// How the work is cut.
    pub config: Config,
    /// The kernel of bf16 operands.
    pub bf16: Kernel<Args>,
    /// The kernel of f16 operands.
    pub f16: Kernel<Args>,
}

/// One tile config: how the work is cut, never what is computed.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The stable id: `bm` tokens by `bn` weights a tile, `bk` of k a stage, `s` stages, `c` blocks a cluster, `pp` for
    /// ping-pong, `t` where the weights are P.
    pub id: &'static str,
    /// Tokens of a tile.
    pub tokens: u32,
    /// Outputs (rows of the weights) of a tile.
    pub outputs: u32,
    /// k of a stage.
    pub bk: u32,
    /// Stages.
    pub stages: u32,
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Whether P are the weights and Q the tokens.
    pub swapped: bool,
    /// Whether the blocks of a cluster have the same tile of P, else of Q.
    pub shares_p: bool,
    /// Whether the consumer warpgroups take turns, each with tiles of its own.
    pub ping_pong: bool,
    /// Rows of P of one copy.
    pub p_box: u32,
    /// Rows of Q of one copy.
    pub q_box: u32,
    /// Whether 16-bit outputs can go out by tensor copies.
    pub staged: bool,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Blocks that fit on an SM.
    pub blocks_an_sm: u32,
}

/// Elements of k in a row of a copy of P or Q: 128 bytes, swizzled so.
pub const COPY_K: u32 = BK;
/// Rows and columns of a copy of y, swizzled by 128 bytes.
pub const STORE: [u32; 2] = [64, STORE_COLUMNS];

impl Config {
    /// Whether the config takes a product of m tokens and n outputs over k. It would compute any; what it refuses another config does with
    /// less waste.
    ///
    /// # Errors
    /// The reason, with the numbers.
    pub fn admits(&self, m: u32, n: u32, k: u32) -> Result<(), String> {
        let (bm, bn) = (self.tokens, self.outputs);
        if !k.is_multiple_of(8) {
            return Err(format!("k = {k}: tensor copies take rows of a multiple of 8 elements"));
        }
        if m == 0 || n == 0 || k == 0 {
            return Err(format!("m = {m}, n = {n}, k = {k}: nothing to do"));
        }
        if m >= 1 << 31 || n >= 1 << 31 || k >= 1 << 31 {
            return Err(format!("m = {m}, n = {n}, k = {k}: tensor copies count to 2^31"));
        }
        if u64::from(m.div_ceil(bm)) * u64::from(n.div_ceil(bn)) >= 1 << 31 {
            return Err(format!("m = {m}, n = {n}: 2^31 tiles or more"));
        }
        if bm < 64 {
            // Few outputs: all of them are one tile, whatever the number of tokens.
            if self.swapped && n <= bn && m > bm {
                return Ok(());
            }
            if m > bm {
                return Err(format!("m = {m} > {bm}: the weights would be read more than once"));
            }
            if bm > 8 && m <= bm / 2 {
                return Err(format!("m = {m} <= {}: half of the tile would be empty", bm / 2));
            }
            return Ok(());
        }
        if m <= bm / 2 && bm > 64 {
            return Err(format!("m = {m} <= {}: half of the tile would be empty", bm / 2));
        }
        if bn < 64 && m > bm && n > bn {
            return Err(format!(
                "m = {m} > {bm} and n = {n} > {bn}: neither operand would be read once"
            ));
        }
        if n <= bn / 2 && bn > 64 {
            return Err(format!("n = {n} <= {}: half of the tile would be empty", bn / 2));
        }
        Ok(())
    }

    /// Whether the config takes operands at these addresses.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    pub fn admits_addresses(&self, a: usize, w: usize) -> Result<(), String> {
        for (name, address) in [("a", a), ("w", w)] {
            if !address.is_multiple_of(16) {
                return Err(format!(
                    "{name} is at {address:#x}, no multiple of 16: tensor copies take no other"
                ));
            }
        }
        Ok(())
    }

    /// Rows of one copy of a.
    pub const fn box_a(&self) -> u32 {
        if self.swapped { self.q_box } else { self.p_box }
    }

    /// Rows of one copy of w.
    pub const fn box_w(&self) -> u32 {
        if self.swapped { self.p_box } else { self.q_box }
    }

    /// Whether y goes out by tensor copies ([`STORE`] rows and columns each), so that it needs a map of its own and the flag
    /// [`super::STAGED`].
    pub fn stages_y(&self, n: u32, out_f32: bool, y: usize, bias_or_residual: bool) -> bool {
        self.staged && !out_f32 && !bias_or_residual && n.is_multiple_of(8) && y.is_multiple_of(16)
    }

    /// Blocks of a launch on `sms` SMs: a multiple of the cluster, at most what fits at a time.
    pub fn grid(&self, m: u32, n: u32, sms: u32) -> u32 {
        let (bp, bq, p, q) = if self.swapped {
            (self.outputs, self.tokens, n, m)
        } else {
            (self.tokens, self.outputs, m, n)
        };
        let (cp, cq) = if self.shares_p {
            (1, self.cluster)
        } else {
            (self.cluster, 1)
        };
        let tiles = u64::from(p.div_ceil(bp * cp)) * u64::from(q.div_ceil(bq * cq)) * u64::from(self.cluster);
        let fit = (sms * self.blocks_an_sm / self.cluster).max(1) * self.cluster;
        // Below 2^32: `fit` is.
        tiles.min(u64::from(fit)) as u32
    }

    const fn of<
        const MW: usize,
        const R: usize,
        const WARPGROUPS: u32,
        const STAGES: u32,
        const SLABS: u32,
        const CLUSTER: u32,
        const MODE: u32,
    >(
        id: &'static str,
        blocks_an_sm: u32,
    ) -> Config {
        let (bp, bq) = (
            Tiles::<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>::BP,
            Tiles::<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>::BQ,
        );
        let swapped = MODE & SWAPPED != 0;
        Config {
            id,
            tokens: if swapped { bq } else { bp },
            outputs: if swapped { bp } else { bq },
            bk: SLABS * BK,
            stages: STAGES,
            cluster: CLUSTER,
            swapped,
            shares_p: MODE & SHARE_P != 0,
            ping_pong: MODE & PING_PONG != 0,
            p_box: Tiles::<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>::P_BOX,
            q_box: Tiles::<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>::Q_BOX,
            staged: Tiles::<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>::STAGED,
            threads: Tiles::<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>::THREADS,
            shared_bytes: Tiles::<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>::SHARED_BYTES,
            blocks_an_sm,
        }
    }
}

macro_rules! configs {
    ($($bf16:ident, $f16:ident, $id:literal, $threads:literal, $blocks:literal, [$($param:literal),*];)*) => {
        /// All of them.
        pub static CONFIGS: &[Entry] = &[$(Entry {
            config: Config::of::<$($param),*>($id, $blocks),
            bf16: gemm_hopper_bf16::$bf16::KERNEL,
            f16: gemm_hopper_f16::$f16::KERNEL,
        }),*];
    };
}
tiles! { configs }
