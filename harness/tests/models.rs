//! Whole models on the simulator: plan, forward, bench, and what is refused. Nothing here is timed.

mod common;
use common::{run, stdout};
use serde_json::Value;

const TINY: &str = "synthetic:tiny-qwen3.6";
const SMALL: &str = "synthetic:tiny-llama";
/// As little as the simulator can be given.
const ONE_LAYER: &str = "synthetic:tiny-llama:layers=1";
const HYBRID_LAYER: &str = "synthetic:tiny-qwen3.6:layers=1";

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&run(&[args, &["--json"]].concat()), 0)).expect("JSON")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

#[test]
fn a_plan_has_memory_and_every_launch_with_its_reason() {
    let plan = json(&["plan", "--model", TINY, "-b", "4", "-p", "200", "--gpu", "H200"]);
    assert_eq!(
        (&plan["sequences"], &plan["chunk"], &plan["mode"]),
        (&4.into(), &256.into(), &"strict".into())
    );
    for part in ["weights", "kv cache", "states", "step", "work"] {
        assert!(plan["memory_bytes"][part].as_u64().expect(part) > 0, "{part}");
    }
    let steps: Vec<&str> = list(&plan["plans"])
        .iter()
        .map(|p| p["step"].as_str().expect("a name"))
        .collect();
    assert_eq!(steps, ["decode 4x1", "prefill 1x200", "mtp decode 4x1"]);
    for plan in list(&plan["plans"]) {
        for launch in list(&plan["launches"]) {
            assert!(launch["why"].as_str().is_some_and(|why| !why.is_empty()), "{launch}");
            assert!(
                launch["config"].as_str().is_some_and(|config| !config.is_empty()),
                "{launch}"
            );
        }
    }
    let launches = list(&plan["plans"][0]["launches"]);
    let of = |role: &str| launches.iter().filter(|l| l["role"] == role).count();
    // Four layers: three gated delta nets and one attention, experts in each.
    assert_eq!(
        (of("gdn_conv"), of("attention"), of("route"), of("lm_head")),
        (3, 1, 4, 1)
    );
}

/// Full models, without a GPU and without a weight.
#[test]
fn a_full_models_plan_folds_what_repeats() {
    for (model, parameters, layers) in [
        ("synthetic:qwen3.6-35b-a3b", 34.7e9, "x40"),
        ("synthetic:qwen3-8b", 8.19e9, "x36"),
    ] {
        let plan = json(&["plan", "--model", model]);
        let counted = plan["parameters"].as_f64().expect("a number");
        assert!((counted / parameters - 1.0).abs() < 0.01, "{model}: {counted}");
        let text = stdout(&run(&["plan", "--model", model]), 0);
        let folded = list(&plan["plans"][0]["launches"]).len();
        let rows = text
            .split("decode 1x1")
            .nth(1)
            .and_then(|t| t.split("prefill").next())
            .expect("a table")
            .lines()
            .count();
        assert!(
            rows * 5 < folded && text.contains(layers),
            "{rows} rows for {folded} launches\n{text}"
        );
    }
}

/// The tokens of a forward.
fn tokens(model: &str, more: &[&str]) -> Vec<u32> {
    let base = [
        "forward",
        "--model",
        model,
        "--tokens",
        "7,8,9,7,8",
        "--device",
        "simt",
        "--simt-checks",
        "off",
    ];
    let text = stdout(&run(&[&base[..], more].concat()), 0);
    text.trim().split(',').map(|t| t.parse().expect("a token")).collect()
}

#[test]
fn a_forward_gives_the_same_tokens_in_every_way() {
    let with = |more: &[&str]| tokens(ONE_LAYER, &[&["-n", "5"], more].concat());
    let greedy = with(&[]);
    assert!(greedy.len() == 5 && greedy.iter().all(|t| *t < 512), "{greedy:?}");
    for more in [&["--graphs", "off"][..], &["--chunk", "64", "--draft", "lookup:2"]] {
        assert_eq!(with(more), greedy, "{more:?}");
    }
    let drawn = |seed| with(&["--temperature", "3", "--seed", seed]);
    assert_eq!(drawn("5"), drawn("5"));
    assert_ne!(drawn("5"), drawn("6"));
}

#[test]
fn the_mtp_heads_drafts_change_no_token() {
    let with = |draft| tokens(HYBRID_LAYER, &["-n", "4", "--draft", draft]);
    assert_eq!(with("mtp:2"), with("none"));
}

#[test]
fn logits_are_written_and_hashed() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("logits.f32");
    let path = file.to_str().expect("a plain path");
    let args = [
        "forward", "--model", ONE_LAYER, "--tokens", "1,2,3", "-n", "0", "--device", "simt", "--logits", path,
    ];
    let text = stdout(&run(&args), 0);
    let bytes = std::fs::read(&file).expect("the file");
    assert_eq!(bytes.len(), 3 * 512 * 4);
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for byte in &bytes {
        hash ^= u128::from(*byte);
        hash = hash.wrapping_mul((1 << 88) + 0x13b);
    }
    assert_eq!(text, format!("logits {hash:032x}\n"));
    // Another prompt, other logits: the first rows are the same, the last is not.
    let args = [
        "forward", "--model", ONE_LAYER, "--tokens", "1,2,4", "-n", "1", "--device", "simt", "--logits", path,
    ];
    let report = json(&args);
    let other = std::fs::read(&file).expect("the file");
    assert!(bytes[..2 * 2048] == other[..2 * 2048] && bytes[2 * 2048..] != other[2 * 2048..]);
    assert_eq!((&report["times"], list(&report["tokens"]).len()), (&"host".into(), 1));
    // What comes next is the largest of the last row.
    let last: Vec<f32> = other[2 * 2048..]
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().expect("four")))
        .collect();
    let largest = (0..last.len()).fold(0, |best, i| if last[i] > last[best] { i } else { best });
    assert_eq!(report["tokens"][0], largest);
}

