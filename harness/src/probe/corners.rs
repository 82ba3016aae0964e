//! The corners that random problems hit rarely, one question each: what the device answers, beside the models.

use anyhow::Result;
use half::{bf16, f16};
use host::device::Device;
use host::reference::mma::Arch;
use serde::Serialize;
use simt::tensor::TensorCore;

use super::device::{Batch, Runner};
use super::model::{referred, simulated};
use super::problem::{Kind, Problem};

/// One question and its answers.
#[derive(Debug, Serialize)]
pub struct Corner {
    /// What it is about.
    pub topic: &'static str,
    /// The addends.
    pub case: String,
    /// The type of the factors.
    pub kind: Kind,
    /// The device's answer.
    pub device: String,
    /// The simulator's.
    pub simulator: String,
    /// The reference's.
    pub reference: String,
}

impl Corner {
    /// Whether all three are the same.
    pub fn agrees(&self) -> bool {
        self.device == self.simulator && self.device == self.reference
    }
}

/// Addends: pairs of factors from k = 0 on, the rest being +0 * +0, and c.
pub(super) struct Case {
    pub(super) topic: &'static str,
    pub(super) text: &'static str,
    pub(super) kind: Kind,
    pub(super) pairs: Vec<(u16, u16)>,
    pub(super) c: u32,
}

impl Case {
    /// Everything in row 0 of A, row 0 of B, and the first element of C.
    fn problem(&self) -> Problem {
        let mut p = Problem::default();
        for (k, (a, b)) in self.pairs.iter().enumerate() {
            (p.a[k], p.b[k]) = (*a, *b);
        }
        p.c[0] = self.c;
        p
    }
}

/// The bf16 of an exact value.
pub(super) fn b(x: f64) -> u16 {
    bf16::from_f64(x).to_bits()
}

/// The f16 of an exact value.
pub(super) fn h(x: f64) -> u16 {
    f16::from_f64(x).to_bits()
}

/// The bits of an exact f32.
fn f(x: f64) -> u32 {
    (x as f32).to_bits()
}

pub(super) fn p2(n: i32) -> f64 {
    2f64.powi(n)
}

/// Two bf16 whose product is 2^n, n >= -252.
fn power(n: i32) -> (u16, u16) {
    (b(p2(n / 2)), b(p2(n - n / 2)))
}

