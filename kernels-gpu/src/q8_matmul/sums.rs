//! The arithmetic: products of a quad, sums of segments, outputs.

use cuda_std::mma::m16n8k32_s8;
use cuda_std::shared::Shared;
use cuda_std::vec::{F32x4, U32x4};
use cuda_std::{float, mem, thread};

use crate::q8;
use crate::q8_args::Args;

/// Adds one quad of one row tile to a lane's sums `acc[row half][token]`, block by block.
#[inline(always)]
pub(super) fn multiply<const P: usize>(
    w: Shared<U32x4>,
    s: &U32x4,
    x: &[U32x4; 2],
    d: &[F32x4; P],
    acc: &mut [[f32; P]; 2],
) {
    let mut a = [[0u32; 4]; 4];
    let mut b = [[0u32; 2]; 4];
    for i in 0..4 {
        a[i] = w.add(i as u32 * 32).load().0;
        b[i] = [x[i / 2].0[2 * (i % 2)], x[i / 2].0[2 * (i % 2) + 1]];
    }
    let dots = m16n8k32_s8::<4>(&a, &b, &[[0; 4]; 4]);
    for i in 0..4 {
        let dw = float::f16x2_to_f32(s.0[i]);
        for half in 0..2 {
            for p in 0..P {
                acc[half][p] = float::fma(dw[half] * d[p].0[i], dots[i][2 * half + p] as f32, acc[half][p]);
            }
        }
    }
}

/// Writes a lane's outputs: rows `g` and `g + 8` of each of `R` row tiles, for its `P` tokens.
///
/// # Safety
/// The row tiles are this block's.
#[inline(always)]
pub(super) unsafe fn store<const R: usize, const P: usize>(a: &Args, out: &[[[f32; P]; 2]; R], group: u32, lane: u32) {
    let first_token = thread::block_idx_y() * P as u32 * 4 + lane % 4 * P as u32;
    for r in 0..R {
        for half in 0..2 {
            let row = (group * R as u32 + r as u32) * q8::ROW_TILE + lane / 4 + 8 * half as u32;
            for p in 0..P {
                let token = first_token + p as u32;
                if row < a.n && token < a.n_tok {
                    // SAFETY: row < N and token < n_tok.
                    unsafe {
                        let at = a.y.add(token as usize * a.y_stride as usize + row as usize);
                        mem::store(at, q8::canonical(out[r][half][p]));
                    }
                }
            }
        }
    }
}

/// Where a lane's sum of a segment lies in shared memory: `[segment][r][half][p][lane]`.
#[inline(always)]
pub(super) fn slot<const R: usize, const P: usize>(segment: u32, r: usize, half: usize, p: usize, lane: u32) -> u32 {
    (((segment * R as u32 + r as u32) * 2 + half as u32) * P as u32 + p as u32) * 32 + lane
}

/// Adds the segment sums of a lane's outputs in ascending order.
#[inline(always)]
pub(super) fn add_segments<const R: usize, const P: usize>(
    sums: Shared<f32>,
    segments: u32,
    lane: u32,
) -> [[[f32; P]; 2]; R] {
    // SAFETY: floats, for which all zeroes is a value.
    let (mut total, mut parts): ([[[f32; P]; 2]; R], [[[[f32; P]; 2]; R]; 4]) = unsafe { core::mem::zeroed() };
    let mut segment = 0;
    while segment < segments {
        // Four at a time: their loads do not wait for each other. Past the end the last one is read again and not added.
        for i in 0..4 {
            let segment = (segment + i as u32).min(segments - 1);
            for r in 0..R {
                for half in 0..2 {
                    for p in 0..P {
                        parts[i][r][half][p] = sums.add(slot::<R, P>(segment, r, half, p, lane)).load();
                    }
                }
            }
        }
        for i in 0..4 {
            if segment + (i as u32) < segments {
                for r in 0..R {
                    for half in 0..2 {
                        for p in 0..P {
                            total[r][half][p] += parts[i][r][half][p];
                        }
                    }
                }
            }
        }
        segment += 4;
    }
    total
}
