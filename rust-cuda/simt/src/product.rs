//! Products of a warpgroup (PTX `wgmma`): its 128 threads meet, the product is computed at once, and counts as under way until the
//! wait for its group.
//!
//! Operands in shared memory are read by the warpgroup's agent, an actor of its own for the clocks: what it reads has to be known to
//! all 128 threads, and a thread that overwrites it has to know of a wait for the group. A thread's part of D is written through the
//! pointer it brought along: its coroutine is suspended then. Nothing tells the simulator of reads of registers, so accumulators
//! carry the number of their newest group, and ask.

mod registers;

use crate::block::{Block, Wait, same_place};
use crate::ctx::{Wgmma, WgmmaA, WgmmaFormat};
use crate::error::{ErrorKind, Fault};
use crate::operand::Operand;
use crate::tensor::{Format, wgmma};
use registers::{from_registers, gather, gather_pairs, scatter, scatter_pairs};
use std::panic::Location;

type At = &'static Location<'static>;

/// Threads of a warpgroup.
const THREADS: usize = 128;

/// What a thread brings.
#[derive(Clone, Copy)]
struct Part {
    d: *mut u32,
    a: WgmmaA,
}

/// A warpgroup, by its first warp.
#[derive(Default)]
pub(crate) struct Warpgroup {
    /// The product whose threads are gathering.
    open: Option<Open>,
    parts: Vec<Part>,
    /// The actor that reads its operands.
    pub agent: Option<usize>,
}

/// A product before all threads are there.
#[derive(Clone, Copy)]
struct Open {
    form: Wgmma,
    b: u64,
    loc: At,
    arrived: u128,
}

/// A thread's own view of its warpgroup's products.
#[derive(Default)]
pub(crate) struct Products {
    /// Groups closed so far, which is also the number of the one that products issued now belong to.
    group: u64,
    /// Groups that this thread has waited for.
    waited: u64,
    /// It has passed a fence.
    fenced: bool,
    /// Groups not waited for, with the stamp of their newest reads.
    reads: Vec<(u64, u32)>,
    accumulators: Vec<Accumulator>,
}

/// Registers that products have written.
struct Accumulator {
    at: usize,
    form: (u32, WgmmaFormat, u32),
    group: u64,
    /// Read since the last fence.
    touched: bool,
}

impl Products {
    pub(crate) fn fence(&mut self) {
        self.fenced = true;
        self.accumulators.iter_mut().for_each(|a| a.touched = false);
    }

    pub(crate) fn commit(&mut self) {
        self.group += 1;
    }

    /// Waits for all groups but the newest `left`; the stamp of the newest read that is over now.
    fn wait(&mut self, left: u32) -> Option<u32> {
        self.waited = self.waited.max(self.group.saturating_sub(left.into()));
        let over = self.reads.partition_point(|(group, _)| *group < self.waited);
        self.reads.drain(..over).next_back().map(|(_, stamp)| stamp)
    }

    /// The thread looks at an accumulator whose newest product has this ticket.
    pub(crate) fn touch(&mut self, ticket: u64) -> Result<(), Box<Fault>> {
        let Some(group) = ticket.checked_sub(1) else {
            return Ok(());
        };
        if group >= self.waited {
            let why = match self.group.checked_sub(group + 1) {
                None => "whose group has not been committed".to_owned(),
                Some(newer) => format!("whose group, the newest but {newer}, has not been waited for"),
            };
            let m = format!("the accumulator of a wgmma {why}: its registers are in flight");
            return Err(Fault::new(ErrorKind::AsyncNotWaited, m));
        }
        let own = self.accumulators.iter_mut().filter(|a| a.group == group);
        own.for_each(|a| a.touched = true);
        Ok(())
    }

    /// The thread issues a product into registers at `at`; its ticket.
    fn issue(&mut self, at: usize, form: &Wgmma) -> Result<u64, Box<Fault>> {
        if !self.fenced {
            let m = format!("{}: no wgmma fence came before the first product", form.name());
            return Err(Fault::new(ErrorKind::BadArgument, m));
        }
        let key = (form.n, form.format, form.registers);
        let (from, to) = (at, at + 4 * form.registers as usize);
        for a in &self.accumulators {
            let overlaps = a.at < to && from < a.at + 4 * a.form.2 as usize;
            let same = a.at == at && a.form == key;
            if overlaps && !same && a.group >= self.waited {
                let m = format!(
                    "{}: its accumulator is in flight in a product of another shape (n{}, {} registers): wait for that first",
                    form.name(),
                    a.form.0,
                    a.form.2
                );
                return Err(Fault::new(ErrorKind::AsyncNotWaited, m));
            }
            if same && a.touched && form.accumulate {
                let m = format!("{}: its accumulator was read since the last wgmma fence", form.name());
                return Err(Fault::new(ErrorKind::BadArgument, m));
            }
        }
        self.accumulators
            .retain(|a| a.at >= to || from >= a.at + 4 * a.form.2 as usize);
        self.accumulators.push(Accumulator {
            at,
            form: key,
            group: self.group,
            touched: false,
        });
        Ok(self.group + 1)
    }
}

