//! The data of one case, its launch and its right answer.

use bytemuck::Pod;

use super::bound::Bound;
use super::tensor::{Element, Tensor};
use crate::device::{Device, Stream};
use crate::op::random::Random;
use crate::op::{Mismatch, OpError};

/// The data of one case, with everything that is asked of it.
pub trait Problem: Send {
    /// Every tensor. Names are unique; the compared ones ([`super::Role`]) make up the output, in this order.
    fn tensors(&self) -> Vec<Tensor<'_>>;

    /// Launches the kernels of a config on one copy of the tensors. Allocates nothing and waits for nothing, so that it can be
    /// captured in a graph. Where there is nothing to do (no tokens) it launches nothing.
    ///
    /// # Errors
    /// The device's; [`OpError::UnknownConfig`].
    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError>;

    /// Whether a config takes this problem: asked of the parts of a problem, which it may take though it takes not each of them.
    ///
    /// # Errors
    /// The reason why not.
    fn admits(&self, config: &str) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// The CPU reference's answer: whole, or, where that would take over about two seconds of a core, a seeded sample of
    /// pieces (rows, elements).
    ///
    /// # Errors
    /// [`OpError::Reference`] for data that does not fit the reference's own checks.
    fn reference(&self) -> Result<Answer, OpError>;

    /// Parts of this problem that must give the same bytes alone (level L2): a row, one sequence of a batch, the tokens one
    /// by one, a prompt split at 64. A few of each kind, chosen by `pick`; none for an operation of one row.
    ///
    /// A part is a problem of its own. What is computed in steps is one whose launch is several launches on the same
    /// tensors.
    fn alone(&self, pick: Random) -> Vec<Alone> {
        let _ = pick;
        Vec::new()
    }

    /// Whether an output of a config of [`crate::op::Order::Fast`] is near enough to the canonical one. Nothing is, unless the
    /// operation says so.
    ///
    /// # Errors
    /// The first value outside the tolerance.
    fn tolerance(&self, expected: &[u8], got: &[u8]) -> Result<(), Mismatch> {
        crate::op::compare_bytes(expected, got)
    }
}

/// What the CPU reference says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bytes of every compared tensor, in their order.
    Whole(Vec<Vec<u8>>),
    /// Some of the bytes: at least one piece of every compared tensor.
    Pieces(Vec<Piece>),
}

/// Consecutive elements of a compared tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The tensor.
    pub tensor: &'static str,
    /// The first byte.
    pub offset: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// A piece that begins at element `first`.
    pub fn new<T: Element>(tensor: &'static str, first: usize, elements: &[T]) -> Self {
        Self {
            tensor,
            offset: first * size_of::<T>(),
            bytes: bytes(elements),
        }
    }
}

/// Part of a problem, to be run by itself.
pub struct Alone {
    /// What is shown: `row alone`, `tokens one by one`, `split at 64`.
    pub name: &'static str,
    /// The part.
    pub problem: Box<dyn Problem>,
    /// The bytes that must be the same.
    pub same: Vec<Same>,
}

/// Bytes of a compared tensor of the whole problem that the part must give as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Same {
    /// The tensor, of this name in both.
    pub tensor: &'static str,
    /// The first byte in the whole problem's tensor.
    pub whole: usize,
    /// The first byte in the part's.
    pub part: usize,
    /// How many.
    pub bytes: usize,
}

impl Same {
    /// `count` elements: those from `whole` on in the whole problem are those from `part` on in the part.
    pub fn new<T: Element>(tensor: &'static str, whole: usize, part: usize, count: usize) -> Self {
        let size = size_of::<T>();
        let (whole, part, bytes) = (whole * size, part * size, count * size);
        Self {
            tensor,
            whole,
            part,
            bytes,
        }
    }
}

/// The bytes of a slice.
pub fn bytes<T: Pod>(elements: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(elements).to_vec()
}

/// Up to `count` different indices below `end`, ascending: the first, the last, and others drawn.
pub fn sample(random: Random, count: usize, end: usize) -> Vec<usize> {
    if end <= count {
        return (0..end).collect();
    }
    let drawn = (0..count.saturating_sub(2) as u64).map(|i| random.below(i, end as u64) as usize);
    let mut all: Vec<usize> = drawn.chain([0, end - 1]).collect();
    all.sort_unstable();
    all.dedup();
    all
}
