//! The products of a warpgroup (PTX `wgmma`, sm_90a): 64 rows, N columns, one step of k.
//!
//! `docs/tensor-cores.md` has what an H200 answered: they have the steps of `mma.sync`. A product that does not accumulate (`scale-d` of
//! 0) has an accumulator of +0, whatever the registers held.

use super::{Format, TensorCore, half, vector};

/// Rows of A and D.
pub const ROWS: usize = 64;
/// The most columns.
pub const MOST_COLUMNS: usize = 256;

/// D = A * B^T + D (of floats, m64nNk16): A `[64][k]` and B^T `[n][k]` in the bits of `format`, D `[64][n]`, N a multiple of 8.
///
/// # Panics
/// If N is no multiple of 8 or D of another size, and as [`super::m16n8k16`].
pub fn m64k16(core: TensorCore, format: Format, a: &[[u16; 16]; ROWS], b: &[[u16; 16]], d: &mut [f32]) {
    core.check();
    vector::product(core, format, a, b, d);
}

/// As [`m64k16`] with factors and accumulators of `f16`.
///
/// # Panics
/// As [`m64k16`].
pub fn m64k16_f16(core: TensorCore, a: &[[u16; 16]; ROWS], b: &[[u16; 16]], d: &mut [u16]) {
    core.check();
    for (a, d) in a.iter().zip(d.chunks_exact_mut(b.len())) {
        for (b, d) in b.iter().zip(d) {
            *d = half::k16(core, a, b, *d);
        }
    }
}

/// D = A * B^T + D of signed bytes (m64nNk32), exact, with D wrapping at 32 bits: A `[64][k]`, B^T `[n][k]`, D `[64][n]`.
///
/// # Panics
/// If D is of another size.
pub fn m64k32_s8(a: &[[i8; 32]; ROWS], b: &[[i8; 32]], d: &mut [i32]) {
    assert_eq!(d.len(), ROWS * b.len(), "D has {} numbers", d.len());
    // A sum of 32 products is below 2^19 + 1: only the accumulation can wrap.
    let wide = |row: &[i8; 32]| row.map(i16::from);
    let b: Vec<[i16; 32]> = b.iter().map(wide).collect();
    for (a, d) in a.iter().zip(d.chunks_exact_mut(b.len())) {
        let a = wide(a);
        for (b, d) in b.iter().zip(d) {
            let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
            *d = d.wrapping_add(products.sum());
        }
    }
}
