//! The tuned configs of `gemm` as the host launches them: right bytes through the operation and in a graph, what they refuse, what runs
//! then, and which the rule of thumb prefers. The kernels' own tests have their edges.

mod arena;

use arena::{Arena, halves};
use half::bf16;
use host::device::{DevPtr, Device, SimtOptions};
use host::dispatch::{Dispatcher, Untuned};
use host::op::call::Call;
use host::op::spec::PLAIN;
use host::op::{Case, CheckError, ConfigInfo, Expected, Mismatch, Operation, Want, check, check_bytes, cpu_answer};
use host::ops::gemm::GemmCall;
use host::reference::gemm::Operands;
use host::results::Mode;
use kernels_gpu::{gemm_hopper, gemm_skinny};

fn gemm() -> &'static dyn Operation {
    host::ops::by_name("gemm").expect("gemm")
}

fn tuned() -> Vec<ConfigInfo> {
    gemm().configs().into_iter().filter(|config| !config.plain).collect()
}

/// The least work first, so that each config is seen on several cases in little time.
fn cases_of(config: &ConfigInfo, dtype: &str) -> Vec<Case> {
    let all = gemm().random_cases(1, 200).into_iter();
    let mut taken: Vec<Case> = all
        .filter(|case| case.dtype == dtype && gemm().admits(case, &config.id).is_ok())
        .collect();
    taken.sort_by_key(|case| gemm().simulated_work(case));
    taken
}

/// Two cases a dtype of each config against the CPU, whole and in parts; larger ones follow in `operations` and `verify`.
#[test]
fn every_config_gives_the_references_bytes() {
    for config in tuned() {
        for dtype in gemm().dtypes() {
            let cases = cases_of(&config, dtype);
            // Neither the smallest, which are one row, nor large ones.
            for case in [cases.len() / 8, cases.len() / 3].map(|at| &cases[at]) {
                let device = Device::simt_with(SimtOptions {
                    seed: Some(7),
                    ..SimtOptions::default()
                });
                let stream = device.stream().unwrap();
                let mut prepared = gemm().prepare(&device, case, 1, 1).unwrap();
                let against = check(&device, prepared.as_mut(), &config, &stream)
                    .unwrap_or_else(|e| panic!("{} on {case}: {e}", config.id));
                assert_eq!(against, Expected::CpuReference);
                let parts = prepared.alone(&config.id, &stream).unwrap();
                for part in &parts {
                    let outcome = &part.outcome;
                    assert_eq!(outcome, &Ok(()), "{}: {} on {case}", config.id, part.name);
                }
                let rows = case.dim("n_tok").unwrap();
                assert!(rows < 2 || parts.iter().any(|p| p.name == "part by another config"));
            }
        }
    }
}

/// A wrong bit anywhere in what is expected is found, with its place.
#[test]
fn a_planted_error_is_caught() {
    let config = &tuned()[0];
    let cases = cases_of(config, "bf16");
    let case = &cases[cases.len() / 2];
    let device = Device::simt_with(SimtOptions::default());
    let stream = device.stream().unwrap();
    let mut prepared = gemm().prepare(&device, case, 1, 1).unwrap();
    let (expected, Want::Whole(mut bytes)) = cpu_answer(prepared.as_mut()).unwrap().unwrap() else {
        panic!("{case} is small enough for all of it");
    };
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let wanted = [(expected, Want::Whole(bytes))];
    match check_bytes(&device, prepared.as_mut(), config, &stream, &wanted) {
        Err(CheckError::Mismatch { mismatch, .. }) => {
            let Mismatch { coords, count, .. } = *mismatch;
            assert_eq!(count, 1);
            let row = case.dim("n_tok").unwrap() - 1;
            assert!(coords.starts_with(&format!("y[token {row}]")), "{coords}");
        }
        other => panic!("{other:?}"),
    }
}

/// A product at addresses of the given alignment, with what the CPU says of it.
struct Placed {
    arena: Arena,
    call: GemmCall<bf16>,
    wanted: Vec<bf16>,
}

fn placed(sizes: [usize; 3], align: usize) -> Placed {
    let [m, n, k] = sizes;
    let (a, w) = (halves(1, "a", m, k), halves(1, "w", n, k));
    let mut arena = Arena::new();
    let call = GemmCall::<bf16> {
        a: arena.put(&a, 16),
        w: arena.put(&w, align),
        bias: DevPtr::NULL,
        residual: DevPtr::NULL,
        y: arena.room::<bf16>(m * n, 16).cast(),
        m: m as u32,
        n: n as u32,
        k: k as u32,
        out_f32: false,
    };
    let operands = Operands {
        a: &a,
        w: &w,
        bias: None,
        residual: None,
        m,
        n,
        k,
    };
    let wanted = operands.at(&operands.everywhere()).unwrap();
    Placed { arena, call, wanted }
}

