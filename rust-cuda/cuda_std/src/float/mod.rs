//! Floating point on both back ends.

pub mod exact;
