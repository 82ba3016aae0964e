//! Tensors of a checkpoint, read apart from the loader: the `safetensors` crate's reader and plain indexing, or GGUF's list of tensors.

use std::collections::HashMap;
use std::path::PathBuf;

use half::{bf16, f16};
use host::gguf::Gguf;
use host::reference::model::{Format, Matrix, Stack};
use host::reference::nvfp4::Convention;
use safetensors::SafeTensors;

/// Where a tiny model is.
pub fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/models", name].iter().collect()
}

/// A tensor as a file has it.
struct Tensor {
    /// The file's name of its type.
    kind: String,
    /// The last runs fastest.
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// All tensors of a checkpoint by Hugging Face's names.
pub struct Checkpoint {
    tensors: HashMap<String, Tensor>,
}

/// llama.cpp's names of a layer's tensors, and Hugging Face's. The stacks of experts have no counterpart there.
const GGUF_LAYER: [(&str, &str); 15] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_exps", "mlp.experts.gate"),
    ("ffn_up_exps", "mlp.experts.up"),
    ("ffn_down_exps", "mlp.experts.down"),
];

fn from_gguf(name: &str) -> String {
    match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => {
            let base = rest.strip_suffix(".weight").unwrap();
            let (_, known) = GGUF_LAYER.iter().find(|(gguf, _)| *gguf == base).unwrap();
            format!("model.layers.{layer}.{known}.weight")
        }
        None => match name {
            "token_embd.weight" => "model.embed_tokens.weight".into(),
            "output_norm.weight" => "model.norm.weight".into(),
            "output.weight" => "lm_head.weight".into(),
            other => other.into(),
        },
    }
}

impl Checkpoint {
    /// Every tensor of a folder's safetensors files, or of a GGUF file.
    pub fn open(name: &str) -> Self {
        let mut tensors = HashMap::new();
        if name.ends_with(".gguf") {
            let file = Gguf::open(path(name)).unwrap();
            for tensor in file.tensors() {
                let shape = tensor.dims().iter().rev().map(|&n| n as usize).collect();
                let (kind, bytes) = (tensor.ty().to_string(), tensor.bytes().unwrap().to_vec());
                tensors.insert(from_gguf(tensor.name()), Tensor { kind, shape, bytes });
            }
            return Self { tensors };
        }
        for entry in std::fs::read_dir(path(name)).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "safetensors") {
                continue;
            }
            let bytes = std::fs::read(&file).unwrap();
            for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let (kind, bytes) = (format!("{:?}", tensor.dtype()), tensor.data().to_vec());
                let shape = tensor.shape().to_vec();
                assert!(tensors.insert(name, Tensor { kind, shape, bytes }).is_none());
            }
        }
        Self { tensors }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The elements as f32.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        let tensor = self.get(name);
        let bytes = &tensor.bytes;
        let two = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        match tensor.kind.as_str() {
            "F32" => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            "F16" => two.map(|b| f16::from_bits(b).to_f32()).collect(),
            "BF16" => two.map(|b| bf16::from_bits(b).to_f32()).collect(),
            "Q8_0" => dequantised(bytes),
            other => panic!("{name} is {other}"),
        }
    }

    /// The elements, rounded to bf16 where the file has more.
    pub fn bf16(&self, name: &str) -> Vec<bf16> {
        self.f32(name).into_iter().map(bf16::from_f32).collect()
    }

    /// GGUF's blocks of a tensor, if it is Q8_0.
    pub fn q8(&self, name: &str) -> Option<Vec<u8>> {
        let tensor = self.get(name);
        (tensor.kind == "Q8_0").then(|| tensor.bytes.clone())
    }

    /// The matrix whose tensors are called `base` and something.
    pub fn matrix(&self, base: &str) -> Matrix {
        let nvfp4 = |codes: String, tensor: String, convention| {
            let shape = &self.get(&codes).shape;
            Matrix {
                n: shape[0],
                k: 2 * shape[1],
                format: Format::Nvfp4 {
                    codes: self.get(&codes).bytes.clone(),
                    scales: self.get(&format!("{base}.weight_scale")).bytes.clone(),
                    tensor: self.f32(&tensor)[0],
                    convention,
                },
            }
        };
        let name = format!("{base}.weight");
        if !self.has(&name) {
            let (codes, scale) = (format!("{base}.weight_packed"), format!("{base}.weight_global_scale"));
            return nvfp4(codes, scale, Convention::CompressedTensors);
        }
        let tensor = self.get(&name);
        match (tensor.kind.as_str(), &tensor.shape[..]) {
            ("U8", _) => nvfp4(name, format!("{base}.weight_scale_2"), Convention::ModelOpt),
            ("Q8_0", &[n, k]) => Matrix {
                n,
                k,
                format: Format::Q8(tensor.bytes.clone()),
            },
            (_, &[n, k]) => plain(n, k, self.bf16(&name)),
            (_, shape) => panic!("{name} is {shape:?}"),
        }
    }

    /// Each of the leading matrices of a tensor `[count][n][k]`, in bf16.
    pub fn slices(&self, name: &str) -> Vec<Matrix> {
        let (shape, all) = (&self.get(name).shape, self.bf16(name));
        let [_, n, k] = shape[..] else {
            panic!("{name} is {shape:?}")
        };
        all.chunks(n * k).map(|w| plain(n, k, w.to_vec())).collect()
    }
}