#[test]
fn what_a_config_does_not_take_is_refused_with_the_numbers() {
    for config in tuned() {
        let id = config.id.as_str();
        // By the operation, and by the launch of a config that was asked for by name.
        let Placed { arena, call, .. } = placed([5, 24, 12], 16);
        let why = gemm().admits(&call.case(), id).unwrap_err();
        assert!(
            why.to_lowercase().contains("k = 12") && why.contains("multiple of 8"),
            "{id}: {why}"
        );
        let error = arena.refusal(&call, id);
        let told = error.contains(id) && error.to_lowercase().contains("k = 12");
        assert!(told, "{id}: {error}");
        // By the addresses, which the operation does not know.
        let [m, n] = tile(id).map(|size| size as usize);
        let Placed { arena, call, .. } = placed([m, n, 16], 2);
        gemm().admits(&call.case(), id).unwrap();
        let why = call.takes(id).unwrap_err();
        assert!(why.contains("w is at") && why.contains("16"), "{id}: {why}");
        assert!(arena.refusal(&call, id).contains("w is at"));
    }
    let Placed { arena, call, .. } = placed([5, 24, 16], 16);
    assert!(arena.refusal(&call, "bm7_bn9").contains("gemm has no config 'bm7_bn9'"));
    assert!(call.takes("bm7_bn9").is_err());
}

/// What the tuned configs refuse falls to the plain one, with their reasons.
#[test]
fn no_product_is_left_without_a_kernel() {
    for (sizes, align) in [([5, 24, 16], 2), ([5, 24, 12], 16), ([70, 72, 7], 16)] {
        let Placed { arena, call, wanted } = placed(sizes, align);
        let dispatcher = Dispatcher::with_table(arena.device.info(), Mode::Strict, Untuned);
        let choice = dispatcher
            .choose_at(gemm(), &call.case(), &|config| call.takes(config))
            .unwrap();
        assert_eq!(choice.config, PLAIN, "{sizes:?}");
        assert_eq!(choice.refused.len(), tuned().len(), "{sizes:?}: {choice}");
        assert!(choice.refused.iter().all(|r| !r.reason.is_empty()));
        arena.launch(&call, &choice.config).unwrap();
        assert_eq!(arena.get(call.y.cast::<bf16>()), wanted);
    }
    // And where they take it, one of them runs.
    let Placed { arena, call, .. } = placed([5, 24, 16], 16);
    let dispatcher = Dispatcher::with_table(arena.device.info(), Mode::Strict, Untuned);
    let choice = dispatcher
        .choose_at(gemm(), &call.case(), &|config| call.takes(config))
        .unwrap();
    assert_ne!(choice.config, PLAIN);
}

/// A capture runs nothing, and every replay reads what is there then.
#[test]
fn every_config_is_captured_and_replayed() {
    for config in tuned() {
        let [m, n] = tile(&config.id).map(|size| size as usize);
        let Placed { arena, call, wanted } = placed([m - 1, n - 8, 136], 16);
        let stream = &arena.stream;
        let y = call.y.cast::<bf16>();
        let before = arena.get(y);
        let graph = arena
            .device
            .capture_of(stream, || call.launch(&arena.device, stream, &config.id))
            .unwrap();
        assert_eq!(arena.get(y), before, "{}: a capture launches nothing", config.id);
        for _ in 0..2 {
            graph.launch(stream).unwrap();
            arena.device.synchronize().unwrap();
            assert_eq!(arena.get(y), wanted, "{}", config.id);
        }
        arena.gaps_are_untouched();
    }
}

/// Tokens and outputs of a config's tile.
fn tile(id: &str) -> [u32; 2] {
    let hopper = gemm_hopper::CONFIGS.iter().map(|e| &e.config);
    let skinny = gemm_skinny::CONFIGS.iter().map(|e| &e.config);
    let hopper = hopper.map(|c| (c.id, [c.tokens, c.outputs]));
    let mut all = hopper.chain(skinny.map(|c| (c.id, [c.tokens, c.outputs])));
    all.find(|(known, _)| *known == id).expect("a tuned config").1
}

/// Nothing measured: tiles of few tokens where there are few and large ones where there are many, on an H200's multiprocessors, and
/// the plain config last of all.
#[test]
fn the_rule_of_thumb_goes_by_the_shape() {
    let case = |n: u64, k: u64, n_tok: u64| {
        let dims = [("n", n), ("k", k), ("n_tok", n_tok)].map(|(name, size)| (name.to_string(), size));
        gemm().custom_case(&dims).unwrap()
    };
    for (n, k) in [(4096, 4096), (24_576, 4096), (2048, 4096), (12_352, 2048)] {
        for n_tok in [1, 8, 16, 32] {
            let case = case(n, k, n_tok);
            let order = gemm().heuristic(&case, 132);
            assert_eq!(order.last().map(String::as_str), Some(PLAIN), "{case}");
            let [tokens, _] = tile(&order[0]);
            assert!(tokens <= 64, "{case}: {order:?}");
        }
        for n_tok in [2048, 8192] {
            let case = case(n, k, n_tok);
            let order = gemm().heuristic(&case, 132);
            let [tokens, outputs] = tile(&order[0]);
            assert!(tokens * outputs >= 128 * 128, "{case}: {order:?}");
        }
    }
    // A shape that no tuned config takes has the plain one.
    assert_eq!(gemm().heuristic(&case(4096, 4097, 1), 132), [PLAIN]);
}
