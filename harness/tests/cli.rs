//! The commands that only read: lists, plans, usage errors.

mod common;
use common::{configs, harness, run, stdout};
use std::collections::BTreeSet;

fn plan(args: &[&str]) -> Vec<serde_json::Value> {
    let out = run(&[&["plan"], args, &["--json"]].concat());
    serde_json::from_str(&stdout(&out, 0)).expect("a JSON list")
}

fn keys(cases: &[serde_json::Value]) -> Vec<String> {
    cases
        .iter()
        .map(|c| c["key"].as_str().expect("a key").to_string())
        .collect()
}

#[test]
fn lists_name_what_there_is() {
    assert!(stdout(&run(&["list", "models"]), 0).contains("Qwen3-8B"));
    assert!(stdout(&run(&["list", "shapes"]), 0).contains("qwen3-8b/ffn_down"));
    assert!(!stdout(&run(&["list", "kernels"]), 0).is_empty());
    let configs = configs();
    assert!(configs.len() > 3 && configs.iter().any(|(_, order)| order == "canonical"));
    let json = stdout(&run(&["list", "shapes", "--json"]), 0);
    let shapes: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(shapes.as_array().expect("a list").len() > 20);
}

#[test]
fn a_plan_takes_globs_shapes_and_axes() {
    let all = plan(&[]);
    let one = plan(&["qwen3-8b/ffn_down"]);
    assert!(!one.is_empty() && one.len() < all.len());
    assert!(one.iter().all(|c| {
        c["labels"]
            .as_array()
            .is_some_and(|l| l.iter().any(|l| l == "qwen3-8b/ffn_down"))
    }));
    assert_eq!(
        keys(&plan(&["--shape", "m=3,n=64,k=256"])),
        keys(&plan(&["--shape", "n=64,k=256,n_tok=3"]))
    );
    let axes = plan(&["q8*", "--shape", "n=64,k=256", "-a", "n_tok=1,2,8", "-a", "n=64:192:64"]);
    assert_eq!(axes.len(), 9);
    assert_eq!(keys(&axes).into_iter().collect::<BTreeSet<_>>().len(), 9);
    assert!(keys(&axes).contains(&keys(&plan(&["q8*", "--shape", "n=192,k=256,n_tok=8"]))[0]));
    // An axis asks for the operations that have it.
    let groups = plan(&["-a", "groups=1,2"]);
    assert!(!groups.is_empty() && keys(&groups).iter().all(|k| k.contains("groups=")));
}

#[test]
fn equal_sizes_of_several_models_are_one_case() {
    let keys = keys(&plan(&[]));
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
}

#[test]
fn every_config_runs_or_has_a_reason_not_to() {
    let known: BTreeSet<String> = configs().into_iter().map(|c| c.0).collect();
    for mode in ["strict", "both"] {
        for case in plan(&["q8_matmul", "--shape", "n=40,k=160,n_tok=3", "--mode", mode]) {
            let list = |v: &serde_json::Value| v.as_array().expect("a list").clone();
            let run = list(&case["run"])
                .iter()
                .map(|c| c.as_str().expect("id").to_string())
                .collect::<Vec<_>>();
            let pruned = list(&case["pruned"]);
            assert!(pruned.iter().all(|p| p["reason"].as_str().is_some_and(|r| r.len() > 5)));
            let ids = pruned.iter().map(|p| p["config"].as_str().expect("id").to_string());
            assert_eq!(ids.chain(run).collect::<BTreeSet<_>>(), known, "--mode {mode}");
        }
    }
}

#[test]
fn shards_are_an_exact_partition() {
    let all: Vec<String> = keys(&plan(&[]));
    let mut parts = Vec::new();
    let mut sizes = Vec::new();
    for i in 0..4 {
        let part = keys(&plan(&["--shard", &format!("{i}/4")]));
        sizes.push(part.len());
        parts.extend(part);
    }
    parts.sort();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(parts, sorted);
    assert!(
        sizes.iter().all(|s| *s > all.len() / 8 && *s < all.len() / 2),
        "shards of like size: {sizes:?}"
    );
}