const NEGATIVE_ZERO: u32 = 0x8000_0000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut topic = "";
    let mut add = |name: &'static str, text: &'static str, kind: Kind, pairs: Vec<(u16, u16)>, c: u32| {
        if !name.is_empty() {
            topic = name;
        }
        cases.push(Case {
            topic,
            text,
            kind,
            pairs,
            c,
        });
    };
    use Kind::{Bf16, F16};
    let (zero, minus) = (0x0000, 0x8000);
    let (one, minus_one) = (b(1.0), b(-1.0));
    add("sign of a zero sum", "all +0, c +0", Bf16, vec![], 0);
    add("", "products +0, c -0", Bf16, vec![], NEGATIVE_ZERO);
    add("", "products -0, c -0", Bf16, vec![(minus, one); 16], NEGATIVE_ZERO);
    add("", "products -0, c -0", F16, vec![(minus, h(1.0)); 16], NEGATIVE_ZERO);
    add("", "products -0, c +0", Bf16, vec![(minus, one); 16], 0);
    add("", "1 - 1, c +0", Bf16, vec![(one, one), (minus_one, one)], 0);
    add(
        "",
        "1 - 1, c -0",
        Bf16,
        vec![(one, one), (minus_one, one)],
        NEGATIVE_ZERO,
    );
    add("", "1, c -1", Bf16, vec![(one, one)], f(-1.0));
    add("", "-1, c 1", Bf16, vec![(minus_one, one)], f(1.0));
    add(
        "",
        "1 - 1 - 2^-40 (cut off)",
        Bf16,
        vec![(one, one), (minus_one, one), (b(-p2(-40)), one)],
        0,
    );
    add(
        "",
        "c = -2^-149 beside 1 - 1",
        Bf16,
        vec![(one, one), (minus_one, one)],
        0x8000_0001,
    );

    add("subnormal results", "2^-149 as a product", Bf16, vec![power(-149)], 0);
    add("", "1.5 * 2^-149", Bf16, vec![(b(1.5 * p2(-74)), b(p2(-75)))], 0);
    add("", "-1.5 * 2^-149", Bf16, vec![(b(-1.5 * p2(-74)), b(p2(-75)))], 0);
    add("", "2^-150", Bf16, vec![power(-150)], 0);
    add("", "-2^-150", Bf16, vec![(b(-p2(-75)), b(p2(-75)))], 0);
    add("", "2^-150 + 2^-150", Bf16, vec![power(-150); 2], 0);
    add("", "c = 2^-149 alone", Bf16, vec![], 1);
    add("", "c = -(2^-126 - 2^-149) alone", Bf16, vec![], 0x807F_FFFF);
    add(
        "",
        "c = 2^-126 - 2^-149, and 2^-149",
        Bf16,
        vec![power(-149)],
        0x007F_FFFF,
    );
    add(
        "",
        "1.9921875 * 2^-130",
        Bf16,
        vec![(b(1.9921875 * p2(-65)), b(p2(-65)))],
        0,
    );

    add("subnormal factors", "2^-133 * 2^127", Bf16, vec![(1, b(p2(127)))], 0);
    add("", "2^-24 * 1024", F16, vec![(1, h(1024.0))], 0);
    add("", "2^-24 * 2^-24", F16, vec![(1, 1)], 0);
    add("", "2^-133 * 2^-133", Bf16, vec![(1, 1)], 0);
    add("", "2^-133 * 2^-16 = 2^-149", Bf16, vec![(1, b(p2(-16)))], 0);
    add(
        "",
        "2^-133 * 2^126, and 2^-27 (lost if exponents are as encoded)",
        Bf16,
        vec![(1, b(p2(126))), power(-27)],
        0,
    );
    add(
        "",
        "2^-24 * 2^14, and 2^-28 (lost if exponents are as encoded)",
        F16,
        vec![(1, h(p2(14))), (h(p2(-14)), h(p2(-14)))],
        0,
    );

    add(
        "products in [2, 4)",
        "1.5 * 1.5 - 1 - 1, and 2^-25 (lost if it is normalised)",
        Bf16,
        vec![(b(1.5), b(1.5)), (minus_one, one), (minus_one, one), power(-25)],
        0,
    );
    add(
        "",
        "1.5 * 1.5 - 1 - 1, and 2^-26 (lost)",
        Bf16,
        vec![(b(1.5), b(1.5)), (minus_one, one), (minus_one, one), power(-26)],
        0,
    );

    // 2^-150 + 2^-151 + ... + 2^-n + 2^-n = 2^-149, which is lost as soon as one addend is.
    let halving = |n: i32| (150..=n).chain([n]).map(|j| power(-j)).collect::<Vec<_>>();
    add("floor of E", "2^-150 + ... + 2^-157 + 2^-157", Bf16, halving(157), 0);
    add(
        "",
        "2^-150 + ... + 2^-158 + 2^-158 (seen if E may be -133)",
        Bf16,
        halving(158),
        0,
    );
    add(
        "",
        "2^-150 + ... + 2^-159 + 2^-159 (seen if E may be -134)",
        Bf16,
        halving(159),
        0,
    );

    let (infinity, nan) = (0x7F80, 0x7FC0);
    add("NaN", "a = 0x7fc1", Bf16, vec![(0x7FC1, one)], 0);
    add("", "a = 0xffc1", Bf16, vec![(0xFFC1, one)], 0);
    add("", "a = 0x7f81, signalling", Bf16, vec![(0x7F81, one)], 0);
    add("", "a = 0x7e01", F16, vec![(0x7E01, h(1.0))], 0);
    add("", "b = 0xfe01", F16, vec![(h(1.0), 0xFE01)], 0);
    add("", "NaN * 0", Bf16, vec![(nan, zero)], 0);
    add("", "c = 0x7fc12345", Bf16, vec![], 0x7FC1_2345);
    add("", "c = 0xff800001", Bf16, vec![], 0xFF80_0001);
    add("", "infinity + NaN", Bf16, vec![(infinity, one), (nan, one)], 0);

    add("infinities", "infinity * 1", Bf16, vec![(infinity, one)], 0);
    add("", "infinity * -1", Bf16, vec![(infinity, minus_one)], 0);
    add("", "infinity * infinity", F16, vec![(0x7C00, 0x7C00)], 0);
    add("", "infinity * 0", Bf16, vec![(infinity, zero)], 0);
    add("", "0 * infinity", F16, vec![(minus, 0x7C00)], 0);
    add(
        "",
        "infinity - infinity",
        Bf16,
        vec![(infinity, one), (infinity, minus_one)],
        0,
    );
    add("", "infinity, c -infinity", Bf16, vec![(infinity, one)], 0xFF80_0000);
    add("", "infinity, c infinity", Bf16, vec![(infinity, one)], 0x7F80_0000);
    add("", "c -infinity, 2^250", Bf16, vec![power(250)], 0xFF80_0000);
    add("", "infinity * 2^-133", Bf16, vec![(infinity, 1)], 0);

    let most = f(f64::from(f32::MAX));
    add("overflow", "2^127 + 2^127", Bf16, vec![power(127); 2], 0);
    add("", "2^128", Bf16, vec![(b(p2(64)), b(p2(64)))], 0);
    add("", "-2^128", Bf16, vec![(b(-p2(64)), b(p2(64)))], 0);
    add(
        "",
        "2^128 - 2^127",
        Bf16,
        vec![(b(p2(64)), b(p2(64))), (b(-p2(64)), b(p2(63)))],
        0,
    );
    add(
        "",
        "2^250 - 2^250, c 1",
        Bf16,
        vec![power(250), (b(-p2(125)), b(p2(125)))],
        f(1.0),
    );
    add(
        "",
        "2^250 - 2^250 + 2^226",
        Bf16,
        vec![power(250), (b(-p2(125)), b(p2(125))), power(226)],
        0,
    );
    add("", "2^254 * 3.97 of (2^128 - 2^120)^2", Bf16, vec![(0x7F7F, 0x7F7F)], 0);
    add(
        "",
        "2^254, 2^253, c -largest",
        Bf16,
        vec![power(254), power(253)],
        most | NEGATIVE_ZERO,
    );
    add("", "c largest", Bf16, vec![], most);
    add("", "c largest, 2^103 (half a unit)", Bf16, vec![power(103)], most);
    add("", "c largest, 2^103 + 2^102", Bf16, vec![power(103), power(102)], most);
    add("", "c largest, 2^104 (a unit)", Bf16, vec![power(104)], most);
    add(
        "",
        "c -largest, -2^104",
        Bf16,
        vec![(b(-p2(52)), b(p2(52)))],
        most | NEGATIVE_ZERO,
    );
    add("", "c largest, 65504 * 65504", F16, vec![(0x7BFF, 0x7BFF); 16], most);
    cases
}

