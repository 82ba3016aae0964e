//! The choice of winners, and the table's file.

use super::*;

fn table(records: &[Record]) -> TunedTable {
    TunedTable::from_records("NVIDIA H200", records, &TuneRules::measured())
}

fn only(table: &TunedTable) -> &TunedEntry {
    assert_eq!(table.entries.len(), 1, "{table:?}");
    &table.entries[0]
}

#[test]
fn the_fastest_clear_winner_wins() {
    let t = table(&[run("a", 12.0, 0.5), run("b", 10.0, 0.5), run("c", 14.0, 0.5)]);
    let e = only(&t);
    assert_eq!(
        (e.fast.config.as_str(), e.fast.tied.len(), e.bucket, e.n_tok),
        ("b", 0, 1, 1)
    );
    assert_eq!(e.strict, Some(e.fast.clone()));
    assert_eq!(e.fast.kernel_hash.as_deref(), Some("aa"));
}

#[test]
fn overlapping_intervals_are_a_tie_and_the_simpler_config_wins_it() {
    let runs = [
        run("z", 10.0, 0.5),
        run("b", 10.4, 0.5),
        run("c", 10.6, 0.5),
        run("d", 11.5, 0.4),
    ];
    let t = table(&runs);
    let e = only(&t);
    assert_eq!(
        (e.fast.config.as_str(), e.fast.tied.clone()),
        ("b", vec!["c".to_string(), "z".into()])
    );
    let rules = TuneRules {
        preference: &|_, config| if config == "z" { 0 } else { 1 },
        ..TuneRules::measured()
    };
    let t = TunedTable::from_records("NVIDIA H200", &runs, &rules);
    assert_eq!(only(&t).fast.config, "z");
}

/// Times of an earlier round were taken at other clocks: less is no win.
#[test]
fn what_was_behind_in_its_own_run_does_not_win() {
    let placed = |config: &str, us: f64, place: Place| {
        let mut r = run(config, us, 0.1);
        r.place = Some(place);
        r
    };
    let runs = [
        placed("main", 9.0, Place::Behind),
        placed("final", 10.0, Place::Winner),
        placed("far", 8.0, Place::Dropped),
    ];
    assert_eq!(only(&table(&runs)).fast.config, "final");
    assert!(only(&table(&runs)).fast.tied.is_empty());
    // Where nobody says more, the least median wins as ever.
    assert_eq!(only(&table(&runs[..1])).fast.config, "main");
    let old = run("old", 9.5, 0.1);
    assert_eq!(only(&table(&[old, runs[1].clone()])).fast.config, "old");
}

#[test]
fn strict_takes_only_the_canonical_order() {
    let mut split = run("split", 5.0, 0.1);
    split.order = "split_k_4".into();
    let t = table(&[run("a", 10.0, 0.1), split.clone()]);
    let e = only(&t);
    assert_eq!(e.winner(Mode::Strict).unwrap().config, "a");
    assert_eq!(e.winner(Mode::Fast).unwrap().config, "split");
    let t = table(&[split]);
    assert_eq!(only(&t).winner(Mode::Strict), None);
}

/// Outside the canonical order the tolerance is enough, in fast mode; within it, nothing but equal bytes is.
#[test]
fn the_tolerance_counts_outside_the_canonical_order_only() {
    let near = |config: &str, order: &str| {
        let mut r = run(config, 5.0, 0.1);
        r.order = order.into();
        let check = r.bytes_check.as_mut().unwrap();
        (check.equal, check.within_tolerance) = (false, true);
        r
    };
    let t = table(&[
        run("a", 10.0, 0.1),
        near("split", "split_k_4"),
        near("cheat", CANONICAL),
    ]);
    let e = only(&t);
    assert_eq!(
        (e.fast.config.as_str(), e.strict.as_ref().unwrap().config.as_str()),
        ("split", "a")
    );
    assert!(near("cheat", CANONICAL).contradiction().is_some());
    assert_eq!(near("split", "split_k_4").contradiction(), None);
}