#[test]
fn what_does_not_exist_is_a_usage_error_that_names_it() {
    for (args, named) in [
        (&["plan", "q9_matmul"][..], "q9_matmul"),
        (&["plan", "--shape", "no-such-model"], "no-such-model"),
        (&["plan", "q8_matmul", "--shape", "n=0,k=32"], "n=0"),
        (&["plan", "q8*", "--shape", "n=8,z=32"], "z"),
        (&["plan", "-a", "z=1"], "z"),
        (&["plan", "-a", "n_tok=8:1"], "8:1"),
        (&["plan", "--config", "bm9"], "bm9"),
        (&["plan", "--shard", "4/4"], "4/4"),
        (&["sweep", "q9_matmul", "--device", "simt"], "q9_matmul"),
        (&["sweep", "--device", "gpu"], "gpu"),
        (&["verify", "q9_matmul", "--device", "simt"], "q9_matmul"),
        (&["inspect", "q9_matmul"], ""),
        (&["compare", "no-such-a", "no-such-b"], "no-such-a"),
        (&["frobnicate"], "frobnicate"),
        // Sizes that the kernels count in 32 bits.
        (
            &["plan", "q8_matmul", "--shape", "n=2147483647,k=2147483647"],
            "2147483647",
        ),
        (
            &[
                "plan",
                "q8_matmul",
                "--shape",
                "n=16,k=64",
                "-a",
                "n=1:9999:1",
                "-a",
                "k=1:9999:1",
                "-a",
                "n_tok=1:9999:1",
            ],
            "9999 cases times 9999 values of k",
        ),
        (&["plan", "--shape", "/"], "/"),
        (&["sweep", "--device", "simt", "--timeout", "0"], "timeout"),
        (&["sweep", "--device", "simt", "--csv", "-", "--json", "-"], "stdout"),
        (&["verify", "--device", "simt", "--cases", "0"], "cases"),
        (&["verify", "--device", "simt", "--repeat", "0"], "repeat"),
        (
            &["verify", "--device", "simt", "--cases", "18446744073709551615"],
            "cases",
        ),
        (
            &["verify", "--device", "simt", "--case", "18446744073709551615"],
            "case",
        ),
    ] {
        let out = run(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(named), "{args:?}: {stderr}");
    }
}

#[test]
fn an_error_says_its_cause_once() {
    let out = run(&["plan", "--shape", "/"]);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(stderr.matches("os error").count(), 1, "{stderr}");
    let out = run(&["sweep", "--shape", "n=8,k=32", "--device", "cuda:77"]);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
}

/// `harness plan | head -1`.
#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().to_str().expect("a plain path");
    for args in [
        &["plan"][..],
        &["plan", "--json"],
        &["list", "shapes"],
        &[
            "sweep",
            "q8_matmul",
            "--device",
            "simt",
            "--shape",
            "n=8,k=32",
            "--out",
            out,
        ],
        &["best", "--out", out],
        &["verify", "--device", "simt", "--cases", "1"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = harness(args).stdout(writer).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {stderr}");
    }
}

/// A table of a long sweep is on stdout even where the file it should go to as well cannot be written.
#[test]
fn a_file_that_cannot_be_written_does_not_cost_the_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().to_str().expect("a plain path");
    let missing = dir.path().join("missing/t.csv");
    let csv = missing.to_str().expect("a plain path");
    let ended = run(&[
        "sweep",
        "q8_matmul",
        "--device",
        "simt",
        "--shape",
        "n=8,k=32",
        "--out",
        out,
        "--csv",
        csv,
    ]);
    assert!(stdout(&ended, 3).contains("custom/custom"));
}

/// A gate that has nothing to judge must not say that all is well.
#[test]
fn a_limit_without_a_case_in_common_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().to_str().expect("a plain path");
    let ended = run(&["compare", out, out, "--fail-on", "slower=2%"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("no case was measured in both"));
    assert_eq!(run(&["compare", out, out]).status.code(), Some(0));
}

#[test]
fn a_device_that_is_not_there_is_a_device_failure() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().to_str().expect("a plain path");
    let out = run(&["sweep", "--shape", "n=8,k=32", "--device", "cuda:77", "--out", out]);
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
}
