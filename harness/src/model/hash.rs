//! FNV-1a of 128 bits, as the build's source hash: tells contents apart so that two machines compare by eye, protects against nobody.

/// A hash in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fnv128(u128);

impl Default for Fnv128 {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv128 {
    /// Takes bytes in.
    pub fn bytes(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// Takes the bits of floats in, little-endian.
    pub fn floats(&mut self, values: &[f32]) {
        self.bytes(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// The hash of floats' bits.
    pub fn of(values: &[f32]) -> Self {
        let mut hash = Self::default();
        hash.floats(values);
        hash
    }
}

impl std::fmt::Display for Fnv128 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published values of the algorithm (draft-eastlake-fnv).
    #[test]
    fn it_is_fnv_1a() {
        assert_eq!(Fnv128::default().to_string(), "6c62272e07bb014262b821756295c58d");
        let mut a = Fnv128::default();
        a.bytes(*b"a");
        assert_eq!(a.to_string(), "d228cb696f1a8caf78912b704e4a8964");
    }

    #[test]
    fn one_bit_and_the_sign_of_zero_count() {
        assert_ne!(Fnv128::of(&[0.0, 1.0]), Fnv128::of(&[-0.0, 1.0]));
        assert_ne!(Fnv128::of(&[1.0]), Fnv128::of(&[f32::from_bits(1.0_f32.to_bits() ^ 1)]));
    }
}
