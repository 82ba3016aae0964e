//! The tile configs of the Q8_0 matmuls: data that says how the work is cut, the same on the device, the host and in results.

use crate::q8;

/// The order a config adds in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Segments of 16 blocks, ascending: the canonical order.
    Canonical,
    /// [`crate::q8_dp4a`]'s: four lanes a row and the k-warps each sum a share. Fast mode only, one token.
    Lanes,
}

/// One tile config: how the work is cut, never what is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileConfig {
    /// Row tiles (16 rows each) that a thread block does at a time.
    pub tiles: u32,
    /// Warps that take turns along K.
    pub k_warps: u32,
    /// Quads (128 k) in a turn.
    pub quads: u32,
    /// Turns of weights that a warp's ring in shared memory holds; one less is in flight.
    pub stages: u32,
    /// Tokens whose sums a lane holds: 1 for up to 4 tokens a launch tile, 2 for up to 8.
    pub lane_tokens: u32,
    /// The order it adds in.
    pub order: Order,
    /// Thread blocks the register budget lets live on one SM; the grid is this times the number of SMs.
    pub blocks_per_sm: u32,
}

impl TileConfig {
    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        32 * self.k_warps
    }

    /// Bytes of dynamic shared memory for a K of `n_quads`: the segment sums and each warp's ring.
    pub fn shared_bytes(&self, n_quads: u32) -> u32 {
        match self.order {
            Order::Canonical => {
                let sums = if self.k_warps == 1 {
                    0
                } else {
                    2 * sum_bytes(self.tiles, self.lane_tokens, n_quads)
                };
                sums + self.k_warps * self.stages * stage_bytes(self.tiles, self.quads)
            }
            Order::Lanes => 4 * q8::ROW_TILE * self.k_warps,
        }
    }

    /// The launch grid (x, y, z) for `groups` products of N rows and `n_tok` tokens on a device of `sm_count` SMs.
    pub fn grid(&self, n: u32, groups: u32, n_tok: u32, sm_count: u32) -> (u32, u32, u32) {
        (
            q8::row_tiles(n).div_ceil(self.tiles).min(sm_count * self.blocks_per_sm),
            n_tok.div_ceil(4 * self.lane_tokens),
            groups,
        )
    }
}

#[cfg(not(target_arch = "nvptx64"))]
impl TileConfig {
    /// The stable name of the config, as results carry it: `t2_r1_kw4_u2_s3_b4`; an order that is not canonical adds
    /// `_dp4a`.
    pub fn id(&self) -> String {
        let Self {
            tiles,
            k_warps,
            quads,
            stages,
            lane_tokens,
            order,
            blocks_per_sm,
        } = self;
        let suffix = match order {
            Order::Canonical => "",
            Order::Lanes => "_dp4a",
        };
        format!("t{lane_tokens}_r{tiles}_kw{k_warps}_u{quads}_s{stages}_b{blocks_per_sm}{suffix}")
    }

    /// Whether the config takes a problem.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    pub fn admits(&self, n: u32, n_quads: u32, n_tok: u32) -> Result<(), String> {
        if n == 0 || n_quads == 0 || n_tok == 0 {
            return Err(format!("nothing to do: N = {n}, quads = {n_quads}, n_tok = {n_tok}"));
        }
        if !n_quads.is_multiple_of(self.quads) {
            return Err(format!(
                "{n_quads} quads of K are no multiple of {} quads a turn",
                self.quads
            ));
        }
        if self.order == Order::Lanes && n_tok != 1 {
            return Err(format!("n_tok = {n_tok}: dp4a configs take one token"));
        }
        let parts = match self.order {
            Order::Canonical => n_quads.div_ceil(q8::SEGMENT_QUADS),
            Order::Lanes => n_quads / self.quads,
        };
        if parts < self.k_warps {
            return Err(format!(
                "{parts} segments of K are too few for {} k-warps",
                self.k_warps
            ));
        }
        if self.order == Order::Lanes && !parts.is_multiple_of(self.k_warps) {
            return Err(format!(
                "{parts} turns do not divide evenly among {} k-warps",
                self.k_warps
            ));
        }
        if self.shared_bytes(n_quads) > MAX_SHARED {
            return Err(format!(
                "{} segments of K need {} bytes of shared memory, more than {MAX_SHARED}",
                parts,
                self.shared_bytes(n_quads)
            ));
        }
        if n_tok.div_ceil(4 * self.lane_tokens) > 65_535 {
            return Err(format!("n_tok = {n_tok} needs more than 65535 blocks in grid y"));
        }
        Ok(())
    }
}

/// The parameters of a matmul kernel as launched: qs, ws, xq, dx, y, N, n_quads, n_tok, y_stride.
#[cfg(not(target_arch = "nvptx64"))]
pub type MatmulArgs = (
    *const u8,
    *const u16,
    *const u8,
    *const f32,
    *mut f32,
    u32,
    u32,
    u32,
    u32,
);

/// A config and its kernel.
#[cfg(not(target_arch = "nvptx64"))]
pub struct Entry {
    /// How the work is cut.
    pub config: TileConfig,
    /// The kernel compiled for it.
    pub kernel: cuda_std::launch::Kernel<MatmulArgs>,
}

/// The most dynamic shared memory a config may ask for: what every architecture built for has, less what it reserves.
#[cfg(not(target_arch = "nvptx64"))]
const MAX_SHARED: u32 = 99 * 1024;

/// Bytes of one buffer of segment sums: 2 P floats a lane for each segment and row tile.
pub(crate) const fn sum_bytes(r: u32, p: u32, n_quads: u32) -> u32 {
    256 * r * p * n_quads.div_ceil(q8::SEGMENT_QUADS)
}

/// Bytes of one stage of a warp's ring.
pub(crate) const fn stage_bytes(r: u32, u: u32) -> u32 {
    r * u * (q8::QUAD_BYTES + 2 * q8::QUAD_WEIGHT_SCALES)
}