fn plain(n: usize, k: usize, w: Vec<bf16>) -> Matrix {
    let format = Format::Bf16(w);
    Matrix { n, k, format }
}

/// d * q of each element of Q8_0 blocks.
pub fn dequantised(blocks: &[u8]) -> Vec<f32> {
    let block = |b: &[u8]| -> Vec<f32> {
        let d = f16::from_le_bytes([b[0], b[1]]).to_f32();
        b[2..].iter().map(|&q| d * f32::from(q as i8)).collect()
    };
    blocks.chunks_exact(34).flat_map(block).collect()
}

/// Some rows of a matrix, in this order.
pub fn rows(matrix: &Matrix, rows: impl Iterator<Item = usize>) -> Matrix {
    let (rows, k): (Vec<usize>, usize) = (rows.collect(), matrix.k);
    fn pick<T: Copy>(all: &[T], rows: &[usize], width: usize) -> Vec<T> {
        let row = |&row: &usize| &all[row * width..][..width];
        rows.iter().flat_map(row).copied().collect()
    }
    let format = match &matrix.format {
        Format::Bf16(w) => Format::Bf16(pick(w, &rows, k)),
        Format::Q8(blocks) => Format::Q8(pick(blocks, &rows, k / 32 * 34)),
        Format::Nvfp4 {
            codes,
            scales,
            tensor,
            convention,
        } => Format::Nvfp4 {
            codes: pick(codes, &rows, k / 2),
            scales: pick(scales, &rows, k / 16),
            tensor: *tensor,
            convention: *convention,
        },
    };
    let n = rows.len();
    Matrix { n, k, format }
}

/// The matrices of all experts, each expert's own (gate and up) one after another. There is no grouped product of Q8_0: those are bf16.
pub fn stack(experts: &[Vec<Matrix>]) -> Stack {
    let first = &experts[0][0].format;
    if let Format::Nvfp4 { convention, .. } = *first {
        let (mut all_codes, mut all_scales, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
        for expert in experts {
            let mut of_expert = None;
            for matrix in expert {
                let Format::Nvfp4 {
                    codes, scales, tensor, ..
                } = &matrix.format
                else {
                    panic!("formats differ")
                };
                all_codes.extend_from_slice(codes);
                all_scales.extend_from_slice(scales);
                assert_eq!(*of_expert.get_or_insert(*tensor), *tensor, "one scale for gate and up");
            }
            tensors.extend(of_expert);
        }
        return Stack::Nvfp4 {
            codes: all_codes,
            scales: all_scales,
            tensor: tensors,
            convention,
        };
    }
    let w = experts.iter().flatten().flat_map(|matrix| match &matrix.format {
        Format::Bf16(w) => w.clone(),
        _ => panic!("a stack's slices are bf16"),
    });
    Stack::Bf16(w.collect())
}
