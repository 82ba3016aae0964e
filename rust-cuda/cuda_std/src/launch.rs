//! The host's side of a kernel: its typed handle, made by [`#[kernel]`](crate::kernel), and the arguments of a launch in
//! the shape both back ends take. On the device only [`KernelArg`] remains.

#[cfg(not(target_arch = "nvptx64"))]
#[doc(hidden)]
pub use host_side::family;
#[cfg(not(target_arch = "nvptx64"))]
pub use host_side::{Kernel, KernelArgs, KernelMeta};

/// A type that may be a kernel's parameter: plain bytes that mean the same on host and device, aligned to at most 16
/// (but for [`crate::tma::TensorMap`], which `#[kernel]` passes in a way of its own).
///
/// Numbers, `half`'s floats, raw pointers and the vectors of [`crate::vec`] are; a struct of the user's own may be made one.
///
/// # Safety
/// The type is `repr(C)` (or primitive), holds no reference to host memory, and is aligned to at most 16 bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a kernel parameter",
    label = "not a kernel parameter",
    note = "use integers, floats, raw pointers, slices of them, or `unsafe impl cuda_std::launch::KernelArg` for a `repr(C)` struct"
)]
pub unsafe trait KernelArg: Copy {}

macro_rules! kernel_arg {
    ($($t:ty)*) => {
        // SAFETY: plain values with the same bytes on both sides.
        $(unsafe impl KernelArg for $t {})*
    };
}
kernel_arg!(u8 i8 u16 i16 u32 i32 u64 i64 usize isize f32 f64 half::f16 half::bf16);
kernel_arg!(crate::U32x2 crate::U32x4 crate::F32x2 crate::F32x4);
// SAFETY: an address of device memory is the same number on both sides.
unsafe impl<T> KernelArg for *const T {}
// SAFETY: as above.
unsafe impl<T> KernelArg for *mut T {}

/// For [`#[kernel]`](crate::kernel): refuses a parameter type at its own place in the source.
#[doc(hidden)]
pub const fn assert_kernel_arg<T: KernelArg>() {}

#[cfg(not(target_arch = "nvptx64"))]
mod host_side {
    use super::KernelArg;
    use core::ffi::c_void;
    use core::marker::PhantomData;

    /// What is known of a kernel without its argument types.
    #[derive(Clone, Copy, Debug)]
    pub struct KernelMeta {
        /// The entry's name in the PTX.
        pub name: &'static str,
        /// The kernel's module, its last path segment: kernels of one family are built into one image.
        pub family: &'static str,
        /// The block's threads as `#[kernel(threads = ..)]` promised them, the most a launch may have; 0 if unset.
        pub max_threads: u32,
        /// The blocks of an SM that registers are limited for, `#[kernel(min_blocks = ..)]`; 0 if unset.
        pub min_blocks: u32,
        /// The architectures the kernel is built for, `#[kernel(archs = "sm_90a")]`; empty where it is built for all.
        pub archs: &'static [&'static str],
        /// Runs one simulated thread: takes the array that `cuLaunchKernel` takes, one pointer a parameter.
        pub entry: unsafe fn(*const *const c_void),
    }

    /// A kernel whose parameters, as launched, are the tuple `A`: a slice counts as its pointer and its `usize` length.
    pub struct Kernel<A> {
        /// Name, family and bounds.
        pub meta: KernelMeta,
        args: PhantomData<fn(A)>,
    }

    impl<A> Kernel<A> {
        /// For `#[kernel]` only: `meta.entry` has to read parameters of the types `A`.
        #[doc(hidden)]
        pub const fn new(meta: KernelMeta) -> Self {
            Self {
                meta,
                args: PhantomData,
            }
        }
    }

    /// For `#[kernel]` only: the family of a kernel, from the `module_path!()` of its own module `..::family::kernel`.
    #[doc(hidden)]
    pub const fn family(path: &'static str) -> &'static str {
        let bytes = path.as_bytes();
        let mut end = bytes.len();
        while bytes[end - 1] != b':' {
            end -= 1;
        }
        end -= 2;
        let mut start = end;
        while start > 0 && bytes[start - 1] != b':' {
            start -= 1;
        }
        path.split_at(end).0.split_at(start).1
    }

    impl<A> Clone for Kernel<A> {
        fn clone(&self) -> Self {
            *self
        }
    }
    impl<A> Copy for Kernel<A> {}
    impl<A> core::fmt::Debug for Kernel<A> {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            self.meta.fmt(f)
        }
    }

    /// A tuple of kernel arguments, at most 16.
    pub trait KernelArgs {
        /// Calls `f` with one pointer to each argument, in order: `kernelParams` of `cuLaunchKernel`, and what
        /// [`KernelMeta::entry`] takes. The pointers hold during the call only.
        fn with_pointers<R>(&self, f: impl FnOnce(&[*mut c_void]) -> R) -> R;
    }

    macro_rules! kernel_args {
        ($($name:ident $index:tt),*) => {
            impl<$($name: KernelArg),*> KernelArgs for ($($name,)*) {
                fn with_pointers<R>(&self, f: impl FnOnce(&[*mut c_void]) -> R) -> R {
                    f(&[$((&raw const self.$index).cast_mut().cast()),*])
                }
            }
        };
    }
    kernel_args!();
    kernel_args!(A 0);
    kernel_args!(A 0, B 1);
    kernel_args!(A 0, B 1, C 2);
    kernel_args!(A 0, B 1, C 2, D 3);
    kernel_args!(A 0, B 1, C 2, D 3, E 4);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14);
    kernel_args!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15);
}
