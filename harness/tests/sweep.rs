//! Sweeps on the simulator: records, tables, resuming, shards.

mod common;
use common::{SMALL, pair, records, run, runnable, stdout};
use std::collections::BTreeSet;
use std::path::Path;

fn sweep_args<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let out = dir.to_str().expect("a plain path");
    [&["sweep", "q8_matmul", "--device", "simt", "--out", out], more].concat()
}

#[test]
fn a_sweep_leaves_a_record_for_every_config_and_a_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let csv = dir.path().join("t.csv");
    let more = [
        "--shape",
        SMALL,
        "--mode",
        "strict",
        "--csv",
        csv.to_str().expect("a plain path"),
    ];
    let table = stdout(&run(&sweep_args(dir.path(), &more)), 0);
    assert!(
        table.contains("strict_model_cost") && table.contains("is no time"),
        "{table}"
    );
    assert!(
        !table.contains("_us"),
        "no column of the simulator may look like a time: {table}"
    );
    assert!(
        std::fs::read_to_string(csv)
            .expect("the file")
            .starts_with("case,shape,strict_config")
    );
    let records = records(dir.path());
    let ran: BTreeSet<String> = records.iter().map(|r| pair(r).1).collect();
    assert_eq!(ran, runnable(SMALL).into_iter().collect());
    for r in &records {
        assert_eq!((&r["status"], &r["kind"]), (&"PASSED".into(), &"model".into()));
        assert_eq!(r["bytes_check"]["equal"], true);
        assert_eq!(r["bytes_check"]["compared"], 48);
        assert!(r["times"].is_null() && r["model_cost"]["cost"].as_f64().is_some_and(|c| c > 0.0));
        assert!(r["source_hash"].as_str().is_some_and(|h| h.len() == 32) && r["seed"] == 1);
        assert!(
            r["command"]
                .as_str()
                .is_some_and(|c| c.starts_with("harness sweep q8_matmul --shape n=24,k=1024"))
        );
    }
}

#[test]
fn a_record_s_command_makes_the_same_record_again() {
    let dir = tempfile::tempdir().expect("a folder");
    stdout(&run(&sweep_args(dir.path(), &["--shape", SMALL, "--seed", "7"])), 0);
    let first = records(dir.path()).pop().expect("a record");
    let line = first["command"].as_str().expect("text").to_string();
    let again = tempfile::tempdir().expect("a folder");
    let out = again.path().to_str().expect("a plain path");
    let args: Vec<&str> = line.split_whitespace().skip(1).chain(["--out", out]).collect();
    stdout(&run(&args), 0);
    let second = records(again.path());
    assert_eq!(second.len(), 1);
    for field in ["op", "config", "status", "seed", "bytes_check", "model_cost", "command"] {
        assert_eq!(second[0][field], first[field], "{field}");
    }
}

#[test]
fn resume_runs_nothing_twice_and_another_seed_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let shape = ["--shape", SMALL, "--resume"];
    stdout(&run(&sweep_args(dir.path(), &shape)), 0);
    let once = records(dir.path()).len();
    let table = stdout(&run(&sweep_args(dir.path(), &shape)), 0);
    assert_eq!(records(dir.path()).len(), once);
    assert!(
        table.contains(&format!("{once} OK")),
        "what was skipped is in the table: {table}"
    );
    stdout(
        &run(&sweep_args(dir.path(), &["--shape", SMALL, "--resume", "--seed", "2"])),
        0,
    );
    assert_eq!(records(dir.path()).len(), 2 * once);
    stdout(&run(&sweep_args(dir.path(), &["--shape", SMALL])), 0);
    assert_eq!(records(dir.path()).len(), 3 * once, "without --resume everything runs");
}

#[test]
fn shards_run_every_pair_once() {
    let whole = tempfile::tempdir().expect("a folder");
    let axes = ["--shape", "n=8,k=256", "-a", "n_tok=1:8", "--mode", "strict"];
    stdout(&run(&sweep_args(whole.path(), &axes)), 0);
    let mut want: Vec<_> = records(whole.path()).iter().map(pair).collect();
    let parts = tempfile::tempdir().expect("a folder");
    for shard in ["0/3", "1/3", "2/3"] {
        stdout(
            &run(&sweep_args(parts.path(), &[&axes[..], &["--shard", shard]].concat())),
            0,
        );
    }
    let mut got: Vec<_> = records(parts.path()).iter().map(pair).collect();
    want.sort();
    got.sort();
    assert_eq!(got, want);
}

#[test]
fn a_large_case_is_checked_in_part_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let id = runnable("n=40960,k=4096,n_tok=1").remove(0);
    let more = [
        "--shape",
        "n=40960,k=4096,n_tok=1",
        "--config",
        &id,
        "--simt-budget",
        "1",
    ];
    // A billion multiply-adds is less than the case takes with its tile of eight tokens.
    let table = stdout(&run(&sweep_args(dir.path(), &more)), 0);
    let r = &records(dir.path())[0];
    let (compared, elements) = (
        r["bytes_check"]["compared"].as_u64(),
        r["bytes_check"]["elements"].as_u64(),
    );
    assert_eq!(elements, Some(40960));
    assert!(compared.is_some_and(|c| (64..40960).contains(&c)), "{compared:?}");
    assert!(
        table.contains(&format!("{} of 40960", compared.unwrap_or(0))),
        "{table}"
    );
    assert_eq!(
        r["shape"]["dims"]["n"], 40960,
        "the record is of the case, its check says how much of it ran"
    );
}
