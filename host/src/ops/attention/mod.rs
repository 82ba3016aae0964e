//! `attn_prefill` and `attn_decode`: attention on a paged cache, in the order of prompts and in that of generated tokens.

mod alone;
mod batch;
mod call;
mod cases;
mod data;
mod half;
mod problem;

use kernels_gpu::{attn_decode, attn_prefill};

use crate::cost::{Math, Work};
use crate::op::random::Random;
use crate::op::spec::{Axis, Config, Dims, Problem, Spec};
use crate::op::{Case, OpError, Values};
pub use crate::reference::attention::Order;
use batch::{Lengths, need};
pub use call::{AttnCall, decode_scratch};
use data::{Data, Shape};
use half::HEAD_DIMS;

/// Attention of prompts.
pub struct AttnPrefill;

/// Attention of generated and drafted tokens.
pub struct AttnDecode;

/// The largest grid in y and z.
const LARGEST_GRID: u64 = 65_535;

const VALUES: &[Values] = &[
    Values::Normal,
    Values::Zeros,
    Values::NonFinite,
    Values::Cancelling,
    Values::Huge,
    Values::Tiny,
    Values::Single,
    Values::WideRange,
];

/// The dimensions that both have.
macro_rules! axes {
    ($($own:expr),*) => {
        &[
            Axis::optional("n_seq", 1),
            $($own,)*
            Axis::required("q_heads"),
            Axis::required("kv_heads"),
            Axis::required("head_dim"),
            Axis::optional("page", 64),
            Axis::optional("window", 0).at_least(0),
            Axis::optional("gate", 0).at_least(0),
            Axis::optional("ragged", 0).at_least(0),
        ]
    };
}

/// What both refuse.
fn check(dims: &Dims) -> Result<(), String> {
    check_sizes(["q_heads", "kv_heads", "head_dim", "page", "n_seq"].map(|axis| dims.u64(axis)))?;
    for flag in ["gate", "ragged"] {
        if dims.u64(flag) > 1 {
            return Err(format!("{flag} = {}: it is 0 or 1", dims.u64(flag)));
        }
    }
    Ok(())
}

/// What both refuse of the sizes that do not depend on lengths.
fn check_sizes([q_heads, kv_heads, d, page, n_seq]: [u64; 5]) -> Result<(), String> {
    if kv_heads == 0 || q_heads == 0 || !q_heads.is_multiple_of(kv_heads) {
        return Err(format!("q_heads = {q_heads} is no multiple of kv_heads = {kv_heads}"));
    }
    if !HEAD_DIMS.contains(&d) {
        return Err(format!("head_dim = {d}: there are kernels for {HEAD_DIMS:?}"));
    }
    if ![16, 32, 64].contains(&page) {
        return Err(format!("page = {page}: a page has 16, 32 or 64 positions"));
    }
    if n_seq > LARGEST_GRID {
        return Err(format!("n_seq = {n_seq}: at most {LARGEST_GRID} sequences a launch"));
    }
    // Elements of a row of q with its gates or with k and v, and of a page, are counted in 32 bits.
    if (2 * q_heads + 2 * kv_heads) * d >= 1 << 31 {
        return Err(format!(
            "q_heads = {q_heads}, kv_heads = {kv_heads}, head_dim = {d}: a row has 2^31 elements or more"
        ));
    }
    Ok(())
}

/// Refuses more tiles than a grid has.
fn check_prefill_grid(n_tok: u64, n_seq: u64) -> Result<(), String> {
    if n_tok / u64::from(attn_prefill::TILE) + n_seq > LARGEST_GRID {
        return Err(format!(
            "n_tok = {n_tok}, n_seq = {n_seq}: more than {LARGEST_GRID} tiles of 64 tokens a launch"
        ));
    }
    Ok(())
}

/// Refuses more positions a sequence than a grid has splits for.
fn check_decode_positions(kv_len: u64) -> Result<(), String> {
    let most = LARGEST_GRID * u64::from(attn_decode::SPLIT) - 128;
    if kv_len > most {
        return Err(format!("kv_len = {kv_len}: at most {most} positions a sequence"));
    }
    Ok(())
}

/// Bytes and multiply-adds of a batch.
fn work(dims: &Dims, batch: &[Lengths]) -> Work {
    let need = need(batch, dims.usize("window"));
    let d = dims.u64("head_dim");
    let (q, kv) = (dims.u64("q_heads") * d, dims.u64("kv_heads") * d);
    Work {
        read_bytes: 2 * (2 * need.positions * kv + need.tokens * q * (1 + dims.u64("gate"))),
        write_bytes: 2 * need.tokens * q,
        multiply_adds: 2 * need.pairs * q,
        math: Math::Bf16,
        ..Work::default()
    }
}

