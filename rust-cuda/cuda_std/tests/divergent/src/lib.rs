//! Every kind of collective of `cuda_std`, called where an optimiser would like to change who reaches it: between two branches on
//! one condition, of which it would make two paths with a copy of the call in each; and with a result that only some lanes use,
//! to whose branch it would move the call.
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(abi_ptx, asm_experimental_arch, stdarch_nvptx))]
#![cfg_attr(target_arch = "nvptx64", allow(improper_ctypes_definitions))]

/// Collectives between two branches.
pub mod between {
    use cuda_std::mma::{m16n8k16_bf16, m16n8k16_f16, m16n8k32_s8};
    use cuda_std::{kernel, mem, shared, thread, warp};

    macro_rules! between {
        ($($name:ident($i:ident) $call:expr;)*) => {$(
            /// One call for both sides.
            ///
            /// # Safety
            /// `y` has 4 elements a thread.
            #[kernel(threads = 64)]
            pub unsafe fn $name(y: *mut u32, limit: u32) {
                let $i = thread::index_1d();
                let low = $i < limit;
                // SAFETY: by contract; every thread reaches the call.
                unsafe {
                    let y = y.add(4 * $i as usize);
                    if low {
                        mem::store(y, 1);
                    }
                    let value = $call;
                    if low {
                        mem::store(y.add(1), value);
                    } else {
                        mem::store(y.add(2), value + 1);
                    }
                }
            }
        )*};
    }

    between! {
        between_sync_threads(_i) { thread::sync_threads(); 2 };
        between_sync_threads_count(i) thread::sync_threads_count(i & 1);
        between_barrier_sync(_i) { thread::barrier_sync::<1>(64); 2 };
        between_barrier_arrive(_i) { thread::barrier_arrive::<2>(128); 2 };
        between_sync_warp(_i) { warp::sync(); 2 };
        between_copy_async_wait(_i) { shared::copy_async_wait::<0>(); thread::sync_threads(); 2 };
        between_shuffle(i) warp::shuffle_xor(i, 1);
        between_ballot(i) warp::ballot(i & 1 == 0);
        between_match(i) warp::match_any(i / 3);
        between_mma(i) m16n8k32_s8(&[[i; 4]], &[[i; 2]], &[[0; 4]])[0][0] as u32;
        between_mma_bf16(i) m16n8k16_bf16(&[[i; 4]], &[[i; 2]], &[[0.0; 4]])[0][0].to_bits();
        between_mma_f16(i) m16n8k16_f16(&[[i; 4]], &[[i; 2]], &[[0.0; 4]])[0][0].to_bits();
        between_ldmatrix(i) shared::ldmatrix_x4(shared::dynamic().add(i * 16))[0];
        between_ldmatrix_trans(i) shared::ldmatrix_x1_trans(shared::dynamic().add(i * 16))[0];
    }
}

/// Collectives whose result only some lanes use.
pub mod used {
    use cuda_std::mma::{m16n8k16_bf16, m16n8k16_f16, m16n8k32_s8};
    use cuda_std::{kernel, mem, shared, thread, warp};

    macro_rules! used {
        ($($name:ident($i:ident) $value:expr;)*) => {$(
            /// One call by all lanes, one store by some.
            ///
            /// # Safety
            /// `y` has an element a thread.
            #[kernel(threads = 64)]
            pub unsafe fn $name(y: *mut u32, limit: u32) {
                let $i = thread::index_1d();
                let value = $value;
                if $i < limit {
                    // SAFETY: by contract.
                    unsafe { mem::store(y.add($i as usize), value) };
                }
            }
        )*};
    }

    used! {
        used_sync_threads_count(i) thread::sync_threads_count(i & 1);
        used_shuffle(i) warp::shuffle_xor(i, 1);
        used_ballot(i) warp::ballot(i & 1 == 0);
        used_match(i) warp::match_any(i / 3);
        used_mma(i) m16n8k32_s8(&[[i; 4]], &[[i; 2]], &[[0; 4]])[0][0] as u32;
        used_mma_bf16(i) m16n8k16_bf16(&[[i; 4]], &[[i; 2]], &[[0.0; 4]])[0][0].to_bits();
        used_mma_f16(i) m16n8k16_f16(&[[i; 4]], &[[i; 2]], &[[0.0; 4]])[0][0].to_bits();
        used_ldmatrix(i) shared::ldmatrix_x4(shared::dynamic().add(i * 16))[0];
        used_ldmatrix_trans(i) shared::ldmatrix_x1_trans(shared::dynamic().add(i * 16))[0];
    }
}
