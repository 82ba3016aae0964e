//! Q8_0 matmul on the CPU, straight from GGUF's blocks: y`[t][n]` = sum over k of W`[n][k]` X`[t][k]`.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | blocks | `[n][nb][34]` | GGUF Q8_0: an f16 scale, little-endian, and 32 int8; nb = ceil(k / 32) |
//! | x | `[n_tok][k]` | f32, or bf16 as its bits |
//! | y | `[n_tok][n]` | f32 |
//!
//! # Canonical order
//! 1. Activations, for each block of 32 of a token (zeros beyond k): `d = max |x| / 127`, NaN if the block has one; each
//!    `q = x / d` rounded to the nearest integer, ties to even, kept within -127..=127; 0 if d is 0 or `x / d` is NaN.
//! 2. K is cut into segments of 16 blocks, the last may be short. In each, `acc = +0` and for its blocks ascending
//!    `acc = fma(dw * d, (f32) sum of qw * q, acc)`; the integer sum is exact.
//! 3. `y = +0`; for segments ascending `y = y + acc`. A NaN is stored as 0x7FFFFFFF.
//!
//! Every operation is an IEEE f32 operation rounded to nearest, subnormals kept.

use super::{ReferenceError, expect};

const WIDTH: usize = 32;
const SEGMENT: usize = 16;
const BLOCK_BYTES: usize = 34;
const NAN: f32 = f32::from_bits(0x7FFF_FFFF);

/// Activations as given.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// f32 values.
    F32(&'a [f32]),
    /// bf16 values, as their bits.
    Bf16(&'a [u16]),
}

impl Input<'_> {
    fn len(&self) -> usize {
        match self {
            Input::F32(x) => x.len(),
            Input::Bf16(x) => x.len(),
        }
    }

    fn get(&self, i: usize) -> f32 {
        match self {
            Input::F32(x) => x[i],
            // bf16 is the upper half of an f32.
            Input::Bf16(x) => f32::from_bits(u32::from(x[i]) << 16),
        }
    }
}

/// Quantised activations.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    /// The integers, `[n_tok][nb][32]`.
    pub q: Vec<i8>,
    /// The scales, `[n_tok][nb]`.
    pub d: Vec<f32>,
}

/// The exact result of the quantised product and how far f32 arithmetic may be from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exact {
    /// Sum of dw * dx * dot in f64.
    pub value: f64,
    /// Bound of |y - value| for a sum over blocks in any order; infinite where f32 could overflow or an operand is not
    /// finite.
    pub bound: f64,
    /// The same where a kernel may also add each block in up to eight parts.
    pub loose: f64,
}