fn problem(dims: &Dims, order: Order, batch: Vec<Lengths>, values: Values, dtype: &str, seed: u64) -> Box<dyn Problem> {
    let shape = Shape::of(dims, order);
    match dtype {
        "f16" => Box::new(Data::<::half::f16>::draw(shape, batch, values, seed)),
        _ => Box::new(Data::<::half::bf16>::draw(shape, batch, values, seed)),
    }
}

impl Spec for AttnPrefill {
    const NAME: &'static str = "attn_prefill";
    const SUMMARY: &'static str = "attention of prompts on a paged cache, causal, GQA, window, output gate";
    const AXES: &'static [Axis] = axes!(Axis::tokens(), Axis::optional("past", 0).at_least(0));
    const DTYPES: &'static [&'static str] = &["bf16", "f16"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        let kernel = attn_prefill::attn_prefill_bf16_d128::KERNEL.meta;
        vec![Config::plain(
            kernel,
            attn_prefill::THREADS,
            attn_prefill::shared_bytes(128),
        )]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check(dims)?;
        dims.check_product(&["n_seq", "past", "kv_heads", "head_dim"], 1)?;
        dims.check_product(&["n_tok", "past", "q_heads", "head_dim"], 1)?;
        dims.check_product(&["n_tok", "n_tok", "q_heads", "head_dim"], 1)?;
        let (n_tok, n_seq, past) = (dims.u64("n_tok"), dims.u64("n_seq"), dims.u64("past"));
        check_prefill_grid(n_tok, n_seq)?;
        if past + n_tok >= 1 << 30 {
            return Err(format!(
                "past = {past}, n_tok = {n_tok}: a sequence has fewer than 2^30 positions"
            ));
        }
        Ok(())
    }

    fn edge_cases() -> Vec<Case> {
        cases::prefill_edges()
    }

    fn random_case(random: Random, i: u64) -> Case {
        cases::prefill(random, i)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let d = dims.u32("head_dim");
        let tiles = attn_prefill::tiles(dims.u32("n_tok"), dims.u32("n_seq"));
        Work {
            blocks: u64::from(tiles * (d / attn_prefill::part(d))) * dims.u64("q_heads"),
            threads: attn_prefill::THREADS,
            shared_bytes: attn_prefill::shared_bytes(d),
            ..work(dims, &batch::prefill(dims))
        }
    }

    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        Ok(problem(dims, Order::Prefill, batch::prefill(dims), values, dtype, seed))
    }
}

impl Spec for AttnDecode {
    const NAME: &'static str = "attn_decode";
    const SUMMARY: &'static str =
        "attention of generated and drafted tokens on a paged cache, GQA, window, output gate";
    const AXES: &'static [Axis] = axes!(Axis::tokens(), Axis::required("kv_len"));
    const DTYPES: &'static [&'static str] = &["bf16", "f16"];
    const VALUES: &'static [Values] = VALUES;

    fn configs() -> Vec<Config> {
        let kernel = attn_decode::attn_decode_bf16_d128::KERNEL.meta;
        vec![Config::plain(
            kernel,
            attn_decode::THREADS,
            attn_decode::shared_bytes(64),
        )]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check(dims)?;
        dims.check_product(&["n_seq", "n_tok", "kv_len", "q_heads", "head_dim"], 1)?;
        let (n_tok, n_seq, kv_len) = (dims.u64("n_tok"), dims.u64("n_seq"), dims.u64("kv_len"));
        if kv_len < n_tok {
            return Err(format!(
                "kv_len = {kv_len} is less than n_tok = {n_tok}, whose positions it counts"
            ));
        }
        if n_tok * n_seq > LARGEST_GRID {
            return Err(format!(
                "n_tok = {n_tok}, n_seq = {n_seq}: at most {LARGEST_GRID} query tokens a launch"
            ));
        }
        let q_heads = dims.u64("q_heads");
        if n_tok * q_heads >= 1 << 31 {
            return Err(format!(
                "n_tok = {n_tok}, q_heads = {q_heads}: 2^31 rows of a sequence or more"
            ));
        }
        check_decode_positions(kv_len)
    }

    fn edge_cases() -> Vec<Case> {
        cases::decode_edges()
    }

    fn random_case(random: Random, i: u64) -> Case {
        cases::decode(random, i)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (d, kv_heads) = (dims.u32("head_dim"), dims.u32("kv_heads"));
        let group = dims.u32("q_heads") / kv_heads;
        let grid = attn_decode::grid(
            dims.u32("n_seq"),
            kv_heads,
            group,
            dims.u32("n_tok"),
            dims.u32("kv_len"),
        );
        Work {
            launches: 2,
            blocks: u64::from(grid.0) * u64::from(grid.1) * u64::from(grid.2),
            threads: attn_decode::THREADS,
            shared_bytes: attn_decode::shared_bytes(d),
            ..work(dims, &batch::decode(dims))
        }
    }

    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        Ok(problem(dims, Order::Decode, batch::decode(dims), values, dtype, seed))
    }
}
