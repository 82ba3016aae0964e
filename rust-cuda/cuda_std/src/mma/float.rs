//! Products of 16-bit floats, accumulated in f32.

/// Defines the product of one type of factors.
macro_rules! m16n8k16 {
    ($(#[$doc:meta])* $name:ident, $ptx:literal, $format:ident) => {
        $(#[$doc])*
        ///
        /// All 32 lanes take part. `B` is at most 16: that much one rendezvous of the simulator carries.
        ///
        /// With lane = 4 * g + t (g in 0..8, t in 0..4), the lower half of a register first:
        ///
        /// | register | holds |
        /// | --- | --- |
        /// | `a[i][0]`, `a[i][1]` | A, rows g and g + 8, columns (k) 2t and 2t + 1 |
        /// | `a[i][2]`, `a[i][3]` | the same rows, k 8+2t and 8+2t+1 |
        /// | `b[i][0]`, `b[i][1]` | B, column g, k 2t, 2t + 1 and 8+2t, 8+2t+1 |
        /// | `c[i][0]`, `c[i][1]` | C and D, row g, columns 2t and 2t + 1 |
        /// | `c[i][2]`, `c[i][3]` | row g + 8, columns 2t and 2t + 1 |
        ///
        /// So `a[i]` is `ldmatrix_x4` of the row-major A at (rows 0..8, k 0..8), (8..16, 0..8), (0..8, 8..16), (8..16, 8..16),
        /// and `b[i]` is `ldmatrix_x2` of B^T stored `[n][k]`, at k 0..8 and 8..16.
        #[inline(always)]
        #[track_caller]
        pub fn $name<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[f32; 4]; B]) -> [[f32; 4]; B] {
            target! {
                gpu {
                    let mut d = *c;
                    let mut i = 0;
                    while i < B {
                        let ([a0, a1, a2, a3], [b0, b1], [c0, c1, c2, c3]) = (a[i], b[i], c[i]);
                        let (d0, d1, d2, d3): (f32, f32, f32, f32);
                        // Not `pure`, as for the bytes: it stays where it is, before branches that part of the warp takes.
                        // SAFETY: works on registers; the whole warp is here (the function's rule).
                        unsafe {
                            core::arch::asm!(
                                concat!($ptx, " {{{d0}, {d1}, {d2}, {d3}}}, {{{a0}, {a1}, {a2}, {a3}}}, {{{b0}, {b1}}}, \
                                 {{{c0}, {c1}, {c2}, {c3}}};"),
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
                cpu { model::m16n8k16($ptx, simt::tensor::Format::$format, a, b, c) }
            }
        }
    };
}

m16n8k16! {
    /// `B` independent products D = A * B^T + C of `bf16`, 16 x 8 x 16, accumulated in f32, issued back to back: PTX
    /// `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32`.
    m16n8k16_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", Bf16
}
m16n8k16! {
    /// `B` independent products D = A * B^T + C of `f16`, 16 x 8 x 16, accumulated in f32, issued back to back: PTX
    /// `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32`.
    m16n8k16_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", F16
}

#[cfg(not(target_arch = "nvptx64"))]
mod model {
    use simt::tensor::{self, Format};

    /// What one lane brings; its D replaces its C.
    #[derive(Clone, Copy)]
    struct Registers<const B: usize> {
        a: [[u32; 4]; B],
        b: [[u32; 2]; B],
        c: [[f32; 4]; B],
    }

    #[inline(always)]
    #[track_caller]
    pub fn m16n8k16<const B: usize>(
        op: &'static str,
        format: Format,
        a: &[[u32; 4]; B],
        b: &[[u32; 2]; B],
        c: &[[f32; 4]; B],
    ) -> [[f32; 4]; B] {
        const { assert!(B <= 16, "at most 16 products a call: what one rendezvous carries") };
        let mine = Registers { a: *a, b: *b, c: *c };
        simt::ctx::warp_together(op, mine, |lanes| {
            for i in 0..B {
                one_of(format, i, lanes);
            }
        })
        .c
    }

    /// Product `i` of the whole warp, between registers and plain matrices.
    fn one_of<const B: usize>(format: Format, i: usize, lanes: &mut [Registers<B>; 32]) {
        let halves = |register: u32| [register as u16, (register >> 16) as u16];
        let (mut a, mut b, mut c) = ([[0; 16]; 16], [[0; 16]; 8], [[0.0; 8]; 16]);
        for (lane, r) in lanes.iter().enumerate() {
            let (g, t) = (lane / 4, lane % 4);
            for (j, register) in r.a[i].into_iter().enumerate() {
                a[g + 8 * (j % 2)][8 * (j / 2) + 2 * t..][..2].copy_from_slice(&halves(register));
            }
            for (j, register) in r.b[i].into_iter().enumerate() {
                b[g][8 * j + 2 * t..][..2].copy_from_slice(&halves(register));
            }
            c[g][2 * t..][..2].copy_from_slice(&r.c[i][..2]);
            c[g + 8][2 * t..][..2].copy_from_slice(&r.c[i][2..]);
        }
        let d = tensor::m16n8k16(simt::ctx::tensor_core(), format, &a, &b, &c);
        for (lane, r) in lanes.iter_mut().enumerate() {
            let (g, t) = (lane / 4, lane % 4);
            r.c[i] = [d[g][2 * t], d[g][2 * t + 1], d[g + 8][2 * t], d[g + 8][2 * t + 1]];
        }
    }
}