impl Wgmma {
    fn name(&self) -> String {
        let (k, factors) = match self.format {
            WgmmaFormat::Bf16 => (16, "bf16"),
            WgmmaFormat::F16 => (16, "f16"),
            WgmmaFormat::S8 => (32, "s8"),
        };
        let d = match (self.format, self.is_f16()) {
            (WgmmaFormat::S8, _) => "s32",
            (_, true) => "f16",
            _ => "f32",
        };
        format!("wgmma m64n{}k{k}.{d}.{factors}", self.n)
    }

    /// Whether D is of `f16`.
    fn is_f16(&self) -> bool {
        self.format == WgmmaFormat::F16 && self.registers * 4 == self.n
    }

    fn check(&self) -> Result<(), String> {
        let Wgmma {
            n, format, registers, ..
        } = *self;
        if n == 0 || n > wgmma::MOST_COLUMNS as u32 || !n.is_multiple_of(8) {
            return Err(format!("{n} columns: there can be 8 to 256, a multiple of 8"));
        }
        if format == WgmmaFormat::S8 && n > 24 && !n.is_multiple_of(16) {
            return Err(format!(
                "{n} columns: with bytes there can be 8, 16, 24 and multiples of 16"
            ));
        }
        if registers * 2 != n && !self.is_f16() {
            return Err(format!("{registers} registers of a thread for {n} columns"));
        }
        Ok(())
    }
}

fn bad<T>(form: &Wgmma, message: &str) -> Result<T, Box<Fault>> {
    Err(Fault::new(
        ErrorKind::BadArgument,
        format!("{}: {message}", form.name()),
    ))
}

fn partial<T>(form: &Wgmma, message: &str) -> Result<T, Box<Fault>> {
    Err(Fault::new(
        ErrorKind::PartialWarp,
        format!("{}: {message}", form.name()),
    ))
}

impl Block {
    /// The first warp of thread `t`'s warpgroup.
    fn warpgroup(&self, t: usize) -> usize {
        let first = self.warps_of(self.cta_of(t)).start;
        first + (t / 32 - first) / 4 * 4
    }

    /// Thread `t` issues its part of a product: its ticket, and whether it was the last one, for whom the others wait.
    pub(crate) fn join_product(
        &mut self,
        t: usize,
        form: Wgmma,
        (d, a, b): (*mut u32, WgmmaA, u64),
        loc: At,
    ) -> Result<(u64, bool), Box<Fault>> {
        form.check().or_else(|m| bad(&form, &m))?;
        let w = self.warpgroup(t);
        let warps = self.warps_of(self.cta_of(t));
        let whole = (w..w + 4).all(|v| warps.contains(&v) && self.warp[v].live == u32::MAX);
        if !whole {
            return partial(
                &form,
                "takes 128 threads, four warps from a multiple of four on, and some of them do not exist or have ended",
            );
        }
        let ticket = self.aside(t).products.issue(d as usize, &form)?;
        if self.warpgroups.len() <= w {
            self.warpgroups.resize_with(w + 1, Warpgroup::default);
        }
        let group = &mut self.warpgroups[w];
        let mine = Open {
            form,
            b,
            loc,
            arrived: 0,
        };
        let lane = t - w * 32;
        let open = group.open.get_or_insert(mine);
        if open.form != form || !same_place(open.loc, loc) {
            let other = format!(
                "other threads of the warpgroup are at {} at {}",
                open.form.name(),
                open.loc
            );
            return partial(&form, &other);
        }
        let first = open.arrived.trailing_zeros() as usize;
        let differs = open.arrived != 0
            && (open.b != b
                || match (group.parts[first].a, a) {
                    (WgmmaA::Shared(x), WgmmaA::Shared(y)) => x != y,
                    (WgmmaA::Registers(_), WgmmaA::Registers(_)) => false,
                    _ => true,
                });
        if differs {
            let other = self.name_of(w * 32 + first);
            return bad(
                &form,
                &format!("another descriptor than that of thread {other}: all 128 threads have to give the same"),
            );
        }
        open.arrived |= 1 << lane;
        let complete = open.arrived == u128::MAX;
        group.parts.resize(THREADS, Part { d, a });
        group.parts[lane] = Part { d, a };
        if !complete {
            self.lanes[t].wait = Wait::Product;
            return Ok((ticket, false));
        }
        group.open = None;
        let parts = std::mem::take(&mut group.parts);
        let done = self.multiply(w, &form, &parts, b, loc);
        self.warpgroups[w].parts = parts;
        done?;
        self.stats.exchanges += 1;
        for v in w..w + 4 {
            let me = if v == t / 32 { 1 << (t % 32) } else { 0 };
            self.wake(v, !me);
        }
        Ok((ticket, true))
    }

