//! The attribute `#[kernel]` of `cuda_std`, and the symbol names behind `shared_array!`. Use them through `cuda_std`.

mod kernel;
mod options;
mod shared;
mod wgmma;

use proc_macro::TokenStream;

/// Makes a function a kernel's entry: `#[kernel]` on `pub unsafe fn NAME(arguments..)`.
///
/// On the device it becomes the entry `NAME` of the PTX. On the host the function stays as it is, one simulated thread of
/// the kernel, and a module of the same name holds `NAME::KERNEL`, the typed handle that is launched.
///
/// A parameter is a number, a float, a raw pointer, a `repr(C)` struct that is a `KernelArg`, or a slice `&[T]`,
/// `&mut [T]`, which is launched as its pointer and its length (`usize`), or `&TensorMap` (`cuda_std::tma`), which is
/// launched as the tensor map itself: the launch copies its 128 bytes, and the kernel refers to that copy.
///
/// Options, all of them literals:
/// - `threads = 256`: no launch has more threads a block; ptxas may use registers accordingly.
/// - `min_blocks = 2`: ptxas keeps registers low enough for that many blocks on an SM. Needs `threads`.
/// - `archs = "sm_90a"`: the kernel is built for these architectures alone (names with commas between them), because it uses
///   instructions that only they have. All kernels of a module say the same. Without it a kernel is for all.
/// - `allow_local = "why"`: lets the build pass although the kernel uses local memory (stack or spills).
///
/// ```ignore
/// /// y += a * x.
/// #[kernel(threads = 256)]
/// pub unsafe fn axpy(a: f32, x: *const f32, y: *mut f32, n: u32) {
///     let i = thread::index_1d();
///     if i < n {
///         // SAFETY: the launch passes n elements each.
///         unsafe { mem::store(y.add(i as usize), a * mem::load(x.add(i as usize)) + mem::load(y.add(i as usize))) };
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn kernel(options: TokenStream, item: TokenStream) -> TokenStream {
    kernel::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// For `shared_array!` on the device: declares an array under a name of its own and gives its address.
#[doc(hidden)]
#[proc_macro]
pub fn __shared_symbol(input: TokenStream) -> TokenStream {
    shared::expand(input.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// For `cuda_std::wgmma`: the instruction for every number of columns.
#[doc(hidden)]
#[proc_macro]
pub fn __wgmma_forms(_: TokenStream) -> TokenStream {
    wgmma::expand().into()
}
