//! Vectors, embeddings, whole models.

use crate::made::*;
use crate::on_simulator;
use half::bf16;
use host::model::family;
use host::model::files::{Safetensors, Source};
use host::model::layout::{Rows, VectorAs, VectorLayout};
use host::model::memory::Memory;
use host::model::weights::files::FileOrigin;
use host::model::weights::{EmbeddingTable, Format, ModelWeights, Origin};
use host::ops::nvfp4::Convention;
use safetensors::Dtype;

fn vector(tensor: &str, len: u64, store: VectorAs, rows: Rows) -> VectorLayout {
    VectorLayout {
        role: "vector",
        tensor: tensor.into(),
        len,
        store,
        rows,
    }
}

#[test]
fn vectors_become_what_the_layout_says() {
    let mut made = Made::default();
    for (name, dtype) in [("f32", Dtype::F32), ("f16", Dtype::F16), ("bf16", Dtype::BF16)] {
        made.floats(name, dtype, &[20]);
    }
    made.floats("conv", Dtype::BF16, &[6, 1, 4]);
    let negative: Vec<u8> = [-1.0_f32, -0.25, -7.389_056, -1e-30]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    made.put("ssm_a", Dtype::F32, &[4], negative);
    made.put(
        "norm",
        Dtype::F32,
        &[3],
        [1.0_f32, 1.003_906_3, 0.998]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
    );
    let source = made.safetensors();
    let done = on_simulator(&source, |origin, memory| {
        for name in ["f32", "f16", "bf16"] {
            let flat: Vec<f64> = made.values[name].concat();
            let plain = origin.vector(memory, &vector(name, 20, VectorAs::Bf16, Rows::All))?;
            assert_eq!(
                read::<u16, _>(plain, 20),
                flat.iter().map(|v| nearest(*v)).collect::<Vec<_>>()
            );
            let less = origin.vector(memory, &vector(name, 20, VectorAs::Bf16LessOne, Rows::All))?;
            assert_eq!(
                read::<u16, _>(less, 20),
                flat.iter().map(|v| nearest(v - 1.0)).collect::<Vec<_>>()
            );
            let exact = origin.vector(memory, &vector(name, 20, VectorAs::F32, Rows::All))?;
            assert_eq!(
                read::<f32, _>(exact, 20),
                flat.iter().map(|v| *v as f32).collect::<Vec<_>>()
            );
        }
        let strided = Rows::Strided {
            first: 1,
            len: 2,
            stride: 5,
            count: 3,
        };
        let packed = origin.vector(memory, &vector("f32", 6, VectorAs::F32, strided))?;
        let flat: Vec<f32> = made.values["f32"].concat().iter().map(|v| *v as f32).collect();
        assert_eq!(read::<f32, _>(packed, 6), [1, 2, 6, 7, 11, 12].map(|i| flat[i]));
        // Of more than one dimension a row is the last.
        let taps = origin.vector(memory, &vector("conv", 8, VectorAs::Bf16, Rows::Range(2..4)))?;
        assert_eq!(read::<u16, _>(taps, 8), expected(&made, &rows("conv", 2..4)));
        let taps = origin.vector(memory, &vector("conv", 24, VectorAs::Bf16, Rows::All))?;
        assert_eq!(read::<u16, _>(taps, 24), expected(&made, &rows("conv", 0..6)));
        let log = origin.vector(memory, &vector("ssm_a", 4, VectorAs::F32LogOfNegative, Rows::All))?;
        let wanted = [
            0.0,
            0.25_f64.ln(),
            f64::from(7.389_056_f32).ln(),
            f64::from(1e-30_f32).ln(),
        ];
        assert_eq!(read::<f32, _>(log, 4), wanted.map(|v| v as f32));
        // 1 + 2^-8 less 1 is not the rounded value less 1.
        let norm = origin.vector(memory, &vector("norm", 3, VectorAs::Bf16LessOne, Rows::All))?;
        let norm: Vec<bf16> = read(norm, 3);
        assert_eq!((norm[0].to_f32(), norm[1].to_f32()), (0.0, 0.003_906_25));

        let mut refused = |layout: VectorLayout, text: &str| {
            let error = origin.vector(memory, &layout).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        let log = VectorAs::F32LogOfNegative;
        refused(
            vector("norm", 3, log, Rows::All),
            "tensor `norm`: element 0 is 1; it must be below 0",
        );
        refused(
            vector("conv", 23, VectorAs::Bf16, Rows::All),
            "shape [6][1][4], of which 24 elements are taken for vector; 23",
        );
        refused(
            vector("f32", 6, VectorAs::F32, Rows::Range(15..21)),
            "has 20 rows, and those up to 21",
        );
        refused(
            vector("nrom", 3, VectorAs::F32, Rows::All),
            "tensor `nrom` is missing; the nearest names are `",
        );
        Ok(true)
    });
    assert!(done.unwrap());
}

#[test]
fn embeddings_are_bf16_or_q8_and_a_tied_head_shares_them() {
    let mut made = Made::default();
    made.floats("e.weight", Dtype::F16, &[10, 64]);
    let mut blocks = Made::default();
    blocks.q8("e.weight", &[10, 64]);
    let mut codes = Made::default();
    codes.nvfp4("e", Convention::ModelOpt, [10, 64], 0.125);
    let head = linear(64, vec![("lm_head", 10, vec![all("e")])]);

    let done = on_simulator(&made.safetensors(), |origin, memory| {
        let before = origin.linear(memory, &head)?;
        let EmbeddingTable::Bf16(table) = origin.embedding(memory, "e", 10, 64)? else {
            panic!()
        };
        assert_eq!(read::<u16, _>(table, 640), expected(&made, &rows("e", 0..10)));
        let taken = memory.total();
        let tied = origin.linear(memory, &head)?;
        assert!(matches!(tied.matrices[0].format, Format::Bf16(at) if at == table));
        assert_eq!((memory.total(), tied.n(), tied.k), (taken, 10, 64));
        assert!(matches!(before.matrices[0].format, Format::Bf16(at) if at != table));
        // Not on another memory, and not of other rows.
        let mut other = Memory::counted();
        origin.linear(&mut other, &head)?;
        assert_eq!(other.total(), 10 * 64 * 2);
        let some = linear(64, vec![("lm_head", 9, vec![piece("e", Rows::Range(0..9))])]);
        origin.linear(memory, &some)?;
        assert_eq!(memory.total(), taken + 9 * 64 * 2);
        let error = origin.embedding(memory, "e", 11, 64).unwrap_err().to_string();
        assert!(
            error.contains("`e.weight`: has the shape [10][64]; with it the embedding has 10 rows of 64, and 11"),
            "{error}"
        );
        Ok(true)
    });
    assert!(done.unwrap());

    let done = on_simulator(&blocks.gguf(), |origin, memory| {
        let EmbeddingTable::Q8_0(table) = origin.embedding(memory, "e", 10, 64)? else {
            panic!()
        };
        assert_eq!(read::<u8, _>(table, 10 * 2 * 34), blocks.blocks["e.weight"].1);
        assert!(matches!(
            origin.linear(memory, &head)?.matrices[0].format,
            Format::Q8 { .. }
        ));
        Ok(true)
    });
    assert!(done.unwrap());

    let done = on_simulator(&codes.safetensors(), |origin, memory| {
        let EmbeddingTable::Bf16(table) = origin.embedding(memory, "e", 10, 64)? else {
            panic!()
        };
        assert_eq!(read::<u16, _>(table, 640), expected(&codes, &rows("e", 0..10)));
        assert!(matches!(
            origin.linear(memory, &head)?.matrices[0].format,
            Format::Nvfp4 { .. }
        ));
        Ok(true)
    });
    assert!(done.unwrap());
}

/// The checkpoints that transformers wrote: all that a layout names is there and fits, in one file and in several, counted and for real.
#[test]
fn whole_checkpoints_are_loaded() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/models");
    let mut sharded = 0;
    for name in [
        "tiny-llama",
        "tiny-qwen3",
        "tiny-qwen3-coder",
        "tiny-qwen3-next",
        "tiny-qwen3.5",
        "tiny-qwen3.6",
    ] {
        let folder = std::path::Path::new(folder).join(name);
        let source = Safetensors::open(&folder).unwrap();
        sharded += usize::from(source.files().count() > 1);
        let mut config = family::from_folder(&folder).unwrap();
        let has = |name: &str| source.find(name).is_some();
        let layout = family::resolve(&mut config, family::Naming::HuggingFace, &has).unwrap();
        let size = [config.vocab, config.hidden];
        let mut counted = Memory::counted();
        let weights = ModelWeights::load(&mut FileOrigin::new(&source), &mut counted, &layout, size).unwrap();
        assert_eq!(weights.layers.len(), config.layers.len());
        let real = on_simulator(&source, |origin, memory| {
            let weights = ModelWeights::load(origin, memory, &layout, size)?;
            let EmbeddingTable::Bf16(table) = weights.embedding else {
                panic!("{name}")
            };
            let raw = source.tensor(&format!("{}.weight", layout.embedding))?;
            let elements = raw.bytes.len() / if raw.dtype.to_string() == "F32" { 4 } else { 2 };
            assert_eq!(
                read::<u16, _>(table, size[0] as usize * size[1] as usize).len(),
                elements
            );
            Ok(memory.parts().clone())
        })
        .unwrap();
        assert_eq!(&real, counted.parts(), "{name}");
    }
    assert!(sharded > 0, "none was in several files");
}
