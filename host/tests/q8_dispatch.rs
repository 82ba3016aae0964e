//! Dispatch of the Q8_0 matmul: what was swept is what runs, strict gives the reference's bytes, and the record says why.

use std::sync::Arc;

use host::device::{Device, SimtOptions};
use host::dispatch::{Choice, Dispatcher, Reason, Untuned};
use host::op::{Case, OpError, Operation, Order, check};
use host::ops::q8::{Q8Matmul, Q8MatmulOp, Q8Shape};
use host::results::{Kind, Mode, TunedEntry, TunedTable, Winner};

const OP: Q8MatmulOp = Q8MatmulOp;

fn dims(n_tok: u64) -> Vec<(String, u64)> {
    [("n", 48), ("k", 4096), ("groups", 1), ("n_tok", n_tok)]
        .map(|(axis, size)| (axis.to_string(), size))
        .to_vec()
}

fn case(n_tok: u64) -> Case {
    OP.custom_case(&dims(n_tok)).unwrap()
}

/// Ids that take one token, the canonical ones and the others: the last of each, which no rule of thumb would take first.
fn winners(device: &Device) -> (String, String) {
    let first = OP.heuristic(&case(1), device.info().sms).remove(0);
    let last = |order| {
        let takes = |id: &String| *id != first && OP.admits(&case(1), id).is_ok();
        let mut ids = OP.configs().into_iter().filter(|c| c.order == order).map(|c| c.id);
        ids.rfind(takes).unwrap()
    };
    (last(Order::Canonical), last(Order::Fast))
}

/// A table as `harness best --write` makes it, written to a folder and read back.
fn table(device: &Device, strict: &str, fast: &str) -> TunedTable {
    let winner = |config: &str, order: &str, cost| Winner {
        config: config.into(),
        order: order.into(),
        median: cost,
        p20: cost,
        p80: cost,
        tied: Vec::new(),
        kernel_hash: None,
    };
    let (shape, n_tok) = case(1).shape();
    let written = TunedTable {
        device: device.info().name.clone(),
        kind: Kind::Model,
        entries: vec![TunedEntry {
            op: "q8_matmul".into(),
            arch: "simt".into(),
            dims: shape,
            bucket: n_tok,
            n_tok,
            strict: Some(winner(strict, "canonical", 2.0)),
            fast: winner(fast, "fast", 1.0),
        }],
    };
    let dir = tempfile::tempdir().unwrap();
    written.write(dir.path()).unwrap();
    let read = TunedTable::load(dir.path(), &device.info().name).unwrap().unwrap();
    assert_eq!(read, written);
    read
}

fn refusal<'c>(choice: &'c Choice, config: &str) -> Option<&'c str> {
    let found = choice.refused.iter().find(|r| r.config == config);
    found.map(|r| r.reason.as_str())
}

#[test]
fn the_tables_winner_runs_in_each_mode_and_every_other_order_is_refused_in_strict() {
    let device = Device::simt_with(SimtOptions::default());
    let (strict_id, fast_id) = winners(&device);
    for (mode, id, order) in [
        (Mode::Strict, &strict_id, Order::Canonical),
        (Mode::Fast, &fast_id, Order::Fast),
    ] {
        let dispatcher = Dispatcher::with_table(device.info(), mode, table(&device, &strict_id, &fast_id));
        let choice = dispatcher.choose(&OP, &case(1)).unwrap();
        assert_eq!((&choice.config, choice.order, choice.mode), (id, order, mode));
        assert!(
            matches!(choice.reason, Reason::Tuned { kind: Kind::Model, .. }),
            "{choice}"
        );
        for config in OP.configs() {
            let why = refusal(&choice, &config.id);
            match OP.admits(&case(1), &config.id) {
                _ if mode == Mode::Strict && config.order == Order::Fast => {
                    assert!(why.is_some_and(|w| w.contains("canonical")), "{}: {why:?}", config.id);
                }
                Ok(()) => assert_eq!(why, None, "{}", config.id),
                Err(reason) => assert_eq!(why, Some(reason.as_str())),
            }
        }
        // What was chosen gives the right bytes: strict ones equal to the reference's, fast ones within the tolerance.
        let info = OP.configs().into_iter().find(|c| c.id == choice.config).unwrap();
        let mut prepared = OP.prepare(&device, &case(1), 3, 1).unwrap();
        check(&device, prepared.as_mut(), &info, &device.stream().unwrap()).unwrap();
        // The record of it is kept, once a shape.
        assert!(Arc::ptr_eq(&choice, &dispatcher.choose(&OP, &case(1)).unwrap()));
        assert_eq!(dispatcher.choices(), [choice]);
    }
}

#[test]
fn a_shape_nobody_swept_takes_the_nearest_winner_that_admits_it() {
    let device = Device::simt_with(SimtOptions::default());
    let (strict_id, fast_id) = winners(&device);
    let dispatcher = Dispatcher::with_table(device.info(), Mode::Fast, table(&device, &strict_id, &fast_id));
    // The fast winner takes one token only: with three it is refused, and said to be.
    let choice = dispatcher.choose(&OP, &case(3)).unwrap();
    assert_ne!(choice.config, fast_id);
    assert!(
        refusal(&choice, &fast_id).is_some_and(|why| why.contains("n_tok = 3")),
        "{choice}"
    );
    let shape = Q8Shape::new(64, 4096, 1).unwrap();
    let matmul = Q8Matmul::dispatched(&dispatcher, shape, 1).unwrap();
    assert_eq!(matmul.config().id(), fast_id);
    let nearest = &dispatcher.choices()[1];
    assert!(
        matches!(&nearest.reason, Reason::Nearest { distance, .. } if *distance > 0.0),
        "{nearest}"
    );
}

#[test]
fn without_a_table_the_rule_of_thumb_decides_and_an_impossible_case_names_every_config() {
    let device = Device::simt_with(SimtOptions::default());
    let dispatcher = Dispatcher::with_table(device.info(), Mode::Strict, Untuned);
    let choice = dispatcher.choose(&OP, &case(1)).unwrap();
    assert_eq!((&choice.reason, choice.order), (&Reason::Heuristic, Order::Canonical));
    let refused = Q8Matmul::dispatched(&dispatcher, Q8Shape::new(48, 4096, 1).unwrap(), 0);
    let error = refused.map(|_| "ran").unwrap_err();
    let OpError::NoConfig(none) = error else {
        panic!("another error: {error}")
    };
    assert_eq!(none.refused.len(), OP.configs().len());
    // The table of the binary is of this build's schema, whatever devices it has.
    Dispatcher::new(device.info(), Mode::Strict).unwrap();
}
