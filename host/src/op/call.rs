//! One launch of an operation on tensors that lie anywhere on a device: what a model's plan is a list of.
//!
//! A call is a struct of addresses, sizes and strides beside its operation's [`super::spec::Spec`], whose own launches go through
//! it as well: there is one piece of launch code for each operation.

use std::fmt;

use super::{Case, OpError, Operation};
use crate::cost::Work;
use crate::device::{Device, Stream};
use crate::ops;

/// The one config that a call's tensors admit, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only {
    /// The config's id.
    pub config: &'static str,
    /// Why no other.
    pub reason: &'static str,
}

/// An operation with its tensors.
pub trait Call: Send + Sync + fmt::Debug {
    /// The call as a case of its operation: its dimensions, for dispatch, costs and lists.
    fn case(&self) -> Case;

    /// The operation; none for a launch that is part of another operation (a quantisation of activations).
    fn operation(&self) -> Option<&'static dyn Operation> {
        ops::by_name(&self.case().op)
    }

    /// Where the tensors admit one config alone.
    fn only(&self) -> Option<Only> {
        None
    }

    /// What a config of it moves and computes; none where nobody says.
    fn work(&self, config: &str, sm_count: u32) -> Option<Work> {
        self.operation()?.work(&self.case(), config, sm_count).ok()
    }

    /// Queues the kernels of a config. Allocates nothing and waits for nothing, so that it can be captured in a graph; queues nothing
    /// where there is nothing to do.
    ///
    /// # Errors
    /// [`OpError::Shape`] for sizes the kernels do not take, [`OpError::UnknownConfig`], the device's.
    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError>;
}
