//! The steps of a warp: scores, softmax, products, the end.

use cuda_std::float::exact::{exp2a, pow2};
use cuda_std::float::{fma, max_nan};
use cuda_std::vec::U32x4;
use cuda_std::{float, mem, shared, warp};

use crate::attn::{Args, Half, Sequence, Tile, gated};
use crate::unroll::unroll;

/// Eight accumulators of 16 x 8 side by side: 16 rows of 64.
pub(super) type Eight = [[f32; 4]; 8];

/// The running sums of a lane's two rows: g = lane / 4 and g + 8 of its warp's.
pub(super) struct Rows {
    /// The maximum, an integer.
    pub(super) m: [f32; 2],
    /// The chains of l of the positions that are 2 t and 2 t + 1 modulo 8, t = lane % 4.
    pub(super) l: [[f32; 2]; 2],
    /// The first position that is admitted.
    pub(super) first: [i32; 2],
    /// The last one.
    pub(super) last: [i32; 2],
}

/// S = Q K^T of a warp's 16 rows: a chain over head_dim for each score.
#[inline(always)]
pub(super) fn scores<T: Half, const D: u32, const SC: usize>(
    q: Tile<D>,
    k: Tile<D>,
    warp_row: u32,
    lane: u32,
    s: &mut [Eight; SC],
) {
    let mut step = 0;
    while step < D / 16 {
        let a = shared::ldmatrix_x4(q.rows_first(warp_row, step, lane));
        unroll!(c < 2 => {
            if c < SC {
                let pair = |j: u32| shared::ldmatrix_x4(k.columns_first(64 * c as u32 + 16 * j, step, lane));
                s[c] = multiply::<T>(a, pair(0), pair(1), pair(2), pair(3), s[c]);
            }
        });
        step += 1;
    }
}

/// Eight accumulators plus A times the B of eight products, two in each of `b0` to `b3`.
#[inline(always)]
#[track_caller]
fn multiply<T: Half>(a: [u32; 4], b0: [u32; 4], b1: [u32; 4], b2: [u32; 4], b3: [u32; 4], c: Eight) -> Eight {
    let half = |b: [u32; 4]| ([b[0], b[1]], [b[2], b[3]]);
    let ((b0, b1), (b2, b3), (b4, b5), (b6, b7)) = (half(b0), half(b1), half(b2), half(b3));
    T::mma(&[a, a, a, a, a, a, a, a], &[b0, b1, b2, b3, b4, b5, b6, b7], &c)
}

/// Scores of positions that a row does not see become -inf: they are no maximum and their P is +0. `position`: that of the
/// lane's first score.
#[inline(always)]
pub(super) fn mask<const SC: usize>(rows: &Rows, position: u32, s: &mut [Eight; SC]) {
    unroll!(c < 2 => {
        if c < SC {
            unroll!(j < 8 => {
                unroll!(i < 4 => {
                    let p = (position + (64 * c + 8 * j + i % 2) as u32) as i32;
                    let seen = p >= rows.first[i / 2] && p <= rows.last[i / 2];
                    s[c][j][i] = if seen { s[c][j][i] } else { f32::NEG_INFINITY };
                });
            });
        }
    });
}

/// Moves the running maximum, and with it O and l; makes P of the scores and adds it to l.
#[inline(always)]
pub(super) fn softmax<const SC: usize, const OC: usize>(
    rows: &mut Rows,
    scale_log2: f32,
    s: &mut [Eight; SC],
    o: &mut [Eight; OC],
) {
    let mut u = [1.0f32; 2];
    unroll!(r < 2 => {
        let mut top = f32::NEG_INFINITY;
        unroll!(c < 2 => {
            if c < SC {
                unroll!(j < 8 => { top = max_nan(top, max_nan(s[c][j][2 * r], s[c][j][2 * r + 1])); });
            }
        });
        top = max_nan(top, warp::shuffle_xor(top, 1));
        top = max_nan(top, warp::shuffle_xor(top, 2));
        // The scale is positive, so the largest product is that of the largest score.
        let m = max_nan(rows.m[r], float::ceil(top * scale_log2));
        u[r] = pow2(rows.m[r] - m);
        rows.m[r] = m;
        rows.l[r] = [rows.l[r][0] * u[r], rows.l[r][1] * u[r]];
    });
    // Nothing changes where the factor is 1, which after the first granules is nearly everywhere.
    if warp::any(u[0] != 1.0 || u[1] != 1.0) {
        scale(u, o);
    }
    unroll!(c < 2 => {
        if c < SC {
            unroll!(j < 8 => {
                unroll!(i < 4 => {
                    let p = exp2a(fma(s[c][j][i], scale_log2, -rows.m[i / 2]));
                    rows.l[i / 2][i % 2] += p;
                    s[c][j][i] = p;
                });
            });
        }
    });
}

