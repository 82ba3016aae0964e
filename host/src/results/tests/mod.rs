//! The record's own rules and comparison. Files are tested in `host/tests/results_file.rs`.

mod peers;
mod tuned;

use super::*;
use std::collections::BTreeMap;

fn dims(n: u64, k: u64) -> BTreeMap<String, u64> {
    [("n".to_string(), n), ("k".to_string(), k)].into()
}

/// A measured record that passed: `median` us, p20 and p80 `spread` to either side.
fn run(config: &str, median: f64, spread: f64) -> Record {
    let (p20_us, p80_us) = (median - spread, median + spread);
    Record {
        schema: SCHEMA,
        time: "2026-11-21T10:00:00Z".into(),
        commit: "0123abc".into(),
        dirty: false,
        command: "harness sweep q8_matmul".into(),
        op: "q8_matmul".into(),
        shape: CaseShape {
            model: "m".into(),
            name: "s".into(),
            dims: dims(4096, 4096),
            n_tok: 1,
        },
        config: config.into(),
        order: CANONICAL.into(),
        mode: Mode::Strict,
        device: DeviceRecord {
            name: "NVIDIA H200".into(),
            arch: "sm_90a".into(),
            driver: None,
            sm_count: 132,
        },
        kind: Kind::Measured,
        status: Status::Passed,
        reason: None,
        bytes_check: Some(BytesCheck {
            against: vec!["plain".into()],
            equal: true,
            ..BytesCheck::default()
        }),
        times: Some(Times {
            median_us: median,
            p20_us,
            p80_us,
            min_us: p20_us,
            samples: 100,
            noise: 0.0,
        }),
        cold: None,
        ratio_to_peer: None,
        cold_ratio_to_peer: None,
        place: None,
        peer: None,
        model_cost: None,
        roof: None,
        clocks: None,
        clocks_before: None,
        rounds_repeated: 0,
        ptx_sha256: Some("aa".into()),
        source_hash: None,
        toolchain: Toolchain::default(),
        seed: 1,
    }
}

#[test]
fn a_record_may_not_contradict_itself() {
    let good = run("a", 10.0, 1.0);
    assert_eq!(good.contradiction(), None);
    type Edit = fn(&mut Record);
    let edits: [(Edit, &str); 9] = [
        (|r| r.schema = 2, "schema"),
        (|r| r.kind = Kind::Model, "times"),
        (|r| r.kind = Kind::Verify, "times"),
        (
            |r| {
                r.model_cost = Some(ModelCost {
                    cost: 1.0,
                    bytes: 1,
                    instructions: 1,
                    occupancy: None,
                })
            },
            "modelled",
        ),
        (|r| r.bytes_check = None, "without a bytes check"),
        (
            |r| r.bytes_check.as_mut().unwrap().equal = false,
            "without a bytes check",
        ),
        (|r| r.bytes_check.as_mut().unwrap().against.clear(), "against nothing"),
        (|r| r.status = Status::Incorrect, "incorrect without"),
        (|r| r.status = Status::Timeout, "no reason"),
    ];
    for (edit, want) in edits {
        let mut bad = good.clone();
        edit(&mut bad);
        let says = bad.contradiction().unwrap_or_else(|| panic!("{want}: not found"));
        assert!(says.contains(want) && says.contains("q8_matmul s a"), "{says}");
    }
    let mut wrong = good;
    wrong.status = Status::Incorrect;
    wrong.bytes_check.as_mut().unwrap().equal = false;
    assert!(
        wrong
            .contradiction()
            .unwrap()
            .contains("a time of a kernel whose bytes are wrong")
    );
    wrong.times = None;
    assert_eq!(wrong.contradiction(), None);
    assert!(!wrong.bytes_held());
}

#[test]
fn times_are_nearest_rank_percentiles() {
    let samples: Vec<f64> = (1..=10).rev().map(f64::from).collect();
    let t = Times::from_samples(&samples).unwrap();
    assert_eq!(
        (t.min_us, t.p20_us, t.median_us, t.p80_us, t.samples),
        (1.0, 2.0, 5.0, 8.0, 10)
    );
    assert_eq!(t.noise, 6.0 / 5.0);
    let one = Times::from_samples(&[3.0]).unwrap();
    assert_eq!(
        (one.min_us, one.p20_us, one.median_us, one.p80_us, one.noise),
        (3.0, 3.0, 3.0, 3.0, 0.0)
    );
    assert_eq!(Times::from_samples(&[]), None);
    assert_eq!(Times::from_samples(&[1.0, f64::NAN]), None);
}

#[test]
fn slugs_are_file_names() {
    for (name, want) in [
        ("NVIDIA H200", "nvidia-h200"),
        ("simt", "simt"),
        ("NVIDIA GeForce RTX 5090", "nvidia-geforce-rtx-5090"),
        ("  GB10 (a/b) ", "gb10-a-b"),
        ("../..", "device"),
    ] {
        assert_eq!(slug(name), want);
    }
}

#[test]
fn timestamps_sort_and_have_one_form() {
    let now = timestamp();
    assert_eq!((now.len(), &now[10..11], &now[19..]), (20, "T", "Z"));
    assert!(now.as_str() > "2026-01-01T00:00:00Z");
}

#[test]
fn comparison_tells_slower_from_tied() {
    let config = |name: &str, median: f64| run(name, median, 0.5);
    let mut wrong = config("wrong", 1.0);
    wrong.status = Status::Error;
    let a = [
        config("slow", 10.0),
        config("fast", 10.0),
        config("tie", 10.0),
        config("gone", 10.0),
        wrong.clone(),
    ];
    let b = [
        config("slow", 12.0),
        config("fast", 8.0),
        config("tie", 10.9),
        config("new", 10.0),
        wrong,
    ];
    let c = compare(&a, &b);
    let rows: Vec<_> = c
        .rows
        .iter()
        .map(|r| (r.case.config.as_str(), r.ratio, r.verdict))
        .collect();
    assert_eq!(
        rows,
        [
            ("fast", 0.8, Verdict::Faster),
            ("slow", 1.2, Verdict::Slower),
            ("tie", 1.09, Verdict::Tie)
        ]
    );
    assert_eq!(
        (c.only_a[0].config.as_str(), c.only_b[0].config.as_str()),
        ("gone", "new")
    );
    assert_eq!((c.only_a.len(), c.only_b.len()), (1, 1));
}
