//! The embedded files against the models' facts, and the loader against files that are wrong.

use super::load::parse;
use super::*;

fn embedded() -> ShapeSet {
    ShapeSet::embedded().expect("the embedded shape files are valid")
}

fn dims(set: &ShapeSet, model: &str, name: &str) -> (u64, u64, u64) {
    let model = set.model(model).unwrap_or_else(|| panic!("no model {model}"));
    let op = model
        .ops
        .iter()
        .find(|o| o.name == name && o.op == "q8_matmul")
        .unwrap_or_else(|| panic!("no {name} in {}", model.name));
    (op.dims["n"], op.dims["k"], op.count)
}

/// Rows, columns and counts of a dense transformer follow from its facts; the files give both, so each checks the other.
#[test]
fn products_agree_with_the_facts() {
    let set = embedded();
    for name in ["qwen3-8b", "qwen3-4b", "llama-3.2-3b", "qwen3.5-4b"] {
        let f = set.model(name).unwrap().facts.clone();
        let (hidden, layers, attention) = (f.hidden.unwrap(), f.layers.unwrap(), f.attention_layers.unwrap());
        let q = f.q_heads.unwrap() * f.head_dim.unwrap();
        let kv = f.kv_heads.unwrap() * f.head_dim.unwrap();
        let gate = if f.gated_attention { q } else { 0 };
        assert_eq!(
            dims(&set, name, "attn_qkv"),
            (q + gate + 2 * kv, hidden, attention),
            "{name}"
        );
        assert_eq!(dims(&set, name, "attn_o"), (hidden, q, attention), "{name}");
        assert_eq!(
            dims(&set, name, "ffn_gate_up"),
            (2 * f.ffn.unwrap(), hidden, layers),
            "{name}"
        );
        assert_eq!(dims(&set, name, "ffn_down"), (hidden, f.ffn.unwrap(), layers), "{name}");
        assert_eq!(dims(&set, name, "lm_head"), (f.vocab.unwrap(), hidden, 1), "{name}");
        if let Some(gdn) = f.gdn_layers {
            let d = f.gdn_head_dim.unwrap();
            let (k, v) = (f.gdn_k_heads.unwrap() * d, f.gdn_v_heads.unwrap() * d);
            assert_eq!(
                dims(&set, name, "gdn_in"),
                (2 * k + 2 * v + 2 * f.gdn_v_heads.unwrap(), hidden, gdn)
            );
            assert_eq!(dims(&set, name, "gdn_out"), (hidden, v, gdn));
            assert_eq!(gdn + attention, layers);
        } else {
            assert_eq!(attention, layers, "{name}");
        }
    }
}

#[test]
fn deepseek_has_its_eight_products() {
    let set = embedded();
    let m = set.model("deepseek-v4-flash").unwrap();
    let got: Vec<_> = m
        .ops
        .iter()
        .filter(|o| o.op == "q8_matmul")
        .map(|o| (o.dims["k"], o.dims["n"], o.dims["groups"]))
        .collect();
    let want = [
        (4096, 1024, 1),
        (1024, 32768, 1),
        (4096, 512, 1),
        (4096, 1024, 8),
        (8192, 4096, 1),
    ];
    let rest = [(4096, 2048, 1), (2048, 4096, 1), (4096, 129280, 1)];
    assert_eq!(got, [&want[..], &rest[..]].concat());
    let mut products = m.ops.iter().filter(|o| o.op == "q8_matmul");
    assert!(products.all(|o| o.count % 43 == 0 || o.name == "lm_head"));
}

/// The edge cases every test of Q8_0 needs are all there, and cost the simulator little.
#[test]
fn edge_cases_are_complete_and_small() {
    let set = embedded();
    let ops = || {
        set.model("edge-cases")
            .unwrap()
            .ops
            .iter()
            .filter(|o| o.op == "q8_matmul")
    };
    let has = |dim: &str, value: u64| ops().any(|o| o.dims[dim] == value);
    for blocks in [1, 31, 32, 33, 255, 256, 257, 448] {
        assert!(has("k", 32 * blocks), "{blocks} blocks");
    }
    for rows in [1, 7, 8, 9, 31, 33, 1856] {
        assert!(has("n", rows), "{rows} rows");
    }
    for n_tok in [1, 2, 3, 4, 5, 8, 9, 16, 127, 128] {
        assert!(ops().any(|o| o.n_tok.contains(&n_tok)), "{n_tok} tokens");
    }
    assert!(ops().filter(|o| o.dims["k"] % 32 != 0).count() >= 4);
    let macs: u64 = ops()
        .map(|o| o.dims.values().product::<u64>() * o.n_tok.iter().map(|&t| u64::from(t)).sum::<u64>())
        .sum();
    assert!((20_000_000..30_000_000).contains(&macs), "{macs} multiply-adds");
}

