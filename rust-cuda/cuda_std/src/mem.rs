//! Loads and stores of global memory, plain and with cache hints.
//!
//! Pointers are global (device) memory: what a kernel got as a parameter. [`Word`] is what one instruction can move; the
//! pointer must be aligned to the word's size.
//!
//! | function | PTX | for |
//! | --- | --- | --- |
//! | [`load`] | `ld.global` | anything, also what this kernel writes |
//! | [`load_nc`] | `ld.global.nc` | data that nobody writes while the kernel runs |
//! | [`load_no_allocate`] | `ld.global.nc.L1::no_allocate` | the same, read once per SM |
//! | [`load_stream`] | the same with an L2 policy `evict_first` | weights that the launch reads once: they leave L2 before anything else does |
//! | [`store`] | `st.global` | anything |
//! | [`store_stream`] | `st.global.cs` | results that are not read again soon |

use crate::vec::{F32x2, F32x4, U32x2, U32x4};
use half::{bf16, f16};

/// A value that one load or store moves: 1, 2, 4, 8 or 16 bytes, aligned to its size.
pub trait Word: Copy + 'static + sealed::Access {}

pub(crate) mod sealed {
    /// The instructions behind [`Word`](super::Word), so that they stay this crate's own.
    pub trait Access: Sized {
        #[cfg(target_arch = "nvptx64")]
        unsafe fn load(p: *const Self) -> Self;
        #[cfg(target_arch = "nvptx64")]
        unsafe fn store(p: *mut Self, v: Self);
        #[cfg(target_arch = "nvptx64")]
        unsafe fn load_nc(p: *const Self) -> Self;
        #[cfg(target_arch = "nvptx64")]
        unsafe fn load_no_allocate(p: *const Self) -> Self;
        #[cfg(target_arch = "nvptx64")]
        unsafe fn load_stream(p: *const Self) -> Self;
        #[cfg(target_arch = "nvptx64")]
        unsafe fn store_stream(p: *mut Self, v: Self);
        #[cfg(target_arch = "nvptx64")]
        unsafe fn shared_load(addr: u32) -> Self;
        #[cfg(target_arch = "nvptx64")]
        unsafe fn shared_store(addr: u32, v: Self);
        #[cfg(target_arch = "nvptx64")]
        unsafe fn cluster_load(addr: u32) -> Self;
        #[cfg(target_arch = "nvptx64")]
        unsafe fn cluster_store(addr: u32, v: Self);
    }
}

/// Reads `*p` (PTX `ld.global`).
///
/// # Safety
/// `p` is aligned and points to a `T` of device memory that no other thread writes at the same time.
#[inline(always)]
#[track_caller]
pub unsafe fn load<T: Word>(p: *const T) -> T {
    // SAFETY: the caller's promise.
    target! { gpu { unsafe { T::load(p) } } cpu { unsafe { simt::ctx::load(p) } } }
}

/// Reads `*p` through the read-only path (PTX `ld.global.nc`).
///
/// # Safety
/// As for [`load`], and nothing writes `*p` while the kernel runs.
#[inline(always)]
#[track_caller]
pub unsafe fn load_nc<T: Word>(p: *const T) -> T {
    // SAFETY: the caller's promise.
    target! { gpu { unsafe { T::load_nc(p) } } cpu { unsafe { simt::ctx::load(p) } } }
}

/// [`load_nc`] that leaves no copy in L1.
///
/// # Safety
/// As for [`load_nc`].
#[inline(always)]
#[track_caller]
pub unsafe fn load_no_allocate<T: Word>(p: *const T) -> T {
    // SAFETY: the caller's promise.
    target! { gpu { unsafe { T::load_no_allocate(p) } } cpu { unsafe { simt::ctx::load(p) } } }
}

/// [`load_no_allocate`] whose line is also the first to leave L2: for weights that a launch reads once.
///
/// # Safety
/// As for [`load_nc`].
#[inline(always)]
#[track_caller]
pub unsafe fn load_stream<T: Word>(p: *const T) -> T {
    // SAFETY: the caller's promise.
    target! { gpu { unsafe { T::load_stream(p) } } cpu { unsafe { simt::ctx::load(p) } } }
}

