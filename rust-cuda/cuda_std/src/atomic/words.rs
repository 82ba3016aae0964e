//! The instructions behind [`AtomicInt`](super::AtomicInt).

use super::AtomicInt;

/// A read-modify-write with one operand.
#[derive(Clone, Copy)]
pub enum Op {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
}

/// Atomic operations on one integer type, in global and in shared memory. All return the old value.
pub trait Rmw: Sized {
    unsafe fn global(op: Op, p: *mut Self, v: Self) -> Self;
    unsafe fn global_cas(p: *mut Self, current: Self, new: Self) -> Self;
    unsafe fn global_load(p: *const Self) -> Self;
    unsafe fn global_store(p: *mut Self, v: Self);
    fn shared(op: Op, addr: u32, v: Self) -> Self;
    fn shared_cas(addr: u32, current: Self, new: Self) -> Self;
}

#[cfg(target_arch = "nvptx64")]
macro_rules! atomic_int {
    ($t:ty, $reg:ident, $bits:literal, $signed:literal, $add:literal) => {
        impl AtomicInt for $t {}
        impl Rmw for $t {
            #[inline(always)]
            unsafe fn global(op: Op, p: *mut Self, v: Self) -> Self {
                atomic_int!(@match op, "atom.relaxed.gpu.global.", in(reg64) p, v, $t, $reg, $bits, $signed, $add)
            }
            #[inline(always)]
            unsafe fn global_cas(p: *mut Self, current: Self, new: Self) -> Self {
                atomic_int!(@asm concat!("atom.relaxed.gpu.global.cas.", $bits, " {old}, [{p}], {current}, {new};"),
                    $t, $reg, p = in(reg64) p, current = in($reg) current, new = in($reg) new)
            }
            #[inline(always)]
            unsafe fn global_load(p: *const Self) -> Self {
                atomic_int!(@asm concat!("ld.relaxed.gpu.global.", $bits, " {old}, [{p}];"), $t, $reg, p = in(reg64) p)
            }
            #[inline(always)]
            unsafe fn global_store(p: *mut Self, v: Self) {
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!(concat!("st.relaxed.gpu.global.", $bits, " [{}], {};"), in(reg64) p, in($reg) v,
                        options(nostack, preserves_flags));
                }
            }
            #[inline(always)]
            fn shared(op: Op, addr: u32, v: Self) -> Self {
                atomic_int!(@match op, "atom.relaxed.cta.shared.", in(reg32) addr, v, $t, $reg, $bits, $signed, $add)
            }
            #[inline(always)]
            fn shared_cas(addr: u32, current: Self, new: Self) -> Self {
                atomic_int!(@asm concat!("atom.relaxed.cta.shared.cas.", $bits, " {old}, [{p}], {current}, {new};"),
                    $t, $reg, p = in(reg32) addr, current = in($reg) current, new = in($reg) new)
            }
        }
    };
    (@match $op:ident, $atom:literal, in($preg:ident) $p:ident, $v:ident, $t:ty, $reg:ident, $bits:literal,
        $signed:literal, $add:literal) => {
        match $op {
            Op::Add => atomic_int!(@rmw $atom, "add.", $add, $preg, $p, $v, $t, $reg),
            Op::Min => atomic_int!(@rmw $atom, "min.", $signed, $preg, $p, $v, $t, $reg),
            Op::Max => atomic_int!(@rmw $atom, "max.", $signed, $preg, $p, $v, $t, $reg),
            Op::And => atomic_int!(@rmw $atom, "and.", $bits, $preg, $p, $v, $t, $reg),
            Op::Or => atomic_int!(@rmw $atom, "or.", $bits, $preg, $p, $v, $t, $reg),
            Op::Xor => atomic_int!(@rmw $atom, "xor.", $bits, $preg, $p, $v, $t, $reg),
            Op::Exch => atomic_int!(@rmw $atom, "exch.", $bits, $preg, $p, $v, $t, $reg),
        }
    };
    (@rmw $atom:literal, $op:literal, $ty:literal, $preg:ident, $p:ident, $v:ident, $t:ty, $reg:ident) => {
        atomic_int!(@asm concat!($atom, $op, $ty, " {old}, [{p}], {v};"), $t, $reg, p = in($preg) $p, v = in($reg) $v)
    };
    (@asm $text:expr, $t:ty, $reg:ident, $($operand:tt)*) => {{
        let old: $t;
        // SAFETY: the caller's promise for a pointer; an address outside the block's shared memory stops the launch.
        unsafe { core::arch::asm!($text, $($operand)*, old = out($reg) old, options(nostack, preserves_flags)) }
        old
    }};
}
#[cfg(target_arch = "nvptx64")]
mod instructions {
    use super::{AtomicInt, Op, Rmw};
    atomic_int!(u32, reg32, "b32", "u32", "u32");
    atomic_int!(i32, reg32, "b32", "s32", "s32");
    atomic_int!(u64, reg64, "b64", "u64", "u64");
    // There is no add.s64; the bits of the wrapping sum are the same.
    atomic_int!(i64, reg64, "b64", "s64", "u64");
}

