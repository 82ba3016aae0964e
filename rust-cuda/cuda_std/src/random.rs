//! Random numbers by counter: the same for any number of threads, and without a state to keep.

/// Philox4x32-10: four random words of a counter and a key. Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
/// as easy as 1, 2, 3", 2011; checked against the vectors that its authors publish with Random123.
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    // The words by name: an array that a loop rewrites could end up in local memory.
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k, mut l] = key;
    let mut round = 0;
    while round < 10 {
        let (p, q) = (0xD251_1F53 * a as u64, 0xCD9E_8D57 * c as u64);
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ k, q as u32, (p >> 32) as u32 ^ d ^ l, p as u32);
        // The golden ratio and sqrt(3) - 1.
        k = k.wrapping_add(0x9E37_79B9);
        l = l.wrapping_add(0xBB67_AE85);
        round += 1;
    }
    [a, b, c, d]
}
