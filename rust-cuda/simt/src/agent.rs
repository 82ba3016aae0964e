//! Reads of shared memory by units that go on alone: the tensor cores of a warpgroup, and the copy engine for stores.
//!
//! Each is an actor of its own for the clocks, an agent, as copies that land on a barrier are. Whatever it reads has to be known to
//! the threads that set it to work, and written in a way that it sees: by a copy, or by a plain store with a proxy fence behind it.
//! Its reads are known to a thread that has waited for them, so anybody else's write to those bytes is an error.

use crate::block::{Block, Here};
use crate::clock::Access;
use crate::error::{ErrorKind, Fault};
use crate::race::Touch;
use crate::tma::Swizzle;
use std::cell::Cell;
use std::ops::Range;
use std::panic::Location;

/// A unit at work for some threads.
pub(crate) struct Reader {
    access: Access,
    /// For these threads.
    threads: Range<usize>,
    /// The last write that was found right, with its layout: most words of a tile have the same.
    right: Cell<Option<(u8, u32, u32, u8)>>,
}

impl Reader {
    /// Of all that it reads.
    pub(crate) fn stamp(&self) -> u32 {
        self.access.stamp
    }
}

/// What is wrong with a write that a unit would read.
enum Wrong {
    /// The thread that does not know of it.
    Unordered(usize, Access),
    Unfenced(Access),
    Layout(u8),
}

impl Block {
    /// Sets the agent that `place` names to work for `threads`; it is made at its first work.
    pub(crate) fn reader(
        &mut self,
        place: impl Fn(&mut Block) -> &mut Option<usize>,
        threads: Range<usize>,
        loc: &'static Location<'static>,
    ) -> Reader {
        let mut access = Access {
            loc: Some(loc),
            stamp: 0,
            lanes: 1,
            warp: 0,
        };
        if self.checks {
            let agent = match *place(self) {
                Some(agent) => agent,
                None => {
                    let agent = self.clocks.agent();
                    *place(self).insert(agent)
                }
            };
            (access.warp, access.stamp) = (agent as u8, self.clocks.work(agent));
        }
        Reader {
            access,
            threads,
            right: Cell::new(None),
        }
    }

    /// Reads bytes at `addr` of block `cta`, which a tensor copy, if one wrote them, has to have laid out with `swizzle`.
    pub(crate) fn read_alone(
        &mut self,
        reader: &Reader,
        cta: usize,
        addr: u32,
        into: &mut [u8],
        swizzle: Swizzle,
        op: &dyn Fn() -> String,
    ) -> Result<(), Box<Fault>> {
        let len = into.len() as u32;
        if self.checks {
            self.check_alone(reader, cta, (addr, len), swizzle).map_err(|fault| {
                let message = format!("{}: {}", op(), fault.message);
                Fault::new(fault.kind, message)
            })?;
        }
        // SAFETY: the range was checked, or, with checks off, lies in the reservation behind the addresses (they have 18 bits, or are
        // looked at by the caller); the block's threads do not run now.
        unsafe {
            let from = self.shared_of(cta).base().add(addr as usize);
            std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len());
        }
        Ok(())
    }

    fn check_alone(
        &mut self,
        reader: &Reader,
        cta: usize,
        (addr, len): (u32, u32),
        swizzle: Swizzle,
    ) -> Result<(), Box<Fault>> {
        self.placed(addr, len, 1, Touch::Read)?;
        let layout = swizzle.layout();
        let mut wrong = None;
        let (races, clocks) = (&mut self.ctas[cta].shared.races, &self.clocks);
        let found = races.read_by_agent(clocks, reader.access, (addr, len), |write, was| {
            let key = Some((write.warp, write.stamp, write.lanes, was));
            if reader.right.get() == key {
                return true;
            }
            let mut threads = reader.threads.clone();
            wrong = if let Some(t) = threads.find(|&t| clocks.unordered(write, t / 32, t as u32 % 32) != 0) {
                Some(Wrong::Unordered(t, *write))
            } else if clocks.unfenced(write) {
                Some(Wrong::Unfenced(*write))
            } else if was != 0 && was != layout {
                Some(Wrong::Layout(was))
            } else {
                reader.right.set(key);
                return true;
            };
            false
        });
        let Err((at, trouble)) = found else { return Ok(()) };
        Err(match (trouble, wrong) {
            (Some(trouble), _) => self.explain(at, Touch::Read, trouble),
            (None, Some(wrong)) => self.explain_wrong(at, wrong, swizzle),
            (None, None) => Fault::new(ErrorKind::SharedRace, format!("shared load at {at:#x}")),
        })
    }

    #[cold]
    fn explain_wrong(&self, at: u32, wrong: Wrong, swizzle: Swizzle) -> Box<Fault> {
        match wrong {
            Wrong::Unordered(t, write) => {
                let (me, place) = (self.name_of(t), Here(write.loc));
                if write.is_copy() {
                    let m = format!(
                        "a copy issued at {place} wrote {at:#x}, and thread {me} has not waited for the copy's barrier, nor passed \
                         another barrier with one that has"
                    );
                    return Fault::new(ErrorKind::AsyncNotWaited, m);
                }
                let who = self.name_of(write.lowest_thread() as usize);
                let m = format!("thread {who} wrote {at:#x} at {place}, and no barrier orders that before thread {me}");
                Fault::new(ErrorKind::SharedRace, m)
            }
            Wrong::Unfenced(write) => {
                let who = self.name_of(write.lowest_thread() as usize);
                let m = format!(
                    "thread {who} wrote {at:#x} by a plain store at {}, and has not passed fence_async since: copies and tensor cores \
                     may not see it",
                    Here(write.loc)
                );
                Fault::new(ErrorKind::NotFenced, m)
            }
            Wrong::Layout(was) => {
                let was = Swizzle::ALL[usize::from(was - 1) % 4];
                let m = format!("the copy that wrote {at:#x} laid it out with {was}, and it is read with {swizzle}");
                Fault::new(ErrorKind::WrongSwizzle, m)
            }
        }
    }
}
