//! Seeded sampling: temperature, top-k, top-p, one token a row.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | logits | `[n_tok][vocab]` | f32 |
//! | temperature | `[n_tok]`; the argmax unless above 0 | f32 |
//! | top_k | `[n_tok]`; 0 keeps all | u32 |
//! | top_p | `[n_tok]`: ceil(p * 2^24); 2^24 and more keeps all | u32 |
//! | seed | `[n_tok]`: Philox's key, low word first | u64 |
//! | position | `[n_tok]`: Philox's counter | i32 |
//! | scratch | `[n_tok]` times [`row_words`], at a multiple of 16 bytes | u64 |
//! | tokens | `[n_tok]` | i32 |
//!
//! Order: docs/numerics.md, "Head and sampling". Weights are integers, floor(exp((logit - max) / temperature) * 2^40),
//! so that no order of additions matters; what is kept is a prefix of the logits by size, held as its last key and the number
//! of logits of that key (the first ones by index); the token is found by its running sum over the kept *in index order*.
//!
//! Eight launches, each of a block of 256 threads for each [`PART`] logits of a row but the last ([`launches`]). The end of a prefix
//! is found digit by digit, the keys' highest 11 bits, then 11, then 10: each launch of [`fn@sample_bins`] adds up logits and
//! weights by one digit, in shared memory and then in the scratch, and the next one finds the digit. Highest digits serve
//! both searches; top_p's needs no regard for where top_k ended, since it ends above. Launches that a row's parameters do not ask for
//! return at once.
//!
//! | launch | kernel, stage | what |
//! | --- | --- | --- |
//! | 1 | [`fn@sample_max`] | the largest logit of each part; the bins are made zero |
//! | 2 | [`fn@sample_bins`] 0 | logits and weights by the first digit |
//! | 3, 4 | 1, 2 | top_k's last key: of the digits found the logits by the next one |
//! | 5, 6 | 3, 4 | top_p's last key, likewise |
//! | 7 | [`fn@sample_sums`] | the kept weight of each part, and its logits of the last key |
//! | 8 | [`fn@sample_take`] | the part where the running sum passes the target, and the logit in it; a block a row |
//!
//! | version | what | measured |
//! | --- | --- | --- |
//! | one block a row | digits of 8 bits, a histogram a warp | H200: vocab 248320, top_k 20, top_p 0.95, 1 row 1077.1 us, 0 % of the roof; 16 rows 1082.8 us, 0 % of the roof |
//! | plain | as above | H200: the same, 1 row 38.2 us; 16 rows 143.5 us, 3 % of the roof |

mod bins;
mod row;

use core::mem::zeroed;
use cuda_std::random::philox4x32_10;
use cuda_std::vec::U32x4;
use cuda_std::{kernel, mem, shared, thread};

use crate::logits;
use crate::unroll::unroll;
use bins::Bins;
use row::{AFTER_K, AFTER_P, BEST, EXCHANGE, K1, K2, Kept, P1, P2, Row, Search, of_k, of_p};

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Logits of a part: eight a thread.
pub const PART: u32 = 8 * THREADS;
/// Stages of [`fn@sample_bins`].
pub const STAGES: u32 = 5;
/// 1 as top_p has it.
pub const TOP_P_ONE: u32 = 1 << 24;
/// Bins of an array: the values of a digit.
const DIGITS: u32 = 1 << 11;
/// Arrays of bins of a row: logits and weights of three digits, and weights of top_p's second and third.
const ARRAYS: u32 = 8;
const STATE_WORDS: usize = 32;
/// Bytes of shared memory of a block of [`fn@sample_bins`]: logits, low and high parts of weights by digit, and what a block
/// exchanges.
pub const BINS_BYTES: u32 = 3 * DIGITS * 4 + EXCHANGE_BYTES;
/// Bytes of shared memory of a block of the other kernels.
pub const EXCHANGE_BYTES: u32 = EXCHANGE * 8;

/// Parts of a row.
pub const fn parts(vocab: u32) -> u32 {
    vocab.div_ceil(PART)
}

/// Words of scratch of a row: what one launch leaves for the next, the bins, and three words for each part.
pub const fn row_words(vocab: u32) -> usize {
    STATE_WORDS + (ARRAYS * DIGITS) as usize + (3 * parts(vocab) as usize).next_multiple_of(2)
}

/// Launches for a batch of rows.
pub const fn launches() -> u32 {
    STAGES + 3
}

