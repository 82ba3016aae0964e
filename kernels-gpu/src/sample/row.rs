//! One row, as a block of one of its launches sees it: the logits, the scratch, sums over the block, and one step of a search.

use core::mem::zeroed;
use cuda_std::shared::Shared;
use cuda_std::vec::U32x4;
use cuda_std::{float, mem, thread, warp};

use super::{ARRAYS, DIGITS, PART, STATE_WORDS, THREADS, row_words};
use crate::logits;
use crate::unroll::unroll;

const WARPS: u32 = THREADS / 32;
/// Words that a block exchanges: one a warp, and a result of three.
pub(super) const EXCHANGE: u32 = 16;
const RESULT: u32 = WARPS;

/// Words of the state, by what is there: three each.
pub(super) const K1: usize = 0;
pub(super) const K2: usize = 3;
pub(super) const P1: usize = 6;
pub(super) const P2: usize = 9;
/// Key, ties and total after top_k, and after top_p.
pub(super) const AFTER_K: usize = 12;
pub(super) const AFTER_P: usize = 15;
/// The row's largest logit, ranked.
pub(super) const BEST: usize = 18;

/// A search for the end of a prefix of the logits by size, some digits of its last key found.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// The digits found.
    pub prefix: u32,
    /// What the logits of these digits have to add up to: logits of top_k, weight of top_p.
    pub need: u64,
    /// The weight of all logits above.
    pub above: u64,
}

/// The arrays of logits and of weights by the digit `level`, of top_k's search.
#[inline(always)]
pub(super) const fn of_k(level: u32) -> [u32; 2] {
    [2 * level, 2 * level + 1]
}

/// The same of top_p's, which has no array of logits; the first digit's weights are the same.
#[inline(always)]
pub(super) const fn of_p(level: u32) -> [u32; 2] {
    [ARRAYS, if level == 0 { 1 } else { 5 + level }]
}

impl Search {
    /// Nothing to search for.
    pub const NONE: Search = Search {
        prefix: 0,
        need: 0,
        above: 0,
    };

    /// From three words of the state.
    #[inline(always)]
    pub fn of((prefix, need, above): (u64, u64, u64)) -> Self {
        let prefix = prefix as u32;
        Self { prefix, need, above }
    }

    /// As the state has it.
    #[inline(always)]
    pub fn words(self) -> (u64, u64, u64) {
        (self.prefix as u64, self.need, self.above)
    }
}

/// A prefix of the logits by size: those above a key, and the first `ties` of this key. `total` is its weight.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub key: u32,
    pub ties: u64,
    pub total: u64,
}

impl Kept {
    /// From three words of the state.
    #[inline(always)]
    pub fn of((key, ties, total): (u64, u64, u64)) -> Self {
        let key = key as u32;
        Self { key, ties, total }
    }

    /// As the state has it.
    #[inline(always)]
    pub fn words(self) -> (u64, u64, u64) {
        (self.key as u64, self.ties, self.total)
    }
}

/// The sum of eight bins.
#[inline(always)]
fn added(b: [u64; 8]) -> u64 {
    ((b[0] + b[1]) + (b[2] + b[3])) + ((b[4] + b[5]) + (b[6] + b[7]))
}

/// One row of logits.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub logits: *const f32,
    pub vocab: u32,
    pub temperature: f32,
    pub max: f32,
    pub scratch: *mut u64,
    /// [`EXCHANGE`] words of shared memory.
    pub exchange: Shared<u64>,
}