/// Writes `v` to `*p` (PTX `st.global`).
///
/// # Safety
/// `p` is aligned and points to a `T` of device memory that no other thread reads or writes at the same time.
#[inline(always)]
#[track_caller]
pub unsafe fn store<T: Word>(p: *mut T, v: T) {
    // SAFETY: the caller's promise.
    target! { gpu { unsafe { T::store(p, v) } } cpu { unsafe { simt::ctx::store(p, v) } } }
}

/// [`store`] of a value that is not read again soon (PTX `st.global.cs`).
///
/// # Safety
/// As for [`store`].
#[inline(always)]
#[track_caller]
pub unsafe fn store_stream<T: Word>(p: *mut T, v: T) {
    // SAFETY: the caller's promise.
    target! { gpu { unsafe { T::store_stream(p, v) } } cpu { unsafe { simt::ctx::store(p, v) } } }
}

/// Implements [`Word`] for `$t`, moved as `$n` registers `$v` of class `$reg`, with PTX's type `$ptx`. `$plain` is the type
/// that a plain Rust read moves in one instruction; `$to` and `$from` convert to and from the array of registers.
macro_rules! word {
    ($t:ty, $plain:ty, $ptx:literal, $list:literal, [$a:ident] $to:expr, [$b:ident] $from:expr, $raw:ty,
        $(($reg:ident $r:ident))+) => {
        impl Word for $t {}
        #[cfg(target_arch = "nvptx64")]
        impl sealed::Access for $t {
            #[inline(always)]
            unsafe fn load(p: *const Self) -> Self {
                const { assert!(size_of::<$plain>() == size_of::<$t>() && align_of::<$plain>() == align_of::<$t>()) };
                // SAFETY: the caller's promise; the two types have the same bytes and alignment.
                unsafe { core::mem::transmute::<$plain, $t>(p.cast::<$plain>().read()) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut Self, v: Self) {
                // SAFETY: as in `load`.
                unsafe { p.cast::<$plain>().write(core::mem::transmute::<$t, $plain>(v)) }
            }
            #[inline(always)]
            unsafe fn load_nc(p: *const Self) -> Self {
                word!(@load $t, concat!("ld.global.nc.", $ptx, " ", $list, ", [{p}];"), [$b] $from, $raw,
                    $(($reg $r))+, p = in(reg64) p)
            }
            #[inline(always)]
            unsafe fn load_no_allocate(p: *const Self) -> Self {
                word!(@load $t, concat!("ld.global.nc.L1::no_allocate.", $ptx, " ", $list, ", [{p}];"), [$b] $from, $raw,
                    $(($reg $r))+, p = in(reg64) p)
            }
            #[inline(always)]
            unsafe fn load_stream(p: *const Self) -> Self {
                let policy = evict_first();
                word!(@load $t,
                    concat!("ld.global.nc.L1::no_allocate.L2::cache_hint.", $ptx, " ", $list, ", [{p}], {policy};"),
                    [$b] $from, $raw, $(($reg $r))+, p = in(reg64) p, policy = in(reg64) policy)
            }
            #[inline(always)]
            unsafe fn store_stream(p: *mut Self, v: Self) {
                word!(@store v, concat!("st.global.cs.", $ptx, " [{p}], ", $list, ";"), [$a] $to, $(($reg $r))+,
                    p = in(reg64) p)
            }
            #[inline(always)]
            unsafe fn shared_load(addr: u32) -> Self {
                word!(@load $t, concat!("ld.shared.", $ptx, " ", $list, ", [{p}];"), [$b] $from, $raw, $(($reg $r))+,
                    p = in(reg32) addr)
            }
            #[inline(always)]
            unsafe fn shared_store(addr: u32, v: Self) {
                word!(@store v, concat!("st.shared.", $ptx, " [{p}], ", $list, ";"), [$a] $to, $(($reg $r))+,
                    p = in(reg32) addr)
            }
            #[inline(always)]
            unsafe fn cluster_load(addr: u32) -> Self {
                word!(@load $t, concat!("ld.shared::cluster.", $ptx, " ", $list, ", [{p}];"), [$b] $from, $raw,
                    $(($reg $r))+, p = in(reg32) addr)
            }
            #[inline(always)]
            unsafe fn cluster_store(addr: u32, v: Self) {
                word!(@store v, concat!("st.shared::cluster.", $ptx, " [{p}], ", $list, ";"), [$a] $to, $(($reg $r))+,
                    p = in(reg32) addr)
            }
        }
        #[cfg(not(target_arch = "nvptx64"))]
        impl sealed::Access for $t {}
    };
    // `pure, readonly`: may be dropped or merged, but moves over no barrier, no store and no other `asm!` that writes.
    (@load $t:ty, $text:expr, [$b:ident] $from:expr, $raw:ty, $(($reg:ident $r:ident))+, $($operand:tt)*) => {{
        $(let $r: $raw;)+
        // SAFETY: the caller's promise.
        unsafe { core::arch::asm!($text, $($r = out($reg) $r,)+ $($operand)*, options(pure, readonly, nostack, preserves_flags)) }
        let $b = [$($r),+];
        $from
    }};
    (@store $v:ident, $text:expr, [$a:ident] $to:expr, $(($reg:ident $r:ident))+, $($operand:tt)*) => {{
        let $a = $v;
        let [$($r),+] = $to;
        // SAFETY: the caller's promise.
        unsafe { core::arch::asm!($text, $($r = in($reg) $r,)+ $($operand)*, options(nostack, preserves_flags)) }
    }};
}

word!(u8, u8, "u8", "{r0}", [v] [u16::from(v)], [r] r[0] as u8, u16, (reg16 r0));
word!(i8, i8, "s8", "{r0}", [v] [i16::from(v)], [r] r[0] as i8, i16, (reg16 r0));
word!(u16, u16, "u16", "{r0}", [v] [v], [r] r[0], u16, (reg16 r0));
word!(i16, i16, "s16", "{r0}", [v] [v], [r] r[0], i16, (reg16 r0));
word!(f16, u16, "b16", "{r0}", [v] [v.to_bits()], [r] f16::from_bits(r[0]), u16, (reg16 r0));
word!(bf16, u16, "b16", "{r0}", [v] [v.to_bits()], [r] bf16::from_bits(r[0]), u16, (reg16 r0));
word!(u32, u32, "u32", "{r0}", [v] [v], [r] r[0], u32, (reg32 r0));
word!(i32, i32, "s32", "{r0}", [v] [v], [r] r[0], i32, (reg32 r0));
word!(f32, f32, "f32", "{r0}", [v] [v], [r] r[0], f32, (reg32 r0));
word!(u64, u64, "u64", "{r0}", [v] [v], [r] r[0], u64, (reg64 r0));
word!(i64, i64, "s64", "{r0}", [v] [v], [r] r[0], i64, (reg64 r0));
word!(f64, f64, "f64", "{r0}", [v] [v], [r] r[0], f64, (reg64 r0));
word!(U32x2, core::simd::Simd<u32, 2>, "v2.u32", "{{{r0}, {r1}}}", [v] v.0, [r] U32x2(r), u32, (reg32 r0) (reg32 r1));
word!(F32x2, core::simd::Simd<f32, 2>, "v2.f32", "{{{r0}, {r1}}}", [v] v.0, [r] F32x2(r), f32, (reg32 r0) (reg32 r1));
word!(U32x4, core::simd::Simd<u32, 4>, "v4.u32", "{{{r0}, {r1}, {r2}, {r3}}}", [v] v.0, [r] U32x4(r), u32,
    (reg32 r0) (reg32 r1) (reg32 r2) (reg32 r3));
word!(F32x4, core::simd::Simd<f32, 4>, "v4.f32", "{{{r0}, {r1}, {r2}, {r3}}}", [v] v.0, [r] F32x4(r), f32,
    (reg32 r0) (reg32 r1) (reg32 r2) (reg32 r3));

/// The L2 policy "evict first" for the whole access (PTX `createpolicy`, sm_80 and later). Pure, so that LLVM keeps one a
/// kernel.
#[cfg(target_arch = "nvptx64")]
#[inline(always)]
pub(crate) fn evict_first() -> u64 {
    let policy: u64;
    // SAFETY: makes a value in a register.
    unsafe {
        core::arch::asm!("createpolicy.fractional.L2::evict_first.b64 {}, 1.0;", out(reg64) policy,
            options(pure, nomem, nostack, preserves_flags));
    }
    policy
}
