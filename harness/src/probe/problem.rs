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
    let mut p = Problem::default();
    let random = Random::new(Random::new(seed, kind.name()).at(index), "mma problem");
    let operands = Operands {
        a: &mut p.a,
        b: &mut p.b,
        c: &mut p.c,
    };
    draw(kind, Accumulators::Words, category(kind, index), random, operands);
    p
}

/// Room for the operands of one problem: rows of A and B of 16 words each, and any number of accumulators.
pub struct Operands<'a> {
    /// A.
    pub a: &'a mut [u16],
    /// B.
    pub b: &'a mut [u16],
    /// C.
    pub c: &'a mut [u32],
}

/// The type of the accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulators {
    /// f32, or int32 for bytes.
    Words,
    /// f16, in the lower half of a word.
    Halves,
}

/// Draws the operands of a problem of this category, by the numbers of `random`.
pub fn draw(kind: Kind, accumulators: Accumulators, category: Category, random: Random, mut p: Operands) {
    let mut draw = Draw {
        random,
        next: 0,
        kind,
        accumulators,
    };
    match category {
        Category::RandomBits => {
            for words in p.a.chunks_exact_mut(4).chain(p.b.chunks_exact_mut(4)) {
                let bits = draw.bits();
                words
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, x)| *x = (bits >> (16 * i)) as u16);
            }
            let kept = draw.accumulator_layout().2;
            p.c.iter_mut().for_each(|c| *c = draw.bits() as u32 & kept);
        }
        Category::Extremes => {
            let mut byte = || [128u16, 129, 255, 0, 1, 126, 127, 127][draw.below(8) as usize];
            p.a.iter_mut().for_each(|x| *x = byte() | byte() << 8);
            p.b.iter_mut().for_each(|x| *x = byte() | byte() << 8);
            let ends = [i32::MAX, i32::MIN, 0, -1, i32::MAX - 500_000, i32::MIN + 500_000];
            p.c.iter_mut().for_each(|c| *c = ends[draw.below(6) as usize] as u32);
        }
        category => draw.floats(category, &mut p),
    }
}

/// The random numbers of one problem, in order.
struct Draw {
    random: Random,
    next: u64,
    kind: Kind,
    accumulators: Accumulators,
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

    /// Fraction bits, bias and all bits of an accumulator.
    fn accumulator_layout(&self) -> (u32, i32, u32) {
        match self.accumulators {
            Accumulators::Words => (23, 127, u32::MAX),
            Accumulators::Halves => (10, 15, 0xFFFF),
        }
    }

    /// An accumulator in the same way.
    fn accumulator(&mut self, exponent: i32) -> u32 {
        let (fraction_bits, bias, kept) = self.accumulator_layout();
        let bits = self.bits() as u32 & kept;
        let field = (exponent + bias).clamp(0, 2 * bias) as u32;
        let exponent_bits = (2 * bias as u32 + 1) << fraction_bits;
        bits & !exponent_bits | field << fraction_bits
    }

    fn signed_zero(&mut self) -> u32 {
        (self.bits() as u32) & (self.accumulator_layout().2 / 2 + 1)
    }

    /// Random factors whose products have exponents of about `centre`, within `spread` on either side.
    fn fill(&mut self, p: &mut Operands, centre: i32, spread: i32) {
        // How the exponent is shared between the two sides differs by problem, as far as the type reaches.
        let reach = self.bias() / 2;
        let share = self.within(-reach, reach);
        let (for_a, for_b) = (centre / 2 + share, centre - centre / 2 - share);
        let (low, high) = (-spread / 2, spread - spread / 2);
        for x in p.a.iter_mut() {
            let exponent = for_a + self.within(low, high) / 2;
            *x = self.factor(exponent);
        }
        for x in p.b.iter_mut() {
            let exponent = for_b + self.within(low, high) / 2;
            *x = self.factor(exponent);
        }
    }

    /// Makes products k + 8 the negatives of products k.
    fn mirror(p: &mut Operands) {
        for row in p.a.chunks_exact_mut(16) {
            for k in 0..8 {
                row[k + 8] = row[k] ^ 0x8000;
            }
        }
        for row in p.b.chunks_exact_mut(16) {
            row.copy_within(..8, 8);
        }
    }

