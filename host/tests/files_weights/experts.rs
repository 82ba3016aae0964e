//! Experts.

use crate::made::*;
use crate::on_simulator;
use crate::products::halves;
use host::model::layout::{ExpertsLayout, Piece, Rows};
use host::model::weights::{Format, Origin};
use host::ops::nvfp4::Convention;
use safetensors::Dtype;

fn experts(n: u32, k: u32, experts: Vec<Vec<Piece>>) -> ExpertsLayout {
    ExpertsLayout {
        role: "experts",
        n,
        k,
        experts,
    }
}

#[test]
fn experts_of_stacks_and_of_pieces_are_stacks() {
    let mut made = Made::default();
    made.floats("gate_up", Dtype::BF16, &[3, 8, 32]);
    made.q8("gate_exps.weight", &[3, 4, 32]);
    made.q8("up_exps.weight", &[3, 4, 32]);
    let file = made.gguf();
    let done = on_simulator(&file, |origin, memory| {
        let fused = (0..3)
            .map(|e| vec![piece("gate_up", Rows::Range(8 * e..8 * e + 8))])
            .collect();
        let fused = origin.experts(memory, &experts(8, 32, fused))?;
        assert_eq!((fused.experts, fused.n, fused.k), (3, 8, 32));
        assert_eq!(
            halves(fused.format, 3 * 8 * 32),
            expected(&made, &rows("gate_up", 0..24))
        );
        let apart = |e: u64| {
            ["gate_exps", "up_exps"]
                .map(|base| piece(base, Rows::Range(4 * e..4 * e + 4)))
                .to_vec()
        };
        let apart = origin.experts(memory, &experts(8, 32, (0..3).map(apart).collect()))?;
        let wanted = (0..3).flat_map(|e| [rows("gate_exps", 4 * e..4 * e + 4), rows("up_exps", 4 * e..4 * e + 4)]);
        assert_eq!(
            halves(apart.format, 3 * 8 * 32),
            expected(&made, &wanted.flatten().collect::<Vec<_>>())
        );
        Ok(true)
    });
    assert!(done.unwrap());
}

#[test]
fn nvfp4_experts_have_a_tensor_scale_each() {
    let convention = Convention::CompressedTensors;
    let mut made = Made::default();
    for e in 0..3 {
        for base in ["gate", "up"] {
            made.nvfp4(&format!("{e}.{base}"), convention, [4, 32], 100.0 + e as f32);
        }
    }
    made.nvfp4("other", convention, [4, 32], 7.0);
    made.nvfp4("modelopt", Convention::ModelOpt, [8, 32], 7.0);
    made.floats("plain.weight", Dtype::F16, &[8, 32]);
    let source = made.safetensors();
    let done = on_simulator(&source, |origin, memory| {
        let expert = |e: usize| vec![all(&format!("{e}.gate")), all(&format!("{e}.up"))];
        let loaded = origin.experts(memory, &experts(8, 32, (0..3).map(expert).collect()))?;
        let Format::Nvfp4 {
            codes,
            scales,
            tensor,
            convention: read_as,
        } = loaded.format
        else {
            panic!("{:?}", loaded.format)
        };
        assert_eq!(
            (read_as, read::<f32, _>(tensor, 3)),
            (convention, vec![100.0, 101.0, 102.0])
        );
        let stack = |name: &str| -> Vec<u8> {
            let names = (0..3).flat_map(|e| [format!("{e}.gate.{name}"), format!("{e}.up.{name}")]);
            names.flat_map(|name| made.tensors[&name].2.clone()).collect()
        };
        assert_eq!(read::<u8, _>(codes, 3 * 8 * 16), stack("weight_packed"));
        assert_eq!(read::<u8, _>(scales, 3 * 8 * 2), stack("weight_scale"));

        let mut refused = |last: Vec<_>, texts: &[&str]| {
            let error = origin
                .experts(memory, &experts(8, 32, vec![expert(0), last]))
                .unwrap_err()
                .to_string();
            assert!(texts.iter().all(|text| error.contains(text)), "{error}");
        };
        refused(
            vec![all("1.gate"), all("other")],
            &["`other.weight_packed`", "`1.gate.weight_packed`", "7e0", "1.01e2"],
        );
        refused(
            vec![all("modelopt")],
            &["`modelopt.weight`", "ModelOpt", "`0.gate.weight_packed`"],
        );
        refused(
            vec![all("plain")],
            &["`plain.weight`: is F16", "`0.gate.weight_packed` is NVFP4"],
        );
        refused(
            vec![all("1.gate")],
            &["with it expert 1 of experts has 4 rows of 32, and 8 are wanted"],
        );
        Ok(true)
    });
    assert!(done.unwrap());
}
