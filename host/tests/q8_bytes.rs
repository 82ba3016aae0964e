//! Byte equality of the Q8_0 matmul: tuned kernels on the simulator, plain kernel on the simulator, CPU reference. Every
//! comparison is of two different pieces of code.

use std::collections::BTreeMap;

use host::device::{Device, SimtOptions};
use host::op::{Case, ConfigInfo, Expected, Operation, Order, Reference, Values, check_against, compare_bytes};
use host::ops::q8::{Q8Activations, Q8Input, Q8Matmul, Q8MatmulOp, Q8Shape, Q8Weights};
use host::reference::q8 as reference;
use proptest::prelude::*;

const OP: Q8MatmulOp = Q8MatmulOp;

fn simulator(seed: Option<u64>) -> Device {
    Device::simt_with(SimtOptions {
        seed,
        ..SimtOptions::default()
    })
}

fn admitted(case: &Case) -> Vec<ConfigInfo> {
    OP.configs()
        .into_iter()
        .filter(|config| OP.admits(case, &config.id).is_ok())
        .collect()
}

/// The plain kernel against the CPU reference, then each config against the CPU reference.
fn verify(device: &Device, case: &Case, configs: &[ConfigInfo], seed: u64) {
    let mut prepared = OP
        .prepare(device, case, seed, 1)
        .unwrap_or_else(|e| panic!("{case}: {e}"));
    let plain = prepared.plain().unwrap_or_else(|e| panic!("{case}: {e}")).to_vec();
    let Reference::Bytes(expected) = prepared.cpu_reference().unwrap() else {
        panic!("{case} is too large")
    };
    compare_bytes(expected, &plain).unwrap_or_else(|e| panic!("{case}, plain kernel: {e}"));
    let stream = device.stream().unwrap();
    for config in configs {
        check_against(device, prepared.as_mut(), config, &stream, Expected::CpuReference)
            .unwrap_or_else(|e| panic!("{case}: {e}"));
    }
}

#[test]
fn the_listed_edges_hold_for_all_configs() {
    let device = simulator(None);
    let mut runs: BTreeMap<String, usize> = OP.configs().into_iter().map(|c| (c.id, 0)).collect();
    // The first cases are the edges; each is run with the six configs that take it and ran least so far.
    for (i, case) in OP.random_cases(0, 100).iter().enumerate() {
        let mut chosen = admitted(case);
        chosen.sort_by_key(|config| runs[&config.id]);
        chosen.truncate(6);
        verify(&device, case, &chosen, i as u64);
        for config in chosen {
            *runs.entry(config.id).or_default() += 1;
        }
    }
    assert!(
        runs.values().all(|&count| count > 0),
        "a config that no edge case ran: {runs:?}"
    );
}

#[test]
fn every_config_gives_the_reference_bytes_for_every_kind_of_values() {
    let device = simulator(None);
    for values in Values::ALL {
        // One token: every config takes it. 64 blocks are four segments and 16 quads.
        let base = Case::new("q8_matmul", "random", "values", &[("n", 17), ("k", 2048), ("n_tok", 1)]);
        let case = Case { values, ..base };
        verify(&device, &case, &admitted(&case), 5);
    }
}

/// Blocks along K: short ones, the edges, and the 5 to 16 segments that configs of many warps want.
fn blocks() -> impl Strategy<Value = u64> {
    const EDGES: [u64; 8] = [1, 31, 32, 33, 255, 256, 257, 448];
    let whole_turns = (20u64..=66).prop_map(|quads| 4 * quads);
    prop_oneof![4 => 1u64..=48, 3 => prop::sample::select(&EDGES[..]), 2 => whole_turns, 1 => 65u64..=260]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any shape, values, dtype, config and order of threads gives the reference's bytes.
    #[test]
    fn any_case_gives_the_reference_bytes(
        n in 1u64..=40,
        blocks in blocks(),
        ragged in prop_oneof![Just(0u64), 0u64..32],
        n_tok in prop_oneof![3 => 1u64..=8, 1 => 9u64..=17],
        groups in prop_oneof![4 => Just(1u64), 1 => 2u64..=3],
        values in prop::sample::select(&Values::ALL[..]),
        bf16 in any::<bool>(),
        pick in any::<prop::sample::Index>(),
        widen in any::<bool>(),
        seed in any::<u64>(),
        schedule in prop::option::of(any::<u64>()),
    ) {
        let dims = [("n", n), ("k", blocks * 32 - ragged), ("groups", groups), ("n_tok", n_tok)];
        let base = Case::new("q8_matmul", "random", "proptest", &dims);
        let case = Case { values, dtype: if bf16 { "bf16" } else { "f32" }.into(), ..base };
        let configs = admitted(&case);
        // Half of the time one of the configs with the most warps: they take long K alone, so they get few picks.
        let widest = configs.iter().map(|c| c.threads).max().unwrap_or(0);
        let wide: Vec<_> = configs.iter().filter(|c| 2 * c.threads > widest).cloned().collect();
        let config = pick.get(if widen { &wide } else { &configs }).clone();
        verify(&simulator(schedule), &case, &[config], seed);
    }

    /// The quantiser kernels give the reference's integers and scales, from f32 and from bf16.
    #[test]
    fn the_quantiser_gives_the_reference_bytes(
        k in 1u32..=400,
        n_tok in 1u32..=10,
        groups in 1u32..=2,
        bf16 in any::<bool>(),
        bits in prop::collection::vec(any::<u32>(), 64),
        spread in 0u32..=31,
    ) {
        // Values of any bits, NaN and infinities included; `spread` narrows the exponents so that blocks mix less.
        let keep = !(0x7F80_0000u32 << spread & 0x7F80_0000);
        let width = (k * groups) as usize;
        let value = |i: usize| f32::from_bits(bits[i * 7 % bits.len()].rotate_left(i as u32) & keep & if bf16 { 0xFFFF_0000 } else { !0 });
        let x: Vec<f32> = (0..width * n_tok as usize).map(value).collect();
        let halves: Vec<u16> = x.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
        let device = simulator(None);
        let stream = device.stream().unwrap();
        let activations = Q8Activations::new(&device, Q8Shape::new(1, k, groups).unwrap(), n_tok).unwrap();
        let buffer = device.alloc(x.len() * 4, "x").unwrap();
        if bf16 {
            buffer.upload(&halves).unwrap();
            activations.quantize(&device, &stream, Q8Input::Bf16(&buffer), n_tok).unwrap();
        } else {
            buffer.upload(&x).unwrap();
            activations.quantize(&device, &stream, Q8Input::F32(&buffer), n_tok).unwrap();
        }
        let (q, d) = activations.download(n_tok).unwrap();
        let mut expected = (Vec::new(), Vec::new());
        for group in 0..groups as usize {
            let columns = |i: &usize| (i % width) / k as usize == group;
            let of_group: Vec<f32> = (0..x.len()).filter(columns).map(|i| x[i]).collect();
            let of_halves: Vec<u16> = (0..x.len()).filter(columns).map(|i| halves[i]).collect();
            let input = if bf16 { reference::Input::Bf16(&of_halves) } else { reference::Input::F32(&of_group) };
            let out = reference::quantise(input, n_tok as usize, k as usize).unwrap();
            expected.0.extend(out.q);
            expected.1.extend(out.d);
        }
        let bits = |d: &[f32]| d.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&d), bits(&expected.1));
        prop_assert_eq!(q, expected.0);
    }
}