/// Each of these would win by its time and must not.
#[test]
fn records_that_do_not_count_do_not_win() {
    let honest = run("honest", 10.0, 0.1);
    type Edit = fn(&mut Record);
    let edits: [Edit; 6] = [
        |r| r.status = Status::Incorrect,
        |r| r.bytes_check.as_mut().unwrap().equal = false,
        |r| r.bytes_check = None,
        |r| r.device.name = "NVIDIA B200".into(),
        |r| r.times.as_mut().unwrap().p20_us = f64::NAN,
        |r| {
            r.kind = Kind::Model;
            r.times = None;
            r.model_cost = Some(ModelCost {
                cost: 0.1,
                bytes: 1,
                instructions: 1,
                occupancy: None,
            });
        },
    ];
    for (i, edit) in edits.iter().enumerate() {
        let mut cheat = run("cheat", 1.0, 0.1);
        edit(&mut cheat);
        assert_eq!(only(&table(&[honest.clone(), cheat])).fast.config, "honest", "edit {i}");
    }
    let cheat = run("cheat", 1.0, 0.1);
    assert_eq!(
        only(&table(&[honest, cheat])).fast.config,
        "cheat",
        "without an edit it wins"
    );
}

/// The latest word on a config's bytes is the one that counts, whichever it is.
#[test]
fn a_config_that_is_wrong_now_wins_no_more() {
    let honest = run("honest", 10.0, 0.1);
    let fast = run("fast", 1.0, 0.1);
    let mut wrong = run("fast", 1.0, 0.1);
    wrong.status = Status::Incorrect;
    wrong.times = None;
    wrong.bytes_check.as_mut().unwrap().equal = false;
    wrong.time = "2026-11-21T11:00:00Z".into();
    assert_eq!(wrong.contradiction(), None);
    let t = table(&[honest.clone(), fast.clone(), wrong.clone()]);
    assert_eq!(only(&t).fast.config, "honest");
    let mut mended = fast.clone();
    mended.time = "2026-11-21T12:00:00Z".into();
    assert_eq!(
        only(&table(&[honest.clone(), wrong.clone(), mended])).fast.config,
        "fast"
    );
    // Another version's fault is not this one's.
    wrong.ptx_sha256 = Some("bb".into());
    let rules = TuneRules {
        current: &|_| Some("aa".into()),
        ..TuneRules::measured()
    };
    let t = TunedTable::from_records("NVIDIA H200", &[honest, fast.clone(), wrong.clone()], &rules);
    assert_eq!(only(&t).fast.config, "fast");
    assert!(table(&[fast, wrong]).entries.is_empty(), "nothing left to win");
}

#[test]
fn stale_kernels_are_listed_and_do_not_win() {
    let mut old = run("old", 1.0, 0.1);
    old.ptx_sha256 = Some("bb".into());
    let mut unknown = run("unknown", 20.0, 0.1);
    unknown.ptx_sha256 = None;
    let mut simulated = run("simulated", 1.0, 0.1);
    (simulated.ptx_sha256, simulated.source_hash) = (None, Some("cc".into()));
    let records = [run("new", 10.0, 0.1), old, unknown, simulated];
    let current: CurrentHash = &|r| (r.op == "q8_matmul").then(|| "aa".to_string());
    let rules = TuneRules {
        current,
        ..TuneRules::measured()
    };
    assert_eq!(
        only(&TunedTable::from_records("NVIDIA H200", &records, &rules))
            .fast
            .config,
        "new"
    );
    assert_eq!(
        stale(&records, current)
            .iter()
            .map(|r| r.config.as_str())
            .collect::<Vec<_>>(),
        ["old", "simulated"]
    );
}

#[test]
fn the_latest_of_a_config_counts() {
    let mut later = run("a", 20.0, 0.1);
    later.time = "2026-11-21T11:00:00Z".into();
    for records in [
        [run("a", 1.0, 0.1), later.clone(), run("b", 10.0, 0.1)],
        [later, run("a", 1.0, 0.1), run("b", 10.0, 0.1)],
    ] {
        assert_eq!(only(&table(&records)).fast.config, "b");
    }
}

#[test]
fn a_bucket_is_judged_at_its_largest_token_count() {
    assert_eq!(
        [0, 1, 2, 7, 8, 9, 16, 17, 127, 128, 129].map(token_bucket),
        [1, 1, 2, 7, 8, 16, 16, 32, 128, 128, 256]
    );
    assert_eq!(token_bucket(u32::MAX), u32::MAX);
    let at = |config: &str, n_tok: u32, median: f64| {
        let mut r = run(config, median, 0.1);
        r.shape.n_tok = n_tok;
        r
    };
    let t = table(&[at("a", 127, 1.0), at("a", 128, 20.0), at("b", 128, 10.0)]);
    let e = only(&t);
    assert_eq!((e.bucket, e.n_tok, e.fast.config.as_str()), (128, 128, "b"));
}

