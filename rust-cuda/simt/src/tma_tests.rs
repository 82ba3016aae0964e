//! Tensor maps: encoding, every rule of `check`, and swizzles against their pictures in CUDA's programming guide.

use super::{Map, Swizzle};

/// A map that is right: 100 x 50 x 7 elements of 2 bytes, tiles of 64 x 16 x 2.
fn good() -> Map {
    Map {
        base: 0x7000_0000,
        element_bytes: 2,
        rank: 3,
        sizes: [100, 50, 7],
        strides: [208, 208 * 50],
        tile: [64, 16, 2],
        swizzle: Swizzle::B128,
    }
}

#[test]
fn what_is_encoded_comes_back() {
    for rank in 1..=3 {
        let map = Map { rank, ..good() };
        let decoded = Map::decode(&map.encode()).unwrap();
        let n = rank as usize;
        assert_eq!(
            (decoded.base, decoded.element_bytes, decoded.rank, decoded.swizzle),
            (map.base, 2, rank, Swizzle::B128)
        );
        assert_eq!(decoded.sizes[..n], map.sizes[..n]);
        assert_eq!(decoded.strides[..n - 1], map.strides[..n - 1]);
        assert_eq!(decoded.tile[..n], map.tile[..n]);
        assert!(decoded.sizes[n..].iter().all(|&s| s == 1));
    }
    let plain = Map {
        swizzle: Swizzle::None,
        element_bytes: 8,
        sizes: [1 << 32, 1, 1],
        tile: [256, 256, 1],
        ..good()
    };
    assert_eq!(Map::decode(&plain.encode()), Ok(plain));
    assert_eq!((plain.row_bytes(), plain.tile_bytes()), (2048, 2048 * 256));
}

#[test]
fn every_rule_is_kept() {
    let refused = |change: fn(&mut Map), why: &str| {
        let mut map = good();
        change(&mut map);
        let message = map.check().unwrap_err();
        assert!(message.contains(why), "{message}");
        assert_eq!(Map::decode(&map.encode()), Err(message));
    };
    assert_eq!(good().check(), Ok(()));
    refused(|m| m.base += 8, "must start at a multiple of 16");
    refused(|m| m.element_bytes = 3, "elements of 3 bytes");
    refused(|m| m.rank = 0, "0 dimensions");
    refused(|m| m.rank = 4, "4 dimensions");
    refused(|m| m.sizes[1] = 0, "0 elements in dimension 1");
    refused(|m| m.sizes[2] = (1 << 32) + 1, "4294967297 elements in dimension 2");
    refused(|m| m.strides[0] = 200, "a stride of 200 bytes in dimension 1");
    refused(|m| m.strides[1] = 1 << 40, "in dimension 2");
    refused(|m| m.tile[1] = 0, "a tile of 0 elements in dimension 1");
    refused(|m| m.tile[2] = 257, "a tile of 257 elements in dimension 2");
    refused(
        |m| m.tile[0] = 60,
        "120 bytes in dimension 0: they must be a multiple of 16",
    );
    refused(
        |m| m.tile[0] = 128,
        "256 bytes in dimension 0: with the 128-byte swizzle they must be 128",
    );
    refused(|m| m.tile[0] = 32, "64 bytes in dimension 0");
    let message = Map::decode(&[0; 16]).unwrap_err();
    assert!(message.contains("not a tensor map of the simulator"), "{message}");
    let mut words = good().encode();
    words[2] |= 4 << 16;
    assert!(Map::decode(&words).unwrap_err().contains("swizzle code 7"));
}

/// The programming guide's tables of 8 rows of 128 bytes: which chunk stands at each place.
#[test]
fn swizzles_are_those_of_the_programming_guide() {
    let table = |s: Swizzle| -> Vec<Vec<u32>> {
        let chunk = |row: u32, place: u32| s.apply(row * 128 + place * 16) % 128 / 16;
        (0..8)
            .map(|row| (0..8).map(|place| chunk(row, place)).collect())
            .collect()
    };
    let b128 = table(Swizzle::B128);
    assert_eq!(b128[0], [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(b128[1], [1, 0, 3, 2, 5, 4, 7, 6]);
    assert_eq!(b128[3], [3, 2, 1, 0, 7, 6, 5, 4]);
    assert_eq!(b128[7], [7, 6, 5, 4, 3, 2, 1, 0]);
    let b64 = table(Swizzle::B64);
    assert_eq!(b64[1], [1, 0, 3, 2, 5, 4, 7, 6]);
    assert_eq!(b64[3], [3, 2, 1, 0, 7, 6, 5, 4]);
    assert_eq!(b64[4], b64[0]);
    let b32 = table(Swizzle::B32);
    assert_eq!(b32[1], [1, 0, 3, 2, 5, 4, 7, 6]);
    assert_eq!(b32[2], b32[0]);
    assert_eq!(table(Swizzle::None)[5], [0, 1, 2, 3, 4, 5, 6, 7]);
    for s in Swizzle::ALL {
        assert!((0..4096).all(|a| s.apply(s.apply(a)) == a), "{s}: its own inverse");
        let repeats = |bytes: u32| (0..4096).all(|a| s.apply(a + bytes) == s.apply(a) + bytes);
        assert!(repeats(s.atom()), "{s}: repeats after its atom");
        assert!(s == Swizzle::None || !repeats(s.atom() / 2), "{s}: and not before");
    }
}
