//! Cases, configs and costs of `q8_matmul`, without a device.

use super::*;

fn dims(text: &[(&str, u64)]) -> Vec<(String, u64)> {
    text.iter().map(|(axis, size)| (axis.to_string(), *size)).collect()
}

#[test]
fn config_ids_are_unique_and_some_config_takes_everything_in_canonical_order() {
    let configs = Q8MatmulOp.configs();
    for (i, config) in configs.iter().enumerate() {
        assert!(
            configs[..i]
                .iter()
                .all(|other| other.id != config.id && other.kernel != config.kernel)
        );
    }
    for case in Q8MatmulOp.random_cases(1, 300) {
        let takes = |c: &&ConfigInfo| c.order == Order::Canonical && Q8MatmulOp.admits(&case, &c.id).is_ok();
        assert!(configs.iter().any(|c| takes(&c)), "no canonical config takes {case}");
    }
}

#[test]
fn random_cases_repeat_begin_with_the_edges_and_reach_every_kind() {
    let cases = Q8MatmulOp.random_cases(7, 300);
    assert_eq!(cases, Q8MatmulOp.random_cases(7, 300));
    assert_eq!(cases[..10], Q8MatmulOp.random_cases(8, 10));
    assert_ne!(cases[299], Q8MatmulOp.random_cases(8, 300)[299]);
    for values in Values::ALL {
        assert!(cases.iter().any(|c| c.values == values), "{values}");
    }
    for blocks in [1, 31, 32, 33, 255, 256, 257, 448] {
        assert!(cases.iter().any(|c| c.dim("k") == Some(blocks * 32)), "{blocks} blocks");
        assert!(blocks == 32 || cases.iter().any(|c| c.dim("k").unwrap().div_ceil(32) == blocks));
    }
    for n_tok in (1..=9).chain([16]) {
        assert!(cases.iter().any(|c| c.dim("n_tok") == Some(n_tok)), "{n_tok} tokens");
    }
    assert!(cases.iter().any(|c| c.dim("groups").unwrap() > 1) && cases.iter().any(|c| c.dtype == "bf16"));
    assert!(cases.iter().all(|c| sizes(c).is_ok()));
}

#[test]
fn five_hundred_cases_reach_every_edge_and_every_config_often() {
    const EDGES: [u64; 8] = [1, 31, 32, 33, 255, 256, 257, 448];
    for seed in [1, 7, 12_345] {
        let cases = Q8MatmulOp.random_cases(seed, 500);
        let often = |least: usize, what: &str, holds: &dyn Fn(&Case) -> bool| {
            let count = cases.iter().filter(|c| holds(c)).count();
            assert!(
                count >= least,
                "seed {seed}: {what} in {count} of 500 cases, at least {least} are wanted"
            );
        };
        let is = |c: &Case, axis: &str, size: u64| c.dim(axis) == Some(size);
        let blocks = |c: &Case| c.dim("k").unwrap().div_ceil(32);
        for n_tok in 1..=8 {
            often(25, &format!("{n_tok} tokens"), &|c| is(c, "n_tok", n_tok));
        }
        for edge in EDGES {
            often(10, &format!("{edge} blocks"), &|c| blocks(c) == edge);
            for n_tok in 1..=8 {
                let what = format!("{edge} blocks and {n_tok} tokens");
                often(1, &what, &|c| blocks(c) == edge && is(c, "n_tok", n_tok));
            }
        }
        for values in Values::ALL {
            often(20, values.name(), &|c| c.values == values);
        }
        often(100, "ragged tails", &|c| c.dim("k").unwrap() % 32 != 0);
        often(60, "bf16", &|c| c.dtype == "bf16");
        often(20, "groups", &|c| c.dim("groups") > Some(1));
        for config in Q8MatmulOp.configs() {
            let least = if config.order == Order::Canonical { 70 } else { 12 };
            often(least, &config.id, &|c| Q8MatmulOp.admits(c, &config.id).is_ok());
        }
    }
}

#[test]
fn a_custom_case_needs_its_dimensions_and_names_the_wrong_one() {
    let op = Q8MatmulOp;
    let case = op.custom_case(&dims(&[("k", 64), ("n", 8)])).unwrap();
    assert_eq!(case.id(), "q8_matmul/custom/custom/n=8,k=64,groups=1,n_tok=1");
    let error = |text: &[(&str, u64)]| op.custom_case(&dims(text)).unwrap_err().to_string();
    assert!(error(&[("n", 8)]).contains("k = 0"));
    assert!(error(&[("n", 8), ("k", 64), ("m", 1)]).contains("no dimension 'm'"));
    assert!(error(&[("n", 8), ("n", 8), ("k", 64)]).contains("n is given twice"));
    assert!(error(&[("n", 1 << 33), ("k", 64)]).contains("beyond 32 bits"));
    assert!(error(&[("n", 8), ("k", 64), ("n_tok", 0)]).contains("n_tok = 0"));
}

#[test]
fn the_shapes_of_the_models_become_cases() {
    let shapes = ShapeSet::embedded().unwrap();
    let cases = Q8MatmulOp.cases(&shapes);
    assert!(cases.iter().any(|c| c.model == "qwen3-8b" && c.dim("n_tok") == Some(8)));
    assert!(cases.iter().any(|c| c.dim("groups") == Some(8)));
    assert!(cases.iter().all(|c| sizes(c).is_ok()));
}

#[test]
fn work_counts_each_weight_once_whatever_the_tokens() {
    let op = Q8MatmulOp;
    let config = &op.configs()[0].id;
    let case = |n_tok| {
        op.custom_case(&dims(&[("n", 4096), ("k", 14336), ("n_tok", n_tok)]))
            .unwrap()
    };
    let (one, eight) = (
        op.work(&case(1), config, 132).unwrap(),
        op.work(&case(8), config, 132).unwrap(),
    );
    assert_eq!(one.read_bytes, 4096 * 14336 / 32 * 34);
    assert_eq!(one.read_bytes, eight.read_bytes);
    assert_eq!(
        (eight.write_bytes, eight.multiply_adds),
        (8 * one.write_bytes, 8 * one.multiply_adds)
    );
    assert!(
        op.work(&case(1), "r9", 132)
            .unwrap_err()
            .to_string()
            .contains("no config 'r9'")
    );
}

#[test]
fn the_rule_of_thumb_ranks_every_config_that_takes_the_case() {
    let op = Q8MatmulOp;
    let case = op.custom_case(&dims(&[("n", 4096), ("k", 14336)])).unwrap();
    let ranked = op.heuristic(&case, 132);
    let takes = op.configs().iter().filter(|c| op.admits(&case, &c.id).is_ok()).count();
    assert_eq!(ranked.len(), takes);
}
