//! An operation by its parts: what is special to one operation is a [`Spec`] and a [`Problem`], what is common to all is
//! written once, in [`Described`].
//!
//! - [`Spec`]: name, axes, configs, cases, costs; and how to draw the data of a case.
//! - [`Problem`]: the data of one case, as a list of [`Tensor`]s; how the kernels are launched on them ([`Problem::launch`]);
//!   the right answer ([`Problem::reference`]); and parts of the data that must come out the same alone ([`Problem::alone`]).
//! - [`Described`] makes an [`crate::op::Operation`] of a `Spec`: buffers and their copies, poison, comparison, coordinates,
//!   shape files, random cases.
//!
//! The first config is always [`PLAIN`]: the plain kernel, which is checked against the CPU reference and is the reference of
//! the tuned configs at full size. docs/adding-a-kernel.md goes through an operation from its mathematics to its records.

mod axis;
mod bound;
mod described;
mod kept;
mod place;
mod prepared;
mod problem;
mod tensor;

pub use axis::{Axis, Dims};
pub use bound::Bound;
pub use described::Described;
pub use problem::{Alone, Answer, Piece, Problem, Same, bytes, sample};
pub use tensor::{Dtype, Element, Role, Tensor};

use cuda_std::launch::KernelMeta;

use super::random::Random;
use super::{Case, OpError, Order, Values};
use crate::cost::Work;

/// The id of the plain config: of every operation made of a [`Spec`], the first one.
pub const PLAIN: &str = "plain";

/// One config of an operation.
#[derive(Clone, Debug)]
pub struct Config {
    /// The stable id; [`PLAIN`] for the first.
    pub id: String,
    /// The kernel whose image and registers lists and records show: the one that takes the most time. All kernels of an
    /// operation belong in the image (file or folder) of this one.
    pub kernel: KernelMeta,
    /// The order it adds in.
    pub order: Order,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block in bytes, at the least.
    pub shared_bytes: u32,
}

impl Config {
    /// The plain config, in canonical order.
    pub fn plain(kernel: KernelMeta, threads: u32, shared_bytes: u32) -> Self {
        Self {
            id: PLAIN.into(),
            kernel,
            order: Order::Canonical,
            threads,
            shared_bytes,
        }
    }
}

/// One operation, described by its parts. See the module's page.
pub trait Spec: Send + Sync + 'static {
    /// The name, as on the command line: `silu_mul`.
    const NAME: &'static str;
    /// One line for lists.
    const SUMMARY: &'static str;
    /// The dimensions, in the order of ids. An axis named `n_tok` counts tokens: shape files give a list for it.
    const AXES: &'static [Axis];
    /// The dtypes of the activations that it takes. The first is what shape files mean.
    const DTYPES: &'static [&'static str];
    /// The kinds of data that make sense for it. The first is what shape files mean.
    const VALUES: &'static [Values];

    /// Every config, in a stable order; the first is the plain one.
    fn configs() -> Vec<Config>;

    /// Refuses combinations of dimensions that the operation does not take. What [`Spec::AXES`] says is checked before.
    ///
    /// # Errors
    /// The reason, with the numbers.
    fn check(dims: &Dims) -> Result<(), String> {
        let _ = dims;
        Ok(())
    }

    /// The listed edge cases: every edge of tiles and vectors, empty and ragged problems, every kind of values. Made with
    /// [`Case::of`].
    fn edge_cases() -> Vec<Case>;

    /// The i-th random case, small, and near the edges more often than not.
    fn random_case(random: Random, i: u64) -> Case;

    /// Whether a config takes these dimensions. The plain one takes all.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    fn admits(dims: &Dims, config: &str) -> Result<(), String> {
        let _ = (dims, config);
        Ok(())
    }

    /// What a config does: bytes, operations and launch shape. Needs no device.
    fn work(dims: &Dims, config: &str, sm_count: u32) -> Work;

    /// Draws the data of a case: the same for the same arguments, on every machine.
    ///
    /// # Errors
    /// [`OpError::Shape`] for what the operation does not take.
    fn problem(dims: &Dims, values: Values, dtype: &str, seed: u64) -> Result<Box<dyn Problem>, OpError>;
}
