//! A block's shared memory: the dynamic part from address 0, the static parts after it.
//!
//! Addresses are 32-bit offsets. Behind them lies a reservation of the whole 32-bit range, so that even with checks off
//! no address reaches memory that is not shared memory.

use crate::block::{Block, same_place};
use crate::error::{ErrorKind, Fault};
use crate::know::WARPS;
use crate::mbarrier::Mbarrier;
use crate::race::{Races, Touch, Trouble};
use crate::vm::Reservation;
use std::io;
use std::panic::Location;

/// The most shared memory a block can have, in bytes (227 KiB: sm_90 and sm_100; sm_80 has 163, sm_120 has 99).
pub const MAX_SHARED: u32 = 227 << 10;

/// Unused addresses between two static parts, so that running over the end of one is caught.
const GAP: u32 = 1024;
/// Addresses end here, gaps and all.
const ADDRESSES: u32 = 512 << 10;

pub(crate) struct Static {
    loc: &'static Location<'static>,
    addr: u32,
    bytes: u32,
    align: u32,
}

/// Where things lie in the shared memory of the blocks of a launch: the same in all blocks of a cluster.
#[derive(Default)]
pub(crate) struct Layout {
    pub dynamic: u32,
    pub statics: Vec<Static>,
}

/// The shared memory of a block.
pub(crate) struct Shared {
    memory: Reservation,
    pub races: Races,
    /// The barriers in it.
    pub barriers: Vec<Mbarrier>,
}

impl Shared {
    pub(crate) fn new() -> io::Result<Shared> {
        Ok(Shared {
            // One more page: an access of up to 512 bytes may begin at the last address.
            memory: Reservation::new((1 << 32) + 4096)?,
            races: Races::new(ADDRESSES as usize)?,
            barriers: Vec::new(),
        })
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.memory.base()
    }

    /// Ends a block: its barriers are no more.
    pub(crate) fn end(&mut self) {
        for b in self.barriers.drain(..) {
            self.races.forget_pending(b.addr, 8);
        }
    }
}

impl Layout {
    /// The address of the static part that belongs to call site `loc`.
    pub(crate) fn static_part(
        &mut self,
        bytes: u32,
        align: u32,
        loc: &'static Location<'static>,
    ) -> Result<u32, Box<Fault>> {
        if let Some(s) = self.statics.iter().find(|s| same_place(s.loc, loc)) {
            if (s.bytes, s.align) != (bytes, align) {
                let m = format!(
                    "static shared memory asked for twice at one place: {} bytes, then {bytes}",
                    s.bytes
                );
                return Err(Fault::new(ErrorKind::BadArgument, m));
            }
            return Ok(s.addr);
        }
        if !align.is_power_of_two() || align > 1024 {
            let m = format!("static shared memory aligned to {align}: it must be a power of two, at most 1024");
            return Err(Fault::new(ErrorKind::BadArgument, m));
        }
        let used = self.dynamic + self.statics.iter().map(|s| s.bytes).sum::<u32>();
        let end = self.statics.last().map_or(self.dynamic, |s| s.addr + s.bytes);
        let addr = (end + GAP).next_multiple_of(align);
        if bytes > MAX_SHARED - used || bytes > ADDRESSES - addr {
            let m = format!("{bytes} bytes of static shared memory do not fit: {used} of {MAX_SHARED} are in use");
            return Err(Fault::new(ErrorKind::LaunchConfig, m));
        }
        self.statics.push(Static {
            loc,
            addr,
            bytes,
            align,
        });
        Ok(addr)
    }

    #[inline]
    pub(crate) fn inside(&self, addr: u32, len: u32) -> bool {
        let end = u64::from(addr) + u64::from(len);
        let within = |from: u32, bytes: u32| addr >= from && end <= u64::from(from) + u64::from(bytes);
        within(0, self.dynamic) || self.statics.iter().any(|s| within(s.addr, s.bytes))
    }
}

