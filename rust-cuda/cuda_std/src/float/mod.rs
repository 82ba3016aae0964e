//! Floating point that gives the same bits on both back ends.
//!
//! `+ - * /` on `f32` and `f64` are correctly rounded, keep subnormals and are never contracted. So are the functions here.
//! Only the bits of a NaN can differ between a CPU and a GPU: where they are stored, store a fixed one.
//!
//! A method of [`GpuFloat`] is shadowed on the host by `std`'s inherent method of the same name. They agree but for `min`
//! and `max`, which Rust leaves open for zeros of different sign: kernels use [`min`] and [`max`].

mod convert;
pub mod exact;
mod gpu_float;
mod pair;
mod small;

pub use convert::{
    bf16_to_f32, bf16x2_to_f32, f16_to_f32, f16x2_to_f32, f32_to_bf16, f32_to_f16, f32x2_to_bf16x2, f32x2_to_f16x2,
};
pub use gpu_float::GpuFloat;
pub use pair::{mul_bf16x2, mul_f16x2};
pub use small::{e2m1_to_f32, e4m3_to_f32};

/// The NaN that PTX's arithmetic makes.
pub const CANONICAL_NAN: f32 = f32::from_bits(0x7fff_ffff);

/// `a * b + c`, rounded once (PTX `fma.rn.f32`).
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    target! { gpu { core::f32::math::mul_add(a, b, c) } cpu { f32::mul_add(a, b, c) } }
}

/// `a * b + c`, rounded once (PTX `fma.rn.f64`).
#[inline(always)]
pub fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    target! { gpu { core::f64::math::mul_add(a, b, c) } cpu { f64::mul_add(a, b, c) } }
}

/// Defines a unary or binary f32 function: one PTX instruction, and a host expression with the same result.
macro_rules! ptx_f32 {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),+), $ptx:literal, $cpu:expr;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        pub fn $name($($arg: f32),+) -> f32 {
            target! {
                gpu {
                    let d: f32;
                    // SAFETY: works on registers.
                    unsafe {
                        core::arch::asm!(ptx_f32!(@ $ptx, $($arg)+), out(reg32) d, $(in(reg32) $arg),+,
                            options(pure, nomem, nostack, preserves_flags));
                    }
                    d
                }
                cpu { $cpu }
            }
        })*
    };
    (@ $ptx:literal, $a:ident) => { concat!($ptx, " {}, {};") };
    (@ $ptx:literal, $a:ident $b:ident) => { concat!($ptx, " {}, {}, {};") };
}
ptx_f32! {
    /// The square root, correctly rounded (PTX `sqrt.rn.f32`).
    sqrt(x), "sqrt.rn.f32", f32::sqrt(x);
    /// The largest whole number that is not above `x`.
    floor(x), "cvt.rmi.f32.f32", f32::floor(x);
    /// The smallest whole number that is not below `x`.
    ceil(x), "cvt.rpi.f32.f32", f32::ceil(x);
    /// The whole number next to `x` towards zero.
    trunc(x), "cvt.rzi.f32.f32", f32::trunc(x);
    /// The whole number nearest to `x`, the even one of two.
    round_even(x), "cvt.rni.f32.f32", f32::round_ties_even(x);
    /// The smaller of the two, -0 below +0; a NaN loses to any number, two give [`CANONICAL_NAN`] (PTX `min.f32`).
    min(a, b), "min.f32", select(a, b, a.is_nan() || b < a || (a == b && b.is_sign_negative()));
    /// The larger of the two, +0 above -0; a NaN loses to any number, two give [`CANONICAL_NAN`] (PTX `max.f32`).
    max(a, b), "max.f32", select(a, b, a.is_nan() || b > a || (a == b && b.is_sign_positive()));
    /// The larger of the two, +0 above -0; [`CANONICAL_NAN`] where one of them is a NaN (PTX `max.NaN.f32`, sm_80).
    max_nan(a, b), "max.NaN.f32", select(a, b, b.is_nan() || b > a || (a == b && b.is_sign_positive()));
}

/// `b` if `take_b`, else `a`; the canonical NaN for either NaN.
#[cfg(not(target_arch = "nvptx64"))]
#[inline(always)]
fn select(a: f32, b: f32, take_b: bool) -> f32 {
    let v = if take_b { b } else { a };
    if v.is_nan() { CANONICAL_NAN } else { v }
}

/// `x` without its sign bit.
#[inline(always)]
pub const fn abs(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0x7fff_ffff)
}

/// `x` with the sign bit of `sign`.
#[inline(always)]
pub const fn copysign(x: f32, sign: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0x7fff_ffff | sign.to_bits() & 0x8000_0000)
}

/// `x` to the nearest `i32`, the even one of two; out of range it is the nearest end, NaN is 0 (PTX `cvt.rni.s32.f32`).
#[inline(always)]
pub fn to_i32_even(x: f32) -> i32 {
    target! {
        gpu {
            let d: i32;
            // SAFETY: works on registers.
            unsafe {
                core::arch::asm!("cvt.rni.s32.f32 {}, {};", out(reg32) d, in(reg32) x,
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu { f32::round_ties_even(x) as i32 }
    }
}
