//! Tensor cores by `mma.sync`.

/// `B` independent products D = A * B^T + C of signed bytes, 16 x 8 x 32, in exact 32-bit integers (wrapping), issued back
/// to back: PTX `mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32`. All 32 lanes take part. `B` is at most
/// 16: that much one rendezvous of the simulator carries.
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
    #[inline(always)]
    #[track_caller]
    pub fn m16n8k32_s8<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[i32; 4]; B]) -> [[i32; 4]; B] {
        const { assert!(B <= 16, "at most 16 products a call: what one rendezvous carries") };
        let lane = crate::warp::lane_id();
        let mut d = *c;
        simt::ctx::warp_exchange("mma.m16n8k32.s8", u32::MAX, (*a, *b), |lanes| {
            for (i, d) in d.iter_mut().enumerate() {
                accumulate(d, lane, |l| lanes.get(l).0[i], |l| lanes.get(l).1[i]);
            }
        });
        d
    }

    /// Adds a lane's four dot products; `a(l)` and `b(l)` are lane l's registers.
    #[inline(always)]
    fn accumulate(d: &mut [i32; 4], lane: u32, a: impl Fn(u32) -> [u32; 4], b: impl Fn(u32) -> [u32; 2]) {
        let (g, t) = (lane / 4, lane % 4);
        let mut rows = [[0i8; 32]; 2];
        let mut columns = [[0i8; 32]; 2];
        for i in 0..4 {
            let a = a(4 * g + i);
            for (j, row) in rows.iter_mut().enumerate() {
                put(row, i as usize, [a[j], a[2 + j]]);
            }
            for (j, column) in columns.iter_mut().enumerate() {
                put(column, i as usize, b(4 * (2 * t + j as u32) + i));
            }
        }
        for (i, d) in d.iter_mut().enumerate() {
            *d = d.wrapping_add(dot(&rows[i / 2], &columns[i % 2]));
        }
    }

    /// The two words of thread `t` of a group: bytes 4t..4t+4 of the lower and of the upper half.
    #[inline(always)]
    fn put(line: &mut [i8; 32], t: usize, words: [u32; 2]) {
        for (half, word) in words.into_iter().enumerate() {
            line[16 * half + 4 * t..][..4].copy_from_slice(&word.to_le_bytes().map(|b| b as i8));
        }
    }

    /// Dot product of 32 signed bytes. Over plain arrays, for the compiler to make vectors of.
    #[inline(always)]
    fn dot(a: &[i8; 32], b: &[i8; 32]) -> i32 {
        let mut sum = 0;
        for i in 0..32 {
            sum += i32::from(a[i]) * i32::from(b[i]);
        }
        sum
    }
}