    fn multiply(&mut self, w: usize, form: &Wgmma, parts: &[Part], b: u64, loc: At) -> Result<(), Box<Fault>> {
        let cta = self.cta_of(w * 32);
        let reader = self.reader(|block| &mut block.warpgroups[w].agent, w * 32..w * 32 + THREADS, loc);
        let rows = |block: &mut Block, what: &str, bits: u64, rows: u32| {
            let operand = Operand::decode(bits).or_else(|m| bad(form, &format!("{what}: {m}")))?;
            let op = || format!("{}, {what}", form.name());
            let mut tile = vec![[0; 32]; rows as usize];
            for (row, bytes) in (0..rows).zip(&mut tile) {
                for (half, bytes) in (0..2).zip(bytes.chunks_exact_mut(16)) {
                    block.read_alone(&reader, cta, operand.chunk(row, half), bytes, operand.swizzle, &op)?;
                }
            }
            Ok::<_, Box<Fault>>(tile)
        };
        let a = match parts[0].a {
            WgmmaA::Shared(bits) => rows(self, "A", bits, wgmma::ROWS as u32)?,
            WgmmaA::Registers(_) => from_registers(parts),
        };
        let b = rows(self, "B", b, form.n)?;
        if self.checks {
            for lane in &mut self.asides[w * 32..][..THREADS] {
                let Products { group, reads, .. } = &mut lane.products;
                match reads.last_mut().filter(|r| r.0 == *group) {
                    Some(last) => last.1 = reader.stamp(),
                    None => reads.push((*group, reader.stamp())),
                }
            }
        }
        let core = self.tensor;
        let factors = |row: &[u8; 32]| std::array::from_fn(|k| u16::from_le_bytes([row[2 * k], row[2 * k + 1]]));
        let bytes = |row: &[u8; 32]| row.map(|byte| byte as i8);
        let format = match form.format {
            WgmmaFormat::S8 => {
                let (a, b): (Vec<_>, Vec<_>) = (a.iter().map(bytes).collect(), b.iter().map(bytes).collect());
                let mut d = gather(form, parts, |x| x as i32);
                wgmma::m64k32_s8(a.as_slice().try_into().expect("64 rows"), &b, &mut d);
                scatter(form, parts, &d, |x| x as u32);
                return Ok(());
            }
            WgmmaFormat::Bf16 => Format::Bf16,
            WgmmaFormat::F16 => Format::F16,
        };
        let (a, b): (Vec<[u16; 16]>, Vec<_>) = (a.iter().map(factors).collect(), b.iter().map(factors).collect());
        let a = a.as_slice().try_into().expect("64 rows");
        if form.is_f16() {
            let mut d = gather_pairs(form, parts);
            wgmma::m64k16_f16(core, a, &b, &mut d);
            scatter_pairs(form, parts, &d);
        } else {
            let mut d = gather(form, parts, f32::from_bits);
            wgmma::m64k16(core, format, a, &b, &mut d);
            scatter(form, parts, &d, f32::to_bits);
        }
        Ok(())
    }

    /// Thread `t` waits for all groups but the newest `left`.
    pub(crate) fn wait_products(&mut self, t: usize, left: u32) {
        let over = self.aside(t).products.wait(left);
        let w = self.warpgroup(t);
        if let Some(stamp) = over
            && let Some(agent) = self.warpgroups.get(w).and_then(|g| g.agent)
        {
            self.clocks.waited_for(t, agent, stamp);
        }
    }

    /// At the beginning of a block: nothing is gathering.
    pub(crate) fn forget_products(&mut self) {
        for g in &mut self.warpgroups {
            (g.open, g.agent) = (None, None);
        }
    }

    /// Thread `t` has ended, or nothing can run (`None`), while a product waits for threads: what is wrong, and at whom to tell it.
    pub(crate) fn missing_in_product(&self, ended: Option<usize>) -> Option<(usize, At, Fault)> {
        let (w, open) = self.warpgroups.iter().enumerate().find_map(|(w, g)| {
            let open = g.open.filter(|_| ended.is_none_or(|t| self.warpgroup(t) == w))?;
            Some((w, open))
        })?;
        let missing = w * 32 + (!open.arrived).trailing_zeros() as usize;
        let who = self.name_of(ended.unwrap_or(missing));
        let what = if ended.is_some() {
            "ended without it"
        } else {
            "did not come"
        };
        let message = format!(
            "{}: {} of the warpgroup's 128 threads are here; thread {who} {what}",
            open.form.name(),
            open.arrived.count_ones()
        );
        let kind = ErrorKind::PartialWarp;
        Some((
            w * 32 + open.arrived.trailing_zeros() as usize,
            open.loc,
            Fault { kind, message },
        ))
    }
}
