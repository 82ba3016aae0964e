//! An operation made of a `Spec`, through every command: `silu_mul` stands for all.

mod common;
use common::{records, run, run_planted, stdout};

const VERIFY: &[&str] = &["verify", "silu_mul", "--device", "simt", "--cases", "40"];

fn report(json: &std::path::Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(json).expect("the file")).expect("JSON")
}

#[test]
fn verify_checks_the_plain_config_and_rows_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let json = dir.path().join("v.json");
    let args = [VERIFY, &["--json", json.to_str().expect("a plain path")]].concat();
    stdout(&run(&args), 0);
    let found = report(&json);
    assert_eq!(found["configs"]["silu_mul plain"]["byte_equal"], 40, "{found}");
    let alone = found["configs"]["silu_mul plain, row alone"]["byte_equal"].as_u64();
    assert!(alone.is_some_and(|n| n > 20), "{found}");
}

#[test]
#[cfg(debug_assertions)]
fn verify_fails_on_a_wrong_byte_and_on_a_row_that_differs_alone() {
    for (plant, line) in [
        ("flip:plain", "silu_mul plain "),
        ("alone:plain", "silu_mul plain, row alone"),
    ] {
        let text = stdout(&run_planted(plant, VERIFY), 1);
        let row = text
            .lines()
            .find(|l| l.starts_with(line))
            .expect("the line of the table");
        let wrong = row.split_whitespace().rev().nth(1).and_then(|n| n.parse::<u64>().ok());
        assert!(wrong.is_some_and(|n| n > 20), "{plant}: {text}");
    }
}

#[test]
fn a_sweep_on_the_simulator_checks_the_rows_it_can_afford() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().to_str().expect("a plain path");
    let sweep = |shape: &str, more: &[&str]| {
        let args = ["sweep", "silu_mul", "--device", "simt", "--out", out, "--shape", shape];
        stdout(&run(&[&args[..], more].concat()), 0)
    };
    sweep("n=72,n_tok=5", &[]);
    sweep("n=72,n_tok=0", &[]);
    let table = sweep("n=1000,n_tok=100000", &["--simt-budget", "1"]);
    let found = records(dir.path());
    let check = |i: usize| &found[i]["bytes_check"];
    assert!(
        found.iter().all(|r| r["status"] == "PASSED" && r["config"] == "plain"),
        "{found:?}"
    );
    assert_eq!(check(0)["against"], serde_json::json!(["cpu"]));
    assert_eq!(
        (&check(0)["compared"], &check(0)["elements"]),
        (&360.into(), &360.into())
    );
    assert_eq!(check(1)["elements"], 0);
    let compared = check(2)["compared"].as_u64().expect("a count");
    assert_eq!(check(2)["elements"], 100_000_000);
    assert!(compared < 100_000_000 && compared.is_multiple_of(1000), "{compared}");
    assert!(table.contains(&format!("{} of 100000", compared / 1000)), "{table}");
    // Nothing runs twice.
    sweep("n=72,n_tok=5", &["--resume"]);
    assert_eq!(records(dir.path()).len(), 3);
    assert!(stdout(&run(&["best", "--out", out]), 0).contains("silu_mul"));
}

#[test]
fn lists_and_plans_have_it() {
    assert!(stdout(&run(&["list", "configs"]), 0).contains("silu_mul"));
    let plan = stdout(&run(&["plan", "silu_mul", "--shape", "n=8"]), 0);
    assert!(
        plan.contains("n=8,n_tok=1") && plan.contains("1 cases, 1 runs"),
        "{plan}"
    );
    assert_eq!(run(&["plan", "silu_mul", "--shape", "n=0"]).status.code(), Some(2));
    assert!(stdout(&run(&["plan", "silu_mul"]), 0).contains("qwen3-8b/ffn_act"));
}
