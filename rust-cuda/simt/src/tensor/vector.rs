//! [`super::m16n8k16`] for all outputs at once: factors are decoded once, and a row's 8 outputs are computed in loops of constant
//! length that become vector instructions. Outputs with an infinity or a NaN go to [`super::k16`].

// Loops over all lanes by index: that is what becomes vectors, and reads as what it is.
#![allow(clippy::needless_range_loop)]

use super::{Format, MOST, Number, TensorCore, ZeroProducts, ZeroSum, k16, truncate};

/// An exponent that counts for nothing.
const NO_EXPONENT: i32 = -4096;

/// B's rows, by k: what a row of A meets.
struct Columns {
    magnitude: [[i32; 8]; 16],
    exponent: [[i32; 8]; 16],
    /// 0 or -1.
    sign: [[i32; 8]; 16],
}

pub(super) fn m16n8k16(
    core: TensorCore,
    format: Format,
    a: &[[u16; 16]; 16],
    b: &[[u16; 16]; 8],
    c: &[[f32; 8]; 16],
) -> [[f32; 8]; 16] {
    // More fraction bits would overflow sums of 8 addends in 32 bits, and -0 would need a look at every product.
    if core.fraction_bits > 25 || core.fraction_bits < 23 || core.zero_sum != ZeroSum::Positive {
        return std::array::from_fn(|m| std::array::from_fn(|n| k16(core, format, &a[m], &b[n], c[m][n])));
    }
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        return unsafe { with_avx2(core, format, a, b, c) };
    }
    by_steps(core, format, a, b, c)
}

/// The same code with wider vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(
    core: TensorCore,
    format: Format,
    a: &[[u16; 16]; 16],
    b: &[[u16; 16]; 8],
    c: &[[f32; 8]; 16],
) -> [[f32; 8]; 16] {
    by_steps(core, format, a, b, c)
}

#[inline(always)]
fn by_steps(
    core: TensorCore,
    format: Format,
    a: &[[u16; 16]; 16],
    b: &[[u16; 16]; 8],
    c: &[[f32; 8]; 16],
) -> [[f32; 8]; 16] {
    match core.products {
        16 => rows::<16>(core, format, a, b, c),
        8 => rows::<8>(core, format, a, b, c),
        4 => rows::<4>(core, format, a, b, c),
        _ => std::array::from_fn(|m| std::array::from_fn(|n| k16(core, format, &a[m], &b[n], c[m][n]))),
    }
}

#[inline(always)]
fn rows<const P: usize>(
    core: TensorCore,
    format: Format,
    a: &[[u16; 16]; 16],
    b: &[[u16; 16]; 8],
    c: &[[f32; 8]; 16],
) -> [[f32; 8]; 16] {
    let decoded = |bits: u16| {
        let n = Number::factor(bits, format);
        let counts = n.magnitude != 0 || core.zero_products == ZeroProducts::Counted;
        let exponent = if counts { n.exponent } else { NO_EXPONENT };
        (n.magnitude as i32, exponent, -i32::from(n.negative), n.special)
    };
    let mut columns = Columns {
        magnitude: [[0; 8]; 16],
        exponent: [[0; 8]; 16],
        sign: [[0; 8]; 16],
    };
    let mut special_columns = [false; 8];
    for n in 0..8 {
        for k in 0..16 {
            let special;
            (
                columns.magnitude[k][n],
                columns.exponent[k][n],
                columns.sign[k][n],
                special,
            ) = decoded(b[n][k]);
            special_columns[n] |= special;
        }
    }
    // A product then stands in units of 2^(its exponent - F).
    let shift = core.fraction_bits - 2 * format.fraction_bits();
    let mut d = [[0.0; 8]; 16];
    for m in 0..16 {
        let mut row = [(0, 0, 0); 16];
        let mut special_row = false;
        for k in 0..16 {
            let (magnitude, exponent, sign, special) = decoded(a[m][k]);
            row[k] = (magnitude << shift, exponent, sign);
            special_row |= special;
        }
        let mut special = special_columns.map(|s| s | special_row);
        let mut sums = c[m];
        for first in (0..MOST).step_by(P) {
            for n in 0..8 {
                special[n] |= !sums[n].is_finite();
            }
            sums = step::<P>(core, &row, &columns, first, &sums);
        }
        for n in 0..8 {
            d[m][n] = if special[n] {
                k16(core, format, &a[m], &b[n], c[m][n])
            } else {
                sums[n]
            };
        }
    }
    d
}

/// A fused step of 8 outputs, with the products from k = `first` on. Sums of at most 8 addends stay within 32 bits.
#[inline(always)]
fn step<const P: usize>(
    core: TensorCore,
    row: &[(i32, i32, i32); 16],
    columns: &Columns,
    first: usize,
    c: &[f32; 8],
) -> [f32; 8] {
    let (mut e, mut addend) = ([core.exponent_floor; 8], [0i32; 8]);
    let mut c_exponent = [0i32; 8];
    for n in 0..8 {
        let bits = c[n].to_bits() as i32;
        let field = bits >> 23 & 0xff;
        let magnitude = (bits & 0x7f_ffff) | if field != 0 { 0x80_0000 } else { 0 };
        c_exponent[n] = field.max(1) - 127;
        addend[n] = magnitude << (core.fraction_bits - 23);
        e[n] = e[n].max(if magnitude != 0 { c_exponent[n] } else { NO_EXPONENT });
    }
    for k in first..first + P {
        for n in 0..8 {
            e[n] = e[n].max(row[k].1 + columns.exponent[k][n]);
        }
    }
    let half = P.div_ceil(2);
    let low = sums(row, columns, first..first + half, &e);
    let high = sums(row, columns, first + half..first + P, &e);
    let mut d = [0.0; 8];
    for n in 0..8 {
        let below = (e[n] - c_exponent[n]).clamp(0, 31) as u32;
        let sign = c[n].to_bits() as i32 >> 31;
        let units = ((addend[n] as u32 >> below) as i32 ^ sign) - sign;
        let sum = f64::from(low[n]) + f64::from(high[n]) + f64::from(units);
        d[n] = truncate(sum, e[n] - core.fraction_bits as i32);
    }
    d
}

/// The sums of at most 8 products of each output, in units of 2^(E - F).
#[inline(always)]
fn sums(row: &[(i32, i32, i32); 16], columns: &Columns, range: std::ops::Range<usize>, e: &[i32; 8]) -> [i32; 8] {
    let mut sums = [0; 8];
    for k in range {
        let (magnitude, exponent, sign) = row[k];
        for n in 0..8 {
            let product = (magnitude * columns.magnitude[k][n]) as u32;
            let below = (e[n] - exponent - columns.exponent[k][n]).min(31) as u32;
            let sign = sign ^ columns.sign[k][n];
            sums[n] += ((product >> below) as i32 ^ sign) - sign;
        }
    }
    sums
}