#[test]
fn the_anchor_is_the_peers_shape() {
    let set = embedded();
    assert_eq!(dims(&set, "anchors", "ggml_q8_0"), (4096, 14336, 1));
    assert_eq!(set.model("anchors").unwrap().ops[0].n_tok, [1, 2, 3, 4, 5, 8]);
}

const GOOD: &str = "title = 'T'\n[facts]\nhidden = 64\n[[op]]\nop = 'q8_matmul'\nname = 'a'\nn = 8\nk = 32\nn_tok = [1, 2]\ncount = 3\n";

#[test]
fn a_good_file_is_read() {
    let m = parse("t.toml", "t", GOOD).unwrap();
    assert_eq!(
        (m.name.as_str(), m.title.as_str(), m.facts.hidden),
        ("t", "T", Some(64))
    );
    let op = &m.ops[0];
    assert_eq!((op.label().as_str(), op.op.as_str(), op.count), ("t/a", "q8_matmul", 3));
    assert_eq!(
        (op.dim("n"), op.dim("k"), op.dim("groups"), op.dim("m")),
        (Some(8), Some(32), Some(1), None)
    );
    assert_eq!(op.n_tok, [1, 2]);
}

/// Every way an entry can be wrong names the file, the entry and the field.
#[test]
fn a_wrong_file_says_where() {
    let cases = [
        ("n = 8", "", "t.toml: [[op]] 1 \"a\": n: is missing"),
        ("n = 8", "n = 0", "t.toml: [[op]] 1 \"a\": n: is 0; it must be"),
        ("n = 8", "n = -4", "[[op]] 1 \"a\": n: is -4"),
        ("n = 8", "n = 'x'", "[[op]] 1 \"a\": n: is"),
        (
            "count = 3",
            "count = 3\nkk = 1",
            "[[op]] 1 \"a\": kk: is no field of q8_matmul; its fields are: op, name",
        ),
        (
            "'q8_matmul'",
            "'q9'",
            "[[op]] 1 \"a\": op: \"q9\" is not known; known are: ",
        ),
        ("name = 'a'", "", "t.toml: [[op]] 1: name: is missing"),
        ("name = 'a'", "name = 5", "t.toml: [[op]] 1: name: must be a text"),
        ("[1, 2]", "[]", "[[op]] 1 \"a\": n_tok: must be a list"),
        ("[1, 2]", "[2, 1]", "[[op]] 1 \"a\": n_tok: must be a list"),
        ("[1, 2]", "[1, 4294967296]", "[[op]] 1 \"a\": n_tok: must be a list"),
        ("hidden", "hiden", "unknown field `hiden`"),
        ("title = 'T'", "title = 'T'\nauthor = 'me'", "unknown field `author`"),
        ("title = 'T'", "", "missing field `title`"),
        ("title = 'T'", "title = ", "t.toml: TOML parse error at line 1"),
    ];
    for (from, to, want) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let error = parse("t.toml", "t", &text).expect_err(want).to_string();
        assert!(
            error.contains(want) && error.starts_with("t.toml: "),
            "want {want:?}, got {error:?}"
        );
    }
    let entry = GOOD.split_once("[[op]]").unwrap().1;
    let error = parse("t.toml", "t", &format!("{GOOD}[[op]]{entry}"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("t.toml: [[op]] 2 \"a\": name: "), "{error}");
}

/// Tokens may be left out, an operation without a dimension refuses it, and nothing is allowed where the axis says so.
#[test]
fn dimensions_are_the_operation_s_axes() {
    let entry = |fields: &str| format!("title = 'T'\n[[op]]\nop = 'silu_mul'\nname = 'a'\n{fields}\ncount = 3\n");
    let m = parse("t.toml", "t", &entry("n = 8")).unwrap();
    assert_eq!((&m.ops[0].n_tok[..], m.ops[0].dim("n_tok")), (&[1][..], None));
    assert_eq!(
        parse("t.toml", "t", &entry("n = 8\nn_tok = [0, 2]")).unwrap().ops[0].n_tok,
        [0, 2]
    );
    let error = parse("t.toml", "t", &entry("n = 8\nk = 2")).unwrap_err().to_string();
    assert!(
        error.contains("k: is no field of silu_mul; its fields are: op, name, count, n, n_tok"),
        "{error}"
    );
}

