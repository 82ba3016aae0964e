//! The trampolines. Each counts its call, then jumps through its slot; an empty slot goes to [`resolve_entry`], which
//! saves every register an argument can travel in, asks [`resolve`] for the address, restores them and jumps there. The
//! stack is as the caller left it, so arguments on it (structs by value, the 7th and later) arrive untouched too.

use crate::counters::{COUNTERS, Kind};
use crate::errors;
use crate::functions::with_functions;
use std::arch::naked_asm;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

macro_rules! define_tables {
    ($($kind:ident { $($name:ident)* })*) => {
        /// Position of each function in [`NAMES`] and [`SLOTS`].
        #[allow(non_camel_case_types, clippy::enum_variant_names)]
        #[repr(usize)]
        enum Index { $($($name,)*)* }

        /// The functions' names, each ending in a zero byte.
        pub(crate) static NAMES: &[&str] = &[$($(concat!(stringify!($name), "\0"),)*)*];
    };
}
with_functions!(define_tables);

/// Number of functions.
const COUNT: usize = NAMES.len();

/// Where each function's calls go; null until its first call.
static SLOTS: [AtomicPtr<c_void>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];

#[cfg(target_arch = "x86_64")]
macro_rules! define_trampolines {
    ($($kind:ident { $($name:ident)* })*) => { $($(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "lock inc qword ptr [rip + {counters} + {counter}]",
                "mov r11, qword ptr [rip + {slots} + {slot}]",
                "test r11, r11",
                "jz 2f",
                "jmp r11",
                "2:",
                "push {index}",
                "jmp {resolve}",
                counters = sym COUNTERS,
                counter = const Kind::$kind as usize * 8,
                slots = sym SLOTS,
                slot = const Index::$name as usize * 8,
                index = const Index::$name as usize,
                resolve = sym resolve_entry,
            )
        }
    )*)* };
}

/// Entered by a jump with a function's index on top of the stack, above the return address of the call. r11 and r10
/// carry no argument in the System V ABI; rax is kept for its count of vector registers in variadic calls.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn resolve_entry() {
    naked_asm!(
        "push rax",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        // 8 (return address) + 8 (index) + 56 + 136 is a multiple of 16, as a call wants it.
        "sub rsp, 136",
        "movups xmmword ptr [rsp], xmm0",
        "movups xmmword ptr [rsp + 16], xmm1",
        "movups xmmword ptr [rsp + 32], xmm2",
        "movups xmmword ptr [rsp + 48], xmm3",
        "movups xmmword ptr [rsp + 64], xmm4",
        "movups xmmword ptr [rsp + 80], xmm5",
        "movups xmmword ptr [rsp + 96], xmm6",
        "movups xmmword ptr [rsp + 112], xmm7",
        "mov rdi, qword ptr [rsp + 192]",
        "call {resolve}",
        "mov r11, rax",
        "movups xmm0, xmmword ptr [rsp]",
        "movups xmm1, xmmword ptr [rsp + 16]",
        "movups xmm2, xmmword ptr [rsp + 32]",
        "movups xmm3, xmmword ptr [rsp + 48]",
        "movups xmm4, xmmword ptr [rsp + 64]",
        "movups xmm5, xmmword ptr [rsp + 80]",
        "movups xmm6, xmmword ptr [rsp + 96]",
        "movups xmm7, xmmword ptr [rsp + 112]",
        "add rsp, 136",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rax",
        "add rsp, 8",
        "jmp r11",
        resolve = sym resolve,
    )
}

#[cfg(target_arch = "aarch64")]
macro_rules! define_trampolines {
    ($($kind:ident { $($name:ident)* })*) => { $($(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            // x9 to x17 carry no argument in AAPCS64.
            naked_asm!(
                "adrp x16, {counters}",
                "add x16, x16, :lo12:{counters}",
                "add x16, x16, #{counter}",
                "2:",
                "ldxr x17, [x16]",
                "add x17, x17, #1",
                "stxr w9, x17, [x16]",
                "cbnz w9, 2b",
                "adrp x16, {slots}",
                "add x16, x16, :lo12:{slots}",
                "ldr x16, [x16, #{slot}]",
                "cbz x16, 3f",
                "br x16",
                "3:",
                "mov x17, #{index}",
                "b {resolve}",
                counters = sym COUNTERS,
                counter = const Kind::$kind as usize * 8,
                slots = sym SLOTS,
                slot = const Index::$name as usize * 8,
                index = const Index::$name as usize,
                resolve = sym resolve_entry,
            )
        }
    )*)* };
}

/// Entered by a jump with a function's index in x17 and the caller's return address in x30.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn resolve_entry() {
    naked_asm!(
        "stp x29, x30, [sp, #-224]!",
        "mov x29, sp",
        "stp x0, x1, [sp, #16]",
        "stp x2, x3, [sp, #32]",
        "stp x4, x5, [sp, #48]",
        "stp x6, x7, [sp, #64]",
        "str x8, [sp, #80]",
        "stp q0, q1, [sp, #96]",
        "stp q2, q3, [sp, #128]",
        "stp q4, q5, [sp, #160]",
        "stp q6, q7, [sp, #192]",
        "mov x0, x17",
        "bl {resolve}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x2, x3, [sp, #32]",
        "ldp x4, x5, [sp, #48]",
        "ldp x6, x7, [sp, #64]",
        "ldr x8, [sp, #80]",
        "ldp q0, q1, [sp, #96]",
        "ldp q2, q3, [sp, #128]",
        "ldp q4, q5, [sp, #160]",
        "ldp q6, q7, [sp, #192]",
        "ldp x29, x30, [sp], #224",
        "br x16",
        resolve = sym resolve,
    )
}

with_functions!(define_trampolines);

/// Where the calls of function `index` go from now on: the driver's function, or a stand-in that returns an error.
extern "C" fn resolve(index: usize) -> *const c_void {
    let name = NAMES[index].trim_end_matches('\0');
    let address = match crate::driver() {
        Ok(driver) => driver.symbol(name).unwrap_or_else(|| stand_in(name, not_found)),
        Err(_) => stand_in(name, no_device),
    };
    SLOTS[index].store(address.cast_mut(), Ordering::Release);
    address
}

/// The stand-in of a function that cannot be had: the two that describe errors work all the same.
fn stand_in(name: &str, otherwise: extern "C" fn() -> u32) -> *const c_void {
    match name {
        "cuGetErrorName" => errors::get_error_name as *const c_void,
        "cuGetErrorString" => errors::get_error_string as *const c_void,
        _ => otherwise as *const c_void,
    }
}

/// Stands in for a function when there is no driver: `CUDA_ERROR_NO_DEVICE`. All of the driver's functions return a
/// status, and none is told how many arguments its callers passed.
extern "C" fn no_device() -> u32 {
    100
}

/// Stands in for a function that the driver does not have: `CUDA_ERROR_NOT_FOUND`.
extern "C" fn not_found() -> u32 {
    500
}