/// What stands beside the small products of a scan: the first pair, and c.
struct Scan {
    topic: &'static str,
    text: &'static str,
    first: (u16, u16),
    c: u32,
}

/// The least E shows in how small products can be and still count: 15 products of 2^-j, which the sum of at least 2^-149 shows
/// down to j = 152.
fn scans() -> Vec<Scan> {
    let huge = b(p2(127));
    let scan = |topic, text, first, c| Scan { topic, text, first, c };
    let (floor, zeros) = ("floor of E", "zero times huge");
    vec![
        scan(floor, "beside +0 * +0, c +0", (0, 0), 0),
        scan(floor, "beside +0 * +0, c -0", (0, 0), NEGATIVE_ZERO),
        scan(floor, "beside 2^-252, c +0", power(-252), 0),
        scan(
            floor,
            "beside 2^-133 * 2^-126 (a subnormal factor)",
            (1, b(p2(-126))),
            0,
        ),
        scan(floor, "beside c = 2^-149", (0, 0), 1),
        scan(zeros, "beside 0 * 1", (0, b(1.0)), 0),
        scan(zeros, "beside 0 * 2^127", (0, huge), 0),
        scan(zeros, "beside 2^127 * 0", (huge, 0), 0),
        scan(zeros, "beside -0 * 2^127", (0x8000, huge), 0),
        scan(zeros, "beside 2^-64 * 2^-64", power(-128), 0),
        scan("F", "beside 1, c -1", (b(1.0), b(1.0)), f(-1.0)),
        scan("F", "beside 2^-100, c -2^-100", power(-100), f(-p2(-100))),
    ]
}

