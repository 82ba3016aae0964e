//! Integer instructions that Rust has no operator for.

/// Sum of the four products of signed bytes of `a` and `b`, added to `c` (wrapping): PTX `dp4a.s32.s32`.
#[inline(always)]
pub fn dp4a_s8(a: u32, b: u32, c: i32) -> i32 {
    target! {
        gpu {
            let d: i32;
            // SAFETY: dp4a reads and writes registers only.
            unsafe {
                core::arch::asm!("dp4a.s32.s32 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b, in(reg32) c,
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu {
            let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
            let mut sum = 0i32;
            for i in 0..4 {
                sum += i32::from(a[i] as i8) * i32::from(b[i] as i8);
            }
            c.wrapping_add(sum)
        }
    }
}

/// Sum of the four products of unsigned bytes of `a` and `b`, added to `c` (wrapping): PTX `dp4a.u32.u32`.
#[inline(always)]
pub fn dp4a_u8(a: u32, b: u32, c: u32) -> u32 {
    target! {
        gpu {
            let d: u32;
            // SAFETY: dp4a reads and writes registers only.
            unsafe {
                core::arch::asm!("dp4a.u32.u32 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b, in(reg32) c,
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu {
            let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
            let mut sum = 0u32;
            for i in 0..4 {
                sum += u32::from(a[i]) * u32::from(b[i]);
            }
            c.wrapping_add(sum)
        }
    }
}

/// Four bytes picked from the eight of `b:a` (`a` holds bytes 0..4): PTX `prmt.b32` in its default mode. Nibble `i` of
/// `selector` names the source of byte `i`; its top bit replicates that byte's sign bit instead.
#[inline(always)]
pub fn byte_permute(a: u32, b: u32, selector: u32) -> u32 {
    target! {
        gpu {
            let d: u32;
            // SAFETY: prmt reads and writes registers only.
            unsafe {
                core::arch::asm!("prmt.b32 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b, in(reg32) selector,
                    options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
        cpu {
            let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
            let mut out = [0u8; 4];
            for (i, o) in out.iter_mut().enumerate() {
                let nibble = selector >> (4 * i) & 15;
                let byte = bytes[(nibble & 7) as usize];
                *o = if nibble & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
            }
            u32::from_le_bytes(out)
        }
    }
}
