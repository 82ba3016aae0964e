//! `kv_append`: new keys and values to their places in the paged cache.

use half::bf16;
use kernels_gpu::kv_append::{THREADS, kv_append_bf16};

use crate::cost::Work;
use crate::device::{Device, Stream};
use crate::op::call::Call;
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Problem, Same, Spec, Tensor, bytes};
use crate::op::{Case, OpError, Values};
use crate::reference::kv_append::{Batch, places};

mod call;

pub use call::KvAppendCall;

/// The operation.
pub struct KvAppend;

/// Cache pages that no sequence has: they must stay as they are.
const SPARE_PAGES: usize = 2;
/// Up to so many tokens are written one by one as well.
const ONE_BY_ONE: i32 = 128;

fn case(name: &str, [n_seq, n_tok, past]: [u64; 3], [kv_heads, head_dim, page]: [u64; 3]) -> Case {
    let dims = [
        ("n_seq", n_seq),
        ("n_tok", n_tok),
        ("kv_heads", kv_heads),
        ("head_dim", head_dim),
        ("page", page),
        ("past", past),
    ];
    Case::of::<KvAppend>("random", name, &dims, Values::Normal)
}

impl Spec for KvAppend {
    const NAME: &'static str = "kv_append";
    const SUMMARY: &'static str = "new keys and values into the paged cache, places found on the device";
    const AXES: &'static [Axis] = &[
        Axis::required("n_seq"),
        Axis::tokens(),
        Axis::required("kv_heads"),
        Axis::required("head_dim"),
        Axis::optional("page", 64),
        Axis::optional("past", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["bf16"];
    // Bytes are copied: NaN among them show that nothing is computed.
    const VALUES: &'static [Values] = &[Values::Normal, Values::NonFinite];

    fn configs() -> Vec<Config> {
        vec![Config::plain(kv_append_bf16::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        dims.check_product(&["n_tok", "kv_heads", "head_dim"], 1)?;
        call::check_token(dims.u64("kv_heads"), dims.u64("head_dim"))?;
        if dims.u64("past") + dims.u64("n_tok") >= 1 << 31 {
            return Err("past + n_tok: positions are below 2^31".into());
        }
        Ok(())
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for page in [16, 32, 64] {
            for past in [0, 1, page - 1, page, 5 * page + 3] {
                cases.push(case("edge", [3, 3, past], [2, 64, page]));
                cases.push(case("edge", [4, 2 * page + 7, past], [1, 16, page]));
            }
        }
        for n_tok in [0, 1, 2] {
            cases.push(case("edge", [1, n_tok, 7], [2, 128, 16]));
        }
        // More sequences than tokens: most have none. Broken vectors and pages of any size.
        cases.push(case("edge", [19, 5, 3], [3, 20, 16]));
        cases.push(case("edge", [2, 40, 11], [1, 7, 5]));
        cases.extend((0..2).map(|_| Case {
            values: Values::NonFinite,
            ..case("edge", [2, 20, 11], [2, 32, 16])
        }));
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let head_dim = if draw(0, 3) == 0 {
            1 + draw(1, 70)
        } else {
            16 << draw(1, 4)
        };
        let n_seq = 1 + draw(2, 9);
        let n_tok = if draw(3, 3) == 0 { n_seq } else { draw(4, 80) };
        let sizes = [1 + draw(5, 4), head_dim, 16 << draw(6, 3)];
        case(&format!("case{i}"), [n_seq, n_tok, draw(7, 200)], sizes)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let bytes = 4 * dims.u64("n_tok") * dims.u64("kv_heads") * dims.u64("head_dim");
        Work {
            read_bytes: bytes,
            write_bytes: bytes,
            blocks: dims.u64("n_tok"),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        Ok(Box::new(Data::new(dims, Draw { seed, values })))
    }
}

/// The data of a case: k and v lie in a packed `[n_tok][1 + 2 kv_heads][head_dim]`, behind a head of q. The caches have
/// the pages that are written and [`SPARE_PAGES`] more; pages of the past that are not written are -1 in the table.
struct Data {
    n_tok: usize,
    kv_heads: usize,
    head_dim: usize,
    page: usize,
    max_pages: usize,
    n_pages: usize,
    qkv: Vec<bf16>,
    cache: [Vec<bf16>; 2],
    block_table: Vec<i32>,
    cu_seqlens: Vec<i32>,
    seq_lens: Vec<i32>,
    /// Launch once for each sequence.
    one_by_one: bool,
}

/// How many new tokens each sequence has: one each where there are as many tokens as sequences, else cut at random. Now
/// and then the last token belongs to nobody, as in a launch that was captured for more.
fn split(random: Random, n_seq: usize, n_tok: usize) -> Vec<i32> {
    if n_seq == n_tok {
        return (0..=n_tok as i32).collect();
    }
    let used = n_tok as u64 - random.below(0, 2).min(n_tok as u64);
    let cut = |i: u64| random.below(i, used + 1) as i32;
    let mut all: Vec<i32> = (1..n_seq as u64).map(cut).chain([0, used as i32]).collect();
    all.sort_unstable();
    all
}

impl Data {
    fn new(dims: &Dims, draw: Draw) -> Self {
        let (n_seq, n_tok, past) = (dims.usize("n_seq"), dims.usize("n_tok"), dims.u64("past"));
        let (kv_heads, head_dim, page) = (dims.usize("kv_heads"), dims.usize("head_dim"), dims.usize("page"));
        let random = draw.random("kv_append lengths");
        let cu_seqlens = split(draw.random("kv_append split"), n_seq, n_tok);
        let ragged = past.min(page as u64);
        let before: Vec<u64> = (0..n_seq as u64).map(|s| past - random.below(s, ragged + 1)).collect();
        let new = |s: usize| (cu_seqlens[s + 1] - cu_seqlens[s]) as u64;
        let seq_lens: Vec<i32> = (0..n_seq).map(|s| (before[s] + new(s)) as i32).collect();
        let longest = seq_lens.iter().copied().max().unwrap_or(0) as usize;
        let max_pages = longest.div_ceil(page) + 1;
        // The pages written, in random order: page numbers of a cache in use follow nothing.
        let mut written = Vec::new();
        for s in (0..n_seq).filter(|&s| new(s) > 0) {
            let (first, last) = (before[s] as usize / page, (seq_lens[s] as usize - 1) / page);
            written.extend((first..=last).map(|at| s * max_pages + at));
        }
        let n_pages = written.len() + SPARE_PAGES;
        let mut numbers: Vec<usize> = (0..n_pages).collect();
        numbers.sort_by_key(|&i| random.at((1 << 32) | i as u64));
        let mut block_table = vec![-1; n_seq * max_pages];
        for (at, number) in written.into_iter().zip(numbers) {
            block_table[at] = number as i32;
        }
        let elements = n_pages * kv_heads * page;
        Self {
            n_tok,
            kv_heads,
            head_dim,
            page,
            max_pages,
            n_pages,
            qkv: draw.floats("kv_append qkv", n_tok * (1 + 2 * kv_heads), head_dim, 1.0),
            cache: ["kv_append k", "kv_append v"].map(|name| draw.ordinary(name, elements, head_dim, 1.0)),
            block_table,
            cu_seqlens,
            seq_lens,
            one_by_one: false,
        }
    }

    /// The same tokens into the same cache by one launch for each of these sequences.
    fn part(&self, name: &'static str, block_table: Vec<i32>, cu_seqlens: Vec<i32>, seq_lens: Vec<i32>) -> Alone {
        let part = Data {
            qkv: self.qkv.clone(),
            cache: self.cache.clone(),
            block_table,
            cu_seqlens,
            seq_lens,
            one_by_one: true,
            ..*self
        };
        let all = self.cache[0].len();
        Alone {
            name,
            problem: Box::new(part),
            same: ["k_cache", "v_cache"]
                .map(|name| Same::new::<bf16>(name, 0, 0, all))
                .to_vec(),
        }
    }

    fn width(&self) -> usize {
        (1 + 2 * self.kv_heads) * self.head_dim
    }
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let n_seq = ("n_seq", self.seq_lens.len());
        let cache = [
            ("page", self.n_pages),
            ("head", self.kv_heads),
            ("slot", self.page),
            ("element", self.head_dim),
        ];
        let heads = ("head", 1 + 2 * self.kv_heads);
        vec![
            Tensor::weight(
                "qkv",
                &[("n_tok", self.n_tok), heads, ("element", self.head_dim)],
                &self.qkv,
            ),
            Tensor::input("block_table", &[n_seq, ("index", self.max_pages)], &self.block_table),
            Tensor::input("cu_seqlens", &[("n_seq + 1", self.cu_seqlens.len())], &self.cu_seqlens),
            Tensor::input("seq_lens", &[n_seq], &self.seq_lens),
            Tensor::in_out("k_cache", &cache, &self.cache[0]),
            Tensor::in_out("v_cache", &cache, &self.cache[1]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let ptr = |name: &str| tensors.at::<i32>(name);
        let cache = |name: &str| tensors.at::<bf16>(name);
        // The first k of the first token, behind a head of q.
        let k = cache("qkv")?.add(self.head_dim);
        let n_seq = self.seq_lens.len();
        let (launches, each) = if self.one_by_one { (n_seq, 1) } else { (1, n_seq) };
        for s in 0..launches {
            let call = KvAppendCall {
                k,
                v: k.add(self.kv_heads * self.head_dim),
                k_cache: cache("k_cache")?,
                v_cache: cache("v_cache")?,
                block_table: ptr("block_table")?.add(s * self.max_pages),
                cu_seqlens: ptr("cu_seqlens")?.add(s),
                seq_lens: ptr("seq_lens")?.add(s),
                n_tok: self.n_tok as u32,
                n_seq: each as u32,
                kv_heads: self.kv_heads as u32,
                head_dim: self.head_dim as u32,
                page: self.page as u32,
                max_pages: self.max_pages as u32,
                n_pages: self.n_pages as u32,
                stride: self.width() as u32,
            };
            call.launch(device, stream, config)?;
        }
        Ok(())
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let batch = Batch {
            cu_seqlens: &self.cu_seqlens,
            seq_lens: &self.seq_lens,
            block_table: &self.block_table,
            max_pages: self.max_pages,
            page: self.page,
            n_pages: self.n_pages,
        };
        let d = self.head_dim;
        let mut cache = self.cache.clone();
        for (token, place) in places(batch, self.n_tok)?.into_iter().enumerate() {
            let Some(place) = place else { continue };
            let heads = &self.qkv[token * self.width() + d..][..2 * self.kv_heads * d];
            for (i, head) in heads.chunks_exact(d).enumerate() {
                let row = (place.page * self.kv_heads + i % self.kv_heads) * self.page + place.slot;
                cache[i / self.kv_heads][row * d..][..d].copy_from_slice(head);
            }
        }
        Ok(Answer::Whole(cache.iter().map(|cache| bytes(cache)).collect()))
    }

    /// The sequences one by one, and the tokens one by one, each as a sequence of its own on the pages of its sequence.
    fn alone(&self, _: Random) -> Vec<Alone> {
        let mut parts = Vec::new();
        if self.seq_lens.len() > 1 && self.n_tok > 0 {
            let (table, starts, lens) = (&self.block_table, &self.cu_seqlens, &self.seq_lens);
            parts.push(self.part("sequences one by one", table.clone(), starts.clone(), lens.clone()));
        }
        let used = self.cu_seqlens.last().copied().unwrap_or(0);
        if (2..=ONE_BY_ONE).contains(&used) {
            let (mut table, mut lens) = (Vec::new(), Vec::new());
            for (s, cut) in self.cu_seqlens.windows(2).enumerate() {
                for token in cut[0]..cut[1] {
                    table.extend_from_slice(&self.block_table[s * self.max_pages..][..self.max_pages]);
                    lens.push(self.seq_lens[s] - (cut[1] - token - 1));
                }
            }
            parts.push(self.part("tokens one by one", table, (0..=used).collect(), lens));
        }
        parts
    }
}
