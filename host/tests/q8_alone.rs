//! A token of a `q8_matmul` alone, as `harness verify` runs it, and no tokens at all.

use host::device::{Device, SimtOptions};
use host::op::{Case, Operation, Order};
use host::ops::q8::{Q8Activations, Q8Input, Q8Matmul, Q8MatmulOp, Q8Shape, Q8Weights};

const OP: Q8MatmulOp = Q8MatmulOp;

fn case(n_tok: u64, dtype: &str) -> Case {
    let dims = [("n", 21), ("k", 1020), ("groups", 2), ("n_tok", n_tok)];
    Case {
        dtype: dtype.into(),
        ..Case::new("q8_matmul", "m", "t", &dims)
    }
}

#[test]
fn a_token_alone_is_compared_with_its_own_row() {
    let device = Device::simt_with(SimtOptions::default());
    let stream = device.stream().unwrap();
    for (n_tok, dtype) in [(2, "f32"), (5, "bf16"), (9, "f32")] {
        let case = case(n_tok, dtype);
        let mut prepared = OP.prepare(&device, &case, 4, 1).unwrap();
        let mut shown = 0;
        for config in OP.configs().iter().filter(|c| OP.admits(&case, &c.id).is_ok()) {
            let checks = prepared.alone(&config.id, &stream).unwrap();
            assert_eq!(
                checks.len(),
                usize::from(config.order == Order::Canonical),
                "{}",
                config.id
            );
            for check in checks {
                assert_eq!((check.name, check.compared), ("token alone", 4 * 21 * 2));
                check.outcome.unwrap_or_else(|e| panic!("{case}, {}: {e}", config.id));
                shown += 1;
            }
        }
        assert!(shown > 3, "{case}: {shown} configs");
        // Each token has values of its own: compared with another one's, it would be found out.
        let config = &OP.configs()[0].id;
        prepared.launch(config, &stream, 0).unwrap();
        let rows: Vec<Vec<u8>> = prepared
            .output(0)
            .unwrap()
            .chunks(4 * 21 * 2)
            .map(<[u8]>::to_vec)
            .collect();
        assert_eq!(rows.len(), n_tok as usize);
        assert!((1..rows.len()).all(|i| rows[i] != rows[i - 1] && rows[i] != rows[0]));
    }
}

#[test]
fn one_token_has_no_part() {
    let device = Device::simt_with(SimtOptions::default());
    let mut prepared = OP.prepare(&device, &case(1, "f32"), 4, 1).unwrap();
    let config = &OP.configs()[0].id;
    assert!(prepared.alone(config, &device.stream().unwrap()).unwrap().is_empty());
    assert!(prepared.alone("no such config", &device.stream().unwrap()).is_err());
}

#[test]
fn no_tokens_are_taken_and_nothing_is_written() {
    let device = Device::simt_with(SimtOptions::default());
    let stream = device.stream().unwrap();
    let shape = Q8Shape::new(8, 64, 1).unwrap();
    let weights = Q8Weights::from_blocks(&device, &vec![0; shape.gguf_bytes()], shape, "w").unwrap();
    let activations = Q8Activations::new(&device, shape, 2).unwrap();
    let (x, y) = (device.alloc(0, "x").unwrap(), device.alloc(32, "y").unwrap());
    activations.quantize(&device, &stream, Q8Input::F32(&x), 0).unwrap();
    y.poison().unwrap();
    let matmul = Q8Matmul::new(&OP.configs()[0].id).unwrap();
    matmul.launch(&device, &stream, &weights, &activations, &y, 0).unwrap();
    device.synchronize().unwrap();
    assert_eq!(y.first_unwritten(), Some(0));
    // What does not fit is refused for no tokens as for any.
    let other = Q8Activations::new(&device, Q8Shape::new(8, 96, 1).unwrap(), 2).unwrap();
    assert!(matmul.launch(&device, &stream, &weights, &other, &y, 0).is_err());
}
