//! Address spaces of pointers, with Rust-CUDA's names. On the CPU there is one space, and every pointer is global.

/// The memories that a generic pointer can point into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSpace {
    /// Device memory.
    Global,
    /// The block's shared memory.
    Shared,
    /// Constant memory.
    Constant,
    /// The thread's own (spilled) memory.
    Local,
}

/// Whether a generic pointer points into `space`.
///
/// # Safety
/// `ptr` is a generic pointer (what Rust code has), not the result of a conversion to a specific space.
#[inline(always)]
pub unsafe fn is_in_address_space<T>(ptr: *const T, space: AddressSpace) -> bool {
    target! {
        gpu {
            macro_rules! isspacep {
                ($name:literal) => {{
                    let hit: u32;
                    // SAFETY: looks at the address only.
                    unsafe {
                        core::arch::asm!("{{", ".reg .pred p;", concat!("isspacep.", $name, " p, {p};"),
                            "selp.u32 {hit}, 1, 0, p;", "}}", p = in(reg64) ptr, hit = out(reg32) hit,
                            options(pure, nomem, nostack, preserves_flags));
                    }
                    hit != 0
                }};
            }
            match space {
                AddressSpace::Global => isspacep!("global"),
                AddressSpace::Shared => isspacep!("shared"),
                AddressSpace::Constant => isspacep!("const"),
                AddressSpace::Local => isspacep!("local"),
            }
        }
        cpu {
            let _ = ptr;
            space == AddressSpace::Global
        }
    }
}

/// The address within `space` of what a generic pointer points to (PTX `cvta.to`).
///
/// # Safety
/// The pointer points into `space`. The result must not be dereferenced by Rust code.
#[inline(always)]
pub unsafe fn convert_generic_to_specific_address_space<T>(ptr: *const T, space: AddressSpace) -> *const T {
    target! { gpu { cvta!("cvta.to.", ptr, space) } cpu { let _ = space; ptr } }
}

/// The generic pointer of an address within `space` (PTX `cvta`).
///
/// # Safety
/// The address is one within `space`.
#[inline(always)]
pub unsafe fn convert_specific_address_space_to_generic<T>(ptr: *const T, space: AddressSpace) -> *const T {
    target! { gpu { cvta!("cvta.", ptr, space) } cpu { let _ = space; ptr } }
}

#[cfg(target_arch = "nvptx64")]
macro_rules! cvta {
    ($op:literal, $ptr:ident, $space:ident) => {
        cvta!(@ $op, $ptr, $space, Global "global", Shared "shared", Constant "const", Local "local")
    };
    (@ $op:literal, $ptr:ident, $space:ident, $($variant:ident $name:literal),*) => {
        match $space {
            $(AddressSpace::$variant => {
                let out: *const T;
                // SAFETY: computes an address only.
                unsafe {
                    core::arch::asm!(concat!($op, $name, ".u64 {}, {};"), out(reg64) out, in(reg64) $ptr,
                        options(pure, nomem, nostack, preserves_flags));
                }
                out
            })*
        }
    };
}
#[cfg(target_arch = "nvptx64")]
use cvta;
