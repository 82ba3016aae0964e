//! Small vectors: the words of 8 and 16 bytes that one load or store moves, and the index vectors of [`crate::thread`].

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $elem:ty, $n:literal, $align:literal) => {
        $(#[$doc])*
        #[repr(C, align($align))]
        #[derive(Clone, Copy, Default, Debug, PartialEq)]
        pub struct $name(pub [$elem; $n]);

        impl From<[$elem; $n]> for $name {
            #[inline(always)]
            fn from(words: [$elem; $n]) -> Self {
                Self(words)
            }
        }
    };
}

words!(/// Two `u32`, aligned to 8 bytes: one 64-bit access.
    U32x2, u32, 2, 8);
words!(/// Four `u32`, aligned to 16 bytes: one 128-bit access.
    U32x4, u32, 4, 16);
words!(/// Two `f32`, aligned to 8 bytes: one 64-bit access.
    F32x2, f32, 2, 8);
words!(/// Four `f32`, aligned to 16 bytes: one 128-bit access.
    F32x4, f32, 4, 16);

impl Eq for U32x2 {}
impl Eq for U32x4 {}

/// Two unsigned coordinates.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct UVec2 {
    /// The fastest-running coordinate.
    pub x: u32,
    /// The second coordinate.
    pub y: u32,
}

/// Three unsigned coordinates.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct UVec3 {
    /// The fastest-running coordinate.
    pub x: u32,
    /// The second coordinate.
    pub y: u32,
    /// The slowest-running coordinate.
    pub z: u32,
}
