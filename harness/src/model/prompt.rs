//! Prompts that nobody wrote: seeded tokens.

/// `count` token ids below `vocab`, the same for the same seed (splitmix64).
pub fn made_up(seed: u64, count: usize, vocab: u32) -> Vec<u32> {
    let mut state = seed
        .wrapping_mul(0xD129_0B26_88FF_1F33)
        .wrapping_add(0x5851_F42D_4C95_7F2D);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (0..count).map(|_| (next() % u64::from(vocab.max(1))) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::made_up;

    #[test]
    fn seeds_differ_and_ids_are_in_the_vocabulary() {
        let (a, b) = (made_up(1, 64, 500), made_up(2, 64, 500));
        assert!(a != b && a == made_up(1, 64, 500) && a[..32] == made_up(1, 32, 500)[..]);
        assert!(a.iter().chain(&b).all(|&id| id < 500));
    }
}
