//! Running the built program in a folder of its own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::process::{Command, Output};

/// The program, without a plant.
pub fn harness(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_harness"));
    c.args(args).env_remove("LOCKSTEP_PLANT");
    c
}

/// Runs to the end.
pub fn run(args: &[&str]) -> Output {
    harness(args).output().expect("the program starts")
}

/// Runs to the end with a planted fault.
pub fn run_planted(plant: &str, args: &[&str]) -> Output {
    harness(args)
        .env("LOCKSTEP_PLANT", plant)
        .output()
        .expect("the program starts")
}

/// Stdout as text; the run must have ended with this code.
pub fn stdout(out: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&out.stderr);
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
    stdout
}

/// The records of the simulator in a results folder: what ends in a line end.
pub fn records(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("simt.jsonl")).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    whole
        .lines()
        .map(|l| serde_json::from_str(l).expect("every line is a record"))
        .collect()
}

/// (sizes, config) of a record.
pub fn pair(r: &serde_json::Value) -> (String, String) {
    let shape = &r["shape"];
    (
        format!("{} {}", shape["dims"], shape["n_tok"]),
        r["config"].as_str().unwrap_or_default().to_string(),
    )
}

/// The config ids of `q8_matmul`, in the order of the list, with their order of arithmetic.
pub fn configs() -> Vec<(String, String)> {
    let text = stdout(&run(&["list", "configs", "--json"]), 0);
    let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let text = |v: &serde_json::Value| v.as_str().expect("text").to_string();
    list.as_array()
        .expect("a list")
        .iter()
        .filter(|c| c["op"] == "q8_matmul")
        .map(|c| (text(&c["config"]), text(&c["order"])))
        .collect()
}

/// The canonical configs that a sweep of one shape runs, as the program plans them.
pub fn runnable(shape: &str) -> Vec<String> {
    let text = stdout(
        &run(&["plan", "q8_matmul", "--shape", shape, "--mode", "strict", "--json"]),
        0,
    );
    let plan: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    plan[0]["run"]
        .as_array()
        .expect("configs")
        .iter()
        .map(|c| c.as_str().expect("text").to_string())
        .collect()
}

/// A small shape.
pub const SMALL: &str = "n=24,k=1024,n_tok=2";
