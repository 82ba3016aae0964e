//! Matrices of 8 x 8 sixteen-bit elements between shared memory and the registers of a warp (PTX `ldmatrix`, and from sm_90 on
//! `stmatrix`).

use super::Shared;

/// Defines one form of the instruction: `$n` matrices, plain or transposed.
macro_rules! ldmatrix {
    ($($(#[$doc:meta])* $name:ident, $n:literal, $transposed:literal, $ptx:literal, $list:literal, [$($r:ident)+];)*) => {
        $($(#[$doc])*
        ///
        /// All 32 lanes take part. A row is 16 bytes, aligned to 16.
        #[inline(always)]
        #[track_caller]
        pub fn $name(row: Shared<u8>) -> [u32; $n] {
            target! {
                gpu {
                    $(let $r: u32;)+
                    // Not `pure`: it stays before the branches that part of the warp takes, and after the writes it reads.
                    // SAFETY: reads the block's own shared memory; the whole warp is here (the function's rule).
                    unsafe {
                        core::arch::asm!(concat!($ptx, " ", $list, ", [{row}];"), $($r = out(reg32) $r,)+
                            row = in(reg32) row.addr(), options(readonly, nostack, preserves_flags));
                    }
                    [$($r),+]
                }
                cpu { model::ldmatrix($ptx, row, $transposed) }
            }
        })*
    };
}
ldmatrix! {
    /// Four matrices: lane 8i + j gives the address of row j of matrix i. Lane 4g + t gets in register i the elements 2t (low
    /// half) and 2t + 1 of row g of matrix i (PTX `ldmatrix.sync.aligned.m8n8.x4.shared.b16`).
    ldmatrix_x4, 4, false, "ldmatrix.sync.aligned.m8n8.x4.shared.b16", "{{{r0}, {r1}, {r2}, {r3}}}", [r0 r1 r2 r3];
    /// Two matrices, as [`ldmatrix_x4`] with the addresses of lanes 0 to 15; those of the others are not looked at (PTX
    /// `ldmatrix.sync.aligned.m8n8.x2.shared.b16`).
    ldmatrix_x2, 2, false, "ldmatrix.sync.aligned.m8n8.x2.shared.b16", "{{{r0}, {r1}}}", [r0 r1];
    /// One matrix, as [`ldmatrix_x4`] with the addresses of lanes 0 to 7; those of the others are not looked at (PTX
    /// `ldmatrix.sync.aligned.m8n8.x1.shared.b16`).
    ldmatrix_x1, 1, false, "ldmatrix.sync.aligned.m8n8.x1.shared.b16", "{{{r0}}}", [r0];
    /// [`ldmatrix_x4`] of the transposed matrices: lane 4g + t gets in register i column g's elements of rows 2t (low half) and
    /// 2t + 1 of matrix i (PTX `ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16`).
    ldmatrix_x4_trans, 4, true, "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "{{{r0}, {r1}, {r2}, {r3}}}", [r0 r1 r2 r3];
    /// [`ldmatrix_x2`] of the transposed matrices, as [`ldmatrix_x4_trans`] (PTX `ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16`).
    ldmatrix_x2_trans, 2, true, "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16", "{{{r0}, {r1}}}", [r0 r1];
    /// [`ldmatrix_x1`] of the transposed matrix, as [`ldmatrix_x4_trans`] (PTX `ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16`).
    ldmatrix_x1_trans, 1, true, "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16", "{{{r0}}}", [r0];
}

/// Defines one form of the instruction: `$n` matrices, plain or transposed.
macro_rules! stmatrix {
    ($($(#[$doc:meta])* $name:ident, $n:literal, $transposed:literal, $ptx:literal, $list:literal, [$($r:ident $i:literal)+];)*) => {
        $($(#[$doc])*
        ///
        /// All 32 lanes take part. A row is 16 bytes, aligned to 16. For copies and `wgmma` it is a plain store: they see it after
        /// [`crate::proxy::fence_async`]. sm_90 and later.
        #[inline(always)]
        #[track_caller]
        pub fn $name(row: Shared<u8>, registers: [u32; $n]) {
            target! {
                gpu {
                    // SAFETY: writes the block's own shared memory; the whole warp is here (the function's rule).
                    unsafe {
                        core::arch::asm!(concat!($ptx, " [{row}], ", $list, ";"), row = in(reg32) row.addr(),
                            $($r = in(reg32) registers[$i],)+ options(nostack, preserves_flags));
                    }
                }
                cpu { model::stmatrix($ptx, row, registers, $transposed) }
            }
        })*
    };
}
stmatrix! {
    /// Four matrices, where [`ldmatrix_x4`] finds them: lane 8i + j gives the address of row j of matrix i, and lane 4g + t has in
    /// register i the elements 2t (low half) and 2t + 1 of row g (PTX `stmatrix.sync.aligned.m8n8.x4.shared.b16`).
    stmatrix_x4, 4, false, "stmatrix.sync.aligned.m8n8.x4.shared.b16", "{{{r0}, {r1}, {r2}, {r3}}}", [r0 0 r1 1 r2 2 r3 3];
    /// Two matrices, as [`stmatrix_x4`] with the addresses of lanes 0 to 15; those of the others are not looked at (PTX
    /// `stmatrix.sync.aligned.m8n8.x2.shared.b16`).
    stmatrix_x2, 2, false, "stmatrix.sync.aligned.m8n8.x2.shared.b16", "{{{r0}, {r1}}}", [r0 0 r1 1];
    /// One matrix, as [`stmatrix_x4`] with the addresses of lanes 0 to 7; those of the others are not looked at (PTX
    /// `stmatrix.sync.aligned.m8n8.x1.shared.b16`).
    stmatrix_x1, 1, false, "stmatrix.sync.aligned.m8n8.x1.shared.b16", "{{{r0}}}", [r0 0];
    /// [`stmatrix_x4`] of the transposed matrices: lane 4g + t has in register i column g's elements of rows 2t (low half) and 2t + 1
    /// of matrix i (PTX `stmatrix.sync.aligned.m8n8.x4.trans.shared.b16`).
    stmatrix_x4_trans, 4, true, "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "{{{r0}, {r1}, {r2}, {r3}}}", [r0 0 r1 1 r2 2 r3 3];
    /// [`stmatrix_x2`] of the transposed matrices, as [`stmatrix_x4_trans`] (PTX `stmatrix.sync.aligned.m8n8.x2.trans.shared.b16`).
    stmatrix_x2_trans, 2, true, "stmatrix.sync.aligned.m8n8.x2.trans.shared.b16", "{{{r0}, {r1}}}", [r0 0 r1 1];
    /// [`stmatrix_x1`] of the transposed matrix, as [`stmatrix_x4_trans`] (PTX `stmatrix.sync.aligned.m8n8.x1.trans.shared.b16`).
    stmatrix_x1_trans, 1, true, "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16", "{{{r0}}}", [r0 0];
}

#[cfg(not(target_arch = "nvptx64"))]
mod model {
    use super::Shared;

    /// The addresses of the rows of `N` matrices in which a lane has elements: row g, or rows 2t and 2t + 1 of transposed ones.
    #[inline(always)]
    #[track_caller]
    fn rows<const N: usize>(op: &'static str, row: Shared<u8>, transposed: bool) -> [[u32; 2]; N] {
        let lane = crate::warp::lane_id();
        if (lane as usize) < 8 * N && !row.addr().is_multiple_of(16) {
            let message = format!("{op}: row address {} is no multiple of 16", row.addr());
            simt::ctx::fail(simt::ErrorKind::Misaligned, message);
        }
        simt::ctx::warp_exchange(op, u32::MAX, row.addr(), |lanes| {
            let (g, t) = (lane / 4, lane % 4);
            core::array::from_fn(|i| {
                let row = |j: u32| lanes.get(8 * i as u32 + j);
                if transposed {
                    [row(2 * t), row(2 * t + 1)]
                } else {
                    [row(g), 0]
                }
            })
        })
    }

    /// Each lane reads its own elements, so that the simulator's checks of shared memory see who reads what.
    #[inline(always)]
    #[track_caller]
    pub fn ldmatrix<const N: usize>(op: &'static str, row: Shared<u8>, transposed: bool) -> [u32; N] {
        let rows = rows::<N>(op, row, transposed);
        let (g, t) = (crate::warp::lane_id() / 4, crate::warp::lane_id() % 4);
        let mut registers = [0; N];
        for (register, [first, second]) in registers.iter_mut().zip(rows) {
            *register = if transposed {
                let element = |row: u32| u32::from(Shared::<u16>::at(row).add(g).load());
                element(first) | element(second) << 16
            } else {
                Shared::<u32>::at(first).add(t).load()
            };
        }
        registers
    }

    /// Each lane writes its own elements.
    #[inline(always)]
    #[track_caller]
    pub fn stmatrix<const N: usize>(op: &'static str, row: Shared<u8>, registers: [u32; N], transposed: bool) {
        let rows = rows::<N>(op, row, transposed);
        let (g, t) = (crate::warp::lane_id() / 4, crate::warp::lane_id() % 4);
        for (register, [first, second]) in registers.into_iter().zip(rows) {
            if transposed {
                Shared::<u16>::at(first).add(g).store(register as u16);
                Shared::<u16>::at(second).add(g).store((register >> 16) as u16);
            } else {
                Shared::<u32>::at(first).add(t).store(register);
            }
        }
    }
}
