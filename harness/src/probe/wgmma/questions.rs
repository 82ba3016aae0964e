//! What the corners of `wgmma` are asked with.

use super::group::Type;
use crate::probe::corners::{b, cases, h, p2};
use crate::probe::problem::Kind;

/// Factors from k = 0 on, of each step, the rest being +0 * +0; and c.
pub struct Question {
    /// What it is about.
    pub topic: &'static str,
    /// The addends.
    pub text: String,
    /// Types of factors and accumulators.
    pub ty: Type,
    /// The factors.
    pub steps: Vec<Vec<(u16, u16)>>,
    /// What the accumulator's registers hold.
    pub c: u32,
    /// `scale-d` of the first step.
    pub accumulate: bool,
}

/// All of them: those of `mma.sync` first.
pub fn questions() -> Vec<Question> {
    let mut all: Vec<Question> = cases()
        .into_iter()
        .map(|case| Question {
            topic: case.topic,
            text: case.text.to_string(),
            ty: if case.kind == Kind::F16 { Type::F16 } else { Type::Bf16 },
            steps: vec![case.pairs],
            c: case.c,
            accumulate: true,
        })
        .collect();
    all.extend(without_accumulator());
    all.extend(chains());
    all.extend(half_accumulators());
    all.extend(bytes());
    all
}

/// `scale-d` of 0: whatever the registers held, they should not matter.
fn without_accumulator() -> Vec<Question> {
    let held = [
        ("NaN", 0x7FC0_0000),
        ("a signalling NaN", 0x7F80_0001),
        ("infinity", 0x7F80_0000),
        ("-infinity", 0xFF80_0000),
        ("-0", 0x8000_0000),
        ("the largest", 0x7F7F_FFFF),
        ("2^-149", 1),
    ];
    let products = [
        ("all +0", vec![]),
        ("all -0", vec![(0x8000, b(1.0)); 16]),
        ("1", vec![(b(1.0), b(1.0))]),
        ("-2^-150", vec![(b(-p2(-75)), b(p2(-75)))]),
        ("2^-20", vec![(b(p2(-10)), b(p2(-10)))]),
    ];
    let mut all = Vec::new();
    for (name, c) in held {
        for (products, pairs) in &products {
            all.push(Question {
                topic: "scale-d = 0",
                text: format!("registers held {name}, products {products}"),
                ty: Type::Bf16,
                steps: vec![pairs.clone()],
                c,
                accumulate: false,
            });
        }
    }
    let halves = [("NaN", 0x7E00), ("infinity", 0x7C00), ("-0", 0x8000), ("65504", 0x7BFF)];
    for (name, c) in halves {
        for (products, pairs) in [("all +0", vec![]), ("1", vec![(h(1.0), h(1.0))])] {
            all.push(Question {
                topic: "scale-d = 0",
                text: format!("f16 registers held {name}, products {products}"),
                ty: Type::F16F16,
                steps: vec![pairs],
                c,
                accumulate: false,
            });
        }
    }
    all.push(Question {
        topic: "scale-d = 0",
        text: "registers held 2^31 - 1, products 127 * 127".to_string(),
        ty: Type::S8,
        steps: vec![vec![(0x007F, 0x007F)]],
        c: i32::MAX as u32,
        accumulate: false,
    });
    all
}

/// Several instructions on one accumulator: it is rounded after each.
fn chains() -> Vec<Question> {
    let question = |text: &str, ty, steps: &[&[(u16, u16)]], c, accumulate| Question {
        topic: "chains",
        text: text.to_string(),
        ty,
        steps: steps.iter().map(|pairs| pairs.to_vec()).collect(),
        c,
        accumulate,
    };
    let one = (h(1.0), h(1.0));
    let small = (h(p2(-12)), h(p2(-12)));
    vec![
        question(
            "f32: 2^24; 1; 1",
            Type::F16,
            &[&[(h(4096.0), h(4096.0))], &[one], &[one]],
            0,
            false,
        ),
        question(
            "f32: 2^24 + 1 + 1",
            Type::F16,
            &[&[(h(4096.0), h(4096.0)), one, one]],
            0,
            false,
        ),
        question(
            "f16: 2048; 1; 1",
            Type::F16F16,
            &[&[(h(2048.0), h(1.0))], &[one], &[one]],
            0,
            false,
        ),
        question(
            "f16: 2048 + 1 + 1",
            Type::F16F16,
            &[&[(h(2048.0), h(1.0)), one, one]],
            0,
            false,
        ),
        question(
            "f16: c 2048; 1; 1; 1",
            Type::F16F16,
            &[&[one], &[one], &[one]],
            h(2048.0).into(),
            true,
        ),
        question(
            "f16: c 1; 2^-24 four times",
            Type::F16F16,
            &[&[small], &[small], &[small], &[small]],
            h(1.0).into(),
            true,
        ),
        question(
            "f16: 65504; 16; -16",
            Type::F16F16,
            &[&[(h(65504.0), h(1.0))], &[(h(16.0), h(1.0))], &[(h(-16.0), h(1.0))]],
            0,
            false,
        ),
        question(
            "f16: 65504 + 16 - 16",
            Type::F16F16,
            &[&[(h(65504.0), h(1.0)), (h(16.0), h(1.0)), (h(-16.0), h(1.0))]],
            0,
            false,
        ),
    ]
}

