//! Votes and matches over a warp (PTX `vote.sync`, `match.sync`).

macro_rules! vote {
    ($($(#[$doc:meta])* $long:ident, $short:ident -> $result:ty, $op:literal, $llvm:ident,
        |$mask:ident, $lanes:ident| $cpu:expr;)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// The calling lane is in `mask`, and no lane of `mask` has exited.
        #[inline(always)]
        #[track_caller]
        pub unsafe fn $long(mask: u32, predicate: bool) -> $result {
            target! {
                gpu {
                    // SAFETY: the caller's promise; votes work on registers.
                    unsafe { crate::intrinsics::$llvm(mask, predicate) }
                }
                cpu {
                    simt::ctx::warp_exchange($op, mask, predicate, |lanes| {
                        let $lanes = members(mask, |lane| lanes.get(lane));
                        let $mask = mask;
                        $cpu
                    })
                }
            }
        }

        $(#[$doc])*
        /// For a full warp.
        #[inline(always)]
        #[track_caller]
        pub fn $short(predicate: bool) -> $result {
            // SAFETY: the whole warp is here (the module's rule).
            unsafe { $long(super::FULL, predicate) }
        })*
    };
}
vote! {
    /// Whether `predicate` holds in every lane of the mask.
    warp_vote_all, all -> bool, "vote.all", vote_all, |mask, lanes| lanes == mask;
    /// Whether `predicate` holds in any lane of the mask.
    warp_vote_any, any -> bool, "vote.any", vote_any, |_mask, lanes| lanes != 0;
    /// The lanes of the mask whose `predicate` holds, one bit each.
    warp_vote_ballot, ballot -> u32, "vote.ballot", vote_ballot, |_mask, lanes| lanes;
}

/// The lanes of `mask` for which `f` holds.
#[cfg(not(target_arch = "nvptx64"))]
#[inline(always)]
fn members(mask: u32, f: impl Fn(u32) -> bool) -> u32 {
    (0..32)
        .filter(|&lane| mask >> lane & 1 == 1 && f(lane))
        .fold(0, |set, lane| set | 1 << lane)
}

/// A value that lanes can be matched by: 32 or 64 bits, compared as bits (so a NaN matches itself and -0 does not match 0).
pub trait WarpMatchValue: Copy + 'static + sealed::Bits {}

mod sealed {
    /// The bits that are compared.
    pub trait Bits {
        /// Whether it takes the 64-bit instruction.
        const WIDE: bool;
        /// The value's bits, zero-extended.
        fn bits(self) -> u64;
    }
}

macro_rules! match_values {
    ($($t:ty, $wide:literal, |$v:ident| $bits:expr;)*) => {
        $(impl WarpMatchValue for $t {}
        impl sealed::Bits for $t {
            const WIDE: bool = $wide;
            #[inline(always)]
            fn bits(self) -> u64 {
                let $v = self;
                $bits
            }
        })*
    };
}
match_values! {
    u32, false, |v| u64::from(v);
    i32, false, |v| u64::from(v as u32);
    f32, false, |v| u64::from(v.to_bits());
    u64, true, |v| v;
    i64, true, |v| v as u64;
    f64, true, |v| v.to_bits();
}

/// The lanes of `mask` that have the same `value` as this one.
///
/// # Safety
/// The calling lane is in `mask`, and no lane of `mask` has exited.
#[inline(always)]
#[track_caller]
pub unsafe fn warp_match_any<T: WarpMatchValue>(mask: u32, value: T) -> u32 {
    let bits = value.bits();
    target! {
        gpu {
            // SAFETY: the caller's promise; matches work on registers.
            unsafe {
                if T::WIDE {
                    crate::intrinsics::match_any_64(mask, bits)
                } else {
                    crate::intrinsics::match_any_32(mask, bits as u32)
                }
            }
        }
        cpu {
            simt::ctx::warp_exchange("match.any", mask, bits, |lanes| members(mask, |lane| lanes.get(lane) == bits))
        }
    }
}

/// `Some(mask)` if all lanes of `mask` have the same `value`, else `None`.
///
/// # Safety
/// The calling lane is in `mask`, and no lane of `mask` has exited.
#[inline(always)]
#[track_caller]
pub unsafe fn warp_match_all<T: WarpMatchValue>(mask: u32, value: T) -> Option<u32> {
    // SAFETY: the caller's promise.
    (unsafe { warp_match_any(mask, value) } == mask).then_some(mask)
}

/// [`warp_match_any`] for a full warp.
#[inline(always)]
#[track_caller]
pub fn match_any<T: WarpMatchValue>(value: T) -> u32 {
    // SAFETY: the whole warp is here (the module's rule).
    unsafe { warp_match_any(super::FULL, value) }
}

/// Whether all lanes of a full warp have the same `value`.
#[inline(always)]
#[track_caller]
pub fn match_all<T: WarpMatchValue>(value: T) -> bool {
    match_any(value) == super::FULL
}
