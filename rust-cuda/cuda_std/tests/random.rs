//! Philox against the known answers that Random123 ships (`kat_vectors`, philox4x32 10).

use cuda_std::random::philox4x32_10;

#[test]
fn philox_gives_the_published_vectors() {
    let ones = u32::MAX;
    assert_eq!(
        philox4x32_10([0; 4], [0; 2]),
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
    );
    assert_eq!(
        philox4x32_10([ones; 4], [ones; 2]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    // Digits of pi.
    assert_eq!(
        philox4x32_10(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0]
        ),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

#[test]
fn every_word_of_counter_and_key_counts() {
    let base = philox4x32_10([1, 2, 3, 4], [5, 6]);
    for i in 0..4 {
        let mut counter = [1, 2, 3, 4];
        counter[i] ^= 1;
        assert_ne!(philox4x32_10(counter, [5, 6]), base, "counter word {i}");
    }
    assert_ne!(philox4x32_10([1, 2, 3, 4], [4, 6]), base);
    assert_ne!(philox4x32_10([1, 2, 3, 4], [5, 7]), base);
}