/// The largest logit of one part of one row a block, and its share of the bins made zero.
///
/// # Safety
/// The tensors must have the shapes of the module's table, on the device; `vocab` is at least 1 and at most 2^23. Grid: x
/// over rows, y over [`parts`].
#[kernel(threads = 256)]
pub unsafe fn sample_max(logits: *const f32, temperature: *const f32, scratch: *mut u64, vocab: u32) {
    let (token, part) = (thread::block_idx_x() as usize, thread::block_idx_y());
    // SAFETY: the grid has the rows that there are.
    let row = unsafe { Row::new(logits, temperature, scratch, token, vocab, shared::dynamic()) };
    let first = part * PART;
    let end = if vocab - first < PART { vocab } else { first + PART };
    // SAFETY: the part's logits.
    let most = unsafe { logits::thread_max(row.logits, first, end, THREADS) };
    let most = logits::block_max(row.exchange, most, THREADS / 32);
    if thread::thread_idx_x() == 0 {
        // SAFETY: the part exists.
        unsafe { mem::store(row.of_parts(0).add(part as usize), most) };
    }
    // 16 bytes at a time.
    let pairs = ARRAYS * DIGITS / 2;
    let share = pairs.div_ceil(thread::grid_dim_y().max(1));
    let end = ((part + 1) * share).min(pairs);
    let mut i = part * share + thread::thread_idx_x();
    while i < end {
        // SAFETY: the bins of the row.
        unsafe { mem::store(row.bins(0).cast::<U32x4>().add(i as usize), U32x4([0; 4])) };
        i += THREADS;
    }
}

/// Adds up one part of one row a block by the digit of a stage: the module's table.
///
/// # Safety
/// As for [`fn@sample_max`]; the launches of the stages before have ended. `stage` is below [`STAGES`].
#[kernel(threads = 256)]
pub unsafe fn sample_bins(
    logits: *const f32,
    temperature: *const f32,
    top_k: *const u32,
    top_p: *const u32,
    scratch: *mut u64,
    vocab: u32,
    stage: u32,
) {
    let (token, part) = (thread::block_idx_x() as usize, thread::block_idx_y());
    let counts = shared::dynamic::<u32>();
    let bins = Bins {
        counts,
        low: counts.add(DIGITS),
        high: counts.add(2 * DIGITS),
    };
    let exchange = counts.add(3 * DIGITS).cast::<u64>();
    // SAFETY: the grid has the rows that there are.
    let (row, top_k, top_p) = unsafe {
        (
            Row::new(logits, temperature, scratch, token, vocab, exchange),
            mem::load(top_k.add(token)),
            mem::load(top_p.add(token)),
        )
    };
    let by_k = top_k != 0 && top_k < vocab;
    if !row.drawn() || ((stage == 1 || stage == 2) && !by_k) {
        return;
    }
    // SAFETY: the stages before have left what this one loads, and nobody loads what it stores.
    unsafe {
        if stage == 0 {
            let best = row.best();
            row.store(BEST, (best, 0, 0));
            let max = logits::logit((best >> 32) as u32);
            bins.add(Row { max, ..row }, part, 0, 0, of_k(0));
            return;
        }
        let row = row.with_max();
        let (found, level, arrays) = if stage <= 2 {
            let need = top_k as u64;
            let from = if stage == 1 {
                Search { need, ..Search::NONE }
            } else {
                Search::of(row.load(K1))
            };
            let found = row.step(from, 11, of_k(stage - 1), true);
            row.store(if stage == 1 { K1 } else { K2 }, found.words());
            (found, stage, of_k(stage))
        } else {
            let from = if stage == 3 {
                let kept = row.after_k(top_k, if by_k { Search::of(row.load(K2)) } else { Search::NONE });
                row.store(AFTER_K, kept.words());
                // Nothing has a weight, or all is kept: no search.
                let need = ((top_p as u128 * kept.total as u128 + (TOP_P_ONE - 1) as u128) >> 24) as u64;
                let ends = top_p < TOP_P_ONE && kept.total != 0;
                let need = if ends { need.max(1) } else { 0 };
                Search { need, ..Search::NONE }
            } else {
                Search::of(row.load(P1))
            };
            if from.need == 0 {
                row.store(if stage == 3 { P1 } else { P2 }, Search::NONE.words());
                return;
            }
            let found = row.step(from, 11, of_p(stage - 3), false);
            row.store(if stage == 3 { P1 } else { P2 }, found.words());
            (found, stage - 2, of_p(stage - 2))
        };
        bins.add(row, part, found.prefix, level, arrays);
    }
}

/// The kept weight of one part of one row a block without the logits of the last key, and how many of those it has.
///
/// # Safety
/// As for [`fn@sample_max`]; the launches of all stages have ended.
#[kernel(threads = 256)]
pub unsafe fn sample_sums(logits: *const f32, temperature: *const f32, scratch: *mut u64, vocab: u32) {
    let (token, part) = (thread::block_idx_x() as usize, thread::block_idx_y());
    // SAFETY: the grid has the rows that there are.
    let row = unsafe { Row::new(logits, temperature, scratch, token, vocab, shared::dynamic()) };
    if !row.drawn() {
        return;
    }
    // SAFETY: the launches before have left all of it.
    let (row, before, from) = unsafe { (row.with_max(), row.load(AFTER_K), Search::of(row.load(P2))) };
    let mut kept = Kept::of(before);
    if from.need != 0 {
        let end = row.step(from, 10, of_p(2), false);
        let each = row.weight(logits::logit(end.prefix)).max(1);
        let ties = end.need.div_ceil(each);
        kept = Kept {
            key: end.prefix,
            ties,
            total: end.above + ties * each,
        };
    }
    let (mut sum, mut ties) = (0, 0);
    // SAFETY: the part exists, and so do its words; nobody loads this state in this launch.
    unsafe {
        row.store(AFTER_P, kept.words());
        row.each(part, |v| {
            let key = logits::key(v);
            if key > kept.key {
                sum += row.weight(v);
            }
            ties += (key == kept.key) as u64;
        });
        let (sum, ties) = (row.scan(sum).1, row.scan(ties).1);
        if thread::thread_idx_x() == 0 {
            mem::store(row.of_parts(1).add(part as usize), sum);
            mem::store(row.of_parts(2).add(part as usize), ties);
        }
    }
}

