//! Tensor cores by `mma.sync`.

/// `B` independent products D = A * B^T + C of signed bytes, 16 x 8 x 32, in exact 32-bit integers (wrapping), issued back
/// to back: PTX `mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32`. All 32 lanes take part; one rendezvous on the CPU for
/// each few products.
///
/// With lane = 4 * g + t (g in 0..8, t in 0..4), little-endian bytes in a register:
///
/// | register | holds |
/// | --- | --- |
/// | `a[i][0]`, `a[i][1]` | A, rows g and g + 8, columns (k) 4t..4t+4 |
/// | `a[i][2]`, `a[i][3]` | the same rows, k 16+4t..16+4t+4 |
/// | `b[i][0]`, `b[i][1]` | B, column g, k 4t..4t+4 and 16+4t..16+4t+4 |
/// | `c[i][0]`, `c[i][1]` | C and D, row g, columns 2t and 2t + 1 |
/// | `c[i][2]`, `c[i][3]` | row g + 8, columns 2t and 2t + 1 |
#[inline(always)]
#[track_caller]
pub fn m16n8k32_s8<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[i32; 4]; B]) -> [[i32; 4]; B] {
    target! {
        gpu {
            let mut d = *c;
            let mut i = 0;
            while i < B {
                let ([a0, a1, a2, a3], [b0, b1], [c0, c1, c2, c3]) = (a[i], b[i], c[i]);
                let (d0, d1, d2, d3): (i32, i32, i32, i32);
                // LLVM's intrinsic for this is not convergent: LLVM may sink it into a branch that only some lanes take.
                // So it is an `asm!`, and not `pure`, which keeps it where it is even before the builder marks it.
                // SAFETY: works on registers; the whole warp is here (the function's rule).
                unsafe {
                    core::arch::asm!(
                        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {{{d0}, {d1}, {d2}, {d3}}}, {{{a0}, {a1}, {a2}, {a3}}}, \
                         {{{b0}, {b1}}}, {{{c0}, {c1}, {c2}, {c3}}};",
                        d0 = out(reg32) d0, d1 = out(reg32) d1, d2 = out(reg32) d2, d3 = out(reg32) d3,
                        a0 = in(reg32) a0, a1 = in(reg32) a1, a2 = in(reg32) a2, a3 = in(reg32) a3,
                        b0 = in(reg32) b0, b1 = in(reg32) b1,
                        c0 = in(reg32) c0, c1 = in(reg32) c1, c2 = in(reg32) c2, c3 = in(reg32) c3,
                        options(nomem, nostack, preserves_flags)
                    );
                }
                d[i] = [d0, d1, d2, d3];
                i += 1;
            }
            d
        }
        cpu { model::m16n8k32_s8(a, b, c) }
    }
}

#[cfg(not(target_arch = "nvptx64"))]
mod model {
    /// What a lane shows the others for two products: 48 bytes, within what a rendezvous carries.
    type Operands = [([u32; 4], [u32; 2]); 2];

    #[track_caller]
    pub fn m16n8k32_s8<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[i32; 4]; B]) -> [[i32; 4]; B] {
        let lane = crate::warp::lane_id();
        let mut d = *c;
        for first in (0..B).step_by(2) {
            let second = (first + 1).min(B - 1);
            let mine: Operands = [(a[first], b[first]), (a[second], b[second])];
            simt::ctx::warp_exchange("mma.m16n8k32.s8", u32::MAX, mine, |lanes| {
                for (slot, d) in d[first..].iter_mut().take(2).enumerate() {
                    accumulate(d, lane, |l| lanes.get(l)[slot]);
                }
            });
        }
        d
    }

    /// Adds a lane's four dot products; `operands(l)` are lane l's registers.
    #[inline(always)]
    fn accumulate(d: &mut [i32; 4], lane: u32, operands: impl Fn(u32) -> ([u32; 4], [u32; 2])) {
        let (g, t) = (lane / 4, lane % 4);
        let mut rows = [[0u32; 8]; 2];
        let mut columns = [[0u32; 8]; 2];
        for i in 0..4usize {
            let a = operands(4 * g + i as u32).0;
            (rows[0][i], rows[1][i], rows[0][4 + i], rows[1][4 + i]) = (a[0], a[1], a[2], a[3]);
            for (j, column) in columns.iter_mut().enumerate() {
                let b = operands(4 * (2 * t + j as u32) + i as u32).1;
                (column[i], column[4 + i]) = (b[0], b[1]);
            }
        }
        for (i, d) in d.iter_mut().enumerate() {
            *d = d.wrapping_add(dot(&rows[i / 2], &columns[i % 2]));
        }
    }

    /// Dot product of 32 signed bytes.
    #[inline(always)]
    fn dot(a: &[u32; 8], b: &[u32; 8]) -> i32 {
        let mut sum = 0;
        for (a, b) in a.iter().zip(b) {
            for (a, b) in a.to_le_bytes().into_iter().zip(b.to_le_bytes()) {
                sum += i32::from(a as i8) * i32::from(b as i8);
            }
        }
        sum
    }
}
