//! Peers' records, ratios to them, and whether two sweeps agree.

use super::*;

fn peer() -> Record {
    Record {
        kind: Kind::Peer,
        order: "peer".into(),
        mode: Mode::Fast,
        bytes_check: None,
        ptx_sha256: None,
        peer: Some(PeerRun {
            name: "cublasLt".into(),
            version: "13.0.2".into(),
            algorithm: "id66".into(),
            tried: 8,
            bytes_equal: Some(false),
            first_bad: None,
        }),
        ..run("cublasLt", 1.0, 0.1)
    }
}

#[test]
fn a_peer_is_recorded_and_wins_nothing() {
    let good = peer();
    assert_eq!(good.contradiction(), None);
    assert!(!good.bytes_held());
    let line = serde_json::to_string(&good).unwrap();
    assert_eq!(parse_records((line + "\n").as_bytes()).records, [peer()]);
    let config = run("a", 10.0, 1.0);
    let table = TunedTable::from_records("NVIDIA H200", &[good.clone(), config.clone()], &TuneRules::measured());
    assert_eq!(table.entries[0].fast.config, "a");
    assert!(table.entries[0].fast.tied.is_empty());
    // Nor is it compared as a config, nor does it take part in an agreement.
    let alone = [peer()];
    assert!(compare(&alone, &alone).rows.is_empty());
    assert!(agree(&alone, &alone).rows.is_empty());
    type Edit = fn(&mut Record);
    let edits: [(Edit, &str); 4] = [
        (|r| r.peer = None, "without the peer"),
        (|r| r.kind = Kind::Measured, "a peer and a config"),
        (|r| r.times = None, "ran without times"),
        (|r| r.status = Status::Skipped, "no reason"),
    ];
    for (edit, want) in edits {
        let mut bad = good.clone();
        edit(&mut bad);
        let says = bad.contradiction().unwrap_or_else(|| panic!("{want}: not found"));
        assert!(says.contains(want), "{says}");
    }
    let mut alone = config;
    alone.times = None;
    alone.ratio_to_peer = Some(1.0);
    assert!(alone.contradiction().expect("no times").contains("without times"));
}

/// A record of a shape with a ratio.
fn ratio(config: &str, n: u64, n_tok: u32, us: f64, ratio: f64) -> Record {
    let mut r = run(config, us, 0.1);
    r.shape.dims = dims(n, 2048);
    r.shape.n_tok = n_tok;
    r.ratio_to_peer = Some(ratio);
    r
}

#[test]
fn ratios_are_the_strict_winners_and_means_are_geometric() {
    let mut wrong = ratio("wrong", 4096, 512, 0.1, 50.0);
    wrong.status = Status::Error;
    let mut fast = ratio("fast", 4096, 512, 0.2, 25.0);
    fast.order = "fast".into();
    let records = [
        ratio("a", 4096, 512, 10.0, 0.5),
        ratio("b", 4096, 512, 5.0, 1.0),
        ratio("a", 8192, 256, 8.0, 0.25),
        ratio("a", 64, 4096, 5.0, 2.0),
        ratio("a", 4096, 1, 3.0, 1.5),
        ratio("a", 4096, 64, 3.0, 0.8),
        run("old", 0.5, 0.1),
        peer(),
        wrong,
        fast,
    ];
    let rows = ratios(&records);
    let found: Vec<_> = rows.iter().map(|r| (r.n_tok, r.config.as_str(), r.ratio)).collect();
    assert_eq!(
        found,
        [
            (4096, "a", 2.0),
            (1, "a", 1.5),
            (64, "a", 0.8),
            (512, "b", 1.0),
            (256, "a", 0.25)
        ]
    );
    let groups = groups(&rows);
    let shown: Vec<_> = groups.iter().map(|g| (g.name, g.rows, g.under, g.least)).collect();
    assert_eq!(
        shown,
        [
            ("M >= 256", 2, 1, 0.25),
            ("N = 32, 64", 1, 0, 2.0),
            ("M <= 32", 1, 0, 1.5),
            ("32 < M < 256", 1, 1, 0.8)
        ]
    );
    assert!((groups[0].mean - 0.5).abs() < 1e-12, "{}", groups[0].mean);
    assert_eq!(groups[0].wanted, Some(1.0));
    assert!(super::super::groups(&[]).is_empty());
}

/// A sweep of one shape each: the configs' medians, all with the same spread.
fn sweep(cases: &[&[(&str, f64)]], spread: f64) -> Vec<Record> {
    let mut records = Vec::new();
    for (i, configs) in cases.iter().enumerate() {
        for (config, median) in *configs {
            let mut r = run(config, *median, spread);
            r.shape.n_tok = i as u32 + 1;
            records.push(r);
        }
    }
    records
}

#[test]
fn two_sweeps_agree_on_a_winner_or_a_tie() {
    let a = sweep(
        &[
            &[("x", 10.0), ("y", 12.0)],
            &[("x", 10.0), ("y", 10.1)],
            &[("x", 10.0), ("y", 11.0)],
            &[("x", 10.0)],
            &[("x", 10.0)],
        ],
        0.2,
    );
    let b = sweep(
        &[
            &[("x", 11.0), ("y", 12.0)],
            &[("x", 10.5), ("y", 10.0)],
            &[("x", 11.0), ("y", 10.0)],
            &[("z", 9.0)],
        ],
        0.2,
    );
    let agreed = agree(&a, &b);
    let rows: Vec<_> = agreed
        .rows
        .iter()
        .map(|r| (r.a.as_str(), r.b.as_str(), r.agreement))
        .collect();
    assert_eq!(
        rows,
        [
            ("x", "x", Agreement::Same),
            // The first sweep's intervals overlap, the second's do not.
            ("x", "y", Agreement::Tie),
            ("x", "y", Agreement::Differ),
            ("x", "z", Agreement::Differ)
        ]
    );
    assert!((agreed.rows[2].gap.expect("both timed both") - 0.1).abs() < 1e-9);
    assert_eq!(agreed.rows[3].gap, None);
    assert_eq!((agreed.only_a, agreed.only_b), (1, 0));
    assert_eq!(agreed.share(), Some(0.5));
    assert_eq!(agree(&[], &b).share(), None);
    assert_eq!(agree(&a, &a).share(), Some(1.0));
}

#[test]
fn the_fast_mode_is_a_case_of_its_own_only_with_a_config_of_another_order() {
    let mut a = sweep(&[&[("x", 10.0), ("y", 12.0)]], 0.1);
    assert_eq!(agree(&a, &a).rows.len(), 1);
    let mut other = run("f", 5.0, 0.1);
    other.order = "fast".into();
    other.shape.n_tok = 1;
    a.push(other);
    let agreed = agree(&a, &a);
    let rows: Vec<_> = agreed.rows.iter().map(|r| (r.key.mode, r.a.as_str())).collect();
    assert_eq!(rows, [(Mode::Strict, "x"), (Mode::Fast, "f")]);
}