impl Row {
    /// Row `token` of the launch's tensors; its largest logit is not known yet.
    ///
    /// # Safety
    /// The row exists.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn new(
        logits: *const f32,
        temperature: *const f32,
        scratch: *mut u64,
        token: usize,
        vocab: u32,
        exchange: Shared<u64>,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                logits: logits.add(token * vocab as usize),
                vocab,
                temperature: mem::load(temperature.add(token)),
                max: 0.0,
                scratch: scratch.add(token * row_words(vocab)),
                exchange,
            }
        }
    }

    /// The same, its largest logit as the state has it.
    ///
    /// # Safety
    /// A launch before has left it there.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn with_max(self) -> Self {
        // SAFETY: the caller's promise.
        let best = unsafe { mem::load(self.scratch.add(BEST)) };
        Self {
            max: logits::logit((best >> 32) as u32),
            ..self
        }
    }

    /// Whether the token is drawn: the temperature is above 0. Otherwise, and where it is NaN, it is the argmax.
    #[inline(always)]
    pub fn drawn(&self) -> bool {
        self.temperature > 0.0
    }

    /// floor(exp((logit - max) / temperature) * 2^40); 0 for NaN.
    #[inline(always)]
    pub fn weight(&self, logit: f32) -> u64 {
        let e = float::exact::exp((logit - self.max) / self.temperature);
        (e * 1_099_511_627_776.0) as u64
    }

    /// Array `i` of bins.
    #[inline(always)]
    pub fn bins(&self, i: u32) -> *mut u64 {
        self.scratch.wrapping_add(STATE_WORDS + (i * DIGITS) as usize)
    }

    /// Array `i` of what each part has: 0 its largest logit, 1 its weight above the last key, 2 its logits of that key.
    #[inline(always)]
    pub fn of_parts(&self, i: u32) -> *mut u64 {
        let first = STATE_WORDS + (ARRAYS * DIGITS) as usize;
        self.scratch
            .wrapping_add(first + (i * super::parts(self.vocab)) as usize)
    }

    /// Three words of the state.
    ///
    /// # Safety
    /// A launch before has left them there.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn load(&self, at: usize) -> (u64, u64, u64) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = self.scratch.add(at);
            (mem::load(at), mem::load(at.add(1)), mem::load(at.add(2)))
        }
    }

    /// Leaves three words in the state, for the launches behind this one: by one thread of the row.
    ///
    /// # Safety
    /// Nobody reads them in this launch.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn store(&self, at: usize, words: (u64, u64, u64)) {
        if thread::thread_idx_x() == 0 && thread::block_idx_y() == 0 {
            // SAFETY: the caller's promise.
            unsafe {
                let at = self.scratch.add(at);
                mem::store(at, words.0);
                mem::store(at.add(1), words.1);
                mem::store(at.add(2), words.2);
            }
        }
    }

    /// The sum of the values of the threads before this one, and of all. The whole block calls it.
    #[inline(always)]
    #[track_caller]
    pub fn scan(&self, value: u64) -> (u64, u64) {
        let warp = thread::thread_idx_x() / 32;
        let to_here = logits::warp_scan(value);
        if warp::lane_id() == 31 {
            self.exchange.add(warp).store(to_here);
        }
        thread::sync_threads();
        let (mut before, mut all) = (to_here - value, 0);
        let mut w = 0;
        while w < WARPS {
            let sum = self.exchange.add(w).load();
            if w < warp {
                before += sum;
            }
            all += sum;
            w += 1;
        }
        thread::sync_threads();
        (before, all)
    }

    /// The largest of the parts' largest logits, in every thread. The whole block calls it, once a launch.
    ///
    /// # Safety
    /// A launch before has found them.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn best(&self) -> u64 {
        let mut most = 0;
        let mut at = thread::thread_idx_x();
        while at < super::parts(self.vocab) {
            // SAFETY: the part exists; the caller's promise.
            most = most.max(unsafe { mem::load(self.of_parts(0).add(at as usize)) });
            at += THREADS;
        }
        let most = logits::block_max(self.exchange, most, WARPS);
        thread::sync_threads();
        most
    }

    /// `f(logit)` of each of this thread's eight logits of a part, as far as there are so many, in any order.
    ///
    /// # Safety
    /// The part exists.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn each(&self, part: u32, mut f: impl FnMut(f32)) {
        let first = part * PART + 4 * thread::thread_idx_x();
        unroll!(half < 2 => {
            let at = first + half as u32 * 4 * THREADS;
            if at < self.vocab {
                // SAFETY: at < vocab.
                let v = unsafe { logits::load4(self.logits.add(at as usize), self.vocab - at) };
                unroll!(i < 4 => {
                    if at + (i as u32) < self.vocab {
                        f(v[i]);
                    }
                });
            }
        });
    }

    /// Eight neighbouring bins of an array for this thread, the highest ones for the first thread; ascending.
    #[inline(always)]
    #[track_caller]
    fn eight(&self, array: u32) -> [u64; 8] {
        let first = self.bins(array).wrapping_add(self.lowest() as usize);
        // SAFETY: plain integers.
        let mut bins: [u64; 8] = unsafe { zeroed() };
        unroll!(i < 4 => {
            // SAFETY: the bins of the row; their addresses are multiples of 16.
            let v = unsafe { mem::load(first.cast::<U32x4>().add(i)) }.0;
            bins[2 * i] = (v[1] as u64) << 32 | v[0] as u64;
            bins[2 * i + 1] = (v[3] as u64) << 32 | v[2] as u64;
        });
        bins
    }

    /// The lowest of this thread's eight digits.
    #[inline(always)]
    fn lowest(&self) -> u32 {
        DIGITS - 8 * (thread::thread_idx_x() + 1)
    }

    /// The sum of an array of bins, in every thread.
    #[inline(always)]
    #[track_caller]
    fn sum(&self, array: u32) -> u64 {
        self.scan(added(self.eight(array))).1
    }

    /// The next digit of a search, in every thread: the highest for which the bins from it on reach what is needed, which is
    /// at least 1 and at most the sum of the bins. `counts`, `weights`: the arrays; the need is of logits where `by_count`.
    #[inline(always)]
    #[track_caller]
    pub fn step(&self, from: Search, bits: u32, [counts, weights]: [u32; 2], by_count: bool) -> Search {
        let w = self.eight(weights);
        let c = if by_count { self.eight(counts) } else { w };
        let here = added(c);
        let (mut before, _) = self.scan(here);
        let (mut above, _) = self.scan(added(w));
        let result = self.exchange.add(RESULT);
        if before < from.need && from.need - before <= here {
            let mut digit = self.lowest() + 7;
            let mut found = false;
            unroll!(j < 8 => {
                let i = 7 - j;
                found = found || from.need - before <= c[i];
                if !found {
                    before += c[i];
                    above += w[i];
                    digit -= 1;
                }
            });
            result.store(digit as u64);
            result.add(1).store(before);
            result.add(2).store(above);
        }
        thread::sync_threads();
        let (digit, before, above) = (result.load(), result.add(1).load(), result.add(2).load());
        thread::sync_threads();
        Search {
            prefix: from.prefix << bits | digit as u32,
            need: from.need - before,
            above: from.above + above,
        }
    }

    /// The prefix that top_k keeps, in every thread; `search` has the first two digits of its last key.
    #[inline(always)]
    #[track_caller]
    pub fn after_k(&self, top_k: u32, search: Search) -> Kept {
        if top_k == 0 || top_k >= self.vocab {
            let total = self.sum(of_k(0)[1]);
            return Kept {
                key: 0,
                ties: u64::MAX,
                total,
            };
        }
        let end = self.step(search, 10, of_k(2), true);
        let each = self.weight(logits::logit(end.prefix));
        Kept {
            key: end.prefix,
            ties: end.need,
            total: end.above + end.need * each,
        }
    }
}