/// The value of an f16 from its bits, exactly.
pub fn f16_value(bits: u16) -> f32 {
    let fraction = f32::from(bits & 0x3FF);
    let magnitude = match (bits >> 10) & 0x1F {
        // Subnormal: in units of 2^-24.
        0 => fraction / 16_777_216.0,
        31 if bits & 0x3FF == 0 => f32::INFINITY,
        31 => f32::NAN,
        // (1024 + fraction) * 2^(e - 25); the power of two is made from its exponent field.
        e => (1024.0 + fraction) * f32::from_bits((u32::from(e) + 127 - 25) << 23),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

fn nearest_even(v: f32) -> f32 {
    let below = v.floor();
    let rest = v - below;
    let below_is_even = below % 2.0 == 0.0;
    if rest < 0.5 || (rest == 0.5 && below_is_even) {
        below
    } else {
        below + 1.0
    }
}

/// Quantises `n_tok` rows of `k` activations.
///
/// # Errors
/// `x` is not `n_tok * k` long.
pub fn quantise(x: Input<'_>, n_tok: usize, k: usize) -> Result<Quantised, ReferenceError> {
    expect("x", x.len(), &[("n_tok", n_tok), ("k", k)])?;
    let nb = k.div_ceil(WIDTH);
    let mut out = Quantised {
        q: Vec::with_capacity(n_tok * nb * WIDTH),
        d: Vec::with_capacity(n_tok * nb),
    };
    for token in 0..n_tok {
        for b in 0..nb {
            let mut values = [0.0f32; WIDTH];
            for (j, v) in values.iter_mut().enumerate().take(k - (b * WIDTH).min(k)) {
                *v = x.get(token * k + b * WIDTH + j);
            }
            let d = if values.iter().any(|v| v.is_nan()) {
                NAN
            } else {
                values.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0
            };
            out.d.push(d);
            out.q.extend(values.map(|v| {
                let ratio = v / d;
                if d == 0.0 || ratio.is_nan() {
                    0
                } else {
                    nearest_even(ratio).clamp(-127.0, 127.0) as i8
                }
            }));
        }
    }
    Ok(out)
}

/// The product for activations that are quantised already. Rows are spread over the cores when there are many.
///
/// # Errors
/// A tensor that does not have its shape.
pub fn matmul_quantised(
    blocks: &[u8],
    x: &Quantised,
    n: usize,
    k: usize,
    n_tok: usize,
) -> Result<Vec<f32>, ReferenceError> {
    check_shapes(blocks, x, n, k, n_tok)?;
    let nb = k.div_ceil(WIDTH);
    Ok(over_rows(n, n_tok, nb, |row, token| {
        let mut y = 0.0f32;
        for first in (0..nb).step_by(SEGMENT) {
            let mut acc = 0.0f32;
            for b in first..nb.min(first + SEGMENT) {
                let (scale, dot) = block_product(blocks, x, nb, row, token, b);
                acc = scale.mul_add(dot as f32, acc);
            }
            y += acc;
        }
        if y.is_nan() { NAN } else { y }
    }))
}

/// The whole operation from activations as given.
///
/// # Errors
/// A tensor that does not have its shape.
pub fn matmul(blocks: &[u8], x: Input<'_>, n: usize, k: usize, n_tok: usize) -> Result<Vec<f32>, ReferenceError> {
    matmul_quantised(blocks, &quantise(x, n_tok, k)?, n, k, n_tok)
}

/// The quantised product in f64, with the bound that f32 must keep: a sanity check of the order itself, and the
/// tolerance of kernels in another order.
///
/// # The bound
/// With u = 2^-24, a term t = dw * dx * dot is computed as fl(dw * dx) * dot, off by u |t| and by 2^-150 |dot| where the
/// product of the scales is subnormal. A sum of m terms by any tree of additions rounds each term at most m times (fma
/// rounds once for its multiplication and addition; adding to zero does not round). So
/// `|y - exact| <= gamma * sum |t| + 2^-150 * sum |dot| * (1 + gamma)`, gamma = (m + 1) u / (1 - (m + 1) u), m = nb. With
/// blocks in eight parts m = 8 nb, and |dot| becomes the sum of |qw * q|. f64's own error is covered by a factor of
/// 1 + 2^-20 on gamma, far above it: a term has at most 55 bits.
///
/// # Errors
/// A tensor that does not have its shape.
pub fn exact(blocks: &[u8], x: &Quantised, n: usize, k: usize, n_tok: usize) -> Result<Vec<Exact>, ReferenceError> {
    check_shapes(blocks, x, n, k, n_tok)?;
    let nb = k.div_ceil(WIDTH);
    let gamma = |terms: usize| {
        let mu = (terms + 1) as f64 * 2f64.powi(-24);
        mu / (1.0 - mu) * (1.0 + 2f64.powi(-20))
    };
    let (whole, parts) = (gamma(nb), gamma(8 * nb));
    Ok(over_rows(n, n_tok, nb, |row, token| {
        let mut finite = true;
        // Sums of |dw dx dot| and |dot|, by the exact dot and by the magnitudes of its products.
        let (mut value, mut of_dots, mut of_products) = (0.0f64, (0.0f64, 0.0f64), (0.0f64, 0.0f64));
        for b in 0..nb {
            let (scale, dot) = block_product(blocks, x, nb, row, token, b);
            let exact_scale = f64::from(weight_scale(blocks, nb, row, b)) * f64::from(x.d[token * nb + b]);
            finite &= scale.is_finite();
            value += exact_scale * f64::from(dot);
            let pairs = pairs(blocks, x, nb, row, token, b);
            let magnitude = f64::from(pairs.map(|(w, q)| (w * q).abs()).sum::<i32>());
            let dot = f64::from(dot.abs());
            of_dots = (of_dots.0 + (exact_scale * dot).abs(), of_dots.1 + dot);
            of_products = (
                of_products.0 + (exact_scale * magnitude).abs(),
                of_products.1 + magnitude,
            );
        }
        let bound = |gamma: f64, (terms, dots): (f64, f64)| {
            let bound = gamma * terms + 2f64.powi(-150) * dots * (1.0 + gamma);
            let overflows = terms + bound >= f64::from(f32::MAX);
            if finite && !overflows { bound } else { f64::INFINITY }
        };
        Exact {
            value,
            bound: bound(whole, of_dots),
            loose: bound(parts, of_products),
        }
    }))
}

fn check_shapes(blocks: &[u8], x: &Quantised, n: usize, k: usize, n_tok: usize) -> Result<(), ReferenceError> {
    let nb = k.div_ceil(WIDTH);
    expect("blocks", blocks.len(), &[("n", n), ("nb", nb), ("bytes", BLOCK_BYTES)])?;
    expect("q", x.q.len(), &[("n_tok", n_tok), ("nb", nb), ("width", WIDTH)])?;
    expect("d", x.d.len(), &[("n_tok", n_tok), ("nb", nb)])
}

fn weight_scale(blocks: &[u8], nb: usize, row: usize, b: usize) -> f32 {
    let at = (row * nb + b) * BLOCK_BYTES;
    f16_value(u16::from_le_bytes([blocks[at], blocks[at + 1]]))
}

/// The 32 weights of a block, each with its activation.
fn pairs<'a>(
    blocks: &'a [u8],
    x: &'a Quantised,
    nb: usize,
    row: usize,
    token: usize,
    b: usize,
) -> impl Iterator<Item = (i32, i32)> + 'a {
    let at = (row * nb + b) * BLOCK_BYTES;
    let weights = &blocks[at + 2..at + BLOCK_BYTES];
    let values = &x.q[(token * nb + b) * WIDTH..][..WIDTH];
    weights
        .iter()
        .zip(values)
        .map(|(&w, &q)| (i32::from(w as i8), i32::from(q)))
}

