//! Kernels that crash, hang or give a wrong bit, and a parent that is killed. Faults are planted in debug builds only.
#![cfg(debug_assertions)]

mod common;
use common::{SMALL, harness, pair, records, run, run_planted, runnable, stdout};
use std::collections::BTreeSet;
use std::path::Path;

fn sweep_args<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let out = dir.to_str().expect("a plain path");
    [
        &[
            "sweep",
            "q8_matmul",
            "--shape",
            SMALL,
            "--mode",
            "strict",
            "--device",
            "simt",
            "--out",
            out,
        ],
        more,
    ]
    .concat()
}

fn statuses(dir: &Path) -> Vec<(String, String)> {
    records(dir)
        .iter()
        .map(|r| (pair(r).1, r["status"].as_str().expect("text").to_string()))
        .collect()
}

#[test]
fn a_wrong_bit_is_found_and_located() {
    let dir = tempfile::tempdir().expect("a folder");
    let bad = runnable(SMALL).remove(1);
    let out = run_planted(&format!("flip:{bad}"), &sweep_args(dir.path(), &[]));
    let table = stdout(&out, 1);
    assert!(table.contains("1 WRONG"), "{table}");
    for r in records(dir.path()) {
        let wrong = pair(&r).1 == bad;
        assert_eq!(r["status"], if wrong { "INCORRECT" } else { "PASSED" });
        if wrong {
            assert_eq!(r["bytes_check"]["first_bad"]["index"], 47);
            assert!(
                r["reason"]
                    .as_str()
                    .is_some_and(|m| m.contains("token 1") && m.contains("row 23")),
                "{r}"
            );
            assert!(r["model_cost"].is_null(), "a wrong kernel has no rank");
        }
    }
}

#[test]
fn a_crash_costs_one_config() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = runnable(SMALL);
    let out = run_planted(&format!("crash:{}", all[1]), &sweep_args(dir.path(), &[]));
    stdout(&out, 3);
    let found = statuses(dir.path());
    assert_eq!(found.len(), all.len());
    for (config, status) in found {
        assert_eq!(status, if config == all[1] { "ERROR" } else { "PASSED" }, "{config}");
    }
    let text = std::fs::read_to_string(dir.path().join("simt.jsonl")).expect("records");
    assert!(
        text.contains("killed by signal 6") && text.contains("planted crash of"),
        "the worker's last words: {text}"
    );
}

/// A kernel's fault ends the worker after the report; two of them in one case do not cost the configs after them.
#[test]
fn faults_that_take_the_device_cost_their_configs_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = runnable(SMALL);
    let bad = &all[..3];
    assert!(all.len() > bad.len(), "a config must be left");
    let out = run_planted(&format!("fault:{}", bad.join(",")), &sweep_args(dir.path(), &[]));
    stdout(&out, 3);
    let found = statuses(dir.path());
    assert_eq!(found.len(), all.len());
    for (config, status) in found {
        assert_eq!(
            status,
            if bad.contains(&config) { "ERROR" } else { "PASSED" },
            "{config}"
        );
    }
}

#[test]
fn a_hang_costs_one_config_and_the_timeout() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = runnable(SMALL);
    // Long enough that a busy machine's other configs stay within it.
    let out = run_planted(
        &format!("hang:{}", all[0]),
        &sweep_args(dir.path(), &["--timeout", "20"]),
    );
    stdout(&out, 3);
    for (config, status) in statuses(dir.path()) {
        assert_eq!(status, if config == all[0] { "TIMEOUT" } else { "PASSED" }, "{config}");
    }
    assert_eq!(records(dir.path()).len(), all.len());
    // What did not finish is run again, what did is not.
    stdout(&run(&sweep_args(dir.path(), &["--resume"])), 0);
    assert_eq!(records(dir.path()).len(), all.len() + 1);
}

#[test]
fn a_kill_loses_no_finished_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = runnable(SMALL);
    // It stops for good at the third config, so that the kill meets it in the middle.
    let mut child = harness(&sweep_args(dir.path(), &["--timeout", "600"]))
        .env("LOCKSTEP_PLANT", format!("hang:{}", all[2]))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    while records(dir.path()).len() < 2 {
        assert!(child.try_wait().expect("a child").is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let before: Vec<_> = records(dir.path()).iter().map(pair).collect();
    assert_eq!(before.len(), 2);
    stdout(&run(&sweep_args(dir.path(), &["--resume"])), 0);
    let after: Vec<_> = records(dir.path()).iter().map(pair).collect();
    assert_eq!(after[..2], before[..]);
    assert_eq!(after.len(), all.len());
    assert_eq!(
        after.iter().map(|p| p.1.clone()).collect::<BTreeSet<_>>(),
        all.into_iter().collect()
    );
}

#[test]
fn verify_finds_a_planted_mismatch_and_its_command_finds_it_again() {
    let bad = runnable(SMALL).remove(0);
    let plant = format!("flip:{bad}");
    let out = run_planted(
        &plant,
        &["verify", "q8_matmul", "--device", "simt", "--cases", "6", "--seed", "5"],
    );
    let text = stdout(&out, 1);
    let line = text
        .lines()
        .find(|l| l.trim_start().starts_with("again: harness"))
        .expect("a command");
    assert!(
        text.contains(&format!("wrong: {bad} on ")) && text.contains("expected 0x"),
        "{text}"
    );
    let args: Vec<&str> = line
        .trim_start()
        .trim_start_matches("again: harness ")
        .split_whitespace()
        .collect();
    let again = stdout(&run_planted(&plant, &args), 1);
    let finding = |t: &str| t.lines().find(|l| l.starts_with("wrong: ")).map(String::from);
    assert_eq!(finding(&again), finding(&text), "the same case, the same byte");
    assert!(again.contains("1 cases"), "{again}");
    stdout(&run(&args), 0);
}

#[test]
fn verify_takes_a_crash_for_a_failure_of_its_config_alone() {
    let bad = runnable(SMALL).remove(0);
    let out = run_planted(&format!("crash:{bad}"), &["verify", "--device", "simt", "--cases", "2"]);
    let text = stdout(&out, 3);
    assert!(
        text.contains(&format!("failed: {bad} on ")) && text.contains("0 wrong, 2 failed"),
        "{text}"
    );
}
