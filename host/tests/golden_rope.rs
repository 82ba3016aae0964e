//! Rotary embeddings of the host against transformers' (scripts/golden/rope.py): the tables of frequencies, and heads turned by them.

mod golden;

use golden::near::{Near, exact, fma};
use golden::{Golden, U, caught, value, wide32, within};
use half::bf16;
use host::reference::rope::rope;
use host::rope::{Scaling, frequencies};

/// (name, theta, rot, scaling, interleaved), as the script has them.
fn cases() -> Vec<(&'static str, f64, usize, Scaling, bool)> {
    let llama3 = Scaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_positions: 8192,
    };
    let yarn = Scaling::yarn(4.0, 32768);
    vec![
        ("default", 1e6, 128, Scaling::None, false),
        ("partial", 1e7, 64, Scaling::None, false),
        ("interleaved", 1e4, 64, Scaling::None, true),
        ("llama3", 5e5, 128, llama3, false),
        ("linear", 1e4, 64, Scaling::Linear { factor: 4.0 }, false),
        ("yarn", 1e6, 128, yarn, false),
    ]
}

/// transformers makes its tables in f32: theta to the power of x = 2 i / rot, x rounded once, which the power magnifies by
/// ln theta; the power, the reciprocal and each scaling operation round once more. Llama 3's blend takes a difference of two
/// numbers up to 4 and divides it by 3 (each known to the error of the frequency); so 4 times the error at the worst, and 8
/// operations. Ours is made in f64 and rounded once.
fn table_error(theta: f64, scaling: &Scaling) -> f64 {
    let plain = (theta.ln() + 5.0) * U;
    match scaling {
        Scaling::None | Scaling::Linear { .. } => plain,
        Scaling::Llama3 { .. } => 5.0 * plain + 8.0 * U,
        Scaling::Yarn { .. } => plain + 8.0 * U,
    }
}

#[test]
fn tables_of_frequencies() {
    let file = Golden::open("rope");
    for (name, theta, rot, scaling, _) in cases() {
        let want = file.f64(&format!("{name}.inv_freq"));
        let table = |scaling: &Scaling, rot| wide32(&frequencies(theta, rot, scaling).unwrap());
        let error = table_error(theta, &scaling);
        let bound = |i: usize| error * want[i];
        within(name, &table(&scaling, rot), &want, bound);
        let factor = file.f64(&format!("{name}.scaling"))[0];
        assert!((scaling.attention_factor() - factor).abs() <= U * factor, "{name}");
        if scaling == Scaling::None {
            let other = wide32(&frequencies(theta, 2 * rot, &scaling).unwrap());
            caught("exponents over twice the width", &other[..rot / 2], &want, bound);
        } else {
            caught("no scaling", &table(&Scaling::None, rot), &want, bound);
        }
    }
}

struct Case {
    x: Vec<u16>,
    d: usize,
    heads: usize,
    positions: Vec<i32>,
    inv_freq: Vec<f32>,
    y: Vec<f64>,
    /// The factor on cosines and sines, which the host puts into the softmax scale instead.
    scaling: f64,
}

impl Case {
    fn read(name: &str) -> Case {
        let file = Golden::open("rope");
        let part = |tensor: &str| format!("{name}.{tensor}");
        let shape = file.shape(&part("x"));
        Case {
            x: file.bf16(&part("x")),
            heads: shape[1],
            d: shape[2],
            positions: file.i32(&part("positions")),
            inv_freq: file.f32(&part("inv_freq")),
            y: file.f64(&part("y")),
            scaling: file.f64(&part("scaling"))[0],
        }
    }

    fn turned(&self, inv_freq: &[f32], interleaved: bool, shift: i32) -> Vec<f64> {
        let mut x: Vec<bf16> = self.x.iter().map(|&x| bf16::from_bits(x)).collect();
        for (i, head) in x.chunks_mut(self.d).enumerate() {
            rope(head, self.positions[i / self.heads] + shift, inv_freq, interleaved);
        }
        x.iter().map(|x| x.to_f64() * self.scaling).collect()
    }

    /// c and s: ours half an ulp, torch's one. Then a product, an fma, and bf16. What is not turned is equal.
    fn bounds(&self, interleaved: bool) -> Vec<f64> {
        let half = self.inv_freq.len();
        let mut bounds = vec![f64::MIN_POSITIVE; self.x.len()];
        for (h, head) in self.x.chunks(self.d).enumerate() {
            let position = self.positions[h / self.heads] as f32;
            for (i, &frequency) in self.inv_freq.iter().enumerate() {
                let (one, two) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
                let angle = f64::from(position * frequency);
                let (c, s) = (exact(angle.cos()).ulps(1.5), exact(angle.sin()).ulps(1.5));
                let (x1, x2) = (exact(value(head[one])), exact(value(head[two])));
                let y1: Near = fma(x1, c, exact(-1.0) * (x2 * s).f32()).bf16();
                let y2: Near = fma(x2, c, (x1 * s).f32()).bf16();
                // The witness multiplies c and s by the factor in f32: one rounding of each.
                let factored = |y: Near| self.scaling * (y.bound() + U * (x1.size() + x2.size()));
                bounds[h * self.d + one] = factored(y1);
                bounds[h * self.d + two] = factored(y2);
            }
        }
        bounds
    }
}

#[test]
fn heads_are_turned() {
    for (name, _, rot, _, interleaved) in cases() {
        let case = Case::read(name);
        assert_eq!(case.inv_freq.len(), rot / 2);
        let bounds = case.bounds(interleaved);
        let bound = |i: usize| bounds[i];
        within(name, &case.turned(&case.inv_freq, interleaved, 0), &case.y, bound);
        caught(
            "the other pairs",
            &case.turned(&case.inv_freq, !interleaved, 0),
            &case.y,
            bound,
        );
        caught(
            "a position too far",
            &case.turned(&case.inv_freq, interleaved, 1),
            &case.y,
            bound,
        );
        let backwards: Vec<f32> = case.inv_freq.iter().map(|f| -f).collect();
        caught(
            "turned backwards",
            &case.turned(&backwards, interleaved, 0),
            &case.y,
            bound,
        );
        let fewer = &case.inv_freq[..rot / 2 - 1];
        caught("a pair too few", &case.turned(fewer, interleaved, 0), &case.y, bound);
    }
}
