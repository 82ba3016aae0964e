//! The products of a warpgroup against `mma.sync`'s of the same model, an addend at a time, and plain loops.

use simt::tensor::wgmma::{m64k16, m64k16_f16, m64k32_s8};
use simt::tensor::{F16Rounding, Format, TensorCore, k16, m16n8k16};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Bits that are all random, or random with exponents near each other.
fn factor(random: &mut Random, format: Format, wild: bool) -> u16 {
    let bits = random.next();
    match (wild, format) {
        (true, _) => bits as u16,
        (false, Format::F16) => (bits as u16 & 0x83ff) | ((10 + (bits >> 32) % 8) as u16) << 10,
        (false, Format::Bf16) => (bits as u16 & 0x807f) | ((120 + (bits >> 32) % 14) as u16) << 7,
    }
}

#[test]
fn every_number_of_columns_gives_the_bytes_of_mma_sync() {
    let mut random = Random(5);
    for core in [TensorCore::HOPPER, TensorCore::AMPERE] {
        for format in [Format::Bf16, Format::F16] {
            for n in (8..=256).step_by(8) {
                let wild = n / 8 % 2 == 0;
                let a: [[u16; 16]; 64] =
                    std::array::from_fn(|_| std::array::from_fn(|_| factor(&mut random, format, wild)));
                let b: Vec<[u16; 16]> = (0..n)
                    .map(|_| std::array::from_fn(|_| factor(&mut random, format, wild)))
                    .collect();
                let c: Vec<f32> = (0..64 * n)
                    .map(|i| {
                        if i % 3 == 0 {
                            0.0
                        } else {
                            f32::from_bits(random.next() as u32)
                        }
                    })
                    .collect();
                let mut d = c.clone();
                m64k16(core, format, &a, &b, &mut d);
                for (i, j) in (0..4).flat_map(|i| (0..n / 8).map(move |j| (i, j))) {
                    let tile = std::array::from_fn(|m| std::array::from_fn(|x| c[(16 * i + m) * n + 8 * j + x]));
                    let rows = a[16 * i..][..16].try_into().unwrap();
                    let want = m16n8k16(core, format, rows, b[8 * j..][..8].try_into().unwrap(), &tile);
                    for (m, x) in (0..16).flat_map(|m| (0..8).map(move |x| (m, x))) {
                        let got = d[(16 * i + m) * n + 8 * j + x];
                        assert_eq!(got.to_bits(), want[m][x].to_bits(), "{format:?}, n {n}");
                        // An addend at a time, as far as there is time for it.
                        if m == 7 {
                            let one = k16(core, format, &a[16 * i + m], &b[8 * j + x], tile[m][x]);
                            assert_eq!(got.to_bits(), one.to_bits(), "{format:?}, n {n}");
                        }
                    }
                }
            }
        }
    }
}

/// Whole numbers: every sum is exact, so this is a plain loop's result, rounded to f16 once.
#[test]
fn f16_accumulators_round_the_sum() {
    let mut random = Random(6);
    for rounding in [F16Rounding::OfF32, F16Rounding::OfSum, F16Rounding::Truncated] {
        let core = TensorCore {
            f16_rounding: rounding,
            ..TensorCore::HOPPER
        };
        let n = 24;
        let mut whole = |most: u64| (random.next() % (2 * most + 1)) as i64 - most as i64;
        let half = |x: i64| half::f16::from_f64(x as f64).to_bits();
        let a: [[i64; 16]; 64] = std::array::from_fn(|_| std::array::from_fn(|_| whole(40)));
        let b: Vec<[i64; 16]> = (0..n).map(|_| std::array::from_fn(|_| whole(40))).collect();
        let c: Vec<i64> = (0..64 * n).map(|_| whole(2000)).collect();
        let mut d: Vec<u16> = c.iter().map(|&x| half(x)).collect();
        let b_bits: Vec<[u16; 16]> = b.iter().map(|row| row.map(half)).collect();
        m64k16_f16(core, &a.map(|row| row.map(half)), &b_bits, &mut d);
        let mut rounded = 0;
        for (i, d) in d.iter().enumerate() {
            let (m, x) = (i / n, i % n);
            let sum = c[i] + (0..16).map(|k| a[m][k] * b[x][k]).sum::<i64>();
            let nearest = half::f16::from_f64(sum as f64);
            let want = match rounding {
                F16Rounding::Truncated if nearest.to_f64().abs() > sum.abs() as f64 => {
                    half::f16::from_bits(nearest.to_bits() - 1)
                }
                _ => nearest,
            };
            rounded += u32::from(want.to_f64() != sum as f64);
            assert_eq!(*d, want.to_bits(), "{sum}");
        }
        assert!(rounded > 100, "only {rounded} sums were rounded");
    }
}

#[test]
fn bytes_are_exact_and_wrap() {
    let mut random = Random(7);
    for n in [8, 16, 24, 48, 256] {
        let a: [[i8; 32]; 64] = std::array::from_fn(|_| std::array::from_fn(|_| random.next() as i8));
        let b: Vec<[i8; 32]> = (0..n).map(|_| std::array::from_fn(|_| random.next() as i8)).collect();
        let c: Vec<i32> = (0..64 * n).map(|_| random.next() as i32).collect();
        let mut d = c.clone();
        m64k32_s8(&a, &b, &mut d);
        for (i, d) in d.iter().enumerate() {
            let sum: i64 = (0..32).map(|k| i64::from(a[i / n][k]) * i64::from(b[i % n][k])).sum();
            assert_eq!(*d, (i64::from(c[i]) + sum) as i32);
        }
    }
    let mut d = vec![i32::MAX; 64 * 8];
    m64k32_s8(&[[-128; 32]; 64], &[[-128; 32]; 8], &mut d);
    assert!(d.iter().all(|&d| d == i32::MAX.wrapping_add(32 * 16384)));
}
