//! Which block of the cluster a thread, an address or a message belongs to.

use crate::block::Block;
use crate::clock::{Access, Clocks};
use crate::error::{ErrorKind, Fault};
use crate::race::Touch;
use crate::shared::Shared;
use std::panic::Location;

/// Addresses from here on are of the cluster's window: `(rank + 1) << WINDOW | address`.
pub(crate) const WINDOW: u32 = 24;

impl Block {
    pub(crate) fn shared_of(&self, _cta: usize) -> &Shared {
        &self.shared
    }

    pub(crate) fn shared_of_mut(&mut self, _cta: usize) -> &mut Shared {
        &mut self.shared
    }

    pub(crate) fn clocks(&self) -> &Clocks {
        &self.shared.clocks
    }

    pub(crate) fn clocks_mut(&mut self) -> &mut Clocks {
        &mut self.shared.clocks
    }

    /// The block of thread `t`.
    pub(crate) fn cta_of(&self, _t: usize) -> usize {
        0
    }

    /// Whether all threads of a block have ended.
    pub(crate) fn ended(&self, _cta: usize) -> bool {
        self.exited == self.threads
    }

    /// Thread `t`, in messages.
    pub(crate) fn name_of(&self, t: usize) -> String {
        self.lanes[t].idx.to_string()
    }

    /// A block, in messages.
    pub(crate) fn block_name(&self, _cta: usize) -> String {
        self.idx.to_string()
    }

    /// The address in the cluster's window, as thread `t` may use it: that of its own block stays as it is.
    pub(crate) fn window(&self, t: usize, cta: usize, addr: u32) -> u32 {
        if cta == self.cta_of(t) {
            addr
        } else {
            (cta as u32 + 1) << WINDOW | addr
        }
    }

    /// The block that an address names, for thread `t`, and the address in that block.
    pub(crate) fn place_of(&self, t: usize, addr: u32, op: &str) -> Result<(usize, u32), Box<Fault>> {
        match addr >> WINDOW {
            0 => Ok((self.cta_of(t), addr)),
            1 => Ok((0, addr & ((1 << WINDOW) - 1))),
            n => {
                let m = format!("{op} at {addr:#x}: block {} of a cluster of 1", n - 1);
                Err(Fault::new(ErrorKind::OutOfBounds, m))
            }
        }
    }

    /// The block of thread `t`; an error if the address is of the cluster's window.
    pub(crate) fn own_block_only(&self, t: usize, addr: u32, op: &str) -> Result<usize, Box<Fault>> {
        if addr >> WINDOW == 0 {
            return Ok(self.cta_of(t));
        }
        let m = format!(
            "{op} at {addr:#x}: it takes an address of the thread's own block, not one of the cluster's window"
        );
        Err(Fault::new(ErrorKind::BadArgument, m))
    }

    /// What thread `t` does now, as a record.
    pub(crate) fn access_of(&self, t: usize, loc: &'static Location<'static>) -> Access {
        Access {
            loc: Some(loc),
            stamp: self.clocks().stamp(t / 32),
            lanes: 1 << (t % 32),
            warp: (t / 32) as u8,
        }
    }

    /// Checks only that an access lies inside the shared memory, aligned.
    pub(crate) fn placed(&self, addr: u32, len: u32, align: u32, touch: Touch) -> Result<(), Box<Fault>> {
        match self.shared.inside(addr, len) && addr.is_multiple_of(align) {
            true => Ok(()),
            false => Err(self.misplaced(addr, len, align, touch)),
        }
    }
}
