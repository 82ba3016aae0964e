//! What problems are meant to find, and how many of each there are.

use std::fmt;

use serde::Serialize;

use super::problem::Kind;

/// What a problem is meant to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Uniformly random bits, in everything.
    RandomBits,
    /// Finite values of a window of exponents.
    WideRange,
    /// Products that cancel in pairs, some nearly.
    Cancellation,
    /// Products near and below the least subnormal.
    Tiny,
    /// Zeros times huge factors beside small products.
    ZeroTimesHuge,
    /// Sums that are exactly zero, from zeros and products of both signs.
    ExactZero,
    /// Sums and accumulators around 2^128.
    Overflow,
    /// One addend far above the others, whose low bits are cut off.
    Truncation,
    /// Infinities and NaN among ordinary values.
    Specials,
    /// Bytes of -128, -1, 0, 1 and 127 and accumulators at the ends of their range.
    Extremes,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Category::RandomBits => "random_bits",
            Category::WideRange => "wide_range",
            Category::Cancellation => "cancellation",
            Category::Tiny => "tiny",
            Category::ZeroTimesHuge => "zero_times_huge",
            Category::ExactZero => "exact_zero",
            Category::Overflow => "overflow",
            Category::Truncation => "truncation",
            Category::Specials => "specials",
            Category::Extremes => "extremes",
        })
    }
}

/// What the quarter of corner cases takes turns at.
const CORNERS: [Category; 7] = [
    Category::Cancellation,
    Category::Tiny,
    Category::ZeroTimesHuge,
    Category::ExactZero,
    Category::Overflow,
    Category::Truncation,
    Category::Specials,
];

/// The category of problem `index`: half random bits, a quarter wide ranges, a quarter corners.
pub fn category(kind: Kind, index: u64) -> Category {
    match (kind, index % 4) {
        (_, 0 | 1) => Category::RandomBits,
        (Kind::S8, _) => Category::Extremes,
        (_, 2) => Category::WideRange,
        _ => CORNERS[(index / 4 % CORNERS.len() as u64) as usize],
    }
}
