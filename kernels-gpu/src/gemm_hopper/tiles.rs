//! Tiles as types: sizes, rings and rooms, all known when a kernel is compiled.

use cuda_std::mbarrier::Barriers;
use cuda_std::wgmma;

use crate::tile_mma::{Bf16, Element, F16};

/// k of a slab: one row of the swizzle.
pub const BK: u32 = 64;
/// Bytes of a row of a slab.
pub(super) const ROW: u32 = 2 * BK;
/// Columns that go out with one store.
pub const STORE_COLUMNS: u32 = 64;
/// Bytes of one store: 64 rows of 64 columns.
pub(super) const STORE_BYTES: u32 = 64 * 2 * STORE_COLUMNS;

/// Types of operands that `wgmma` takes.
pub trait Operand: Element {
    /// Its name there.
    type Format: wgmma::Format;
}
impl Operand for Bf16 {
    type Format = wgmma::Bf16;
}
impl Operand for F16 {
    type Format = wgmma::F16;
}

/// A tile of P rows by Q rows and how it is worked on: a warpgroup has `MW` times 64 rows of P and 2 `R` rows of Q.
#[derive(Clone, Copy)]
pub struct Tiles<
    const MW: usize,
    const R: usize,
    const WARPGROUPS: u32,
    const STAGES: u32,
    const SLABS: u32,
    const CLUSTER: u32,
    const MODE: u32,
>;

/// Bits of `MODE`: each warpgroup has a tile of its own.
pub const PING_PONG: u32 = 1;
/// P are the weights, Q the tokens (else the other way round).
pub const SWAPPED: u32 = 2;
/// Blocks of a cluster share P's tile (else Q's).
pub const SHARE_P: u32 = 4;
/// P's tile has only so many rows. A product's other rows read what follows them in the stage, and nobody looks at what becomes of them: rows
/// of a product do not meet.
pub const ROWS_8: u32 = 8;
/// See [`ROWS_8`].
pub const ROWS_16: u32 = 16;
/// See [`ROWS_8`].
pub const ROWS_32: u32 = 32;
pub(super) const FEW_ROWS: u32 = ROWS_8 | ROWS_16 | ROWS_32;

impl<
    const MW: usize,
    const R: usize,
    const WARPGROUPS: u32,
    const STAGES: u32,
    const SLABS: u32,
    const CLUSTER: u32,
    const MODE: u32,
> Tiles<MW, R, WARPGROUPS, STAGES, SLABS, CLUSTER, MODE>
{
    /// P's rows of a tile.
    pub const BP: u32 = if MODE & FEW_ROWS != 0 {
        MODE & FEW_ROWS
    } else {
        64 * MW as u32 * if MODE & PING_PONG != 0 { 1 } else { WARPGROUPS }
    };
    /// Q's rows of a tile.
    pub const BQ: u32 = 2 * R as u32;
    /// Bytes of P's and Q's rows in a slab.
    pub(super) const P_BYTES: u32 = Self::BP * ROW;
    pub(super) const Q_BYTES: u32 = Self::BQ * ROW;
    /// Bytes of a stage: P's slabs, then Q's.
    pub(super) const STAGE_BYTES: u32 = SLABS * (Self::P_BYTES + Self::Q_BYTES);
    /// Whether 16-bit outputs go out through shared memory, as many columns as make whole stores.
    pub const STAGED: bool = MODE & (SWAPPED | FEW_ROWS) == 0 && Self::BQ >= STORE_COLUMNS;
    pub(super) const STAGING_BYTES: u32 = if Self::STAGED { 2 * WARPGROUPS * STORE_BYTES } else { 0 };
    /// Whether P are the weights.
    pub const SWAPS: bool = MODE & SWAPPED != 0;
    /// Threads of a block.
    pub const THREADS: u32 = if WARPGROUPS == 1 { 160 } else { 128 * WARPGROUPS + 128 };
    /// Dynamic shared memory of a block in bytes.
    pub const SHARED_BYTES: u32 = STAGES * Self::STAGE_BYTES + Self::STAGING_BYTES + 2 * Barriers::<STAGES>::BYTES;
    /// P's rows of one copy.
    pub const P_BOX: u32 = if MODE & SHARE_P != 0 {
        Self::BP / CLUSTER
    } else {
        Self::BP
    };
    /// Q's rows of one copy.
    pub const Q_BOX: u32 = if MODE & SHARE_P != 0 {
        Self::BQ
    } else {
        Self::BQ / CLUSTER
    };
}
