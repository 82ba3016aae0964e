//! `embedding`: rows of a table of bf16 or Q8_0.

use half::{bf16, f16};
use kernels_gpu::embedding::{THREADS, embedding_bf16, embedding_q8_0, parts};

use crate::cost::Work;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain, refused};
use crate::op::data::{Draw, rows};
use crate::op::random::{Random, parallel};
use crate::op::spec::{Alone, Answer, Axis, Bound, Config, Dims, Problem, Same, Spec, Tensor, bytes, sample};
use crate::op::{Case, OpError, Values};
use crate::reference::embedding as reference;

/// The operation.
pub struct Embedding;

/// Bytes of a Q8_0 block, of 32 values.
const BLOCK: usize = 34;

fn case(name: &str, n_tok: u64, n: u64, vocab: u64, values: Values) -> Case {
    Case::of::<Embedding>("random", name, &[("n_tok", n_tok), ("n", n), ("vocab", vocab)], values)
}

/// Bytes of a row of the table.
fn row_bytes(n: u64, dtype_is_q8: bool) -> u64 {
    if dtype_is_q8 {
        n.div_ceil(32) * BLOCK as u64
    } else {
        2 * n
    }
}

/// Refuses rows of more elements than a launch has blocks for.
fn check_row(n: u64) -> Result<(), String> {
    if n > 1 << 25 {
        return Err(format!("n = {n}: a row has 2^25 elements at the most"));
    }
    Ok(())
}

impl Spec for Embedding {
    const NAME: &'static str = "embedding";
    const SUMMARY: &'static str = "rows of the embedding table, copied (bf16) or dequantised (Q8_0)";
    const AXES: &'static [Axis] = &[Axis::tokens(), Axis::required("n"), Axis::required("vocab")];
    const DTYPES: &'static [&'static str] = &["bf16", "q8_0"];
    const VALUES: &'static [Values] = &[
        Values::Normal,
        Values::Zeros,
        Values::NonFinite,
        Values::Huge,
        Values::Tiny,
        Values::WideRange,
    ];

    fn configs() -> Vec<Config> {
        vec![Config::plain(embedding_bf16::KERNEL.meta, THREADS, 0)]
    }

    fn check(dims: &Dims) -> Result<(), String> {
        check_row(dims.u64("n"))
    }

    fn edge_cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for n in [1, 7, 8, 9, 31, 32, 33, 64, 1023, 1024, 1032, 2050] {
            for dtype in Self::DTYPES {
                cases.push(case("edge", 5, n, 11, Values::Normal).with_dtype(dtype));
            }
        }
        for n_tok in [0, 1, 70] {
            for vocab in [1, 2, 300] {
                cases.push(case("edge", n_tok, 40, vocab, Values::Normal));
            }
        }
        for &values in Self::VALUES {
            for dtype in Self::DTYPES {
                cases.push(case("edge", 9, 72, 5, values).with_dtype(dtype));
            }
        }
        cases
    }

    fn random_case(random: Random, i: u64) -> Case {
        let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
        let n = if draw(0, 2) == 0 {
            1 + draw(1, 300)
        } else {
            8 * (1 + draw(1, 200))
        };
        let values = Self::VALUES[draw(2, Self::VALUES.len() as u64) as usize];
        let dtype = Self::DTYPES[draw(3, 2) as usize];
        case(&format!("case{i}"), draw(4, 30), n, 1 + draw(5, 60), values).with_dtype(dtype)
    }

    fn work(dims: &Dims, _: &str, _: u32) -> Work {
        let (n_tok, n) = (dims.u64("n_tok"), dims.u64("n"));
        Work {
            // Of the table's formats the larger; records of Q8_0 name their dtype.
            read_bytes: n_tok * (row_bytes(n, false) + 4),
            write_bytes: n_tok * 2 * n,
            blocks: n_tok * u64::from(parts(n as u32)),
            threads: THREADS,
            ..Work::default()
        }
    }

    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n_tok, n, vocab) = (dims.usize("n_tok"), dims.usize("n"), dims.usize("vocab"));
        let draw = Draw { seed, values };
        let table = if dtype == "q8_0" {
            let scales: Vec<f16> = draw.floats("embedding scales", vocab, n.div_ceil(32), 0.02);
            let mut blocks = draw.bytes("embedding blocks", scales.len() * BLOCK);
            parallel(&mut blocks, BLOCK, |first, part| {
                for (block, d) in part.chunks_exact_mut(BLOCK).zip(&scales[first / BLOCK..]) {
                    block[..2].copy_from_slice(&d.to_le_bytes());
                }
            });
            Table::Q8(blocks)
        } else {
            // A gigabyte is drawn once in sixteen: its rows come again after DRAWN_ROWS, a number prime to any vocabulary's tiles.
            let drawn: Vec<bf16> = draw.floats("embedding table", vocab.min(DRAWN_ROWS), n, 0.02);
            let mut table = vec![bf16::ZERO; vocab * n];
            for rows in table.chunks_mut(drawn.len().max(1)) {
                rows.copy_from_slice(&drawn[..rows.len()]);
            }
            Table::Bf16(table)
        };
        let mut ids: Vec<i32> = draw
            .below("embedding ids", n_tok, vocab as u64)
            .into_iter()
            .map(|id| id as i32)
            .collect();
        // Some that the table does not have.
        let wrong = [-1, vocab as i32, i32::MIN, i32::MAX].into_iter().cycle();
        ids.iter_mut()
            .skip(1)
            .step_by(61)
            .zip(wrong)
            .for_each(|(id, wrong)| *id = wrong);
        Ok(Box::new(Data {
            n,
            vocab,
            ids,
            table: std::sync::Arc::new(table),
        }))
    }
}