/// Products of a scan are 2^-j for j in 1..=LEAST.
const LEAST: i32 = 160;

fn scan_problem(scan: &Scan, j: Option<i32>) -> Problem {
    let mut pairs = vec![scan.first];
    if let Some(j) = j {
        pairs.extend([power(-j); 15]);
    }
    let case = Case {
        topic: scan.topic,
        text: scan.text,
        kind: Kind::Bf16,
        pairs,
        c: scan.c,
    };
    case.problem()
}

/// The largest j whose products change the answer; `answers` are for none, then j = 1 and on.
fn least_seen(answers: impl Iterator<Item = u32>) -> String {
    let answers: Vec<u32> = answers.collect();
    let seen = (1..answers.len()).rev().find(|j| answers[*j] != answers[0]);
    seen.map_or_else(|| "none".to_string(), |j| format!("15 of 2^-{j}"))
}

fn shown(bits: u32) -> String {
    let value = f32::from_bits(bits);
    if value.is_nan() {
        format!("{bits:08x} NaN")
    } else {
        format!("{bits:08x} {value:e}")
    }
}

/// Asks the device.
///
/// # Errors
/// The device's.
pub fn ask(device: &Device) -> Result<Vec<Corner>> {
    let runner = Runner::new(device, 256)?;
    let mut corners = Vec::new();
    let models = |kind: Kind, p: &Problem| {
        let simulator = simulated(TensorCore::HOPPER, kind, p)[0];
        (simulator, referred(Arch::Hopper, kind, p)[0])
    };
    for case in cases() {
        let problem = case.problem();
        let device = runner.run(case.kind, &Batch::of(&[problem]))?[0][0];
        let (simulator, reference) = models(case.kind, &problem);
        corners.push(Corner {
            topic: case.topic,
            case: case.text.to_string(),
            kind: case.kind,
            device: shown(device),
            simulator: shown(simulator),
            reference: shown(reference),
        });
    }
    for scan in scans() {
        let steps = std::iter::once(None).chain((1..=LEAST).map(Some));
        let problems: Vec<Problem> = steps.map(|j| scan_problem(&scan, j)).collect();
        let answers = runner.run(Kind::Bf16, &Batch::of(&problems))?;
        let of_models = || problems.iter().map(|p| models(Kind::Bf16, p));
        corners.push(Corner {
            topic: scan.topic,
            case: format!("least products seen {}", scan.text),
            kind: Kind::Bf16,
            device: least_seen(answers.iter().map(|d| d[0])),
            simulator: least_seen(of_models().map(|m| m.0)),
            reference: least_seen(of_models().map(|m| m.1)),
        });
    }
    Ok(corners)
}
