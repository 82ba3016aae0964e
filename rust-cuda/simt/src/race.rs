//! Who touched which byte of shared memory last: the race, initialisation and pending-copy checks.
//!
//! One cell for each aligned 4-byte word; an access that covers only part of a word splits its cell into four cells of
//! one byte, so the checks are exact to the byte without paying for it on every word. A cell keeps the last plain write, the
//! reads and the atomics since, each as long as nothing that came later is ordered after them (the rule of FastTrack,
//! Flanagan and Freund 2009): then whatever is unordered with a dropped access is unordered with one that is kept.

mod alone;

use crate::clock::{Access, Clocks};
use crate::vm::Reservation;
use std::io;
use std::panic::Location;

/// What a thread does to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
    Atomic,
    /// An asynchronous copy is issued: from now on the bytes may change at any time.
    Issue,
    /// The copy has landed: the owner's wait.
    Land,
}

/// Why an access is an error.
pub(crate) enum Trouble {
    Unwritten,
    Pending {
        owner: u32,
    },
    /// A barrier lies there.
    Barrier,
    Race {
        with: Access,
        did: &'static str,
    },
}

/// Instead of a thread whose copy is pending: a barrier lies here.
const BARRIER: u16 = u16::MAX;

const NOBODY: Access = Access {
    loc: None,
    stamp: 0,
    lanes: 0,
    warp: 0,
};

/// All-zero bytes are the empty cell.
#[derive(Clone, Copy)]
struct Cell {
    write: Access,
    read: Access,
    atomic: Access,
    /// More readers (0) or atomics (1) than one record holds: index into the pool, plus one. Valid while the record is.
    many: [u32; 2],
    /// The block in which the word was split into bytes.
    split: u32,
    /// The thread, plus one, whose asynchronous copy to here is pending, or [`BARRIER`].
    pending: u16,
    /// How the copy laid the bytes out that wrote them last ([`crate::tma::Swizzle::layout`]); 0 for any other write.
    layout: u8,
}

impl Cell {
    /// What forbids any access for now.
    fn pending(&self) -> Option<Trouble> {
        match self.pending {
            0 => None,
            BARRIER => Some(Trouble::Barrier),
            owner => Some(Trouble::Pending {
                owner: u32::from(owner) - 1,
            }),
        }
    }
}

/// The cells of one block's shared memory.
pub(crate) struct Races {
    words: Reservation,
    bytes: Reservation,
    n_words: usize,
    pool: Vec<Vec<Access>>,
    used: usize,
    block: u32,
    /// The layout of what lands now.
    pub landing: u8,
}

/// The thread that is acting, as an access record of one lane.
struct Me<'a> {
    clocks: &'a Clocks,
    access: Access,
    /// The last access that was found ordered: neighbouring words mostly have the same.
    ordered: std::cell::Cell<(u8, u32, u32)>,
}

impl Me<'_> {
    /// Whether all of `a` happened before now.
    fn after(&self, a: &Access) -> bool {
        self.unordered(a).is_none()
    }

    /// The part of `a` that nothing orders before now.
    fn unordered(&self, a: &Access) -> Option<Access> {
        let key = (a.warp, a.stamp, a.lanes);
        if self.ordered.get() == key {
            return None;
        }
        let lane = self.access.lanes.trailing_zeros();
        let lanes = self.clocks.unordered(a, usize::from(self.access.warp), lane);
        if lanes == 0 {
            self.ordered.set(key);
            return None;
        }
        Some(Access { lanes, ..*a })
    }
}

impl Races {
    /// Cells for `bytes` of shared memory (a multiple of 4); they cost nothing until touched.
    pub(crate) fn new(bytes: usize) -> io::Result<Races> {
        let n_words = bytes / 4;
        Ok(Races {
            words: Reservation::new(n_words * size_of::<Cell>())?,
            bytes: Reservation::new(bytes * size_of::<Cell>())?,
            n_words,
            pool: Vec::new(),
            used: 0,
            block: 0,
            landing: 0,
        })
    }

    /// Begins a block; `fits` is what [`Clocks::begin`] said.
    pub(crate) fn begin(&mut self, fits: bool) {
        self.block = self.block.wrapping_add(1);
        if !fits || self.block == 0 {
            self.block = 1;
            // SAFETY: `&mut self`: nobody looks at the cells, and zero is an empty cell.
            unsafe {
                self.words.discard(0, self.words.len());
                self.bytes.discard(0, self.bytes.len());
            }
        }
        self.used = 0;
    }