/// Multiplies the upper rows by `u[0]`, the lower ones by `u[1]`.
#[inline(always)]
fn scale<const OC: usize>(u: [f32; 2], o: &mut [Eight; OC]) {
    unroll!(c < 4 => {
        if c < OC {
            unroll!(j < 8 => {
                unroll!(i < 4 => { o[c][j][i] *= u[i / 2]; });
            });
        }
    });
}

/// O += P V: the registers of S are, rounded and packed, A of the product.
#[inline(always)]
pub(super) fn products<T: Half, const W: u32, const SC: usize, const OC: usize>(
    v: Tile<W>,
    lane: u32,
    p: &[Eight; SC],
    o: &mut [Eight; OC],
) {
    unroll!(c < 2 => {
        if c < SC {
            unroll!(j < 4 => {
                let (left, right) = (p[c][2 * j], p[c][2 * j + 1]);
                let a = [
                    T::pack(left[0], left[1]),
                    T::pack(left[2], left[3]),
                    T::pack(right[0], right[1]),
                    T::pack(right[2], right[3]),
                ];
                unroll!(n < 4 => {
                    if n < OC {
                        let first = (64 * c + 16 * j) as u32;
                        let pair = |k: u32| shared::ldmatrix_x4_trans(v.rows_first(first, 4 * n as u32 + k, lane));
                        o[n] = multiply::<T>(a, pair(0), pair(1), pair(2), pair(3), o[n]);
                    }
                });
            });
        }
    });
}

/// Joins the chains of l and divides O by it.
#[inline(always)]
pub(super) fn finish<const OC: usize>(rows: &Rows, o: &mut [Eight; OC]) {
    let mut inverse = [0.0f32; 2];
    unroll!(r < 2 => {
        let mut l = rows.l[r][0] + rows.l[r][1];
        l += warp::shuffle_xor(l, 1);
        l += warp::shuffle_xor(l, 2);
        let lost = rows.m[r].is_nan() || rows.m[r] == f32::INFINITY;
        inverse[r] = if lost { float::CANONICAL_NAN } else { 1.0 / l };
        // Only where the lengths contradict each other: a token sees at least itself.
        if rows.last[r] < rows.first[r] {
            inverse[r] = 0.0;
        }
    });
    unroll!(c < 4 => {
        if c < OC {
            unroll!(j < 8 => {
                unroll!(i < 4 => { o[c][j][i] = fma(o[c][j][i], inverse[i / 2], 0.0); });
            });
        }
    });
}

/// A warp's rounded rows of o into its own rows of the queries' tile, which nobody reads any more.
#[inline(always)]
pub(super) fn put<T: Half, const D: u32, const OC: usize>(tile: Tile<D>, warp_row: u32, lane: u32, o: &[Eight; OC]) {
    let (upper, t) = (warp_row + lane / 4, lane % 4);
    unroll!(c < 4 => {
        if c < OC {
            unroll!(j < 8 => {
                let v = o[c][j];
                let chunk = (8 * c + j) as u32;
                tile.chunk(upper, chunk).cast::<u32>().add(t).store(T::pack(v[0], v[1]));
                tile.chunk(upper + 8, chunk).cast::<u32>().add(t).store(T::pack(v[2], v[3]));
            });
        }
    });
    warp::sync();
}

/// A warp's rows from shared memory to o, 16 bytes a lane, gated on the way.
///
/// # Safety
/// The tensors have the shapes of [`crate::attn`]'s table.
#[allow(clippy::too_many_arguments)] // what, from where, to where, by whom
#[inline(always)]
pub(super) unsafe fn store<T: Half, const D: u32, const W: u32>(
    args: &Args<T>,
    seq: Sequence,
    head: u32,
    first_row: u32,
    from: u32,
    tile: Tile<D>,
    warp_row: u32,
    lane: u32,
) {
    let mut i = lane;
    while i < 16 * (W / 8) {
        let (row, chunk) = (i / (W / 8), i % (W / 8));
        if first_row + row < seq.tokens {
            let token = (seq.first + first_row + row) as usize;
            let mut y = tile.chunk(warp_row + row, chunk).cast::<U32x4>().load();
            // SAFETY: the token has its rows of gate and o.
            unsafe {
                if !args.gate.is_null() {
                    let at = token * args.gate_row as usize + (head * args.gate_head + from + chunk * 8) as usize;
                    let gate = mem::load(args.gate.add(at).cast::<U32x4>()).0;
                    let y0 = y.0;
                    y = U32x4([
                        gated::<T>(y0[0], gate[0]),
                        gated::<T>(y0[1], gate[1]),
                        gated::<T>(y0[2], gate[2]),
                        gated::<T>(y0[3], gate[3]),
                    ]);
                }
                let at = token * args.o_row as usize + (head * D + from + chunk * 8) as usize;
                mem::store(args.o.add(at).cast::<U32x4>(), y);
            }
        }
        i += 32;
    }
}
