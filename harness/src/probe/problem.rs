//! Seeded problems for tensor cores: problem i of a seed is the same on every machine.

use host::op::random::Random;
use serde::Serialize;

use super::category::{Category, category};

/// The type of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// bf16, accumulated in f32
    Bf16,
    /// f16, accumulated in f32
    F16,
    /// int8, accumulated in int32
    S8,
}

impl Kind {
    /// As the command line and the files have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bf16 => "bf16",
            Kind::F16 => "f16",
            Kind::S8 => "s8",
        }
    }

    /// Fraction bits and exponent bits of a float.
    const fn layout(self) -> (u32, u32) {
        match self {
            Kind::F16 => (10, 5),
            _ => (7, 8),
        }
    }
}

/// One 16 x 8 product: the bytes of A `[16][k]` and B `[8][k]` as 16-bit words, those of C `[16][8]` as 32-bit words. A row of A
/// or B is 16 words: 16 floats, or 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A.
    pub a: [u16; 256],
    /// B, transposed: a row is a column of the product.
    pub b: [u16; 128],
    /// C.
    pub c: [u32; 128],
}

impl Default for Problem {
    fn default() -> Self {
        Problem {
            a: [0; 256],
            b: [0; 128],
            c: [0; 128],
        }
    }
}

/// Problem `index` of a seed.
pub fn problem(kind: Kind, seed: u64, index: u64) -> Problem {
    let mut draw = Draw {
        random: Random::new(Random::new(seed, kind.name()).at(index), "mma problem"),
        next: 0,
        kind,
    };
    let mut p = Problem::default();
    match category(kind, index) {
        Category::RandomBits => {
            for pair in p.a.chunks_exact_mut(4).chain(p.b.chunks_exact_mut(4)) {
                let bits = draw.bits();
                pair.iter_mut()
                    .enumerate()
                    .for_each(|(i, x)| *x = (bits >> (16 * i)) as u16);
            }
            p.c = std::array::from_fn(|_| draw.bits() as u32);
        }
        Category::Extremes => {
            let mut byte = || [128u16, 129, 255, 0, 1, 126, 127, 127][draw.below(8) as usize];
            p.a = std::array::from_fn(|_| byte() | byte() << 8);
            p.b = std::array::from_fn(|_| byte() | byte() << 8);
            let ends = [i32::MAX, i32::MIN, 0, -1, i32::MAX - 500_000, i32::MIN + 500_000];
            p.c = std::array::from_fn(|_| ends[draw.below(6) as usize] as u32);
        }
        category => draw.floats(category, &mut p),
    }
    p
}

/// The random numbers of one problem, in order.
struct Draw {
    random: Random,
    next: u64,
    kind: Kind,
}

impl Draw {
    fn bits(&mut self) -> u64 {
        self.next += 1;
        self.random.at(self.next)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next += 1;
        self.random.below(self.next, end)
    }