    fn cell(&mut self, range: Range, i: usize) -> &mut Cell {
        let (base, n) = match range {
            Range::Words => (self.words.base(), self.n_words),
            Range::Bytes => (self.bytes.base(), self.n_words * 4),
        };
        assert!(i < n, "shared memory cell {i} of {n}");
        // SAFETY: in range (asserted), aligned (a page-aligned base and whole cells), borrowed from `&mut self`, and
        // any state reached from zeroed memory is a valid `Cell`.
        unsafe { &mut *base.cast::<Cell>().add(i) }
    }

    /// Records that lane `lane` of warp `warp` touches `addr..addr + len`.
    ///
    /// # Errors
    /// The first thing wrong with it, and the address of the word or byte.
    pub(crate) fn touch(
        &mut self,
        clocks: &Clocks,
        (warp, lane): (usize, u32),
        (addr, len): (u32, u32),
        touch: Touch,
        loc: &'static Location<'static>,
    ) -> Result<(), (u32, Trouble)> {
        let access = Access {
            loc: Some(loc),
            stamp: clocks.stamp(warp),
            lanes: 1 << lane,
            warp: warp as u8,
        };
        // No access has no lanes.
        let ordered = std::cell::Cell::new((0, 0, 0));
        let me = Me {
            clocks,
            access,
            ordered,
        };
        let result = self.touch_all(&me, (addr, len), touch);
        if let Err((at, _)) = &result
            && touch == Touch::Issue
        {
            // The copy does not set off: nothing of it is pending.
            self.forget_pending(addr, at - addr);
        }
        result
    }

    fn touch_all(&mut self, me: &Me<'_>, (addr, len): (u32, u32), touch: Touch) -> Result<(), (u32, Trouble)> {
        let end = addr + len;
        let mut a = addr;
        while a < end {
            let word = a / 4;
            let stop = end.min(word * 4 + 4);
            let whole = a.is_multiple_of(4) && stop - a == 4;
            let block = self.block;
            let split = self.cell(Range::Words, word as usize).split == block;
            if whole && !split {
                self.touch_cell(me, Range::Words, word as usize, touch)
                    .map_err(|t| (a, t))?;
            } else {
                if !split {
                    self.split(word as usize);
                }
                for b in a..stop {
                    self.touch_cell(me, Range::Bytes, b as usize, touch)
                        .map_err(|t| (b, t))?;
                }
            }
            a = stop;
        }
        Ok(())
    }

    fn split(&mut self, word: usize) {
        let block = self.block;
        let cell = self.cell(Range::Words, word);
        cell.split = block;
        let copy = *cell;
        for b in 0..4 {
            let mut own = copy;
            for many in own.many.iter_mut().filter(|m| **m != 0) {
                // Stale records keep stale indices; only live ones have a list to copy.
                let list = self.pool.get(*many as usize - 1).cloned().unwrap_or_default();
                *many = self.keep(list);
            }
            *self.cell(Range::Bytes, word * 4 + b) = own;
        }
    }

    fn keep(&mut self, list: Vec<Access>) -> u32 {
        match self.pool.get_mut(self.used) {
            Some(slot) => *slot = list,
            None => self.pool.push(list),
        }
        self.used += 1;
        self.used as u32
    }

    fn touch_cell(&mut self, me: &Me<'_>, range: Range, i: usize, touch: Touch) -> Result<(), Trouble> {
        if touch == Touch::Read && self.read_again(me, range, i) {
            return Ok(());
        }
        if touch == Touch::Land {
            let layout = self.landing;
            let cell = self.cell(range, i);
            (cell.pending, cell.write, cell.layout) = (0, me.access, layout);
            (cell.read, cell.atomic, cell.many) = (NOBODY, NOBODY, [0; 2]);
            return Ok(());
        }
        let mut cell = *self.cell(range, i);
        if let Some(trouble) = cell.pending() {
            return Err(trouble);
        }
        let written = !me.clocks.stale(&cell.write);
        if !written && matches!(touch, Touch::Read | Touch::Atomic) {
            return Err(Trouble::Unwritten);
        }
        if written && !me.after(&cell.write) {
            return Err(Trouble::Race {
                with: cell.write,
                did: "wrote",
            });
        }
        if touch != Touch::Read {
            self.against(me, &cell.read, cell.many[0], "read")?;
        }
        if touch != Touch::Atomic {
            self.against(me, &cell.atomic, cell.many[1], "updated atomically")?;
        }
        match touch {
            Touch::Read => self.add(me, &mut cell.read, &mut cell.many[0]),
            Touch::Atomic => self.add(me, &mut cell.atomic, &mut cell.many[1]),
            Touch::Write | Touch::Land => {
                (cell.write, cell.layout) = (me.access, 0);
                (cell.read, cell.atomic, cell.many) = (NOBODY, NOBODY, [0; 2]);
            }
            Touch::Issue => {
                self.cell(range, i).pending = (me.access.lowest_thread() + 1) as u16;
                return Ok(());
            }
        }
        *self.cell(range, i) = cell;
        Ok(())
    }

