//! Random problems and the answers of an H200, from files.

use crate::{Problem, referred, simulated};
use host::device::{Device, LaunchDims, SimtOptions};
use host::reference::mma::Arch;
use kernels_gpu::mma_probe;
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

/// Bytes of a problem as `harness probe mma --save` writes it: A, B, C and D in a row.
const BYTES: usize = 1792;
/// Where B, C and D begin.
const AT: [usize; 3] = [512, 768, 1280];

/// A file of problems with an H200's answers.
fn saved(kind: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/mma-h200/probe_{kind}.bin", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{path}: {e}; `harness probe mma --device cuda --save 64` writes it"));
    let whole = !file.is_empty() && file.len().is_multiple_of(BYTES);
    assert!(whole, "{path} has {} bytes, no multiple of {BYTES}", file.len());
    file
}

/// D of every problem by the probe's kernel on the simulator: the instruction as kernels have it, registers and all.
fn by_kernel(kind: &str, file: &[u8]) -> Vec<Vec<u32>> {
    let device = Device::simt_with(SimtOptions::default());
    let stream = device.stream().unwrap();
    let upload = |from: usize, to: usize, name: &str| {
        let all: Vec<u8> = file.chunks_exact(BYTES).flat_map(|p| &p[from..to]).copied().collect();
        let buffer = device.alloc(all.len(), name).unwrap();
        buffer.upload(&all).unwrap();
        buffer
    };
    let (a, b, c) = (
        upload(0, AT[0], "a"),
        upload(AT[0], AT[1], "b"),
        upload(AT[1], AT[2], "c"),
    );
    let count = file.len() / BYTES;
    let d = device.alloc(count * 512, "d").unwrap();
    d.poison().unwrap();
    let dims = LaunchDims::new(mma_probe::grid(count as u32), mma_probe::THREADS);
    let (a, b) = (a.ptr_as::<u32>().cast_const(), b.ptr_as::<u32>().cast_const());
    let floats = (a, b, c.ptr_as::<f32>().cast_const(), d.ptr_as::<f32>(), count as u32);
    let ints = (a, b, c.ptr_as::<i32>().cast_const(), d.ptr_as::<i32>(), count as u32);
    match kind {
        "bf16" => device.launch(&stream, &mma_probe::mma_probe_bf16::KERNEL, dims, floats),
        "f16" => device.launch(&stream, &mma_probe::mma_probe_f16::KERNEL, dims, floats),
        _ => device.launch(&stream, &mma_probe::mma_probe_s8::KERNEL, dims, ints),
    }
    .unwrap();
    device.synchronize().unwrap();
    assert_eq!(d.first_unwritten(), None);
    let words: Vec<u32> = d.download_vec(count * 128).unwrap();
    words.chunks_exact(128).map(<[u32]>::to_vec).collect()
}

/// What int8 products are: integers, which wrap.
fn integers(a: &[u16], b: &[u16], c: &[u32]) -> Vec<u32> {
    let byte = |words: &[u16], k: usize| i32::from((words[k / 2] >> (8 * (k % 2))) as u8 as i8);
    let sum = |(at, c): (usize, &u32)| {
        let (x, y) = (&a[at / 8 * 16..][..16], &b[at % 8 * 16..][..16]);
        let dot: i32 = (0..32).map(|k| byte(x, k) * byte(y, k)).sum();
        (*c as i32).wrapping_add(dot) as u32
    };
    c.iter().enumerate().map(sum).collect()
}

/// Who gives another answer than the file, and to which problem: the kernel on the simulator, the simulator's model, the
/// reference. The model knows no int8, and the reference of that
/// is integers.
fn differing(kind: &str, file: &[u8]) -> Vec<(usize, &'static str)> {
    let mut all = Vec::new();
    for (i, (bytes, kernel)) in file.chunks_exact(BYTES).zip(by_kernel(kind, file)).enumerate() {
        let a: Vec<u16> = words(&bytes[..AT[0]]).map(u16::from_le_bytes).collect();
        let b: Vec<u16> = words(&bytes[AT[0]..AT[1]]).map(u16::from_le_bytes).collect();
        let c: Vec<u32> = words(&bytes[AT[1]..AT[2]]).map(u32::from_le_bytes).collect();
        let d: Vec<u32> = words(&bytes[AT[2]..]).map(u32::from_le_bytes).collect();
        let mut answers = vec![("kernel", kernel)];
        if kind == "s8" {
            answers.push(("reference", integers(&a, &b, &c)));
        } else {
            let problem = Problem {
                a: std::array::from_fn(|m| std::array::from_fn(|k| a[m * 16 + k])),
                b: std::array::from_fn(|n| std::array::from_fn(|k| b[n * 16 + k])),
                c: std::array::from_fn(|m| std::array::from_fn(|n| f32::from_bits(c[m * 8 + n]))),
            };
            let format = if kind == "f16" { Format::F16 } else { Format::Bf16 };
            let flat = |d: [[u32; 8]; 16]| d.as_flattened().to_vec();
            answers.push(("model", flat(simulated(TensorCore::HOPPER, format, &problem))));
            answers.push(("reference", flat(referred(Arch::Hopper, format, &problem))));
        }
        all.extend(
            answers
                .into_iter()
                .filter(|(_, got)| *got != d)
                .map(|(who, _)| (i, who)),
        );
    }
    all
}

#[test]
fn saved_answers_of_an_h200() {
    for kind in ["bf16", "f16", "s8"] {
        assert_eq!(differing(kind, &saved(kind)), [], "{kind}");
    }
}

/// One bit of one answer: all that know the type say so.
#[test]
fn a_wrong_bit_among_saved_answers_is_found() {
    for (kind, who) in [
        ("bf16", &["kernel", "model", "reference"][..]),
        ("f16", &["kernel", "model", "reference"]),
        ("s8", &["kernel", "reference"]),
    ] {
        let mut file = saved(kind);
        let last = file.len() / BYTES - 1;
        file[last * BYTES + AT[2] + 4 * 77] ^= 1;
        let expected: Vec<(usize, &str)> = who.iter().map(|who| (last, *who)).collect();
        assert_eq!(differing(kind, &file), expected, "{kind}");
    }
}