#[test]
fn a_bench_on_the_simulator_is_host_time_and_leaves_no_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().to_str().expect("a plain path");
    let args = [
        "bench",
        "--model",
        HYBRID_LAYER,
        "-p",
        "20",
        "-n",
        "2",
        "-b",
        "1,2",
        "-r",
        "1",
        "--by-role",
        "both",
        "--simt-checks",
        "off",
        "--device",
        "simt",
        "--out",
        out,
        "--json",
        "-",
    ];
    let text = stdout(&run(&args), 0);
    let records: Value = serde_json::from_str(&text).expect("JSON");
    let names: Vec<&str> = list(&records)
        .iter()
        .filter_map(|r| r["test"]["name"].as_str())
        .collect();
    assert_eq!(names, ["pp20", "tg2", "tg2"]);
    assert!(
        list(&records)
            .iter()
            .all(|r| r["source"] == "host_time" && r["clocks"].is_null())
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0);
    for (at, step) in [(3, "decode 1x1"), (4, "prefill 1x32")] {
        let step_times = &records[at]["step"];
        assert_eq!(step_times["step"], step);
        let launches: u64 = list(&step_times["roles"])
            .iter()
            .map(|r| r["launches"].as_u64().expect("a count"))
            .sum();
        assert_eq!(step_times["launches"], launches, "every launch has one role");
        assert!(list(&step_times["roles"]).iter().all(|r| r["us"].as_f64().is_some()));
    }
    let csv = dir.path().join("t.csv");
    let path = csv.to_str().expect("a plain path");
    let args = [
        "bench",
        "--model",
        ONE_LAYER,
        "-p",
        "0",
        "-n",
        "1",
        "-r",
        "1",
        "--by-role",
        "off",
        "--device",
        "simt",
        "--csv",
        path,
    ];
    let text = stdout(&run(&args), 0);
    assert!(
        text.contains("host_time_tokens_per_s") && text.contains("simulator"),
        "{text}"
    );
    assert!(
        std::fs::read_to_string(csv)
            .expect("the file")
            .starts_with("model,size,params,backend")
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_name_and_numbers() {
    for (args, named) in [
        (
            &["forward", "--model", "synthetic:no-such", "--tokens", "1"][..],
            &["no-such", "tiny-llama", "qwen3-8b"][..],
        ),
        (
            &["forward", "--model", "no-such-folder", "--tokens", "1"],
            &["no-such-folder"],
        ),
        (
            &["forward", "--model", SMALL, "--tokens", "1,9999"],
            &["token 1", "9999", "512"],
        ),
        (
            &[
                "forward",
                "--model",
                SMALL,
                "--tokens",
                "1",
                "--context",
                "64",
                "-n",
                "100",
            ],
            &["100", "64"],
        ),
        (
            &["forward", "--model", SMALL, "--tokens", "1", "--context", "100000"],
            &["100032", "8192"],
        ),
        (
            &["forward", "--model", SMALL, "--prompt", "hello"],
            &["tokenizer", "--tokens"],
        ),
        (&["forward", "--model", SMALL, "--tokens", "1,x"], &["x"]),
        (&["forward", "--model", SMALL], &["--tokens"]),
        (
            &["forward", "--model", SMALL, "--tokens", "1", "--draft", "eagle:2"],
            &["eagle:2", "lookup:N"],
        ),
        (
            &["forward", "--model", SMALL, "--tokens", "1", "--draft", "mtp:2"],
            &["lookup"],
        ),
        (
            &["forward", "--model", SMALL, "--tokens", "1", "--chunk", "100"],
            &["100", "multiple of 64"],
        ),
        (&["plan", "--model", SMALL, "--gpu", "RTX 9999"], &["RTX 9999", "H200"]),
        (&["plan", "q8_matmul", "--model", SMALL], &["--model"]),
        (&["plan", "-b", "4"], &["--model"]),
        (
            &["verify", "--model", SMALL, "--chunks", "100"],
            &["100", "multiple of 64"],
        ),
        (&["verify", "--model", SMALL, "--drafts", "9"], &["9", "7"]),
        (&["verify", "--model", SMALL, "--against", "simt"], &["simt"]),
        (&["verify", "--new", "8"], &["--model"]),
        (&["bench", "--model", SMALL, "-b", "0"], &["0"]),
        (
            &["bench", "--model", SMALL, "-p", "0", "-n", "0"],
            &["nothing to measure"],
        ),
        (&["bench", "--model", SMALL, "--csv", "-", "--json", "-"], &["stdout"]),
    ] {
        let device: &[&str] = if args[0] == "plan" { &[] } else { &["--device", "simt"] };
        let out = run(&[args, device].concat());
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        for named in named {
            assert!(stderr.contains(named), "{args:?} does not name {named}: {stderr}");
        }
    }
}
