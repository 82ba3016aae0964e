//! Reductions over a warp: integers by one instruction (PTX `redux.sync`, sm_80), floats in one fixed tree.

use super::{FULL, shuffle_xor};

/// What a reduction does with the lanes' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarpReductionOp {
    /// The wrapping sum.
    Add,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
}

/// `u32` and `i32`: what `redux.sync` takes.
pub trait WarpReduceValue: Copy + 'static + sealed::Reduce {}

mod sealed {
    use super::WarpReductionOp;

    /// One reduction step and the instruction.
    pub trait Reduce: Copy {
        #[cfg(not(target_arch = "nvptx64"))]
        fn combine(self, other: Self, op: WarpReductionOp) -> Self;
        #[cfg(target_arch = "nvptx64")]
        unsafe fn redux(self, mask: u32, op: WarpReductionOp) -> Self;
    }
}

macro_rules! reduce_value {
    ($t:ty, $min:ident, $max:ident) => {
        impl WarpReduceValue for $t {}
        impl sealed::Reduce for $t {
            #[cfg(not(target_arch = "nvptx64"))]
            #[inline(always)]
            fn combine(self, other: Self, op: WarpReductionOp) -> Self {
                match op {
                    WarpReductionOp::Add => self.wrapping_add(other),
                    WarpReductionOp::Min => self.min(other),
                    WarpReductionOp::Max => self.max(other),
                    WarpReductionOp::And => self & other,
                    WarpReductionOp::Or => self | other,
                    WarpReductionOp::Xor => self ^ other,
                }
            }
            #[cfg(target_arch = "nvptx64")]
            #[inline(always)]
            unsafe fn redux(self, mask: u32, op: WarpReductionOp) -> Self {
                use crate::intrinsics as llvm;
                // SAFETY: the caller's promise; reductions work on registers.
                unsafe {
                    match op {
                        WarpReductionOp::Add => llvm::redux_add(self as u32, mask) as $t,
                        WarpReductionOp::Min => llvm::$min(self, mask),
                        WarpReductionOp::Max => llvm::$max(self, mask),
                        WarpReductionOp::And => llvm::redux_and(self as u32, mask) as $t,
                        WarpReductionOp::Or => llvm::redux_or(self as u32, mask) as $t,
                        WarpReductionOp::Xor => llvm::redux_xor(self as u32, mask) as $t,
                    }
                }
            }
        }
    };
}
reduce_value!(u32, redux_min_u32, redux_max_u32);
reduce_value!(i32, redux_min_s32, redux_max_s32);

/// The values of all lanes of `mask`, combined by `op`, in every lane.
///
/// # Safety
/// The calling lane is in `mask`, no lane of `mask` has exited, and all of them give the same mask and `op`.
#[inline(always)]
#[track_caller]
pub unsafe fn warp_reduce<T: WarpReduceValue>(mask: u32, value: T, op: WarpReductionOp) -> T {
    target! {
        gpu {
            // SAFETY: the caller's promise.
            unsafe { value.redux(mask, op) }
        }
        cpu {
            let name = match op {
                WarpReductionOp::Add => "redux.add",
                WarpReductionOp::Min => "redux.min",
                WarpReductionOp::Max => "redux.max",
                WarpReductionOp::And => "redux.and",
                WarpReductionOp::Or => "redux.or",
                WarpReductionOp::Xor => "redux.xor",
            };
            simt::ctx::warp_exchange(name, mask, value, |lanes| {
                let mut members = (0..32).filter(|lane| mask >> lane & 1 == 1).map(|lane| lanes.get(lane));
                let first = members.next().unwrap_or(value);
                members.fold(first, |sum, v| sum.combine(v, op))
            })
        }
    }
}

macro_rules! full_warp {
    ($($(#[$doc:meta])* $name:ident, $t:ty, $op:ident;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        #[track_caller]
        pub fn $name(value: $t) -> $t {
            // SAFETY: the whole warp is here (the module's rule).
            unsafe { warp_reduce(FULL, value, WarpReductionOp::$op) }
        })*
    };
}
full_warp! {
    /// The wrapping sum over a full warp, in every lane.
    reduce_sum_u32, u32, Add;
    /// The wrapping sum over a full warp, in every lane.
    reduce_sum_i32, i32, Add;
    /// The smallest value of a full warp, in every lane.
    reduce_min_u32, u32, Min;
    /// The smallest value of a full warp, in every lane.
    reduce_min_i32, i32, Min;
    /// The largest value of a full warp, in every lane.
    reduce_max_u32, u32, Max;
    /// The largest value of a full warp, in every lane.
    reduce_max_i32, i32, Max;
}

/// The sum over a full warp, in every lane, always in this order: each lane adds its partner's value at distance 16, then
/// 8, 4, 2, 1. Additions commute, so every lane has the same bits.
#[inline(always)]
#[track_caller]
pub fn reduce_sum_f32(value: f32) -> f32 {
    let v = value + shuffle_xor(value, 16);
    let v = v + shuffle_xor(v, 8);
    let v = v + shuffle_xor(v, 4);
    let v = v + shuffle_xor(v, 2);
    v + shuffle_xor(v, 1)
}

/// The largest value of a full warp by [`crate::float::max`] (a NaN loses to any number), in every lane.
#[inline(always)]
#[track_caller]
pub fn reduce_max_f32(value: f32) -> f32 {
    use crate::float::max;
    let v = max(value, shuffle_xor(value, 16));
    let v = max(v, shuffle_xor(v, 8));
    let v = max(v, shuffle_xor(v, 4));
    let v = max(v, shuffle_xor(v, 2));
    max(v, shuffle_xor(v, 1))
}