#[test]
fn a_folder_takes_the_place_of_the_embedded_files() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(ShapeSet::load(dir.path()), Err(ShapeError::Empty { .. })));
    std::fs::write(dir.path().join("b.toml"), GOOD).unwrap();
    std::fs::write(dir.path().join("a.toml"), GOOD).unwrap();
    std::fs::write(dir.path().join("README.md"), "no shapes").unwrap();
    let set = ShapeSet::load(dir.path()).unwrap();
    assert_eq!(
        set.models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(set.ops().count(), 2);
    assert_eq!(ShapeSet::load_file(&dir.path().join("b.toml")).unwrap().models.len(), 1);
    let error = ShapeSet::load(&dir.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("cannot be read"), "{error}");
}

const MODEL: &str = "title = 'T'\n[model]\nfamily = 'qwen3'\nhidden = 64\nlayers = 8\nvocab = 10\nmax_positions = 99\nnorm_eps = 1e-6\n\
weights = 'q8_0'\nffn = 128\n[model.attention]\nq_heads = 4\nkv_heads = 2\nhead_dim = 16\ntheta = 1e4\n";

/// Facts follow from a `[model]`, which needs no `[[op]]`.
#[test]
fn a_model_says_its_facts() {
    let m = parse("t.toml", "t", MODEL).unwrap();
    let table = m.model.as_ref().unwrap();
    assert_eq!(
        (m.ops.len(), table.weights, table.attention.rot),
        (0, WeightFormat::Q8_0, None)
    );
    let f = &m.facts;
    assert_eq!(
        (f.hidden, f.layers, f.attention_layers, f.ffn),
        (Some(64), Some(8), Some(8), Some(128))
    );
    assert_eq!((f.experts, f.gdn_layers, f.tied_embeddings), (None, None, Some(false)));
    let config = table.config("t", "qwen3");
    assert_eq!((config.attention.rot, config.layers.len()), (16, 8));
    let hybrid = MODEL.replacen("ffn = 128", "ffn = 128\nfull_attention_interval = 4", 1)
        + "[model.gdn]\nk_heads = 1\nv_heads = 2\nhead_dim = 128\nconv_width = 4\n";
    let f = parse("t.toml", "t", &hybrid).unwrap().facts;
    assert_eq!(
        (f.attention_layers, f.gdn_layers, f.gdn_v_heads),
        (Some(2), Some(6), Some(2))
    );
}

#[test]
fn a_wrong_model_says_where() {
    let cases = [
        (
            "layers = 8",
            "layers = 8\nfull_attention_interval = 4",
            "[model]: gdn: is missing",
        ),
        (
            "layers = 8",
            "layers = 8\nfull_attention_interval = 0",
            "[model]: full_attention_interval: 0 of 8 layers",
        ),
        ("ffn = 128", "", "[model]: ffn: neither ffn nor [model.moe]"),
        (
            "[model]",
            "[facts]\nhidden = 64\n[model]",
            "[model]: facts: follow from [model]",
        ),
        ("'q8_0'", "'fp8'", "unknown variant `fp8`"),
        ("theta = 1e4", "theta = 1e4\nthetta = 1", "unknown field `thetta`"),
        ("hidden = 64", "hidden = 64\nhiden = 64", "unknown field `hiden`"),
        (
            "theta = 1e4",
            "theta = 1e4\nscaling = { rule = 'other' }",
            "unknown variant `other`",
        ),
        ("hidden = 64", "hidden = -64", "invalid value"),
    ];
    for (from, to, want) in cases {
        let text = MODEL.replacen(from, to, 1);
        assert_ne!(text, MODEL, "{from}");
        let error = parse("t.toml", "t", &text).expect_err(want).to_string();
        assert!(
            error.contains(want) && error.starts_with("t.toml: "),
            "want {want:?}, got {error:?}"
        );
    }
    let error = parse("t.toml", "t", "title = 'T'").unwrap_err().to_string();
    assert_eq!(error, "t.toml: [model]: op: there is neither a [model] nor an [[op]]");
}
