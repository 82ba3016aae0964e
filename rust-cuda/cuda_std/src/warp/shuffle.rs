//! Exchange of values between the lanes of a warp (PTX `shfl.sync`).

use half::{bf16, f16};

/// A value that lanes can exchange: up to 8 bytes. Those of 8 take two instructions.
pub trait WarpShuffleValue: Copy + 'static + sealed::Words {}

mod sealed {
    /// The value as one or two 32-bit words.
    pub trait Words: Copy {
        #[cfg(target_arch = "nvptx64")]
        const WIDE: bool = size_of::<Self>() > 4;
        #[cfg(target_arch = "nvptx64")]
        fn to_words(self) -> u64;
        #[cfg(target_arch = "nvptx64")]
        fn from_words(words: u64) -> Self;
    }
}

macro_rules! values {
    ($($t:ty: |$v:ident| $to:expr, |$w:ident| $from:expr;)*) => {
        $(impl WarpShuffleValue for $t {}
        impl sealed::Words for $t {
            #[cfg(target_arch = "nvptx64")]
            #[inline(always)]
            fn to_words(self) -> u64 {
                let $v = self;
                $to
            }
            #[cfg(target_arch = "nvptx64")]
            #[inline(always)]
            fn from_words($w: u64) -> Self {
                $from
            }
        })*
    };
}
values! {
    u8: |v| v as u64, |w| w as u8;
    i8: |v| v as u8 as u64, |w| w as i8;
    u16: |v| v as u64, |w| w as u16;
    i16: |v| v as u16 as u64, |w| w as i16;
    f16: |v| v.to_bits() as u64, |w| f16::from_bits(w as u16);
    bf16: |v| v.to_bits() as u64, |w| bf16::from_bits(w as u16);
    u32: |v| v as u64, |w| w as u32;
    i32: |v| v as u32 as u64, |w| w as i32;
    f32: |v| v.to_bits() as u64, |w| f32::from_bits(w as u32);
    u64: |v| v, |w| w;
    i64: |v| v as u64, |w| w as i64;
    f64: |v| v.to_bits(), |w| f64::from_bits(w);
}

/// The four modes of `shfl.sync`.
#[derive(Clone, Copy)]
enum Mode {
    Up,
    Down,
    Xor,
    Idx,
}

/// The lane a shuffle reads from and whether that lane is in range, by the PTX ISA's pseudocode of `shfl.sync`: a source
/// out of the lane's segment of `width` lanes becomes the lane itself.
#[inline(always)]
fn source(mode: Mode, lane: u32, operand: u32, width: u32) -> (u32, bool) {
    let segment = 32 - width; // the segment's bits of a lane number, for a power of two
    let (b, first) = (operand & 31, lane & segment);
    let last = first | (31 & !segment);
    let (from, in_range) = match mode {
        Mode::Up => (lane.wrapping_sub(b), lane >= first + b),
        Mode::Down => (lane + b, lane + b <= last),
        Mode::Xor => (lane ^ b, lane ^ b <= last),
        Mode::Idx => (first | (b & !segment), true),
    };
    (if in_range { from } else { lane }, in_range)
}

#[inline(always)]
#[track_caller]
unsafe fn shuffle<T: WarpShuffleValue>(mode: Mode, mask: u32, value: T, operand: u32, width: u32) -> (T, bool) {
    assert!(
        width.is_power_of_two() && width <= 32,
        "a shuffle's width is a power of two up to 32"
    );
    target! {
        gpu {
            use crate::intrinsics as llvm;
            let word = |w: u32| {
                let c = (32 - width) << 8;
                // SAFETY: the caller's promise; shuffles work on registers.
                unsafe {
                    match mode {
                        Mode::Up => llvm::shfl_up(mask, w, operand, c),
                        Mode::Down => llvm::shfl_down(mask, w, operand, c | 31),
                        Mode::Xor => llvm::shfl_bfly(mask, w, operand, c | 31),
                        Mode::Idx => llvm::shfl_idx(mask, w, operand, c | 31),
                    }
                }
            };
            let words = value.to_words();
            let low = word(words as u32) as u64;
            let high = if T::WIDE { word((words >> 32) as u32) as u64 } else { 0 };
            (T::from_words(high << 32 | low), source(mode, super::lane_id(), operand, width).1)
        }
        cpu {
            let op = match mode {
                Mode::Up => "shfl.up",
                Mode::Down => "shfl.down",
                Mode::Xor => "shfl.bfly",
                Mode::Idx => "shfl.idx",
            };
            let (from, in_range) = source(mode, super::lane_id(), operand, width);
            if mask >> from & 1 == 0 {
                simt::ctx::fail(
                    simt::ErrorKind::PartialWarp,
                    format!("{op} reads lane {from}, which is not in the mask {mask:#010x}; give a mask with that lane"),
                );
            }
            (simt::ctx::warp_exchange(op, mask, value, |lanes| lanes.get(from)), in_range)
        }
    }
}

macro_rules! shuffles {
    ($($(#[$doc:meta])* $long:ident, $short:ident, $mode:ident, $operand:ident;)*) => {
        $($(#[$doc])*
        ///
        /// `mask` names the lanes that take part; `width`, a power of two up to 32, splits the warp into segments that
        /// do not see each other. Returns the value and whether the source lane was within the segment; if not, the
        /// value is the lane's own.
        ///
        /// # Panics
        /// If `width` is not a power of two or above 32.
        ///
        /// # Safety
        /// The calling lane and the source lane are in `mask`, and no lane of `mask` has exited.
        #[inline(always)]
        #[track_caller]
        pub unsafe fn $long<T: WarpShuffleValue>(mask: u32, value: T, $operand: u32, width: u32) -> (T, bool) {
            // SAFETY: the caller's promise.
            unsafe { shuffle(Mode::$mode, mask, value, $operand, width) }
        }

        $(#[$doc])*
        /// For a full warp.
        #[inline(always)]
        #[track_caller]
        pub fn $short<T: WarpShuffleValue>(value: T, $operand: u32) -> T {
            // SAFETY: the whole warp is here (the module's rule).
            unsafe { shuffle(Mode::$mode, super::FULL, value, $operand, 32) }.0
        })*
    };
}
shuffles! {
    /// The `value` of the lane `delta` below.
    warp_shuffle_up, shuffle_up, Up, delta;
    /// The `value` of the lane `delta` above.
    warp_shuffle_down, shuffle_down, Down, delta;
    /// The `value` of the lane whose number is this one's XOR `lane_mask`.
    warp_shuffle_xor, shuffle_xor, Xor, lane_mask;
    /// The `value` of lane `idx` (of lane `idx` modulo `width` in the own segment).
    warp_shuffle_idx, shuffle_idx, Idx, idx;
}

/// Lane `lane`'s value, in every lane of a full warp.
#[inline(always)]
#[track_caller]
pub fn broadcast<T: WarpShuffleValue>(value: T, lane: u32) -> T {
    shuffle_idx(value, lane)
}
