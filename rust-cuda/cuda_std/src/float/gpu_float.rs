//! Rust-CUDA's trait of float methods for a crate without `std`.

/// The float methods of `std` that are exact, for kernels, where `std` is missing.
///
/// Rust-CUDA's trait of this name also has functions that libdevice approximates; those would differ between the back
/// ends. So would remainders: `%` of floats is exact on a CPU, but on the GPU it is a division, a product and a difference. Elementary functions with the same bits on both sides are in [`exact`](super::exact).
pub trait GpuFloat: Copy + PartialOrd + sealed::Sealed {
    /// The largest whole number that is not above `self`.
    fn floor(self) -> Self;
    /// The smallest whole number that is not below `self`.
    fn ceil(self) -> Self;
    /// The whole number next to `self` towards zero.
    fn trunc(self) -> Self;
    /// The nearest whole number, of two the one away from zero.
    fn round(self) -> Self;
    /// The nearest whole number, the even one of two.
    fn round_ties_even(self) -> Self;
    /// What [`trunc`](Self::trunc) leaves.
    fn fract(self) -> Self;
    /// `self` without its sign bit.
    fn abs(self) -> Self;
    /// 1 with the sign of `self`; NaN for NaN.
    fn signum(self) -> Self;
    /// `self` with the sign bit of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! gpu_float {
    ($t:ident) => {
        impl GpuFloat for $t {
            gpu_float!(@forward $t floor(), ceil(), trunc(), round(), round_ties_even(), fract(), abs(), signum(),
                copysign(sign), mul_add(a, b), sqrt());
        }
    };
    (@forward $t:ident $($name:ident($($arg:ident),*)),*) => {
        $(#[inline(always)]
        fn $name(self $(, $arg: Self)*) -> Self {
            gpu_float!(@call $t $name(self $(, $arg)*))
        })*
    };
    // Methods that core has on every target are called there; the others are free functions of core's `math`.
    (@call $t:ident abs($($arg:expr),*)) => { $t::abs($($arg),*) };
    (@call $t:ident signum($($arg:expr),*)) => { $t::signum($($arg),*) };
    (@call $t:ident copysign($($arg:expr),*)) => { $t::copysign($($arg),*) };
    (@call $t:ident $name:ident($($arg:expr),*)) => {
        target! { gpu { core::$t::math::$name($($arg),*) } cpu { $t::$name($($arg),*) } }
    };
}
gpu_float!(f32);
gpu_float!(f64);
