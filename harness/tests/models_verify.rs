//! `verify --model` on the simulator: every check is made, and each planted fault fails the check that it is planted in and no other.

mod common;
use common::{run_planted, stdout};
use serde_json::Value;

/// Runs with a planted fault; gives the checks. Other tests run models with the simulator's checks; here it is bytes that are compared.
fn verify(plant: &str, model: &str, more: &[&str]) -> Vec<Value> {
    let args = [
        "verify",
        "--model",
        model,
        "--device",
        "simt",
        "--simt-checks",
        "off",
        "--chunks",
        "64",
        "--json",
        "-",
    ];
    let text = stdout(&run_planted(plant, &[&args[..], more].concat()), 1);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    report["checks"].as_array().expect("a list").clone()
}

/// All checks are there and equal but the planted ones, which say where they differ.
fn judge(checks: &[Value], names: &[&str], planted: &[&str], token: u64, new: u64) {
    let found: Vec<&str> = checks
        .iter()
        .map(|check| check["check"].as_str().expect("a name"))
        .collect();
    assert_eq!(found, names);
    for check in checks {
        let name = check["check"].as_str().expect("a name");
        if planted.contains(&name) {
            assert_eq!(check["outcome"], "differs", "{check}");
            let first = &check["first"];
            assert_eq!(
                (&first["sequence"], &first["token"]),
                (&"subject".into(), &token.into())
            );
            assert!(first["byte"].is_u64(), "{check}");
            assert!(
                check["note"].as_str().is_some_and(|note| note.contains("0x")),
                "{check}"
            );
            continue;
        }
        assert_eq!(check["outcome"], "equal", "{check}");
        // Generation shows its tokens alone, and driver calls are a GPU's.
        let rows = if ["lookup", "driver", "mtp-1-g"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            0
        } else {
            new
        };
        assert_eq!(check["rows"].as_u64(), Some(rows), "{check}");
    }
}

/// One bit of one logit.
#[test]
fn a_flipped_bit_fails_its_checks_alone() {
    let sizes = ["--new", "4", "--prompt-tokens", "66", "--batches", "3", "--drafts", "2"];
    let checks = verify("logit:batch-3,drawn", "synthetic:tiny-llama:layers=1", &sizes);
    let names = [
        "repeat",
        "graphs",
        "chunk-64",
        "batch-3-eager",
        "batch-3",
        "drafts-2",
        "drafts-2-batch-3",
        "drawn",
        "drawn-batch-3",
        "drawn-drafts-2",
        "lookup-2",
        "reopened",
        "driver-calls",
    ];
    judge(&checks, &names, &["batch-3", "drawn"], 2, 4);
}

/// A prompt that differs in its last token: the model itself has to show it. With a gated delta net, experts and an MTP head.
#[test]
fn another_prompt_fails_its_check_alone() {
    let sizes = ["--new", "3", "--prompt-tokens", "65", "--batches", "1", "--drafts", "1"];
    let checks = verify("prompt:graphs", "synthetic:tiny-qwen3.6:layers=1", &sizes);
    let names = [
        "repeat",
        "graphs",
        "chunk-64",
        "drafts-1",
        "drawn",
        "drawn-drafts-1",
        "lookup-1",
        "reopened",
        "driver-calls",
        "mtp-1",
        "mtp-1-generated",
    ];
    judge(&checks, &names, &["graphs"], 0, 3);
}