    fn floats(&mut self, category: Category, p: &mut Operands) {
        let bf16 = self.kind == Kind::Bf16;
        let halves = self.accumulators == Accumulators::Halves;
        let centre = match (bf16, halves) {
            (true, _) => self.within(-100, 100),
            (false, false) => self.within(-16, 16),
            // Sums of 2^16 are infinite, those below 2^-25 zero.
            (false, true) => self.within(-18, 10),
        };
        match category {
            Category::WideRange => {
                let spread = [4, 12, 24, 40, 60][self.below(5) as usize];
                self.fill(p, centre, spread);
                for c in p.c.iter_mut() {
                    let exponent = centre + self.within(-spread / 2 - 6, spread / 2 + 6);
                    *c = self.accumulator(exponent);
                }
            }
            Category::Cancellation => {
                self.fill(p, centre, 8);
                Self::mirror(p);
                for x in p.a.iter_mut() {
                    if self.below(8) == 0 {
                        *x ^= 1 << self.below(3);
                    }
                }
                for c in p.c.iter_mut() {
                    *c = match self.below(4) {
                        0 => self.signed_zero(),
                        _ => {
                            let exponent = centre - self.within(-2, 40);
                            self.accumulator(exponent)
                        }
                    };
                }
            }
            Category::Tiny => {
                let low = match (bf16, halves) {
                    (true, _) => self.within(-175, -120),
                    (false, false) => self.within(-48, -26),
                    (false, true) => self.within(-32, -14),
                };
                self.fill(p, low, 12);
                for c in p.c.iter_mut() {
                    *c = match self.below(4) {
                        0 => self.signed_zero(),
                        1 => self.accumulator(-127),
                        _ => {
                            let exponent = low + self.within(-20, 8);
                            self.accumulator(exponent)
                        }
                    };
                }
            }
            Category::ZeroTimesHuge => self.zero_times_huge(p),
            Category::ExactZero => {
                self.fill(p, centre, 8);
                Self::mirror(p);
                if self.below(2) == 0 {
                    p.a.iter_mut().for_each(|x| *x &= 0x8000);
                }
                p.c.iter_mut().for_each(|c| *c = self.signed_zero());
            }
            Category::Overflow => {
                let high = match (bf16, halves) {
                    (true, _) => self.within(120, 129),
                    (false, false) => 30,
                    (false, true) => self.within(9, 16),
                };
                self.fill(p, high, 6);
                let (fraction_bits, bias, _) = self.accumulator_layout();
                for c in p.c.iter_mut() {
                    let exponent = bias - 5 + self.within(0, 5);
                    let drawn = self.accumulator(exponent);
                    let all_ones = self.below(4) == 0;
                    *c = drawn | if all_ones { (1 << fraction_bits) - 1 } else { 0 };
                }
            }
            Category::Truncation => self.truncation(p, centre),
            _ => {
                self.fill(p, centre, 10);
                let infinity = ((1u16 << self.kind.layout().1) - 1) << self.kind.layout().0;
                for x in p.a.iter_mut().chain(p.b.iter_mut()) {
                    match self.below(160) {
                        0 => *x |= infinity,
                        1 => *x = (*x & 0x8000) | infinity,
                        2 => *x &= 0x8000,
                        _ => {}
                    }
                }
                let (fraction_bits, bias, kept) = self.accumulator_layout();
                let infinity = (2 * bias as u32 + 1) << fraction_bits;
                for c in p.c.iter_mut() {
                    let drawn = self.accumulator(centre);
                    *c = match self.below(24) {
                        0 => drawn | infinity,
                        1 => drawn & (kept / 2 + 1) | infinity,
                        _ => drawn,
                    };
                }
            }
        }
    }

    /// Each k is ordinary, or a column of zeros of A against huge values of B, or the other way round. Ordinary products lie where
    /// an exponent of the others' would cut off their bits.
    fn zero_times_huge(&mut self, p: &mut Operands) {
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
        for c in p.c.iter_mut() {
            *c = match self.below(2) {
                0 => self.signed_zero(),
                _ => {
                    let exponent = ordinary - self.within(-6, 20);
                    self.accumulator(exponent)
                }
            };
        }
    }

    /// One k, or c, stands 15 to 30 powers of two above the rest.
    fn truncation(&mut self, p: &mut Operands, centre: i32) {
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
            p.a.iter_mut().chain(p.b.iter_mut()).for_each(|x| *x &= 0x7FFF);
        }
        let c_exponent = if k < 16 { centre - gap } else { centre };
        p.c.iter_mut().for_each(|c| *c = self.accumulator(c_exponent));
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
