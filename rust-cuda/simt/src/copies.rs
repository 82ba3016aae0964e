//! Asynchronous copies from device to shared memory, as one thread sees its own.
//!
//! With checks on the source bytes are taken at issue and land at the wait; in between, nobody may touch the
//! destination. With checks off a copy is done at issue, which no correct kernel can tell apart.

use crate::know::Know;
use crate::shared::Shared;
use std::panic::Location;

/// One copy that has not landed.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    pub addr: u32,
    pub len: u32,
    pub bytes: [u8; 16],
    pub loc: &'static Location<'static>,
    group: u32,
}

/// The pending copies of one thread, oldest first.
#[derive(Default)]
pub(crate) struct Copies {
    pending: Vec<Pending>,
    /// The group that copies issued now will belong to; also the number of groups committed so far.
    group: u32,
    /// Copies issued so far.
    issued: u64,
    /// As which agents, and before which ticks, copies landed that arrived at barriers.
    pub agents: Know,
    /// Before which tick of the thread copies landed for which it waited; 0 for none.
    pub waited: u32,
}

impl Copies {
    pub(crate) fn issue(&mut self, addr: u32, len: u32, bytes: [u8; 16], loc: &'static Location<'static>) {
        self.pending.push(Pending {
            addr,
            len,
            bytes,
            loc,
            group: self.group,
        });
        self.issued += 1;
    }

    /// The copies issued so far, as [`Copies::land_first`] counts them.
    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    /// Those of the first `n` copies that are still pending.
    pub(crate) fn land_first(&mut self, n: u64) -> Vec<Pending> {
        let landed = self.issued - self.pending.len() as u64;
        self.pending.drain(..n.saturating_sub(landed) as usize).collect()
    }

    pub(crate) fn commit(&mut self) {
        self.group += 1;
    }

    /// The copies of all committed groups but the `left` newest. Copies that were never committed stay pending.
    pub(crate) fn land(&mut self, left: u32) -> Vec<Pending> {
        let end = self.group.saturating_sub(left);
        let n = self.pending.partition_point(|p| p.group < end);
        self.pending.drain(..n).collect()
    }

    /// Drops what is pending, at the end of a block.
    pub(crate) fn clear(&mut self, shared: &mut Shared) {
        for p in self.pending.drain(..) {
            shared.races.forget_pending(p.addr, p.len);
        }
        (self.group, self.waited) = (0, 0);
        self.agents.clear();
    }
}
