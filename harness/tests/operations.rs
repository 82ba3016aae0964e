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

/// `gemm_f16` is gemm with cases of f16 alone; what those have not reached is said.
#[test]
fn verify_of_one_dtype_says_which_configs_it_has_not_reached() {
    let dir = tempfile::tempdir().expect("a folder");
    let json = dir.path().join("v.json");
    let path = json.to_str().expect("a plain path");
    let args = ["verify", "gemm_f16", "--device", "simt", "--cases", "8", "--json", path];
    let text = stdout(&run(&args), 0);
    let found = report(&json);
    assert_eq!(found["configs"]["gemm plain"]["byte_equal"], 8, "{found}");
    let unreached = found["unreached"].as_array().expect("a list");
    assert!(!unreached.is_empty(), "eight small cases do not reach every config");
    for name in unreached {
        let name = name.as_str().expect("a name");
        assert!(
            text.contains(name) && found["configs"][name].is_null(),
            "{name}: {text}"
        );
    }
    assert!(text.contains("no case reached: gemm "), "{text}");
}

/// Faults of a tuned config are found in whole, from a graph, and in a part that another config runs.
#[test]
#[cfg(debug_assertions)]
fn verify_finds_faults_of_a_tuned_config() {
    let config = "t16_n32_k128_s9_w2";
    let args = ["verify", "gemm_bf16", config, "--device", "simt", "--cases", "24"];
    let line = |plant: &str, code: i32, name: &str| {
        let text = stdout(&run_planted(plant, &args), code);
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {text}")).to_string()
    };
    // The last two columns: wrong, failed.
    let wrong = |line: &str| line.split_whitespace().rev().nth(1).and_then(|n| n.parse::<u64>().ok());
    let whole = line(&format!("flip:{config}"), 1, &format!("gemm {config} "));
    assert!(wrong(&whole).is_some_and(|n| n > 3), "{whole}");
    let part = line(
        &format!("alone:{config}"),
        1,
        &format!("gemm {config}, part by another config"),
    );
    assert!(wrong(&part).is_some_and(|n| n > 0), "{part}");
    let replay = line("", 0, &format!("gemm {config}, graph replay"));
    assert_eq!(wrong(&replay), Some(0), "{replay}");
}