    /// The common read, of what was written before a barrier and is only read since by this warp; false for any other.
    #[inline]
    fn read_again(&mut self, me: &Me<'_>, range: Range, i: usize) -> bool {
        let cell = self.cell(range, i);
        let quiet = cell.pending == 0 && me.clocks.stale(&cell.atomic);
        if !quiet || me.clocks.stale(&cell.write) || !me.after(&cell.write) {
            return false;
        }
        if me.clocks.stale(&cell.read) {
            (cell.read, cell.many[0]) = (me.access, 0);
            return true;
        }
        let same = cell.read.warp == me.access.warp && cell.read.stamp == me.access.stamp && cell.many[0] == 0;
        if same {
            cell.read.lanes |= me.access.lanes;
        }
        same
    }

    fn against(&self, me: &Me<'_>, one: &Access, many: u32, did: &'static str) -> Result<(), Trouble> {
        if me.clocks.stale(one) {
            return Ok(());
        }
        let list = match many {
            0 => std::slice::from_ref(one),
            m => &self.pool[m as usize - 1],
        };
        match list.iter().find_map(|a| me.unordered(a)) {
            Some(with) => Err(Trouble::Race { with, did }),
            None => Ok(()),
        }
    }

    /// Adds an access to a record, dropping what is ordered before it.
    fn add(&mut self, me: &Me<'_>, one: &mut Access, many: &mut u32) {
        let fresh = me.clocks.stale(one);
        if fresh {
            (*one, *many) = (me.access, 0);
            return;
        }
        let same = |a: &Access| a.warp == me.access.warp && a.stamp == me.access.stamp;
        if *many == 0 {
            if same(one) {
                one.lanes |= me.access.lanes;
            } else if me.after(one) {
                *one = me.access;
            } else {
                *many = self.keep(vec![*one, me.access]);
                *one = me.access;
            }
            return;
        }
        let list = &mut self.pool[*many as usize - 1];
        match list.iter_mut().rev().find(|a| same(a)) {
            Some(a) => a.lanes |= me.access.lanes,
            None => {
                list.retain(|a| !me.after(a));
                list.push(me.access);
            }
        }
        // The record in the cell only says that the list is of this block.
        *one = me.access;
    }

    /// A barrier lies in `addr..addr + len` (whole words) from now on: any access to it is an error.
    pub(crate) fn place_barrier(&mut self, addr: u32, len: u32) {
        for a in addr..addr + len {
            self.cell(Range::Words, a as usize / 4).pending = BARRIER;
            self.cell(Range::Bytes, a as usize).pending = BARRIER;
        }
    }

    /// `addr..addr + len` (whole words) is as at the start of the block: nobody wrote it.
    pub(crate) fn forget(&mut self, addr: u32, len: u32) {
        for a in (addr..addr + len).step_by(4) {
            // SAFETY: all-zero bytes are the empty cell.
            *self.cell(Range::Words, a as usize / 4) = unsafe { std::mem::zeroed() };
        }
    }

    /// Forgets the pending copies of `addr..addr + len`, at the end of a block that never waited for them.
    pub(crate) fn forget_pending(&mut self, addr: u32, len: u32) {
        for a in addr..addr + len {
            self.cell(Range::Words, a as usize / 4).pending = 0;
            self.cell(Range::Bytes, a as usize).pending = 0;
        }
    }
}

#[derive(Clone, Copy)]
enum Range {
    Words,
    Bytes,
}