impl Block {
    /// Checks and records that thread `t` touches `len` bytes of shared memory at `addr`.
    #[inline]
    pub(crate) fn touch_shared(
        &mut self,
        t: usize,
        (addr, len, align): (u32, u32, u32),
        touch: Touch,
        loc: &'static Location<'static>,
    ) -> Result<(), Box<Fault>> {
        self.touch_at(self.cta_of(t), (t / 32, t as u32 % 32), (addr, len, align), touch, loc)
    }

    /// As [`Block::touch_shared`], in the shared memory of block `cta` and by lane `who.1` of actor `who.0`.
    #[inline]
    pub(crate) fn touch_at(
        &mut self,
        cta: usize,
        who: (usize, u32),
        (addr, len, align): (u32, u32, u32),
        touch: Touch,
        loc: &'static Location<'static>,
    ) -> Result<(), Box<Fault>> {
        if !self.layout.inside(addr, len) || !addr.is_multiple_of(align) {
            return Err(self.misplaced(addr, len, align, touch));
        }
        self.ctas[cta]
            .shared
            .races
            .touch(&self.clocks, who, (addr, len), touch, loc)
            .map_err(|(at, trouble)| {
                let mut fault = self.explain(at, touch, trouble);
                if self.blocks > 1 && who.0 < WARPS && cta != self.cta_of(who.0 * 32) {
                    fault.message = format!("in block {}: {}", self.block_name(cta), fault.message);
                }
                fault
            })
    }

    #[cold]
    pub(crate) fn misplaced(&self, addr: u32, len: u32, align: u32, touch: Touch) -> Box<Fault> {
        let what = format!("shared {} of {len} bytes at {addr:#x}", verb(touch));
        if self.layout.inside(addr, len) {
            return Fault::new(ErrorKind::Misaligned, format!("{what}: no multiple of {align} bytes"));
        }
        let parts = self
            .layout
            .statics
            .iter()
            .map(|s| format!(", {} static bytes from {:#x}", s.bytes, s.addr));
        let has = format!(
            "{} dynamic bytes from 0{}",
            self.layout.dynamic,
            parts.collect::<String>()
        );
        Fault::new(ErrorKind::OutOfBounds, format!("{what}: the block has {has}"))
    }

    #[cold]
    pub(crate) fn explain(&self, at: u32, touch: Touch, trouble: Trouble) -> Box<Fault> {
        let what = format!("shared {} at {at:#x}", verb(touch));
        let idx = |t: u32| self.name_of(t as usize);
        match trouble {
            Trouble::Unwritten => Fault::new(
                ErrorKind::Uninitialized,
                format!("{what}: nobody wrote it in this block"),
            ),
            Trouble::Pending { owner } => {
                let m = format!(
                    "{what}: an asynchronous copy by thread {} is pending there; it has to wait first",
                    idx(owner)
                );
                Fault::new(ErrorKind::AsyncNotWaited, m)
            }
            Trouble::Barrier => {
                let m =
                    format!("{what}: a barrier lies there; invalidate it before its bytes are used for something else");
                Fault::new(ErrorKind::BadBarrier, m)
            }
            Trouble::Race { with, did: "read" } if with.is_copy() => {
                let m = format!(
                    "{what}: the product or store issued at {} reads it, and this thread has neither waited for its group nor passed a \
                     barrier with a thread that has",
                    crate::block::Here(with.loc)
                );
                Fault::new(ErrorKind::AsyncNotWaited, m)
            }
            Trouble::Race { with, .. } if with.is_copy() => {
                let m = format!(
                    "{what}: a copy issued at {} wrote it, and this thread has not waited for the copy's barrier, nor passed another \
                     barrier with one that has",
                    crate::block::Here(with.loc)
                );
                Fault::new(ErrorKind::AsyncNotWaited, m)
            }
            Trouble::Race { with, did } => {
                let (who, at) = (idx(with.lowest_thread()), crate::block::Here(with.loc));
                let m = format!("{what}: thread {who} {did} it at {at}, and no barrier orders the two");
                Fault::new(ErrorKind::SharedRace, m)
            }
        }
    }
}

fn verb(touch: Touch) -> &'static str {
    match touch {
        Touch::Read => "load",
        Touch::Write => "store",
        Touch::Atomic => "atomic",
        Touch::Issue | Touch::Land => "asynchronous copy",
    }
}