/// Finds the token of one row a block.
///
/// # Safety
/// As for [`fn@sample_max`], of a grid of rows alone; [`fn@sample_sums`] has ended.
#[kernel(threads = 256)]
pub unsafe fn sample_take(
    logits: *const f32,
    temperature: *const f32,
    seed: *const u64,
    position: *const i32,
    scratch: *mut u64,
    tokens: *mut i32,
    vocab: u32,
) {
    let (token, tid) = (thread::block_idx_x() as usize, thread::thread_idx_x());
    let exchange = shared::dynamic::<u64>();
    // SAFETY: the grid has the rows that there are.
    let (row, seed, position) = unsafe {
        (
            Row::new(logits, temperature, scratch, token, vocab, exchange),
            mem::load(seed.add(token)),
            mem::load(position.add(token)),
        )
    };
    let mut kept = Kept::of((0, 0, 0));
    let mut max = 0.0;
    if row.drawn() {
        // SAFETY: the launches before have left it.
        let (words, with) = unsafe { (row.load(AFTER_P), row.with_max()) };
        kept = Kept::of(words);
        max = with.max;
    }
    // Where every weight is 0 (the largest logit is infinite or NaN) the argmax it is.
    if kept.total == 0 {
        // SAFETY: the first launch has found the parts' largest.
        let best = logits::index_of(unsafe { row.best() });
        if tid == 0 {
            // SAFETY: the row exists.
            unsafe { mem::store(tokens.add(token), best as i32) };
        }
        return;
    }
    let row = Row { max, ..row };
    let each = row.weight(logits::logit(kept.key));
    let words = philox4x32_10([position as u32, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let random = words[0] as u64 | ((words[1] as u64) << 32);
    let target = ((random as u128 * kept.total as u128) >> 64) as u64;

    // The part where the running sum passes the target.
    let result = exchange.add(THREADS / 32);
    let (mut sum, mut ties, mut first) = (0, 0, 0);
    while first < parts(vocab) {
        let part = first + tid;
        let (mut above, mut here) = (0, 0);
        if part < parts(vocab) {
            // SAFETY: the part exists; the launch before has left its words.
            unsafe {
                above = mem::load(row.of_parts(1).add(part as usize));
                here = mem::load(row.of_parts(2).add(part as usize));
            }
        }
        let (before, all) = row.scan(here);
        let left = kept.ties.saturating_sub(ties + before);
        let value = above + each * here.min(left);
        ties += all;
        let (before, all) = row.scan(value);
        let before = sum + before;
        if before <= target && target - before < value {
            result.store(part as u64);
            result.add(1).store(target - before);
            result.add(2).store(left);
        }
        sum += all;
        first += THREADS;
    }
    thread::sync_threads();
    let (part, rest, left) = (result.load() as u32, result.add(1).load(), result.add(2).load());

    // The logit in it: eight neighbours a thread.
    let first = part * PART + 8 * tid;
    // SAFETY: plain integers and floats.
    let (mut w, mut v): ([u64; 8], [f32; 8]) = unsafe { (zeroed(), zeroed()) };
    unroll!(half < 2 => {
        let at = first + 4 * half as u32;
        if at < vocab {
            // SAFETY: at < vocab.
            let four = unsafe { logits::load4(row.logits.add(at as usize), vocab - at) };
            unroll!(i < 4 => { v[4 * half + i] = four[i]; });
        }
    });
    let mut here = 0;
    unroll!(i < 8 => {
        here += (first + (i as u32) < vocab && logits::key(v[i]) == kept.key) as u64;
    });
    let (before, _) = row.scan(here);
    let mut left = left.saturating_sub(before);
    let mut value = 0;
    unroll!(i < 8 => {
        if first + (i as u32) < vocab {
            let key = logits::key(v[i]);
            let tie = key == kept.key && left != 0;
            left -= tie as u64;
            if key > kept.key || tie {
                w[i] = row.weight(v[i]);
            }
            value += w[i];
        }
    });
    let (mut before, _) = row.scan(value);
    if before <= rest && rest - before < value {
        let mut index = first;
        let mut found = false;
        unroll!(i < 8 => {
            found = found || rest - before < w[i];
            if !found {
                before += w[i];
                index += 1;
            }
        });
        // SAFETY: the row exists; this is the only thread that has found a logit.
        unsafe { mem::store(tokens.add(token), index as i32) };
    }
}
