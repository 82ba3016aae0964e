//! Q8_0: the format, the canonical order of its matrix product, and the layouts its kernels share.
//!
//! # Format
//! A row of K values is cut into blocks of 32. A block is one scale `d` and 32 signed bytes `q`; a value is `d * q`.
//! Weights come from GGUF, where a block is 34 bytes: an f16 `d`, then 32 int8. Activations are quantised by
//! [`crate::q8_quantize`] with an f32 `d`. A K that is no multiple of 32 is padded with zeros.
//!
//! # Canonical order
//! K is cut at absolute positions into *segments* of 16 blocks (512 values; the last may be short). For a weight row n and a
//! token t, blocks ascending in a segment, segments ascending:
//! ```text
//! y = +0
//! for each segment s:
//!     acc = +0
//!     for each block b of s:
//!         acc = fma(dw[n][b] * dx[t][b], (f32) dot[n][t][b], acc)    dot: exact int32, dw: f16 -> f32 exact
//!     y = y + acc
//! y[t][n] = y, a NaN as 0x7FFFFFFF
//! ```
//! `dw * dx` is one rounded f32 multiplication; `dot` is at most 2^19 and exact in f32. Nothing else is rounded. The
//! order depends on K alone: not on N, not on `n_tok`, not on the tile config. One `mma.m16n8k32.s8` is one block of 16
//! rows for 8 tokens and is exact, so decode, share-warp and an int8 tensor-core prefill all follow it (level L3): a prefill
//! tile adds its accumulator to a second one every 16 blocks, one addition for 16 fmas. Segments let the warps of a decode
//! block work on one row at the same time; one chain over K made them wait for each other (docs/decisions/q8-order.md).
//!
//! Padding adds blocks with dw = dx = 0 and q = 0: `fma(0 * 0, 0, acc) = acc + 0`, and segments that are +0. Neither changes
//! a bit, because neither `acc` nor `y` is ever -0: they start at +0, a sum that cancels exactly is +0 in
//! round-to-nearest, and a product that is not zero is at least 2^-149 (dot is an integer and the product of scales a
//! float), so it never rounds to zero.
//!
//! # Quad layouts
//! Four blocks (128 k) are a *quad*, 16 rows a *row tile*, eight tokens a *token tile*. Lane `4 g + t` of a warp finds the
//! operands of its MMAs in 16-byte loads that a warp reads as one contiguous run:
//! ```text
//! qs u8  [N/16][quads][4 blk][8 g][4 t][4 i][4]   row 16 tile + g + 8 (i % 2), bytes 8 t + 4 (i / 2) .. of block 4 quad + blk
//! ws f16 [N/16][quads][8 g][4 blk][2 p]           row 16 tile + g + 8 p
//! xq i8  [n_tok/8][quads][2 h][8 g][4 t][2 p][8]  token 8 tile + g, bytes 8 t .. of block 4 quad + 2 h + p
//! dx f32 [n_tok/8][quads][8 g][4 blk]             token 8 tile + g
//! ```
//! N and n_tok are rounded up to whole tiles. Inside a block the MMA sees the 32 k in another order than memory has them,
//! the same one for weights and activations: an exact integer dot does not care.

/// Values in a Q8_0 block.
pub const BLOCK: u32 = 32;
/// Bytes of a Q8_0 block as GGUF stores it: an f16 scale and 32 int8.
pub const GGUF_BLOCK_BYTES: u32 = 34;
/// Blocks in a quad.
pub const QUAD_BLOCKS: u32 = 4;
/// Quads in a segment of the canonical order (16 blocks, 512 values).
pub const SEGMENT_QUADS: u32 = 4;
/// Rows in a row tile.
pub const ROW_TILE: u32 = 16;
/// Tokens in a token tile.
pub const TOKEN_TILE: u32 = 8;
/// Bytes of int8 in one (row tile, quad).
pub const QUAD_BYTES: u32 = 2048;
/// f16 scales in one (row tile, quad).
pub const QUAD_WEIGHT_SCALES: u32 = 64;
/// Bytes of int8 in one (token tile, quad).
pub const QUAD_TOKEN_BYTES: u32 = 1024;
/// f32 scales in one (token tile, quad).
pub const QUAD_TOKEN_SCALES: u32 = 32;
/// The bits of the one NaN a kernel writes.
pub const CANONICAL_NAN: u32 = 0x7FFF_FFFF;

/// Blocks in a row of `k` values.
#[inline(always)]
pub const fn blocks(k: u32) -> u32 {
    k.div_ceil(BLOCK)
}

/// Quads in a row of `k` values.
#[inline(always)]
pub const fn quads(k: u32) -> u32 {
    blocks(k).div_ceil(QUAD_BLOCKS)
}

/// Row tiles that hold `n` rows.
#[inline(always)]
pub const fn row_tiles(n: u32) -> u32 {
    n.div_ceil(ROW_TILE)
}

/// Token tiles that hold `n_tok` tokens.
#[inline(always)]
pub const fn token_tiles(n_tok: u32) -> u32 {
    n_tok.div_ceil(TOKEN_TILE)
}

/// A float with every NaN replaced by the canonical one: a CPU and a GPU make different NaNs.
#[inline(always)]
pub fn canonical(v: f32) -> f32 {
    if v.is_nan() { f32::from_bits(CANONICAL_NAN) } else { v }
}
