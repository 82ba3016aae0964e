//! The descriptor of an operand of `wgmma` in shared memory (PTX ISA, "Matrix descriptor format" of `wgmma.mma_async`), and where its
//! bytes lie.
//!
//! An operand is a tile of rows with k innermost, of which an instruction takes 32 bytes a row: two chunks of 16. The hardware
//! permutes the bits of addresses, not rows of a tile; so a tile that does not start where its swizzle repeats reads other bytes
//! than a tensor copy wrote, and that is an error here.

use crate::tma::Swizzle;

/// Addresses have 18 bits.
const ADDRESS: u32 = (1 << 18) - 1;

/// A decoded descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    start: u32,
    /// Bytes to the next 16 of k, without a swizzle.
    leading: u32,
    /// Bytes to the next 8 rows.
    stride: u32,
    pub swizzle: Swizzle,
}

impl Operand {
    /// Decodes PTX's 64 bits for an operand with k innermost.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn decode(bits: u64) -> Result<Operand, String> {
        let field = |low: u32| ((bits >> low & 0x3fff) << 4) as u32;
        let code = bits >> 62;
        let swizzle = [Swizzle::None, Swizzle::B128, Swizzle::B64, Swizzle::B32][code as usize];
        let operand = Operand {
            start: field(0),
            leading: field(16),
            stride: field(32),
            swizzle,
        };
        let zeros = bits & !(0x3fff | 0x3fff << 16 | 0x3fff << 32 | 7 << 49 | 3 << 62);
        if zeros != 0 {
            return Err(format!(
                "descriptor {bits:#018x}: the bits {zeros:#x} have to be 0 (an offset that overflowed its field?)"
            ));
        }
        if bits >> 49 & 7 != 0 {
            return Err(format!(
                "descriptor {bits:#018x}: base offset {}: only tiles that start where their swizzle repeats are simulated",
                bits >> 49 & 7
            ));
        }
        let Some(span) = swizzle.span() else {
            return Ok(operand);
        };
        let (start, atom) = (operand.start, swizzle.atom());
        if start % atom >= span {
            return Err(format!(
                "a tile at {start:#x} with {swizzle}: it must start at a multiple of {atom} bytes (its k up to {span} bytes further \
                 on)"
            ));
        }
        if start % span + 32 > span {
            return Err(format!(
                "a tile at {start:#x} with {swizzle}: 32 bytes of k from byte {} on leave the row of {span} bytes",
                start % span
            ));
        }
        Ok(operand)
    }

    /// The address of 16 bytes of a row: `half` 0 or 1 of its 32.
    #[inline]
    pub(crate) fn chunk(&self, row: u32, half: u32) -> u32 {
        let (pitch, leading) = match self.swizzle.span() {
            None => (16, self.leading),
            Some(span) => (span, 16),
        };
        let plain = self.start + row / 8 * self.stride + row % 8 * pitch + half * leading;
        self.swizzle.apply(plain) & ADDRESS
    }
}

#[cfg(test)]
mod tests {
    use super::{Operand, Swizzle};

    fn bits(start: u32, leading: u32, stride: u32, code: u64) -> u64 {
        u64::from(start >> 4) | u64::from(leading >> 4) << 16 | u64::from(stride >> 4) << 32 | code << 62
    }

    /// Row r of 128 bytes at 128 r, chunk c at c ^ (r & 7): the picture of the programming guide, from the second k16 on.
    #[test]
    fn rows_of_128_bytes() {
        let x = Operand::decode(bits(0x2000 + 32, 16, 1024, 1)).unwrap();
        for row in 0..64 {
            for half in 0..2 {
                assert_eq!(x.chunk(row, half), 0x2000 + 128 * row + 16 * ((2 + half) ^ (row & 7)));
            }
        }
    }

    #[test]
    fn shorter_rows() {
        let x = Operand::decode(bits(0x1200 + 32, 16, 512, 2)).unwrap();
        for row in 0..32 {
            assert_eq!(x.chunk(row, 1), 0x1200 + 64 * row + 16 * (3 ^ (row / 2 % 4)));
        }
        let x = Operand::decode(bits(0x1100, 16, 256, 3)).unwrap();
        for row in 0..32 {
            assert_eq!(x.chunk(row, 1), 0x1100 + 32 * row + 16 * (1 ^ (row / 4 % 2)));
        }
    }

    /// Matrices of 8 rows of 16 bytes, the next k 1 KiB further on, the next rows 128 bytes.
    #[test]
    fn matrices_without_a_swizzle() {
        let x = Operand::decode(bits(0x80, 1024, 128, 0)).unwrap();
        assert_eq!(x.swizzle, Swizzle::None);
        for row in 0..64 {
            assert_eq!(x.chunk(row, 0), 0x80 + 16 * row);
            assert_eq!(x.chunk(row, 1), 0x80 + 1024 + 16 * row);
        }
    }

    #[test]
    fn what_is_refused() {
        let refused = |bits: u64, why: &str| {
            let message = Operand::decode(bits).unwrap_err();
            assert!(message.contains(why), "{message}");
        };
        refused(bits(0x2080, 16, 1024, 1), "must start at a multiple of 1024");
        refused(bits(0x2200, 16, 1024, 1), "must start at a multiple of 1024");
        refused(bits(0x2100, 16, 512, 2), "must start at a multiple of 512");
        refused(bits(0x2000 + 112, 16, 1024, 1), "leave the row of 128 bytes");
        refused(bits(0x2000 + 48, 16, 512, 2), "leave the row of 64 bytes");
        refused(bits(0x2010, 16, 256, 3), "leave the row of 32 bytes");
        refused(bits(0x2000, 16, 1024, 1) | 2 << 49, "base offset 2");
        refused(bits(0x2000, 16, 1024, 1) | 1 << 14, "have to be 0");
    }
}
