//! What the two models answer to a group.

use half::{bf16, f16};
use host::reference::mma::{self, Arch, Element, Factor};
use simt::tensor::wgmma::{ROWS, m64k16, m64k16_f16, m64k32_s8};
use simt::tensor::{self, F16Rounding, Format, TensorCore};

use super::group::{Row, Tile, Type, View};

/// Where element i of a tile t of a group is in D, `[64][columns]`.
fn place(tile: usize, i: usize, columns: usize) -> usize {
    (tile % 4 * 16 + i / 8) * columns + tile / 4 * 8 + i % 8
}

/// C as `[64][columns]`, zeros where it is not added.
fn rows_of<T: Copy + Default>(view: &View, convert: impl Fn(u32) -> T) -> Vec<T> {
    let columns = view.group.columns as usize;
    let mut rows = vec![T::default(); ROWS * columns];
    if view.group.accumulate {
        for (t, tile) in view.c.iter().enumerate() {
            for (i, c) in tile.iter().enumerate() {
                rows[place(t, i, columns)] = convert(*c);
            }
        }
    }
    rows
}

/// D as tiles.
fn tiles_of<T: Copy>(view: &View, rows: &[T], convert: impl Fn(T) -> u32) -> Vec<Tile> {
    let columns = view.group.columns as usize;
    (0..view.c.len())
        .map(|t| std::array::from_fn(|i| convert(rows[place(t, i, columns)])))
        .collect()
}

/// The steps' rows of A and B.
fn steps<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a [Row; ROWS], &'a [Row])> + use<'a> {
    let (a, _) = view.a.as_chunks::<ROWS>();
    a.iter().zip(view.b.chunks_exact(view.group.columns as usize))
}

/// By the simulator's tensor core.
pub fn simulated(core: TensorCore, ty: Type, view: &View) -> Vec<Tile> {
    match ty {
        Type::Bf16 | Type::F16 => {
            let format = if ty == Type::F16 { Format::F16 } else { Format::Bf16 };
            let mut d = rows_of(view, f32::from_bits);
            steps(view).for_each(|(a, b)| m64k16(core, format, a, b, &mut d));
            tiles_of(view, &d, f32::to_bits)
        }
        Type::F16F16 => {
            let mut d = rows_of(view, |c| c as u16);
            steps(view).for_each(|(a, b)| m64k16_f16(core, a, b, &mut d));
            tiles_of(view, &d, u32::from)
        }
        Type::S8 => {
            let mut d = rows_of(view, |c| c as i32);
            for (a, b) in steps(view) {
                let b: Vec<[i8; 32]> = b.iter().map(bytes).collect();
                m64k32_s8(&a.each_ref().map(bytes), &b, &mut d);
            }
            tiles_of(view, &d, |d| d as u32)
        }
    }
}

fn bytes(row: &Row) -> [i8; 32] {
    std::array::from_fn(|k| (row[k / 2] >> (8 * (k % 2))) as i8)
}

/// By the reference, output by output.
pub fn referred(ty: Type, view: &View) -> Vec<Tile> {
    let columns = view.group.columns as usize;
    let factors = |rows: &[Row]| -> Vec<[Factor; 16]> {
        let factor = |x: u16| match ty {
            Type::Bf16 => bf16::from_bits(x).factor(),
            _ => f16::from_bits(x).factor(),
        };
        rows.iter().map(|row| row.map(factor)).collect()
    };
    let (a, b) = (factors(view.a), factors(view.b));
    let steps = view.group.steps as usize;
    let output = |t: usize, i: usize| -> u32 {
        let (m, n) = (t % 4 * 16 + i / 8, t / 4 * 8 + i % 8);
        let c = if view.group.accumulate { view.c[t][i] } else { 0 };
        let pairs = (0..steps).map(|s| (s * ROWS + m, s * columns + n));
        match ty {
            Type::Bf16 | Type::F16 => pairs
                .fold(f32::from_bits(c), |c, (m, n)| mma::chain(Arch::Hopper, &a[m], &b[n], c))
                .to_bits(),
            Type::F16F16 => pairs
                .fold(f16::from_bits(c as u16), |c, (m, n)| {
                    mma::step_f16(Arch::Hopper, &a[m], &b[n], c)
                })
                .to_bits()
                .into(),
            Type::S8 => pairs.fold(i64::from(c as i32), |c, (m, n)| {
                // From the last k to the first, and wide: it wraps once, at the end.
                let (a, b) = (bytes(&view.a[m]), bytes(&view.b[n]));
                (0..32).rev().fold(c, |c, k| c + i64::from(a[k]) * i64::from(b[k]))
            }) as u32,
        }
    };
    (0..view.c.len())
        .map(|t| std::array::from_fn(|i| output(t, i)))
        .collect()
}

/// Other models, to tell which corner is wrong when the device disagrees.
pub fn variants(ty: Type) -> Vec<(&'static str, TensorCore)> {
    let hopper = TensorCore::HOPPER;
    match ty {
        Type::S8 => Vec::new(),
        Type::Bf16 | Type::F16 => crate::probe::model::variants(),
        Type::F16F16 => {
            let rounding = |f16_rounding| TensorCore { f16_rounding, ..hopper };
            let floor = |f16_exponent_floor| TensorCore {
                f16_exponent_floor,
                ..hopper
            };
            let bits = |fraction_bits| TensorCore {
                fraction_bits,
                ..hopper
            };
            vec![
                ("as the model", hopper),
                ("E is at least -12", floor(-12)),
                ("E is at least -13", floor(-13)),
                ("E is at least -14", floor(-14)),
                ("E is at least -15", floor(-15)),
                ("E is at least -16", floor(-16)),
                ("E is at least -18", floor(-18)),
                ("E is at least -20", floor(-20)),
                ("E is at least -21", floor(-21)),
                ("E is at least -22", floor(-22)),
                ("E has no floor", floor(tensor::NO_FLOOR)),
                (
                    "the f32 result, to nearest, no -0",
                    rounding(F16Rounding::OfF32WithoutNegativeZero),
                ),
                ("the sum, to nearest, with -0", rounding(F16Rounding::OfSum)),
                ("the sum, truncated", rounding(F16Rounding::Truncated)),
                ("24 fraction bits", bits(24)),
                ("26 fraction bits", bits(26)),
            ]
        }
    }
}