#[cfg(not(target_arch = "nvptx64"))]
macro_rules! atomic_int {
    ($t:ty, $bits:ty, $global:ident, $shared:ident) => {
        impl AtomicInt for $t {}
        impl Rmw for $t {
            #[inline(always)]
            #[track_caller]
            unsafe fn global(op: Op, p: *mut Self, v: Self) -> Self {
                // SAFETY: the caller's promise.
                unsafe { simt::ctx::$global(p.cast(), |old| atomic_int!(@apply op, old as $t, v) as $bits) as $t }
            }
            #[inline(always)]
            #[track_caller]
            unsafe fn global_cas(p: *mut Self, current: Self, new: Self) -> Self {
                let swap = |old: $bits| if old == current as $bits { new as $bits } else { old };
                // SAFETY: the caller's promise.
                unsafe { simt::ctx::$global(p.cast(), swap) as $t }
            }
            #[inline(always)]
            #[track_caller]
            unsafe fn global_load(p: *const Self) -> Self {
                // SAFETY: the caller's promise; the value is written back as it is.
                unsafe { simt::ctx::$global(p.cast_mut().cast(), |old| old) as $t }
            }
            #[inline(always)]
            #[track_caller]
            unsafe fn global_store(p: *mut Self, v: Self) {
                // SAFETY: the caller's promise.
                unsafe { simt::ctx::$global(p.cast(), |_| v as $bits) };
            }
            #[inline(always)]
            #[track_caller]
            fn shared(op: Op, addr: u32, v: Self) -> Self {
                simt::ctx::$shared(addr, |old| atomic_int!(@apply op, old as $t, v) as $bits) as $t
            }
            #[inline(always)]
            #[track_caller]
            fn shared_cas(addr: u32, current: Self, new: Self) -> Self {
                let swap = |old: $bits| if old == current as $bits { new as $bits } else { old };
                simt::ctx::$shared(addr, swap) as $t
            }
        }
    };
    (@apply $op:ident, $old:expr, $v:ident) => {
        match $op {
            Op::Add => ($old).wrapping_add($v),
            Op::Min => ($old).min($v),
            Op::Max => ($old).max($v),
            Op::And => $old & $v,
            Op::Or => $old | $v,
            Op::Xor => $old ^ $v,
            Op::Exch => $v,
        }
    };
}
#[cfg(not(target_arch = "nvptx64"))]
mod simulated {
    use super::{AtomicInt, Op, Rmw};
    atomic_int!(u32, u32, atomic_u32, shared_atomic_u32);
    atomic_int!(i32, u32, atomic_u32, shared_atomic_u32);
    atomic_int!(u64, u64, atomic_u64, shared_atomic_u64);
    atomic_int!(i64, u64, atomic_u64, shared_atomic_u64);
}
