//! Tensors that are missing or of another kind: each an error with the tensor and the numbers, after which all goes on.

use crate::made::*;
use crate::on_simulator;
use host::model::layout::{LinearLayout, Rows};
use host::model::weights::Origin;
use host::ops::nvfp4::Convention;
use safetensors::Dtype;

#[test]
fn faults_name_the_tensor_and_the_numbers() {
    let mut made = Made::default();
    made.floats("layers.0.q_proj.weight", Dtype::BF16, &[8, 32]);
    made.floats("layers.0.k_proj.weight", Dtype::BF16, &[4, 32]);
    made.put("fp8.weight", Dtype::F8_E4M3, &[8, 32], vec![0; 256]);
    made.put("ints.weight", Dtype::I32, &[8, 32], vec![0; 1024]);
    made.put("gptq.weight_packed", Dtype::I32, &[8, 4], vec![0; 128]);
    for (base, scale) in [
        ("nan", f32::NAN),
        ("zero", 0.0),
        ("short", 1.0),
        ("wide", 1.0),
        ("lone", 1.0),
        ("many", 1.0),
    ] {
        made.nvfp4(base, Convention::CompressedTensors, [8, 32], scale);
    }
    made.put("gptq.weight_scale", Dtype::F8_E4M3, &[8, 2], vec![0; 16]);
    made.put("gptq.weight_global_scale", Dtype::F32, &[1], vec![0; 4]);
    made.put("short.weight_scale", Dtype::F8_E4M3, &[7, 2], vec![0x38; 14]);
    made.put("wide.weight_scale", Dtype::F8_E4M3, &[8, 1], vec![0x38; 8]);
    made.put("many.weight_global_scale", Dtype::F32, &[8], vec![0x38; 32]);
    made.tensors.remove("lone.weight_global_scale");
    let one = |base: &str, n: u32, k: u32| linear(k, vec![("p", n, vec![all(base)])]);
    let rows = |rows: Rows, n: u32| linear(32, vec![("p", n, vec![piece("layers.0.q_proj", rows)])]);
    let cases: Vec<(LinearLayout, &[&str])> = vec![
        (
            one("layers.0.v_proj", 8, 32),
            &[
                "made.safetensors: tensor `layers.0.v_proj.weight` is missing",
                "the nearest names are `layers.0.k_proj.weight`, `layers.0.q_proj.weight`",
            ],
        ),
        (
            one("layers.0.q_proj", 8, 64),
            &["tensor `layers.0.q_proj.weight`: has the shape [8][32] of BF16; rows of 64 are wanted"],
        ),
        (
            one("layers.0.q_proj", 9, 32),
            &["has the shape [8][32]; with it part `p` of product has 8 rows of 32, and 9 are wanted"],
        ),
        (
            rows(Rows::Range(4..9), 5),
            &["tensor `layers.0.q_proj.weight`: has 8 rows, and those up to 9 are wanted"],
        ),
        (
            rows(Rows::Deinterleaved { head: 3, rot: 2 }, 8),
            &["has 8 rows, and heads of 3"],
        ),
        (
            one("fp8", 8, 32),
            &["tensor `fp8.weight`: is F8_E4M3 [8][32]; weights of F32, F16, BF16, Q8_0 and NVFP4 are read"],
        ),
        (one("ints", 8, 32), &["tensor `ints.weight`: is I32 [8][32]"]),
        (
            one("gptq", 8, 32),
            &["tensor `gptq.weight_packed`: is I32 [8][4]; NVFP4 has U8 here"],
        ),
        (
            one("nan", 8, 32),
            &["tensor `nan.weight_global_scale`: is NaN; a tensor scale is finite and above 0"],
        ),
        (one("zero", 8, 32), &["tensor `zero.weight_global_scale`: is 0;"]),
        (
            one("short", 8, 32),
            &["tensor `short.weight_scale`: has the shape [7][2], and the codes have 8 rows"],
        ),
        (
            one("wide", 8, 32),
            &["tensor `wide.weight_scale`: has the shape [8][1] of F8_E4M3; rows of 2 are wanted (k = 32)"],
        ),
        (
            one("many", 8, 32),
            &["tensor `many.weight_global_scale`: has the shape [8]; a tensor scale is one number"],
        ),
        (
            one("lone", 8, 32),
            &["tensor `lone.weight_global_scale` is missing", "nearest"],
        ),
        (
            one("wide", 8, 24),
            &["rows of 24 are wanted, and NVFP4 has a scale for every 16"],
        ),
        (one("layers.0.q_proj", 8, 0), &["rows of 0 are wanted"]),
        (linear(32, vec![]), &["product", "0 outputs"]),
        (
            linear(32, vec![("p", 8, vec![])]),
            &["part `p` of product", "names no tensors"],
        ),
        (
            linear(
                32,
                vec![("p", u32::MAX, vec![all("a")]), ("q", u32::MAX, vec![all("a")])],
            ),
            &["8589934590 outputs"],
        ),
    ];
    let source = made.safetensors();
    let done = on_simulator(&source, |origin, memory| {
        for (layout, texts) in &cases {
            for bf16 in [false, true] {
                let result = if bf16 {
                    origin.linear_bf16(memory, layout)
                } else {
                    origin.linear(memory, layout)
                };
                let error = result.unwrap_err().to_string();
                assert!(texts.iter().all(|text| error.contains(text)), "{texts:?}: {error}");
            }
        }
        // Nothing of all that was taken, and what is sound is still loaded.
        assert_eq!(memory.total(), 0);
        origin.linear(memory, &one("layers.0.q_proj", 8, 32))?;
        Ok(memory.total() == 2 * 8 * 32)
    });
    assert!(done.unwrap());
}
