//! `verify` on the simulator, and the commands that read records.

mod common;
use common::{SMALL, run, stdout};

#[test]
fn random_cases_agree_and_repeat() {
    let dir = tempfile::tempdir().expect("a folder");
    let json = dir.path().join("v.json");
    let args = [
        "verify",
        "q8_matmul",
        "--device",
        "simt",
        "--cases",
        "12",
        "--repeat",
        "2",
        "--seed",
        "3",
    ];
    let text = stdout(
        &run(&[&args[..], &["--json", json.to_str().expect("a plain path")]].concat()),
        0,
    );
    assert!(
        text.contains("12 cases, seed 3") && text.contains("0 wrong, 0 failed"),
        "{text}"
    );
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).expect("the file")).expect("JSON");
    assert_eq!(
        (&report["cases"], &report["findings"]),
        (&12.into(), &serde_json::json!([]))
    );
    let plain = &report["configs"]["plain kernel"];
    assert_eq!(
        plain["byte_equal"], 12,
        "the plain kernel is compared with the CPU in every case: {report}"
    );
    // Configs of another order are counted apart.
    for (id, order) in common::configs() {
        let tally = &report["configs"][&id];
        let other = if order == "canonical" {
            "within_tolerance"
        } else {
            "byte_equal"
        };
        assert!(tally.is_null() || tally[other] == 0, "{id}: {tally}");
    }
}

#[test]
fn best_compare_and_report_read_records() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_str().expect("a plain path");
    stdout(
        &run(&[
            "sweep",
            "q8_matmul",
            "--shape",
            SMALL,
            "--device",
            "simt",
            "--out",
            path,
        ]),
        0,
    );
    let best = stdout(&run(&["best", "--out", path, "--write"]), 0);
    assert!(best.contains("strict_model_cost") && best.contains("k=1024"), "{best}");
    assert!(dir.path().join("tuned/simt.toml").exists());
    assert_eq!(run(&["best", "--out", path, "--gpu", "H200"]).status.code(), Some(2));
    // Modelled costs are no times: nothing to compare, nothing to report.
    let compare = stdout(&run(&["compare", path, path]), 0);
    assert!(compare.contains("0 faster, 0 slower, 0 ties"), "{compare}");
    let readme = dir.path().join("README.md");
    let md = readme.to_str().expect("a plain path");
    std::fs::write(&readme, "no markers").expect("a file");
    assert_eq!(run(&["report", "--md", md, "--out", path]).status.code(), Some(2));
    let begin = "<!-- results:begin (made by `harness report`, do not edit) -->";
    std::fs::write(&readme, format!("a\n{begin}\n<!-- results:end -->\nb\n")).expect("a file");
    assert_eq!(
        run(&["report", "--md", md, "--out", path, "--check"]).status.code(),
        Some(1)
    );
    stdout(&run(&["report", "--md", md, "--out", path]), 0);
    stdout(&run(&["report", "--md", md, "--out", path, "--check"]), 0);
    let text = std::fs::read_to_string(&readme).expect("the file");
    assert!(
        text.contains("No GPU has been measured yet.") && text.starts_with("a\n") && text.ends_with("\nb\n"),
        "{text}"
    );
}
