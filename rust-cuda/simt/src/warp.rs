//! The one rendezvous of a warp's lanes: everyone deposits a value, and reads the others' once all are there.
//!
//! An exchange in progress is a `Group` with room for 32 deposits. A group stays taken until its last lane has read, so
//! a lane that runs ahead into the next exchange finds (or opens) another one, and no second rendezvous is needed to
//! protect the deposits. Exchanges of the whole warp thus alternate between two groups; disjoint masks use as many as
//! there are masks.

use crate::block::{Block, Wait, same_place};
use crate::error::{ErrorKind, Fault};
use std::any::TypeId;
use std::mem::MaybeUninit;
use std::panic::Location;

/// The most bytes one lane can deposit.
pub(crate) const DEPOSIT: usize = 640;

#[repr(C, align(64))]
pub(crate) struct Deposits([MaybeUninit<u8>; 32 * DEPOSIT]);

/// One exchange: open from the first arrival to the last, then full until the last lane has read.
pub(crate) struct Group {
    /// Its place among its warp's groups.
    index: usize,
    pub open: bool,
    pub op: &'static str,
    pub mask: u32,
    pub arrived: u32,
    pub loc: Option<&'static Location<'static>>,
    /// Lanes that have yet to read the deposits.
    unread: u32,
    ty: TypeId,
    /// This exchange also orders the lanes' shared memory.
    orders: bool,
    deposits: Deposits,
}

impl Group {
    fn new(index: usize) -> Box<Group> {
        Box::new(Group {
            index,
            open: false,
            op: "",
            mask: 0,
            arrived: 0,
            loc: None,
            unread: 0,
            ty: TypeId::of::<()>(),
            orders: false,
            deposits: Deposits([MaybeUninit::uninit(); 32 * DEPOSIT]),
        })
    }

    pub(crate) fn reset(&mut self) {
        (self.open, self.unread, self.arrived) = (false, 0, 0);
    }
}

impl Group {
    /// Where the lanes' deposits lie: 32 places of up to `DEPOSIT` bytes, 64-byte aligned.
    #[inline]
    pub(crate) fn deposits(&mut self) -> *mut u8 {
        self.deposits.0.as_mut_ptr().cast()
    }

    /// Lane `lane` has read all it wants.
    #[inline]
    pub(crate) fn leave(&mut self, lane: usize) {
        self.unread &= !(1 << lane);
    }

    /// Whether `r`, with the part of its mask that exists, is this exchange.
    #[inline]
    fn fits(&self, mask: u32, r: &Request) -> bool {
        let same_op = std::ptr::eq(self.op, r.op) || self.op == r.op;
        self.mask == mask && self.ty == r.ty && same_op && self.loc.is_some_and(|l| same_place(l, r.loc))
    }
}

/// What the caller of an exchange wants.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub op: &'static str,
    pub mask: u32,
    pub ty: TypeId,
    pub orders: bool,
    pub loc: &'static Location<'static>,
}

impl Block {
    /// The group in which thread `t` has to deposit.
    #[inline]
    pub(crate) fn join(&mut self, t: usize, r: &Request) -> Result<*mut Group, Box<Fault>> {
        let (w, lane) = (t / 32, t % 32);
        let warp = &mut self.warp[w];
        // Lanes that the launch never had (a block that is no multiple of 32) are not waited for.
        let mask = r.mask & warp.init;
        for g in warp.groups.iter_mut().filter(|g| g.open) {
            if g.fits(mask, r) && g.arrived >> lane & 1 == 0 {
                return Ok(&mut **g);
            }
        }
        self.open(t, mask, r)
    }

    /// Opens an exchange, of which thread `t` is the first to arrive.
    #[inline(never)]
    fn open(&mut self, t: usize, mask: u32, r: &Request) -> Result<*mut Group, Box<Fault>> {
        self.check_mask(t, mask, r)?;
        let groups = &mut self.warp[t / 32].groups;
        let free = groups.iter().position(|g| !g.open && g.unread == 0);
        let i = free.unwrap_or(groups.len());
        if i == groups.len() {
            groups.push(Group::new(i));
        }
        let g = &mut groups[i];
        (g.open, g.op, g.mask, g.arrived, g.loc) = (true, r.op, mask, 0, Some(r.loc));
        (g.ty, g.orders) = (r.ty, r.orders);
        Ok(&mut **g)
    }

    /// Refuses, at the opening of an exchange, what can never complete.
    fn check_mask(&self, t: usize, mask: u32, r: &Request) -> Result<(), Box<Fault>> {
        let (warp, lane) = (&self.warp[t / 32], t % 32);
        let fault = |m: String| Err(Fault::new(ErrorKind::PartialWarp, format!("{}: {m}", r.op)));
        if mask >> lane & 1 == 0 {
            return fault(format!("lane {lane} is not in its own mask {:#010x}", r.mask));
        }
        let gone = mask & !warp.live;
        if gone != 0 {
            return fault(format!(
                "lane {} of mask {:#010x} has already ended",
                gone.trailing_zeros(),
                r.mask
            ));
        }
        // Somebody I wait for already waits for me, at something else.
        if let Some(g) = warp
            .groups
            .iter()
            .find(|g| g.open && g.mask >> lane & 1 != 0 && g.arrived & mask != 0)
        {
            let other = (g.arrived & mask).trailing_zeros();
            let at = crate::block::Here(g.loc);
            let (op, m) = (g.op, g.mask);
            return fault(format!(
                "lane {lane} is here with mask {mask:#010x}, but lane {other} waits for it in {op} with mask {m:#010x} at {at}"
            ));
        }
        Ok(())
    }

    /// Thread `t` has deposited in `g`. True if it was the last one: it may read at once, and the others are ready.
    ///
    /// # Safety
    /// `g` comes from `join` for this thread, and nothing else refers to it.
    #[inline]
    pub(crate) unsafe fn arrive(&mut self, t: usize, g: *mut Group) -> bool {
        // SAFETY: a group lives as long as its warp, in a box of its own; the caller vouches for the rest.
        let g = unsafe { &mut *g };
        g.arrived |= 1 << (t % 32);
        if g.arrived != g.mask {
            self.lanes[t].wait = Wait::Warp(g.index);
            return false;
        }
        g.open = false;
        g.unread = g.mask;
        let (mask, orders) = (g.mask, g.orders);
        self.stats.exchanges += 1;
        if orders && self.checks {
            let whole = mask == self.warp[t / 32].init;
            self.clocks.sync_warp(t / 32, mask, whole);
        }
        self.wake(t / 32, mask & !(1 << (t % 32)));
        true
    }
}