/// A topic, or that of the row before; the addends in words; factors; c.
type Row = (&'static str, &'static str, Vec<(u16, u16)>, u32);

/// Accumulators of f16: how sums are rounded, and where they end.
fn half_accumulators() -> Vec<Question> {
    // Products that are this power of two.
    let power = |n: i32| (h(p2(n / 2)), h(p2(n - n / 2)));
    let minus = |(a, b): (u16, u16)| (a ^ 0x8000, b);
    let one = (h(1.0), h(1.0));
    let most = (h(65504.0), h(1.0));
    let rows: Vec<Row> = vec![
        ("f16: rounding", "1 + 2^-11 (a tie)", vec![one, power(-11)], 0),
        (
            "",
            "1 + 2^-10 + 2^-11 (a tie, odd)",
            vec![one, power(-10), power(-11)],
            0,
        ),
        ("", "1 + 2^-12", vec![one, power(-12)], 0),
        ("", "1 + 2^-11 + 2^-12", vec![one, power(-11), power(-12)], 0),
        (
            "",
            "-1 - 2^-11 - 2^-12",
            vec![minus(one), minus(power(-11)), minus(power(-12))],
            0,
        ),
        (
            "",
            "-1 - 2^-10 - 2^-11 (a tie, odd)",
            vec![minus(one), minus(power(-10)), minus(power(-11))],
            0,
        ),
        ("", "1 - 2^-12 (a tie below 1)", vec![one, minus(power(-12))], 0),
        (
            "",
            "1 + 2^-11 + 2^-23 (above the tie, in 24 bits)",
            vec![one, power(-11), power(-23)],
            0,
        ),
        (
            "",
            "1 + 2^-11 + 2^-24 (above the tie, lost in f32)",
            vec![one, power(-11), power(-24)],
            0,
        ),
        (
            "",
            "1 + 2^-11 + 2^-25 (above the tie, lost in f32)",
            vec![one, power(-11), power(-25)],
            0,
        ),
        ("", "1 + 2^-11 + 2^-26 (cut off)", vec![one, power(-11), power(-26)], 0),
        (
            "",
            "1 + 2^-11 - 2^-24 (below the tie)",
            vec![one, power(-11), minus(power(-24))],
            0,
        ),
        (
            "",
            "1 + 2^-11 - 2^-25 (below the tie)",
            vec![one, power(-11), minus(power(-25))],
            0,
        ),
        ("", "2^-11, c 1", vec![power(-11)], h(1.0).into()),
        ("", "2^-11 + 2^-25, c 1", vec![power(-11), power(-25)], h(1.0).into()),
        (
            "",
            "1.5 * 1.5 - 1 - 1, and 2^-25 (E of 2.25 is 0)",
            vec![(h(1.5), h(1.5)), minus(one), minus(one), power(-25)],
            0,
        ),
        ("f16: overflow", "65504 + 15", vec![most, (h(15.0), h(1.0))], 0),
        ("", "65504 + 16 (a tie)", vec![most, (h(16.0), h(1.0))], 0),
        ("", "-65504 - 16", vec![minus(most), minus((h(16.0), h(1.0)))], 0),
        (
            "",
            "65504 + 16 - 2^-9",
            vec![most, (h(16.0), h(1.0)), minus(power(-9))],
            0,
        ),
        (
            "",
            "65504 + 16 - 2^-10 (cut off)",
            vec![most, (h(16.0), h(1.0)), minus(power(-10))],
            0,
        ),
        ("", "2^16", vec![power(16)], 0),
        ("", "2^16 - 2^15", vec![power(16), minus(power(15))], 0),
        ("", "65504 * 65504", vec![(h(65504.0), h(65504.0))], 0),
        (
            "",
            "16 of 65504 * 65504, c -65504",
            vec![(h(65504.0), h(65504.0)); 16],
            0xFBFF,
        ),
        ("", "8, c 65504", vec![(h(8.0), h(1.0))], 0x7BFF),
        ("", "16, c 65504", vec![(h(16.0), h(1.0))], 0x7BFF),
        ("f16: subnormal results", "2^-24", vec![power(-24)], 0),
        ("", "2^-25 (a tie)", vec![power(-25)], 0),
        ("", "-2^-25", vec![minus(power(-25))], 0),
        ("", "-2^-30", vec![minus(power(-30))], 0),
        ("", "1.5 * 2^-25", vec![(h(1.5 * p2(-12)), h(p2(-13)))], 0),
        ("", "1.5 * 2^-24 (a tie, odd)", vec![(h(1.5 * p2(-12)), h(p2(-12)))], 0),
        ("", "2^-25 + 2^-48", vec![power(-25), power(-48)], 0),
        ("", "2^-25, c 2^-24 (a tie, odd)", vec![power(-25)], 1),
        ("", "-2^-25, c 2^-24 (a tie)", vec![minus(power(-25))], 1),
        (
            "",
            "-2^-25 + 2^-39, c 2^-24 (lost if c counts with -10)",
            vec![minus(power(-25)), power(-39)],
            1,
        ),
        (
            "",
            "-2^-25 + 2^-40, c 2^-24 (lost if c counts with exponent -14)",
            vec![minus(power(-25)), power(-40)],
            1,
        ),
        (
            "",
            "-2^-25 + 2^-48, c 2^-24 (seen if c counts with -24)",
            vec![minus(power(-25)), power(-48)],
            1,
        ),
        ("", "2^-14 - 2^-24", vec![power(-14), minus(power(-24))], 0),
        (
            "",
            "2^-14 - 2^-25 (a tie, to the least normal)",
            vec![power(-14), minus(power(-25))],
            0,
        ),
        ("", "c = -2^-24 alone", vec![], 0x8001),
        ("f16: zeros", "all +0, c -0", vec![], 0x8000),
        ("", "products -0, c -0", vec![(0x8000, h(1.0)); 16], 0x8000),
        ("", "1 - 1, c -0", vec![one, minus(one)], 0x8000),
        ("", "-1, c 1", vec![minus(one)], h(1.0).into()),
        ("f16: NaN and infinities", "a = 0x7e01", vec![(0x7E01, h(1.0))], 0),
        ("", "c = 0x7e01", vec![], 0x7E01),
        ("", "c = 0xfc01, signalling", vec![], 0xFC01),
        ("", "infinity * 0", vec![(0x7C00, 0)], 0),
        ("", "infinity - infinity", vec![(0x7C00, h(1.0)), (0xFC00, h(1.0))], 0),
        ("", "infinity, c -infinity", vec![(0x7C00, h(1.0))], 0xFC00),
        ("", "-infinity, c 1", vec![(0xFC00, h(1.0))], h(1.0).into()),
        ("", "c infinity, -65504 * 65504", vec![(0xFBFF, 0x7BFF)], 0x7C00),
    ];
    let mut topic = "";
    let rows: Vec<Question> = rows
        .into_iter()
        .map(|(name, text, pairs, c)| {
            if !name.is_empty() {
                topic = name;
            }
            Question {
                topic,
                text: text.to_string(),
                ty: Type::F16F16,
                steps: vec![pairs],
                c,
                accumulate: true,
            }
        })
        .collect();
    // The least E: a tie that a small product lifts shows which products count, without c, and with one that is zero or subnormal.
    let floors = [("c +0", 0, true), ("c -0", 0x8000, true), ("no c", 0x7BFF, false)]
        .into_iter()
        .flat_map(|form| (38..=48).map(move |j| (form, j)))
        .map(|((c_text, c, accumulate), j)| Question {
            topic: "f16: floor of E",
            text: format!("2^-25 + 2^-{j}, {c_text}"),
            ty: Type::F16F16,
            steps: vec![vec![power(-25), power(-j)]],
            c,
            accumulate,
        });
    rows.into_iter().chain(floors).collect()
}

/// Bytes: where int32 ends.
fn bytes() -> Vec<Question> {
    // 32 times the same product: both bytes of 16 words.
    let all = |a: u8, b: u8| vec![(u16::from(a) * 257, u16::from(b) * 257); 16];
    let question = |text: &str, pairs, c: i32| Question {
        topic: "s8",
        text: text.to_string(),
        ty: Type::S8,
        steps: vec![pairs],
        c: c as u32,
        accumulate: true,
    };
    vec![
        question("32 of -128 * -128", all(0x80, 0x80), 0),
        question("32 of -128 * 127", all(0x80, 0x7F), 0),
        question("32 of -128 * -128, c 2^31 - 1 (wraps)", all(0x80, 0x80), i32::MAX),
        question("32 of -128 * 127, c -2^31 (wraps)", all(0x80, 0x7F), i32::MIN),
        question("1, c 2^31 - 1 (wraps)", vec![(1, 1)], i32::MAX),
        question("-1, c -2^31 (wraps)", vec![(0xFF, 1)], i32::MIN),
        question("c -2^31 alone", vec![], i32::MIN),
    ]
}
