//! Random problems and the answers of an H200, from files.

use crate::{Problem, referred, simulated};
use host::reference::mma::Arch;
use simt::tensor::{Format, TensorCore};

/// The little-endian words of a file of `tests/data`.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes
        .chunks_exact(N)
        .map(|word| word.try_into().expect("chunks of N bytes"))
}

/// 256 problems of wide exponent range and an H200's answers.
#[test]
fn answers_of_an_h200() {
    let a: Vec<u16> = words(include_bytes!("../data/mma-h200/a_bf16_256x16x16.bin"))
        .map(u16::from_le_bytes)
        .collect();
    let b: Vec<u16> = words(include_bytes!("../data/mma-h200/b_bf16_256x8x16.bin"))
        .map(u16::from_le_bytes)
        .collect();
    let c: Vec<f32> = words(include_bytes!("../data/mma-h200/c_f32_256x16x8.bin"))
        .map(f32::from_le_bytes)
        .collect();
    let d: Vec<u32> = words(include_bytes!("../data/mma-h200/d_f32_256x16x8.bin"))
        .map(u32::from_le_bytes)
        .collect();
    assert_eq!(
        (a.len(), b.len(), c.len(), d.len()),
        (256 * 256, 256 * 128, 256 * 128, 256 * 128)
    );
    let mut ampere_differs = 0;
    for i in 0..256 {
        let problem = Problem {
            a: std::array::from_fn(|m| std::array::from_fn(|k| a[i * 256 + m * 16 + k])),
            b: std::array::from_fn(|n| std::array::from_fn(|k| b[i * 128 + n * 16 + k])),
            c: std::array::from_fn(|m| std::array::from_fn(|n| c[i * 128 + m * 8 + n])),
        };
        let answer: [[u32; 8]; 16] = std::array::from_fn(|m| std::array::from_fn(|n| d[i * 128 + m * 8 + n]));
        assert_eq!(
            simulated(TensorCore::HOPPER, Format::Bf16, &problem),
            answer,
            "simulator, problem {i}"
        );
        assert_eq!(
            referred(Arch::Hopper, Format::Bf16, &problem),
            answer,
            "reference, problem {i}"
        );
        ampere_differs += usize::from(referred(Arch::Ampere, Format::Bf16, &problem) != answer);
    }
    assert!(
        ampere_differs > 200,
        "the problems tell generations apart: {ampere_differs} of 256 do"
    );
}

/// Problems as `harness probe mma --save` writes them, A, B, C and D in a row, with an H200's answers.
#[test]
fn saved_answers_of_an_h200() {
    const BYTES: usize = 1792;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mma-h200");
    for kind in ["bf16", "f16", "s8"] {
        let path = format!("{folder}/probe_{kind}.bin");
        let Ok(file) = std::fs::read(&path) else {
            eprintln!("SKIPPED: {path} is not there; `harness probe mma --device cuda --save 64` writes it");
            continue;
        };
        assert!(
            !file.is_empty() && file.len().is_multiple_of(BYTES),
            "{path} has {} bytes",
            file.len()
        );
        for (i, bytes) in file.chunks_exact(BYTES).enumerate() {
            let a: Vec<u16> = words(&bytes[..512]).map(u16::from_le_bytes).collect();
            let b: Vec<u16> = words(&bytes[512..768]).map(u16::from_le_bytes).collect();
            let c: Vec<u32> = words(&bytes[768..1280]).map(u32::from_le_bytes).collect();
            let d: Vec<u32> = words(&bytes[1280..]).map(u32::from_le_bytes).collect();
            let answer: [[u32; 8]; 16] = std::array::from_fn(|m| std::array::from_fn(|n| d[m * 8 + n]));
            if kind == "s8" {
                let byte = |words: &[u16], k: usize| i32::from((words[k / 2] >> (8 * (k % 2))) as u8 as i8);
                for (at, d) in d.iter().enumerate() {
                    let (x, y) = (&a[at / 8 * 16..][..16], &b[at % 8 * 16..][..16]);
                    let dot: i32 = (0..32).map(|k| byte(x, k) * byte(y, k)).sum();
                    assert_eq!(
                        *d as i32,
                        (c[at] as i32).wrapping_add(dot),
                        "s8 problem {i}, output {at}"
                    );
                }
                continue;
            }
            let problem = Problem {
                a: std::array::from_fn(|m| std::array::from_fn(|k| a[m * 16 + k])),
                b: std::array::from_fn(|n| std::array::from_fn(|k| b[n * 16 + k])),
                c: std::array::from_fn(|m| std::array::from_fn(|n| f32::from_bits(c[m * 8 + n]))),
            };
            let format = if kind == "f16" { Format::F16 } else { Format::Bf16 };
            assert_eq!(
                simulated(TensorCore::HOPPER, format, &problem),
                answer,
                "simulator, {kind} problem {i}"
            );
            assert_eq!(
                referred(Arch::Hopper, format, &problem),
                answer,
                "reference, {kind} problem {i}"
            );
        }
    }
}
