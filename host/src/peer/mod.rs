//! Peers: other people's libraries, loaded at run time when they are on the machine, run on an operation's own buffers beside
//! its configs. They are measured against and take no part in the forward.
//!
//! A peer is one module here and one line in [`open`]. It says which cases it takes ([`Peer::supports`]), prepares its
//! algorithms for one ([`Peer::prepare`]), and launches any of them on a stream, captured or not
//! ([`PeerRun::launch`]); which of its algorithms is the fastest is found by whoever measures.

pub mod cublaslt;
mod find;

pub use find::Found;

use crate::device::{Device, DeviceError, Stream};
use crate::op::{Case, Prepared};

/// Why a peer could not be opened, or did not run.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The library is not on this machine, or is not what its name says.
    #[error("{name} was not found: {why}")]
    Missing {
        /// The library.
        name: &'static str,
        /// What was tried.
        why: String,
    },
    /// The peer does not take the case.
    #[error("{name} does not take it: {why}")]
    Refused {
        /// The library.
        name: &'static str,
        /// Why not.
        why: String,
    },
    /// One of its functions failed.
    #[error("{call} returned {status}")]
    Call {
        /// The function.
        call: &'static str,
        /// Its status in words.
        status: String,
    },
    /// The device's.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A library that computes what some operation does.
pub trait Peer {
    /// Its name, as in records: `cublasLt`.
    fn name(&self) -> &'static str;

    /// Its version: `13.0.2`.
    fn version(&self) -> &str;

    /// The file it was loaded from.
    fn file(&self) -> &str;

    /// The operations it is a peer of.
    fn operations(&self) -> &'static [&'static str];

    /// Whether it takes a case of one of them.
    ///
    /// # Errors
    /// The reason why not.
    fn supports(&self, case: &Case) -> Result<(), String>;

    /// Its algorithms for a case.
    ///
    /// # Errors
    /// [`PeerError::Refused`]; a call that failed.
    fn prepare(&self, case: &Case) -> Result<Box<dyn PeerRun + '_>, PeerError>;
}

/// A case as a peer runs it.
pub trait PeerRun {
    /// The algorithms, as the library identifies them, the most promising first. There is at least one.
    fn algorithms(&self) -> &[String];

    /// Launches one of them on a copy of the prepared case's tensors. Does not wait; allocates nothing, so that it can be
    /// captured in a graph. The prepared case has to outlive the work.
    ///
    /// # Errors
    /// No such algorithm, a tensor that the case has not, a call that failed.
    fn launch(&self, algorithm: usize, stream: &Stream, prepared: &dyn Prepared, copy: usize) -> Result<(), PeerError>;
}

/// Every peer that there is for a device on this machine, and why the others are not there. The simulator has none.
pub fn open(device: &Device) -> (Vec<Box<dyn Peer>>, Vec<PeerError>) {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    let mut missing = Vec::new();
    if device.info().is_simulator {
        return (peers, missing);
    }
    match cublaslt::CublasLt::open(device) {
        Ok(peer) => peers.push(Box::new(peer)),
        Err(why) => missing.push(why),
    }
    (peers, missing)
}
