//! `#[kernel]` on the host: the handle, the entry, slices, options through a macro.

mod common;

use common::{Buffer, run_kernel};
use cuda_std::launch::{Kernel, KernelArg, KernelArgs};
use cuda_std::prelude::*;

mod family {
    use super::*;

    /// A parameter of the user's own.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct Scale {
        pub factor: f32,
        pub shift: i32,
    }
    // SAFETY: `repr(C)`, plain numbers, aligned to 4.
    unsafe impl KernelArg for Scale {}

    /// y = factor * x + shift.
    #[kernel(threads = 64, min_blocks = 2, allow_local = "only {here}")]
    pub unsafe fn scale(x: *const f32, y: *mut f32, n: u32, scale: Scale) {
        let i = thread::index_1d();
        if i < n {
            // SAFETY: the launch passes n elements each.
            unsafe {
                mem::store(
                    y.add(i as usize),
                    scale.factor * mem::load(x.add(i as usize)) + scale.shift as f32,
                )
            };
        }
    }

    /// Slices arrive with their own lengths; a parameter may be `mut`.
    #[kernel]
    pub unsafe fn slices(mut bias: u32, x: &[u32], y: &mut [u32]) {
        bias += 1;
        if thread::index_1d() == 0 {
            for (y, x) in y.iter_mut().zip(x) {
                *y = x + bias;
            }
        }
    }

    /// No parameters at all.
    #[kernel()]
    pub unsafe fn nothing() {}

    macro_rules! variants {
        ($($name:ident $threads:literal $blocks:literal $why:literal)*) => {
            $(/// One of several.
            #[kernel(threads = $threads, min_blocks = $blocks, allow_local = $why)]
            pub unsafe fn $name(y: *mut u32) {
                if thread::index_1d() == 0 {
                    // SAFETY: the launch passes one element.
                    unsafe { mem::store(y, $threads) };
                }
            })*
        };
    }
    variants! { v128 128 1 "first" v256 256 4 "second" }
}

#[test]
fn the_handle_knows_name_family_and_bounds() {
    let meta = family::scale::KERNEL.meta;
    assert_eq!(
        (meta.name, meta.family, meta.max_threads, meta.min_blocks),
        ("scale", "family", 64, 2)
    );
    let meta = family::slices::KERNEL.meta;
    assert_eq!((meta.name, meta.max_threads, meta.min_blocks), ("slices", 0, 0));
    let meta = family::v256::KERNEL.meta;
    assert_eq!(
        (meta.name, meta.family, meta.max_threads, meta.min_blocks),
        ("v256", "family", 256, 4)
    );
}

#[test]
fn the_types_are_those_of_the_launch() {
    let _: Kernel<(*const f32, *mut f32, u32, family::Scale)> = family::scale::KERNEL;
    let _: Kernel<(u32, *const u32, usize, *mut u32, usize)> = family::slices::KERNEL;
    let _: Kernel<()> = family::nothing::KERNEL;
}

#[test]
fn arguments_arrive() {
    let (x, y) = (Buffer::new(&[1.0f32, 2.0, -3.0]), Buffer::new(&[9.0f32; 4]));
    let args = (
        x.ptr().cast_const(),
        y.ptr(),
        3,
        family::Scale { factor: 0.5, shift: -7 },
    );
    run_kernel(&family::scale::KERNEL, 2, 2, &args).unwrap();
    assert_eq!(y.read(), [-6.5, -6.0, -8.5, 9.0]);
    run_kernel(&family::nothing::KERNEL, 1, 1, &()).unwrap();
    let cell = Buffer::new(&[0u32]);
    run_kernel(&family::v128::KERNEL, 1, 32, &(cell.ptr(),)).unwrap();
    assert_eq!(cell.read(), [128]);
}

#[test]
fn slices_are_pointer_and_length() {
    // Plain host memory will do: a slice is read past the simulator's checks.
    let (x, mut y) = ([1u32, 2, 3], [0u32; 5]);
    run_kernel(
        &family::slices::KERNEL,
        1,
        1,
        &(10, x.as_ptr(), x.len(), y.as_mut_ptr(), 2),
    )
    .unwrap();
    assert_eq!(y, [12, 13, 0, 0, 0]);
}

#[test]
fn pointers_to_sixteen_arguments() {
    let args = (
        0u32, 1u32, 2u32, 3u32, 4u32, 5u32, 6u32, 7u32, 8u32, 9u32, 10u32, 11u32, 12u32, 13u32, 14u32, 15u64,
    );
    args.with_pointers(|p| {
        assert_eq!(p.len(), 16);
        for (i, p) in p[..15].iter().enumerate() {
            // SAFETY: points to the tuple's u32 number i.
            assert_eq!(unsafe { *p.cast::<u32>() }, i as u32);
        }
        // SAFETY: points to the tuple's last, a u64.
        assert_eq!(unsafe { *p[15].cast::<u64>() }, 15);
    });
}
