//! What the two models answer.

use half::{bf16, f16};
use host::reference::mma::{self, Arch, Factor};
use simt::tensor::{self, Format, TensorCore, ZeroProducts, ZeroSum};

use super::device::Answer;
use super::problem::{Kind, Problem};

/// The type of factors as the simulator names it; `None` for bytes.
fn format(kind: Kind) -> Option<Format> {
    match kind {
        Kind::Bf16 => Some(Format::Bf16),
        Kind::F16 => Some(Format::F16),
        Kind::S8 => None,
    }
}

/// By the simulator's tensor core. Bytes are multiplied one by one.
pub fn simulated(core: TensorCore, kind: Kind, p: &Problem) -> Answer {
    let Some(format) = format(kind) else { return bytes(p) };
    let (a, _) = p.a.as_chunks::<16>();
    let (b, _) = p.b.as_chunks::<16>();
    let c = p.c.map(f32::from_bits);
    let (c, _) = c.as_chunks::<8>();
    let (Ok(a), Ok(b), Ok(c)) = (a.try_into(), b.try_into(), c.try_into()) else {
        unreachable!("256 words are 16 rows of 16, 128 are 8 of 16 and 16 of 8")
    };
    let d = tensor::m16n8k16(core, format, a, b, c);
    std::array::from_fn(|i| d[i / 8][i % 8].to_bits())
}

/// By the reference. Bytes are multiplied one by one, in another order.
pub fn referred(arch: Arch, kind: Kind, p: &Problem) -> Answer {
    let factors = |bits: &[u16]| -> Vec<Factor> {
        bits.iter()
            .map(|x| match kind {
                Kind::F16 => mma::Element::factor(f16::from_bits(*x)),
                _ => mma::Element::factor(bf16::from_bits(*x)),
            })
            .collect()
    };
    if kind == Kind::S8 {
        return bytes_by_column(p);
    }
    let (a, b) = (factors(&p.a), factors(&p.b));
    std::array::from_fn(|i| {
        let (m, n) = (i / 8, i % 8);
        mma::chain(arch, &a[m * 16..][..16], &b[n * 16..][..16], f32::from_bits(p.c[i])).to_bits()
    })
}

/// Byte `k` of a row of 16 words.
fn byte(row: &[u16], k: usize) -> i32 {
    (row[k / 2] >> (8 * (k % 2))) as i8 as i32
}

fn bytes(p: &Problem) -> Answer {
    std::array::from_fn(|i| {
        let (a, b) = (&p.a[i / 8 * 16..][..16], &p.b[i % 8 * 16..][..16]);
        (0..32).fold(p.c[i] as i32, |sum, k| sum.wrapping_add(byte(a, k) * byte(b, k))) as u32
    })
}

fn bytes_by_column(p: &Problem) -> Answer {
    let mut d = p.c.map(|c| i64::from(c as i32));
    for k in (0..32).rev() {
        for (i, d) in d.iter_mut().enumerate() {
            *d += i64::from(byte(&p.a[i / 8 * 16..][..16], k) * byte(&p.b[i % 8 * 16..][..16], k));
        }
    }
    d.map(|d| d as u32)
}

/// Other models, to tell which corner is wrong when the device disagrees.
pub fn variants() -> Vec<(&'static str, TensorCore)> {
    let hopper = TensorCore::HOPPER;
    let floor = |exponent_floor| TensorCore {
        exponent_floor,
        ..hopper
    };
    vec![
        ("as the model", hopper),
        ("E is at least -126", floor(-126)),
        ("E is at least -127", floor(-127)),
        ("E is at least -128", floor(-128)),
        ("E is at least -130", floor(-130)),
        ("E is at least -132", floor(-132)),
        ("E is at least -134", floor(-134)),
        ("E is at least -136", floor(-136)),
        ("E is at least -140", floor(-140)),
        ("E is at least -149", floor(-149)),
        ("E has no floor", floor(tensor::NO_FLOOR)),
        (
            "zero products count for E",
            TensorCore {
                zero_products: ZeroProducts::Counted,
                ..hopper
            },
        ),
        (
            "-0 where all is -0",
            TensorCore {
                zero_sum: ZeroSum::Ieee,
                ..hopper
            },
        ),
        (
            "24 fraction bits",
            TensorCore {
                fraction_bits: 24,
                ..hopper
            },
        ),
        (
            "26 fraction bits",
            TensorCore {
                fraction_bits: 26,
                ..hopper
            },
        ),
        ("two steps of 8 products", TensorCore { products: 8, ..hopper }),
        ("Ampere", TensorCore::AMPERE),
    ]
}
