//! One launch of an operation on tensors that lie anywhere on a device: what a model's plan is a list of.
//!
//! A call is a struct of addresses, sizes and strides beside its operation's [`super::spec::Spec`], whose own launches go through
//! it as well: there is one piece of launch code for each operation.

use std::fmt;

use super::spec::PLAIN;
use super::{Case, OpError, Operation};
use crate::cost::Work;
use crate::device::{DevPtr, Device, Stream};
use crate::ops;

/// The model of calls' cases.
pub(crate) const MODEL: &str = "forward";

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

    /// Whether a config takes the call's addresses (their alignment, say). What its dimensions decide is its operation's to say
    /// ([`Operation::admits`]); a config that either refuses is never chosen, and a launch of it is an error.
    ///
    /// # Errors
    /// The reason why not, with the address.
    fn takes(&self, config: &str) -> Result<(), String> {
        let _ = config;
        Ok(())
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

/// Refuses a config of an operation that has the plain one alone.
pub(crate) fn expect_plain(op: &'static str, config: &str) -> Result<(), OpError> {
    if config == PLAIN {
        return Ok(());
    }
    let config = config.to_string();
    Err(OpError::UnknownConfig { op, config })
}

/// Refuses an address that a kernel's widest accesses do not take; no tensor is at none.
pub(crate) fn expect_aligned<T>(op: &str, name: &str, tensor: DevPtr<T>, bytes: usize) -> Result<(), OpError> {
    if (tensor.get() as usize).is_multiple_of(bytes) {
        return Ok(());
    }
    Err(OpError::Shape(format!(
        "{op}: {name} at {tensor:?}; with rows of this length it has to be at a multiple of {bytes} bytes"
    )))
}

/// The error of a call whose sizes the kernels of `op` do not take.
pub(crate) fn refused(op: &str, why: impl fmt::Display) -> OpError {
    OpError::Shape(format!("{op}: {why}"))
}