/// A table on a device.
#[derive(Clone, Copy, Debug)]
pub enum EmbeddingTable {
    /// `[vocab][n]`.
    Bf16(DevPtr<bf16>),
    /// GGUF's blocks of Q8_0, `[vocab][ceil(n / 32)][34]`, at an even address.
    Q8_0(DevPtr<u8>),
}

/// Rows of a table by number: the embedding of tokens, and the gathering of rows of any tensor. docs/numerics.md, "Head and
/// sampling".
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingCall {
    /// The table, of `vocab` rows of `n`.
    pub table: EmbeddingTable,
    /// `[n_tok]`: the row of each token; one outside of the table gives zeros.
    pub ids: DevPtr<i32>,
    /// `[n_tok][n]`.
    pub y: DevPtr<bf16>,
    /// Tokens.
    pub n_tok: u32,
    /// Elements of a row.
    pub n: u32,
    /// Rows of the table.
    pub vocab: u32,
}

impl Call for EmbeddingCall {
    fn case(&self) -> Case {
        let sizes = [self.n_tok, self.n, self.vocab].map(u64::from);
        let dims = [("n_tok", sizes[0]), ("n", sizes[1]), ("vocab", sizes[2])];
        let case = Case::of::<Embedding>(MODEL, Embedding::NAME, &dims, Values::Normal);
        match self.table {
            EmbeddingTable::Bf16(_) => case,
            EmbeddingTable::Q8_0(_) => case.with_dtype("q8_0"),
        }
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(Embedding::NAME, config)?;
        let (n, vocab) = (self.n, self.vocab);
        check_row(n.into()).map_err(|why| refused(Embedding::NAME, why))?;
        if self.n_tok == 0 || n == 0 {
            return Ok(());
        }
        let dims = LaunchDims::new((self.n_tok, parts(n)), THREADS);
        let (ids, y) = (self.ids.get(), self.y.get_mut());
        match self.table {
            EmbeddingTable::Bf16(table) => {
                device.launch(stream, &embedding_bf16::KERNEL, dims, (table.get(), ids, y, n, vocab))?;
            }
            EmbeddingTable::Q8_0(table) => {
                device.launch(stream, &embedding_q8_0::KERNEL, dims, (table.get(), ids, y, n, vocab))?;
            }
        }
        Ok(())
    }
}

/// So many rows of a table are drawn; further ones repeat them.
const DRAWN_ROWS: usize = 16_381;

/// A table `[vocab][n]`, or its blocks `[vocab][nb][34]`.
enum Table {
    Bf16(Vec<bf16>),
    Q8(Vec<u8>),
}

/// The data of a case.
struct Data {
    n: usize,
    vocab: usize,
    ids: Vec<i32>,
    table: std::sync::Arc<Table>,
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let (tokens, vocab) = (("n_tok", self.ids.len()), ("vocab", self.vocab));
        // One for all copies: copies are counted by the rows that are read, and a table is a gigabyte.
        let table = match &*self.table {
            Table::Bf16(table) => Tensor::input("table", &[vocab, ("n", self.n)], table),
            Table::Q8(blocks) => {
                let blocks_of_row = ("block", self.n.div_ceil(32));
                Tensor::input("table", &[vocab, blocks_of_row, ("byte", BLOCK)], blocks)
            }
        };
        vec![
            table,
            Tensor::input("ids", &[tokens], &self.ids),
            Tensor::output::<bf16>("y", &[tokens, ("n", self.n)]),
        ]
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let call = EmbeddingCall {
            table: match &*self.table {
                Table::Bf16(_) => EmbeddingTable::Bf16(tensors.at("table")?),
                Table::Q8(_) => EmbeddingTable::Q8_0(tensors.at("table")?),
            },
            ids: tensors.at("ids")?,
            y: tensors.at("y")?,
            n_tok: self.ids.len() as u32,
            n: self.n as u32,
            vocab: self.vocab as u32,
        };
        call.launch(device, stream, config)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let mut y = vec![bf16::ZERO; self.ids.len() * self.n];
        match &*self.table {
            Table::Bf16(table) => rows(&mut y, self.n, |token, row| {
                row.copy_from_slice(&reference::row(table, self.ids[token], self.n));
            }),
            Table::Q8(blocks) => {
                for (row, &id) in y.chunks_mut(self.n).zip(&self.ids) {
                    row.copy_from_slice(&reference::row_q8_0(blocks, id, self.n)?);
                }
            }
        }
        Ok(Answer::Whole(vec![bytes(&y)]))
    }

    fn alone(&self, pick: Random) -> Vec<Alone> {
        if self.ids.len() < 2 {
            return Vec::new();
        }
        let row = |token: usize| Alone {
            name: "row alone",
            problem: Box::new(Data {
                ids: vec![self.ids[token]],
                table: self.table.clone(),
                ..*self
            }),
            same: vec![Same::new::<bf16>("y", token * self.n, 0, self.n)],
        };
        sample(pick, 3, self.ids.len()).into_iter().map(row).collect()
    }
}
