//! What a worker keeps from one case to the next.

use std::cell::OnceCell;

use anyhow::Result;
use host::device::Device;
use host::peer::{self, Peer, PeerError};

use super::child::Emit;
use super::protocol::{Event, PeerFound, Phase};
use super::timing::Patience;

/// What a worker keeps.
#[derive(Default)]
pub struct Standing {
    /// The peers.
    pub peers: Peers,
    /// Whether throttled rounds are worth repeating.
    pub patience: Patience,
}

/// The peers there are, and why the others are not there.
type Opened = (Vec<Box<dyn Peer>>, Vec<PeerError>);

/// The peers, opened when they are first wanted.
#[derive(Default)]
pub struct Peers {
    opened: OnceCell<Opened>,
}

impl Peers {
    /// Those there are, and why the others are not there.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn get(&self, device: &Device, emit: Emit) -> Result<&Opened> {
        if self.opened.get().is_none() {
            // A library that crashes in its start is a peer's crash.
            emit(Event::Start {
                config: "peers".into(),
                phase: Phase::Peer,
            })?;
        }
        Ok(self.opened.get_or_init(|| peer::open(device)))
    }

    /// Says which there are.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn tell(&self, device: &Device, emit: Emit) -> Result<()> {
        let (found, missing) = self.get(device, emit)?;
        let found = found.iter().map(|peer| PeerFound {
            name: peer.name().into(),
            version: peer.version().into(),
            file: peer.file().into(),
        });
        emit(Event::Peers {
            found: found.collect(),
            missing: missing.iter().map(ToString::to_string).collect(),
        })
    }
}