    /// One of low..=high.
    fn within(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as u64) as i32
    }

    fn bias(&self) -> i32 {
        (1 << (self.kind.layout().1 - 1)) - 1
    }

    /// A factor with a random sign and fraction and this exponent, kept within the finite ones; below the normal ones a random
    /// subnormal.
    fn factor(&mut self, exponent: i32) -> u16 {
        let (fraction_bits, exponent_bits) = self.kind.layout();
        let field = (exponent + self.bias()).clamp(0, (1 << exponent_bits) - 2) as u16;
        let bits = self.bits() as u16;
        bits & 0x8000 | field << fraction_bits | (bits & ((1 << fraction_bits) - 1))
    }

    /// An accumulator in the same way.
    fn accumulator(&mut self, exponent: i32) -> u32 {
        let bits = self.bits() as u32;
        let field = (exponent + 127).clamp(0, 254) as u32;
        bits & 0x807F_FFFF | field << 23
    }

    fn signed_zero(&mut self) -> u32 {
        (self.bits() as u32) & 0x8000_0000
    }

    /// Random factors whose products have exponents of about `centre`, within `spread` on either side.
    fn fill(&mut self, p: &mut Problem, centre: i32, spread: i32) {
        // How the exponent is shared between the two sides differs by problem, as far as the type reaches.
        let reach = self.bias() / 2;
        let share = self.within(-reach, reach);
        let (for_a, for_b) = (centre / 2 + share, centre - centre / 2 - share);
        let (low, high) = (-spread / 2, spread - spread / 2);
        p.a = std::array::from_fn(|_| {
            let exponent = for_a + self.within(low, high) / 2;
            self.factor(exponent)
        });
        p.b = std::array::from_fn(|_| {
            let exponent = for_b + self.within(low, high) / 2;
            self.factor(exponent)
        });
    }

    /// Makes products k + 8 the negatives of products k.
    fn mirror(p: &mut Problem) {
        for row in p.a.chunks_exact_mut(16) {
            for k in 0..8 {
                row[k + 8] = row[k] ^ 0x8000;
            }
        }
        for row in p.b.chunks_exact_mut(16) {
            row.copy_within(..8, 8);
        }
    }

    fn floats(&mut self, category: Category, p: &mut Problem) {
        let bf16 = self.kind == Kind::Bf16;
        let centre = if bf16 {
            self.within(-100, 100)
        } else {
            self.within(-16, 16)
        };
        match category {
            Category::WideRange => {
                let spread = [4, 12, 24, 40, 60][self.below(5) as usize];
                self.fill(p, centre, spread);
                p.c = std::array::from_fn(|_| {
                    let exponent = centre + self.within(-spread / 2 - 6, spread / 2 + 6);
                    self.accumulator(exponent)
                });
            }
            Category::Cancellation => {
                self.fill(p, centre, 8);
                Self::mirror(p);
                for x in &mut p.a {
                    if self.below(8) == 0 {
                        *x ^= 1 << self.below(3);
                    }
                }
                p.c = std::array::from_fn(|_| match self.below(4) {
                    0 => self.signed_zero(),
                    _ => {
                        let exponent = centre - self.within(-2, 40);
                        self.accumulator(exponent)
                    }
                });
            }
            Category::Tiny => {
                let low = if bf16 {
                    self.within(-175, -120)
                } else {
                    self.within(-48, -26)
                };
                self.fill(p, low, 12);
                p.c = std::array::from_fn(|_| match self.below(4) {
                    0 => self.signed_zero(),
                    1 => self.accumulator(-127),
                    _ => {
                        let exponent = low + self.within(-20, 8);
                        self.accumulator(exponent)
                    }
                });
            }
            Category::ZeroTimesHuge => self.zero_times_huge(p),
            Category::ExactZero => {
                self.fill(p, centre, 8);
                Self::mirror(p);
                if self.below(2) == 0 {
                    p.a = p.a.map(|x| x & 0x8000);
                }
                p.c = std::array::from_fn(|_| self.signed_zero());
            }
            Category::Overflow => {
                let high = if bf16 { self.within(120, 129) } else { 30 };
                self.fill(p, high, 6);
                p.c = std::array::from_fn(|_| {
                    let exponent = self.within(122, 127);
                    let c = self.accumulator(exponent);
                    if self.below(4) == 0 { c | 0x7F_FFFF } else { c }
                });
            }
            Category::Truncation => self.truncation(p, centre),
            _ => {
                self.fill(p, centre, 10);
                let infinity = ((1u16 << self.kind.layout().1) - 1) << self.kind.layout().0;
                for x in p.a.iter_mut().chain(&mut p.b) {
                    match self.below(160) {
                        0 => *x |= infinity,
                        1 => *x = (*x & 0x8000) | infinity,
                        2 => *x &= 0x8000,
                        _ => {}
                    }
                }
                p.c = std::array::from_fn(|_| {
                    let c = self.accumulator(centre);
                    match self.below(24) {
                        0 => c | 0x7F80_0000,
                        1 => (c & 0x8000_0000) | 0x7F80_0000,
                        _ => c,
                    }
                });
            }
        }
    }

    /// Each k is ordinary, or a column of zeros of A against huge values of B, or the other way round. Ordinary products lie where
    /// an exponent of the others' would cut off their bits.
    fn zero_times_huge(&mut self, p: &mut Problem) {
        let (huge, least) = (self.bias(), 1 - self.bias());
        let ordinary = huge + least - self.within(10, 40);
        self.fill(p, ordinary, 6);
        for k in 0..16 {
            let (zero_in_a, zero_in_b) = [(true, false), (false, true), (false, false)][self.below(3) as usize];
            for x in p.a.iter_mut().skip(k).step_by(16) {
                match (zero_in_a, zero_in_b) {
                    (true, _) => *x &= 0x8000,
                    (_, true) => *x = self.factor(huge),
                    _ => {}
                }
            }
            for x in p.b.iter_mut().skip(k).step_by(16) {
                match (zero_in_a, zero_in_b) {
                    (true, _) => *x = self.factor(huge),
                    (_, true) => *x &= 0x8000,
                    _ => {}
                }
            }
        }
        p.c = std::array::from_fn(|_| match self.below(2) {
            0 => self.signed_zero(),
            _ => {
                let exponent = ordinary - self.within(-6, 20);
                self.accumulator(exponent)
            }
        });
    }

    /// One k, or c, stands 15 to 30 powers of two above the rest.
    fn truncation(&mut self, p: &mut Problem, centre: i32) {
        let gap = self.within(15, 30);
        self.fill(p, centre - gap, 4);
        let k = self.below(32) as usize;
        if k < 16 {
            let (for_a, for_b) = (centre / 2, centre - centre / 2);
            for x in p.a.iter_mut().skip(k).step_by(16) {
                *x = self.factor(for_a);
            }
            for x in p.b.iter_mut().skip(k).step_by(16) {
                *x = self.factor(for_b);
            }
        }
        if self.below(2) == 0 {
            p.a = p.a.map(|x| x & 0x7FFF);
            p.b = p.b.map(|x| x & 0x7FFF);
        }
        let c_exponent = if k < 16 { centre - gap } else { centre };
        p.c = std::array::from_fn(|_| self.accumulator(c_exponent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_random_bits_and_a_seed_repeats() {
        let of = |kind| (0..400).filter(|i| category(kind, *i) == Category::RandomBits).count();
        assert_eq!((of(Kind::Bf16), of(Kind::F16), of(Kind::S8)), (200, 200, 200));
        for kind in [Kind::Bf16, Kind::F16, Kind::S8] {
            for index in 0..64 {
                let p = problem(kind, 3, index);
                assert_eq!(p, problem(kind, 3, index));
                assert_ne!(p, problem(kind, 4, index));
            }
        }
    }

    #[test]
    fn categories_hold_what_they_say() {
        for kind in [Kind::Bf16, Kind::F16] {
            let value = |x: u16| match kind {
                Kind::Bf16 => half::bf16::from_bits(x).to_f64(),
                _ => half::f16::from_bits(x).to_f64(),
            };
            for index in 0..2800 {
                let p = problem(kind, 1, index);
                let sum = |m: usize, n: usize| -> f64 {
                    (0..16)
                        .map(|k| value(p.a[m * 16 + k]) * value(p.b[n * 16 + k]))
                        .sum::<f64>()
                };
                match category(kind, index) {
                    Category::ExactZero => assert_eq!(sum(3, 5), 0.0, "{kind:?} {index}"),
                    Category::Tiny if kind == Kind::Bf16 => assert!(sum(1, 2).abs() < 2f64.powi(-100), "{index}"),
                    Category::RandomBits | Category::Specials => {}
                    _ => assert!(sum(7, 7).is_finite(), "{kind:?} {index}"),
                }
            }
        }
    }
}