/// Weights and activations of any bits, reproducible.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn a_row_alone_has_the_bytes_it_has_in_any_batch() {
    let device = simulator(None);
    let stream = device.stream().unwrap();
    let shape = Q8Shape::new(21, 1100, 1).unwrap();
    let mut blocks = noise(shape.gguf_bytes(), 1);
    // Finite scales of both signs, of many magnitudes.
    blocks.chunks_exact_mut(34).for_each(|block| block[1] &= 0xB7);
    let weights = Q8Weights::from_blocks(&device, &blocks, shape, "w").unwrap();
    let tokens: Vec<f32> = noise(17 * 1100, 2).iter().map(|&b| f32::from(b) - 99.5).collect();
    let run = |config: &str, first: usize, n_tok: usize| -> Vec<u32> {
        let x = device.alloc(n_tok * 1100 * 4, "x").unwrap();
        x.upload(&tokens[first * 1100..(first + n_tok) * 1100]).unwrap();
        let activations = Q8Activations::new(&device, shape, n_tok as u32).unwrap();
        activations
            .quantize(&device, &stream, Q8Input::F32(&x), n_tok as u32)
            .unwrap();
        let y = device.alloc(n_tok * 21 * 4, "y").unwrap();
        let matmul = Q8Matmul::new(config).unwrap();
        matmul
            .launch(&device, &stream, &weights, &activations, &y, n_tok as u32)
            .unwrap();
        y.download_vec(n_tok * 21).unwrap()
    };
    let canonical = |n_tok: u64| {
        let case = Case::new("q8_matmul", "m", "t", &[("n", 21), ("k", 1100), ("n_tok", n_tok)]);
        admitted(&case).into_iter().filter(|c| c.order == Order::Canonical)
    };
    // Every token alone, in one config.
    let first = canonical(1).next().unwrap().id;
    let alone: Vec<Vec<u32>> = (0..17).map(|token| run(&first, token, 1)).collect();
    // Every config at every batch size; the batch begins at another token each time.
    for n_tok in [1, 2, 3, 4, 5, 6, 7, 8, 9, 16] {
        for (i, config) in canonical(n_tok as u64).enumerate() {
            let start = i % (17 - n_tok + 1);
            let batch = run(&config.id, start, n_tok);
            for token in 0..n_tok {
                assert!(
                    batch[token * 21..(token + 1) * 21] == alone[start + token],
                    "{} {n_tok} {token}",
                    config.id
                );
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_refused_with_their_sizes() {
    let device = simulator(None);
    let stream = device.stream().unwrap();
    let shape = Q8Shape::new(8, 64, 1).unwrap();
    let weights = Q8Weights::from_blocks(&device, &noise(shape.gguf_bytes(), 3), shape, "w").unwrap();
    let activations = Q8Activations::new(&device, shape, 2).unwrap();
    let short = device.alloc(64 * 4, "short").unwrap();
    let error = activations
        .quantize(&device, &stream, Q8Input::F32(&short), 2)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("'short': 256 bytes") && error.contains("128 values"),
        "{error}"
    );
    let error = activations
        .quantize(&device, &stream, Q8Input::F32(&short), 3)
        .unwrap_err()
        .to_string();
    assert!(error.contains("n_tok = 3"), "{error}");
    let matmul = Q8Matmul::new(&OP.configs()[0].id).unwrap();
    let error = matmul.launch(&device, &stream, &weights, &activations, &short, 2);
    assert!(error.is_err() || short.len_bytes() >= 8 * 2 * 4);
    let tiny = device.alloc(4, "tiny").unwrap();
    let error = matmul
        .launch(&device, &stream, &weights, &activations, &tiny, 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("'tiny': 4 bytes of 32"), "{error}");
    let other = Q8Activations::new(&device, Q8Shape::new(8, 96, 1).unwrap(), 2).unwrap();
    let error = matmul
        .launch(&device, &stream, &weights, &other, &short, 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("k = 64") && error.contains("96"), "{error}");
}
