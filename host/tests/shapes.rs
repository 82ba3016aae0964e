//! The shape files against the operations and against the models' facts: every row is taken by its operation, says what the facts
//! say, and together they cover what is measured.

use host::ops;
use host::shapes::{Model, OpShape, ShapeSet};
use std::collections::BTreeSet;

fn embedded() -> ShapeSet {
    ShapeSet::embedded().expect("the embedded shape files are valid")
}

fn model<'a>(set: &'a ShapeSet, name: &str) -> &'a Model {
    set.model(name).unwrap_or_else(|| panic!("no file {name}"))
}

fn row<'a>(model: &'a Model, name: &str) -> &'a OpShape {
    let found = model.ops.iter().find(|o| o.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {}", model.name))
}

/// The dimensions of a row at one of its token counts, as the operation takes them.
fn dims(row: &OpShape, n_tok: u32) -> Vec<(String, u64)> {
    let axes = ops::by_name(&row.op).unwrap().axes();
    let size = |name: &str| match name {
        "n_tok" => u64::from(n_tok),
        name => row.dim(name).unwrap(),
    };
    axes.iter()
        .map(|axis| (axis.name.to_string(), size(axis.name)))
        .collect()
}

#[test]
fn every_row_is_taken_by_its_operation() {
    let set = embedded();
    let mut rows = 0;
    for row in set.ops() {
        let op = ops::by_name(&row.op).unwrap();
        for &n_tok in &row.n_tok {
            let label = format!("{}, n_tok = {n_tok}", row.label());
            let case = op
                .custom_case(&dims(row, n_tok))
                .unwrap_or_else(|e| panic!("{label}: {e}"));
            let taken = op.configs().iter().any(|c| op.admits(&case, &c.id).is_ok());
            assert!(taken, "{label}: no config takes it");
            rows += 1;
        }
    }
    assert!(rows > 400, "{rows} rows");
    // A row that an operation refuses does not get through.
    let mut wrong = dims(row(model(&set, "qwen3-8b"), "ffn_down"), 1);
    wrong[0].1 = 0;
    assert!(ops::by_name("q8_matmul").unwrap().custom_case(&wrong).is_err());
}

/// What is measured first covers every operation.
#[test]
fn two_models_have_every_operation() {
    let set = embedded();
    let found: BTreeSet<&str> = ["qwen3.6-35b-a3b", "qwen3-8b"]
        .into_iter()
        .flat_map(|name| &model(&set, name).ops)
        .map(|row| row.op.as_str())
        .collect();
    for op in ops::all() {
        assert!(found.contains(op.name()), "no row of {} in either model", op.name());
    }
}

/// Products of the same weights in other formats have the same sizes and are called as often.
#[test]
fn formats_agree() {
    let set = embedded();
    let mut compared = 0;
    for model in &set.models {
        for q8 in model.ops.iter().filter(|row| row.op == "q8_matmul") {
            for format in ["bf16", "nvfp4"] {
                let name = format!("{}_{format}", q8.name);
                let Some(other) = model.ops.iter().find(|row| row.name == name) else {
                    continue;
                };
                let size = |row: &OpShape| (row.dim("n"), row.dim("k"), row.count);
                assert_eq!(size(q8), size(other), "{}", other.label());
                compared += 1;
            }
        }
    }
    assert!(compared >= 25, "{compared}");
}

/// Heads, widths and experts of a row are its model's.
#[test]
fn rows_agree_with_the_facts() {
    let set = embedded();
    let mut compared = 0;
    for model in &set.models {
        let f = &model.facts;
        for row in &model.ops {
            let is = |dim: &str, fact: Option<u64>| {
                if let Some(fact) = fact {
                    assert_eq!(row.dim(dim), Some(fact), "{}: {dim}", row.label());
                }
            };
            match row.op.as_str() {
                // Gemma's global layers are not what its facts are about.
                "attn_prefill" | "attn_decode" if !row.name.ends_with("_global") => {
                    is("q_heads", f.q_heads);
                    is("kv_heads", f.kv_heads);
                    is("head_dim", f.head_dim);
                    is("gate", Some(u64::from(f.gated_attention)));
                }
                "moe_router" | "moe_sort" | "moe_grouped" | "moe_decode" | "moe_combine" => {
                    is("top_k", f.experts_used);
                    if row.op != "moe_combine" {
                        is("experts", f.experts);
                    }
                }
                "gdn_decode" | "gdn_prefill" => {
                    is("k_heads", f.gdn_k_heads);
                    is("v_heads", f.gdn_v_heads);
                }
                "embedding" | "argmax" | "sample" => is("vocab", f.vocab),
                "rms_norm" if row.name == "norm" => is("n", f.hidden),
                _ => continue,
            }
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
}

/// The contest's workloads: 54 of decode and 100 of prefill, as often as each is listed.
#[test]
fn the_contest_is_complete() {
    let set = embedded();
    let contest = model(&set, "gdn-contest");
    let of = |op: &str| contest.ops.iter().filter(|row| row.op == op).collect::<Vec<_>>();
    let decode: Vec<(u64, u64)> = of("gdn_decode")
        .iter()
        .map(|row| (row.dims["n_seq"], row.count))
        .collect();
    assert_eq!(decode, [(1, 10), (4, 8), (8, 7), (16, 7), (32, 7), (48, 7), (64, 8)]);
    assert_eq!(decode.iter().map(|(_, count)| count).sum::<u64>(), 54);

    let prefill = of("gdn_prefill");
    // For a number of sequences: workloads, and their tokens together.
    let with = |sequences: std::ops::RangeInclusive<u64>| {
        let rows = prefill.iter().filter(|row| sequences.contains(&row.dims["n_seq"]));
        rows.fold((0, 0), |(workloads, tokens), row| {
            let sum: u64 = row.n_tok.iter().map(|&n| u64::from(n)).sum();
            (workloads + row.count * row.n_tok.len() as u64, tokens + row.count * sum)
        })
    };
    assert_eq!(with(1..=1), (33, 5498));
    assert_eq!(with(2..=2), (28, 16107));
    assert_eq!(with(3..=3), (16, 16086));
    assert_eq!(with(4..=4), (4, 3151));
    assert_eq!(with(5..=15), (3, 3028 + 3999 + 4124));
    assert_eq!(with(20..=57), (16, 16 * 8192));
    assert_eq!(with(1..=57).0, 100);
    for row in &contest.ops {
        assert_eq!(
            (row.dims["k_heads"], row.dims["v_heads"], row.dims["head_dim"]),
            (4, 8, 128)
        );
    }
}
