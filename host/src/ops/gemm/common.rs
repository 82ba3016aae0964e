//! What `gemm` and `nvfp4_matmul` share: which outputs the CPU computes, the launch, the cost, sizes of cases.

use kernels_gpu::gemm::{self as kernels, Choice};

use crate::cost::{Math, Work};
use crate::device::LaunchDims;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Dims, Element, Piece, bytes, sample};

/// The CPU reference makes a whole output of up to so many multiply-adds (a second or two of a core), else [`SAMPLED`] of its rows
/// and columns.
pub(in crate::ops) const CPU_LIMIT: usize = 1 << 27;
/// Rows and columns whose crossings are the sample.
const SAMPLED: (usize, usize) = (24, 48);

/// The places of an output of m by n that the CPU reference computes: none where it computes all of them.
pub(in crate::ops) fn places(m: usize, n: usize, k: usize) -> Option<Vec<(usize, usize)>> {
    if m * n * k <= CPU_LIMIT {
        return None;
    }
    let rows = sample(Random::new(0, "gemm rows"), SAMPLED.0, m);
    let columns = sample(Random::new(0, "gemm columns"), SAMPLED.1, n);
    Some(
        rows.iter()
            .flat_map(|&r| columns.iter().map(move |&c| (r, c)))
            .collect(),
    )
}

/// An answer of outputs at the places that [`places`] names.
pub(in crate::ops) fn answer<T: Element>(n: usize, places: Option<Vec<(usize, usize)>>, y: &[T]) -> Answer {
    match places {
        None => Answer::Whole(vec![bytes(y)]),
        Some(places) => {
            let piece = |(i, &(row, column)): (usize, &(usize, usize))| Piece::new("y", row * n + column, &y[i..=i]);
            Answer::Pieces(places.iter().enumerate().map(piece).collect())
        }
    }
}

/// The launch of an output of m by n with the shared memory of its tile.
pub(in crate::ops) fn launch_dims(choice: Choice, m: u32, n: u32, shared_bytes: u32) -> LaunchDims {
    let (rows, columns) = kernels::size(choice);
    LaunchDims::new(m.div_ceil(rows) * n.div_ceil(columns), kernels::threads(choice)).shared(shared_bytes)
}

/// Refuses outputs of more tiles than a grid has blocks.
pub(in crate::ops) fn check_tiles(m: u64, n: u64) -> Result<(), String> {
    if m.div_ceil(16) * n.div_ceil(32) >= 1 << 31 {
        return Err(format!("n_tok = {m}, n = {n}: 2^31 tiles or more"));
    }
    Ok(())
}

/// What a product of this shape does: `weight_bytes` are those of all weights, `choice` its tile.
pub(in crate::ops) fn work(choice: Choice, dims: &Dims, weight_bytes: u64, shared_bytes: u32) -> Work {
    let (n, k, m) = (dims.u64("n"), dims.u64("k"), dims.u64("n_tok"));
    let (rows, columns) = kernels::size(choice);
    let (down, across) = (m.div_ceil(u64::from(rows)), n.div_ceil(u64::from(columns)));
    let output = if dims.u64("out_f32") == 1 { 4 } else { 2 };
    Work {
        read_bytes: weight_bytes + 2 * m * k,
        passes: 1,
        // Tiles read both sides again, from L2 for the most part.
        reread_bytes: 0,
        write_bytes: output * m * n,
        multiply_adds: m * n * k,
        math: Math::Bf16,
        blocks: down * across,
        threads: kernels::threads(choice),
        shared_bytes,
        chain: k.div_ceil(16),
        // A dependent mma.sync.m16n8k16, measured on an H200.
        chain_cycles: 26.8,
        ..Work::default()
    }
}

/// Sizes near the edges of tiles (16, 32, 64, 128) and of stages.
pub(in crate::ops) fn near_an_edge(draw: impl Fn(u64, u64) -> u64) -> u64 {
    match draw(0, 4) {
        0 => 1 + draw(1, 200),
        1 => 8 * (1 + draw(1, 24)),
        _ => ([16, 32, 64, 128][draw(1, 4) as usize] * (1 + draw(2, 2)) + draw(3, 3)) - 1,
    }
}

/// The parts of a product of `m` rows: a few rows alone, and the rows after a split. `part` cuts out rows `first..end`.
pub fn rows_alone(pick: Random, m: usize, part: impl Fn(&'static str, usize, usize) -> Alone) -> Vec<Alone> {
    if m < 2 {
        return Vec::new();
    }
    let rows = sample(pick, 3, m).into_iter();
    let split = if m > 64 { 64 } else { m / 2 };
    rows.map(|row| part("row alone", row, row + 1))
        .chain([part("rows after a split", split, m)])
        .collect()
}
