//! Partial results and the kernel that folds them.

use cuda_std::float::exact::pow2;
use cuda_std::float::{CANONICAL_NAN, fma, max_nan};
use cuda_std::shared::{self, Shared};
use cuda_std::vec::{F32x4, U32x2};
use cuda_std::{mem, thread};

use super::{FOLD_THREADS, Parts, SPAN, SPLIT, overlaps};
use crate::attn::{Args, Half, gated};
use crate::unroll::unroll;

/// Elements of a row that a block does: eight threads of four.
pub(super) const SLICE: u32 = 32;
/// Spans at a time.
const SPANS: u32 = FOLD_THREADS / 8;

/// Sums over some positions, for four elements of o.
#[derive(Clone, Copy)]
pub(super) struct Partial {
    m: f32,
    l: f32,
    o: [f32; 4],
    /// Whether there is anything in it yet.
    pub(super) some: bool,
}

impl Partial {
    /// The sums over no positions.
    pub(super) const NOTHING: Self = Self {
        m: 0.0,
        l: 0.0,
        o: [0.0; 4],
        some: false,
    };

    /// From shared memory.
    #[inline(always)]
    #[track_caller]
    pub(super) fn load(ml: Shared<f32>, o: Shared<f32>) -> Self {
        Self {
            m: ml.load(),
            l: ml.add(1).load(),
            o: o.cast::<F32x4>().load().0,
            some: true,
        }
    }

    /// From the scratch tensors: elements j to j + 3 of a row's split.
    ///
    /// # Safety
    /// The split was written.
    #[inline(always)]
    #[track_caller]
    unsafe fn read<const D: u32>(parts: Parts, row: usize, split: u32, j: u32) -> Self {
        let at = row * parts.n_splits as usize + split as usize;
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                m: mem::load(parts.ml.add(2 * at)),
                l: mem::load(parts.ml.add(2 * at + 1)),
                o: mem::load(parts.o.add(at * D as usize + j as usize).cast::<F32x4>()).0,
                some: true,
            }
        }
    }

    /// To the scratch tensors. The thread of the row's first elements writes m and l.
    ///
    /// # Safety
    /// The row has that split and those elements.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn store<const D: u32>(self, parts: Parts, row: usize, split: u32, j: u32) {
        let at = row * parts.n_splits as usize + split as usize;
        // SAFETY: the caller's promise.
        unsafe {
            mem::store(parts.o.add(at * D as usize + j as usize).cast(), F32x4(self.o));
            if j == 0 {
                mem::store(parts.ml.add(2 * at), self.m);
                mem::store(parts.ml.add(2 * at + 1), self.l);
            }
        }
    }

    /// Adds the sums over later positions; nothing at all before makes them the sums.
    #[inline(always)]
    pub(super) fn fold(&mut self, b: Partial) {
        let m = max_nan(self.m, b.m);
        let (u, w) = (pow2(self.m - m), pow2(b.m - m));
        let sum = |a: f32, b: f32| fma(a, u, b * w);
        let both = Self {
            m,
            l: sum(self.l, b.l),
            o: [
                sum(self.o[0], b.o[0]),
                sum(self.o[1], b.o[1]),
                sum(self.o[2], b.o[2]),
                sum(self.o[3], b.o[3]),
            ],
            some: true,
        };
        *self = if self.some { both } else { b };
    }
}

/// One block: 32 elements of one row.
///
/// # Safety
/// The tensors have the shapes of [`super`]'s tables, the splits' kernel ran before, and the launch has [`super::fold_grid`].
#[inline(always)]
pub(super) unsafe fn body<T: Half, const D: u32>(args: &Args<T>, parts: Parts) {
    let (head, slice) = (thread::block_idx_x() / (D / SLICE), thread::block_idx_x() % (D / SLICE));
    let token = thread::block_idx_y();
    // SAFETY: n_seq > 0, there are tokens.
    let seq = unsafe { args.sequence(args.search(token, 1, 0)) };
    let t = token.wrapping_sub(seq.first);
    if t >= seq.tokens {
        return;
    }
    let (low, high) = args.admitted(seq, t);
    let row = token as usize * (args.kv_heads * args.group) as usize + head as usize;
    let tid = thread::thread_idx_x();
    let (place, part) = (tid / 8, tid % 8);
    let j = slice * SLICE + part * 4;
    // Spans of this turn: 32 of 32 elements, and their m and l.
    let (o, ml) = (shared::shared_array![f32; 1024], shared::shared_array![f32; 64]);

    let mut sum = Partial::NOTHING;
    let mut first = low as u32 / SPAN;
    while (first * SPAN) as i32 <= high {
        let span = first + place;
        let mut own = Partial::NOTHING;
        unroll!(i < 4 => {
            let split = span * (SPAN / SPLIT) + i as u32;
            if overlaps(split, SPLIT, low, high) {
                // SAFETY: a split that the row sees something of was written.
                own.fold(unsafe { Partial::read::<D>(parts, row, split, j) });
            }
        });
        if own.some {
            o.add(place * SLICE + part * 4).cast::<F32x4>().store(F32x4(own.o));
            if part == 0 {
                ml.add(2 * place).store(own.m);
                ml.add(2 * place + 1).store(own.l);
            }
        }
        thread::sync_threads();
        if tid < 8 {
            let mut i = 0;
            while i < SPANS && overlaps(first + i, SPAN, low, high) {
                sum.fold(Partial::load(ml.add(2 * i), o.add(i * SLICE + part * 4)));
                i += 1;
            }
        }
        thread::sync_threads();
        first += SPANS;
    }
    if tid < 8 {
        // SAFETY: the token has its rows of gate and o.
        unsafe { store::<T, D>(args, token, head, j, sum) };
    }
}

/// Four elements of o.
///
/// # Safety
/// As [`body`].
#[inline(always)]
unsafe fn store<T: Half, const D: u32>(args: &Args<T>, token: u32, head: u32, j: u32, sum: Partial) {
    let lost = sum.m.is_nan() || sum.m == f32::INFINITY;
    let inverse = if lost { CANONICAL_NAN } else { 1.0 / sum.l };
    // Nothing at all only where the lengths contradict each other: a token sees at least itself.
    let inverse = if sum.some { inverse } else { 0.0 };
    let value = |o: f32| fma(o, inverse, 0.0);
    let mut y = [
        T::pack(value(sum.o[0]), value(sum.o[1])),
        T::pack(value(sum.o[2]), value(sum.o[3])),
    ];
    // SAFETY: the caller's promise; j is a multiple of 4.
    unsafe {
        if !args.gate.is_null() {
            let at = token as usize * args.gate_row as usize + (head * args.gate_head + j) as usize;
            let gate = mem::load(args.gate.add(at).cast::<U32x2>()).0;
            y = [gated::<T>(y[0], gate[0]), gated::<T>(y[1], gate[1])];
        }
        let at = token as usize * args.o_row as usize + (head * D + j) as usize;
        mem::store(args.o.add(at).cast(), U32x2(y));
    }
}
