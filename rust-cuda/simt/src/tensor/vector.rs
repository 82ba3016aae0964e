//! [`super::m16n8k16`] and [`super::wgmma`] for 8 outputs at once: the factors of an instruction are decoded once, and 8 outputs of a
//! row are computed in loops of constant length that become vector instructions. Outputs with an infinity or a NaN go to
//! [`super::k16`].

// Loops over all lanes by index: that is what becomes vectors, and reads as what it is.
#![allow(clippy::needless_range_loop)]

use super::{Format, MOST, Number, TensorCore, ZeroProducts, ZeroSum, k16, truncate};

/// An exponent that counts for nothing.
const NO_EXPONENT: i32 = -4096;
/// The most rows of A in one instruction.
const ROWS: usize = 64;

/// A row of A: magnitude, exponent and sign (0 or -1) of each k.
type Row = [(i32, i32, i32); 16];

/// 8 rows of B^T, by k: what a row of A meets.
struct Columns {
    magnitude: [[i32; 8]; 16],
    exponent: [[i32; 8]; 16],
    /// 0 or -1.
    sign: [[i32; 8]; 16],
}

/// D = A * B^T + D in place: A of at most 64 rows, B^T of a multiple of 8 rows n, D `[m][n]`.
pub(super) fn product(core: TensorCore, format: Format, a: &[[u16; 16]], b: &[[u16; 16]], d: &mut [f32]) {
    assert!(a.len() <= ROWS && b.len().is_multiple_of(8) && d.len() == a.len() * b.len());
    // More fraction bits would overflow sums of 8 addends in 32 bits, and -0 would need a look at every product.
    let vectors = (23..=25).contains(&core.fraction_bits) && core.zero_sum == ZeroSum::Positive;
    if !vectors || !matches!(core.products, 4 | 8 | 16) {
        for (a, d) in a.iter().zip(d.chunks_exact_mut(b.len())) {
            for (b, d) in b.iter().zip(d) {
                *d = k16(core, format, a, b, *d);
            }
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        return unsafe { with_avx2(core, format, a, b, d) };
    }
    by_steps(core, format, a, b, d)
}

/// The same code with wider vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(core: TensorCore, format: Format, a: &[[u16; 16]], b: &[[u16; 16]], d: &mut [f32]) {
    by_steps(core, format, a, b, d)
}

#[inline(always)]
fn by_steps(core: TensorCore, format: Format, a: &[[u16; 16]], b: &[[u16; 16]], d: &mut [f32]) {
    match core.products {
        16 => rows::<16>(core, format, a, b, d),
        8 => rows::<8>(core, format, a, b, d),
        _ => rows::<4>(core, format, a, b, d),
    }
}

#[inline(always)]
fn rows<const P: usize>(core: TensorCore, format: Format, a: &[[u16; 16]], b: &[[u16; 16]], d: &mut [f32]) {
    let decoded = |bits: u16| {
        let n = Number::factor(bits, format);
        let counts = n.magnitude != 0 || core.zero_products == ZeroProducts::Counted;
        let exponent = if counts { n.exponent } else { NO_EXPONENT };
        (n.magnitude as i32, exponent, -i32::from(n.negative), n.special)
    };
    // A product then stands in units of 2^(its exponent - F).
    let shift = core.fraction_bits - 2 * format.fraction_bits();
    let mut rows = [([(0, 0, 0); 16], false); ROWS];
    for (row, a) in rows.iter_mut().zip(a) {
        for k in 0..16 {
            let (magnitude, exponent, sign, special) = decoded(a[k]);
            row.0[k] = (magnitude << shift, exponent, sign);
            row.1 |= special;
        }
    }
    for (block, b) in b.chunks_exact(8).enumerate() {
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
        let stride = d.len() / a.len();
        for (m, (row, special_row)) in rows[..a.len()].iter().enumerate() {
            let d: &mut [f32; 8] = (&mut d[m * stride + block * 8..][..8])
                .try_into()
                .expect("a slice of 8");
            let c = *d;
            let mut special = special_columns.map(|s| s | special_row);
            for first in (0..MOST).step_by(P) {
                for n in 0..8 {
                    special[n] |= !d[n].is_finite();
                }
                *d = step::<P>(core, row, &columns, first, d);
            }
            for n in 0..8 {
                if special[n] {
                    d[n] = k16(core, format, &a[m], &b[n], c[n]);
                }
            }
        }
    }
}

/// A fused step of 8 outputs, with the products from k = `first` on. Sums of at most 8 addends stay within 32 bits. Wrapping
/// operations throughout: nothing wraps, and checks for it would keep debug builds from using vectors.
#[inline(always)]
fn step<const P: usize>(core: TensorCore, row: &Row, columns: &Columns, first: usize, c: &[f32; 8]) -> [f32; 8] {
    let (mut e, mut addend) = ([core.exponent_floor; 8], [0i32; 8]);
    let mut c_exponent = [0i32; 8];
    for n in 0..8 {
        let bits = c[n].to_bits() as i32;
        let field = bits >> 23 & 0xff;
        let magnitude = (bits & 0x7f_ffff) | if field != 0 { 0x80_0000 } else { 0 };
        c_exponent[n] = field.max(1).wrapping_sub(127);
        addend[n] = magnitude.wrapping_shl(core.fraction_bits.wrapping_sub(23));
        e[n] = e[n].max(if magnitude != 0 { c_exponent[n] } else { NO_EXPONENT });
    }
    for k in 0..P {
        let (_, exponent, _) = row[first + k];
        for n in 0..8 {
            e[n] = e[n].max(exponent.wrapping_add(columns.exponent[first + k][n]));
        }
    }
    let half = P.div_ceil(2);
    let low = sums(row, columns, first..first + half, &e);
    let high = sums(row, columns, first + half..first + P, &e);
    let mut d = [0.0; 8];
    for n in 0..8 {
        let below = e[n].wrapping_sub(c_exponent[n]).clamp(0, 31) as u32;
        let sign = c[n].to_bits() as i32 >> 31;
        let units = ((addend[n] as u32).wrapping_shr(below) as i32 ^ sign).wrapping_sub(sign);
        let sum = f64::from(low[n]) + f64::from(high[n]) + f64::from(units);
        d[n] = truncate(sum, e[n].wrapping_sub(core.fraction_bits as i32));
    }
    d
}

/// The sums of at most 8 products of each output, in units of 2^(E - F).
#[inline(always)]
fn sums(row: &Row, columns: &Columns, range: std::ops::Range<usize>, e: &[i32; 8]) -> [i32; 8] {
    let mut sums = [0i32; 8];
    for k in range {
        let (magnitude, exponent, sign) = row[k];
        for n in 0..8 {
            let product = magnitude.wrapping_mul(columns.magnitude[k][n]) as u32;
            let below = e[n].wrapping_sub(exponent).wrapping_sub(columns.exponent[k][n]).min(31) as u32;
            let sign = sign ^ columns.sign[k][n];
            let units = (product.wrapping_shr(below) as i32 ^ sign).wrapping_sub(sign);
            sums[n] = sums[n].wrapping_add(units);
        }
    }
    sums
}