#[test]
fn modelled_costs_make_a_table_of_their_own() {
    let model = |config: &str, cost: f64| {
        let mut r = run(config, 0.0, 0.0);
        r.kind = Kind::Model;
        r.times = None;
        r.model_cost = Some(ModelCost {
            cost,
            bytes: 1,
            instructions: 1,
            occupancy: Some(0.5),
        });
        r
    };
    let records = [model("b", 3.0), model("a", 3.0), model("c", 2.0), run("m", 1.0, 0.1)];
    let rules = TuneRules {
        kind: Kind::Model,
        ..TuneRules::measured()
    };
    let t = TunedTable::from_records("NVIDIA H200", &records, &rules);
    assert_eq!(
        (t.kind, only(&t).fast.config.as_str(), only(&t).fast.median),
        (Kind::Model, "c", 2.0)
    );
}

/// The shape asked for first, then the nearest; other token counts are farther than a size twice as large.
#[test]
fn a_shape_nobody_measured_takes_its_neighbours_config() {
    let at = |config: &str, n: u64, k: u64, n_tok: u32| {
        let mut r = run(config, 10.0, 0.1);
        r.shape.dims = dims(n, k);
        r.shape.n_tok = n_tok;
        r
    };
    let t = table(&[
        at("here", 4096, 4096, 1),
        at("twice", 8192, 4096, 1),
        at("half", 2048, 4096, 1),
        at("tokens", 4096, 4096, 2),
        at("here", 1 << 20, 4096, 1),
    ]);
    let ids = |n, k, n_tok| -> Vec<(String, f64)> {
        let found = t.candidates("q8_matmul", "sm_90a", &dims(n, k), n_tok, Mode::Strict);
        found.iter().map(|c| (c.winner.config.clone(), c.distance)).collect()
    };
    let exact = ids(4096, 4096, 1);
    assert_eq!(exact[0], ("here".to_string(), 0.0));
    assert_eq!(
        exact[1..],
        [("half".to_string(), 1.0), ("twice".into(), 1.0), ("tokens".into(), 2.0)]
    );
    assert_eq!(ids(7000, 4096, 1)[0].0, "twice");
    assert_eq!(ids(4100, 4096, 2)[0].0, "tokens");
    assert_eq!(ids(1 << 19, 4096, 1)[0], ("here".to_string(), 1.0));
    assert!(
        t.candidates("q8_matmul", "sm_80", &dims(4096, 4096), 1, Mode::Strict)
            .is_empty()
    );
    assert!(
        t.candidates("other", "sm_90a", &dims(4096, 4096), 1, Mode::Strict)
            .is_empty()
    );
    let other_dims = [("m".to_string(), 4096), ("k".into(), 4096)].into();
    assert!(
        t.candidates("q8_matmul", "sm_90a", &other_dims, 1, Mode::Strict)
            .is_empty()
    );
}

#[test]
fn a_table_survives_its_file() {
    let mut split = run("split", 5.0, 0.1);
    split.order = "split_k_4".into();
    let mut other = run("a", 7.0, 0.25);
    other.shape.n_tok = 8;
    let t = table(&[run("a", 10.0, 0.1), run("b", 10.1, 0.1), split, other]);
    assert_eq!(t.entries.len(), 2);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(TunedTable::load(dir.path(), "NVIDIA H200").unwrap(), None);
    let path = t.write(dir.path()).unwrap();
    assert_eq!(path.file_name().unwrap(), "nvidia-h200.toml");
    assert_eq!(TunedTable::load(dir.path(), "NVIDIA H200").unwrap(), Some(t.clone()));
    t.write(dir.path()).unwrap();
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no temporary file stays"
    );

    let text = std::fs::read_to_string(&path).unwrap().replacen("bucket", "buckets", 1);
    std::fs::write(&path, text).unwrap();
    let error = TunedTable::load(dir.path(), "NVIDIA H200").unwrap_err().to_string();
    assert!(
        error.contains("nvidia-h200.toml") && error.contains("buckets"),
        "{error}"
    );
}

/// Every table that is built in can be read.
#[test]
fn embedded_tables_are_valid() {
    for device in ["NVIDIA H200", "simt", "no such device"] {
        if let Some(t) = TunedTable::embedded(device).unwrap() {
            assert_eq!(slug(&t.device), slug(device));
        }
    }
    assert_eq!(TunedTable::embedded("no such device").unwrap(), None);
}