/// dw * dx, rounded once, and the exact dot of one block.
fn block_product(blocks: &[u8], x: &Quantised, nb: usize, row: usize, token: usize, b: usize) -> (f32, i32) {
    let dot = pairs(blocks, x, nb, row, token, b).map(|(w, q)| w * q).sum();
    (weight_scale(blocks, nb, row, b) * x.d[token * nb + b], dot)
}

/// `f(row, token)` for every output, as `[n_tok][n]`; on all cores when that is worth their start.
fn over_rows<T: Copy + Default + Send>(
    n: usize,
    n_tok: usize,
    nb: usize,
    f: impl Fn(usize, usize) -> T + Sync,
) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut by_row = vec![T::default(); n * n_tok];
    let rows = if n * n_tok * nb < 65_536 { n } else { n.div_ceil(cores) }.max(1);
    let fill = |first: usize, part: &mut [T]| {
        for (i, out) in part.iter_mut().enumerate() {
            *out = f(first + i / n_tok, i % n_tok);
        }
    };
    if rows >= n {
        fill(0, &mut by_row);
    } else {
        std::thread::scope(|scope| {
            for (i, part) in by_row.chunks_mut(rows * n_tok).enumerate() {
                let fill = &fill;
                scope.spawn(move || fill(i * rows, part));
            }
        });
    }
    (0..n * n_tok).map(|i| by_row[(i % n) * n_tok + i / n]).collect()
}

#[cfg(test)]
#[path = "q8_tests.rs"]
mod tests;
