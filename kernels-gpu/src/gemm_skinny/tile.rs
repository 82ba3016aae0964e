//! The tile loop: a ring of stages that is filled far ahead, and one MMA chain an output.

use cuda_std::shared::{self, Shared};
use cuda_std::{thread, warp};

use crate::tile_mma::Element;
use crate::unroll::unroll;

/// Elements of a chunk, 16 bytes: what one asynchronous copy moves.
const CHUNK: u32 = 8;

/// A block's tile of `16 MT WM` tokens (8 where `HALF`) by `8 NT WN` outputs: `WM` by `WN` warps of `MT` by `NT` MMAs each; `KS`
/// k16 steps a stage, `S` stages.
#[derive(Clone, Copy)]
pub(super) struct Tile<
    const HALF: bool,
    const MT: usize,
    const NT: usize,
    const WM: u32,
    const WN: u32,
    const KS: usize,
    const S: u32,
>;

/// The accumulators of a lane: `[MT][NT]` MMAs.
pub(super) type Sums<const MT: usize, const NT: usize> = [[[f32; 4]; NT]; MT];

/// One side of a block's tile: the rows that exist, from the first one on.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The first row.
    pub first: *const u16,
    /// Rows from there on to the end of the tensor, at least 1.
    pub count: u32,
}

/// The operands of a warp for one k16 step.
#[derive(Clone, Copy)]
struct Step<const MT: usize, const NT: usize> {
    a: [[u32; 4]; MT],
    b: [[u32; 2]; NT],
}

/// Where the rows of this lane's `ldmatrix` lie in a stage, in bytes.
#[derive(Clone, Copy)]
struct Places<const MT: usize, const NT: usize> {
    a: [u32; MT],
    b: [u32; NT],
}

impl<const HALF: bool, const MT: usize, const NT: usize, const WM: u32, const WN: u32, const KS: usize, const S: u32>
    Tile<HALF, MT, NT, WM, WN, KS, S>
{
    const TOKENS: u32 = if HALF { 8 } else { 16 * MT as u32 * WM };
    const OUTPUTS: u32 = 8 * NT as u32 * WN;
    const THREADS: u32 = 32 * WM * WN;
    /// Chunks of a row of a stage.
    const CHUNKS: u32 = 2 * KS as u32;
    /// Bytes from one row of a stage to the next: the eight rows of an `ldmatrix` lie in different banks.
    const PITCH: u32 = super::config::pitch(KS as u32);
    const STAGE: u32 = super::config::stage_bytes(Self::TOKENS, Self::OUTPUTS, KS as u32);
    /// Rows that the block's threads copy at a time, a chunk each.
    const AT_A_TIME: u32 = Self::THREADS / Self::CHUNKS;

    /// The first token and output of this warp in the tile.
    #[inline(always)]
    pub(super) fn warp_place() -> (u32, u32) {
        let warp = thread::thread_idx_x() / 32;
        (warp % WM * (16 * MT as u32), warp / WM * (8 * NT as u32))
    }

    /// The tile's products over all of `k`: lane 4g + t has in `[i][j]` tokens 16i + g and 16i + g + 8 of its warp, each with
    /// outputs 8j + 2t and 8j + 2t + 1.
    ///
    /// # Safety
    /// All threads of the block call it, with `S` stages of dynamic shared memory; the rows have `k` readable elements each, `k` is
    /// a multiple of 8, and the rows start at multiples of 16 bytes.
    #[inline(always)]
    pub(super) unsafe fn product<E: Element>(tokens: Rows, outputs: Rows, k: u32) -> Sums<MT, NT> {
        const {
            assert!(S >= 3 && S <= 32, "a stage is read, one is ready, one is on its way");
            assert!(
                NT == 1 || NT.is_multiple_of(2),
                "outputs are loaded one MMA or two at a time"
            );
            assert!(!HALF || (MT == 1 && WM == 1), "half an MMA of tokens is one");
            assert!(KS <= 16, "as many steps are written out");
            assert!(
                Self::CHUNKS <= 32 && Self::CHUNKS.is_power_of_two(),
                "a warp copies whole rows"
            );
        }
        // SAFETY: plain numbers, for which all zeroes is a value. Not an array literal: that would stay in local memory.
        let mut sums: Sums<MT, NT> = unsafe { core::mem::zeroed() };
        let ring = shared::dynamic::<u8>();
        let places = Self::places(tokens.count, outputs.count);
        let turns = k.div_ceil(16 * KS as u32);

        let mut turn = 0;
        while turn < S - 1 {
            if turn < turns {
                // SAFETY: the caller's promise; nobody reads yet.
                unsafe { Self::fetch(tokens, outputs, k, turn, ring.add(turn * Self::STAGE)) };
            }
            shared::copy_async_commit();
            turn += 1;
        }
        wait_for_oldest::<S>(1);
        Self::meet();
        let mut step = Self::load(ring, places, 0);
        let (mut turn, mut stage, mut free) = (0, ring, ring.add((S - 1) * Self::STAGE));
        let end = ring.add(S * Self::STAGE).addr();
        while turn < turns {
            // The next turn's stage has landed, and everybody has left the one that is filled again.
            wait_for_oldest::<S>(2);
            Self::meet();
            if turn + (S - 1) < turns {
                // SAFETY: the caller's promise; the stage is free.
                unsafe { Self::fetch(tokens, outputs, k, turn + (S - 1), free) };
            }
            shared::copy_async_commit();
            free = stage;
            let next = stage.add(Self::STAGE);
            let next = if next.addr() == end { ring } else { next };
            unroll!(s < 16 => {
                if s < KS {
                    // The operands of a step are asked for while the step before it is in the tensor core.
                    let now = step;
                    if s + 1 < KS {
                        step = Self::load(stage, places, s as u32 + 1);
                    } else if turn + 1 < turns {
                        step = Self::load(next, places, 0);
                    }
                    let mut i = 0;
                    while i < MT {
                        sums[i] = E::mma::<NT>(&[now.a[i]; NT], &now.b, &sums[i]);
                        i += 1;
                    }
                }
            });
            stage = next;
            turn += 1;
        }
        sums
    }

    /// All threads of the block have come here, and see each other's copies that have landed.
    #[inline(always)]
    fn meet() {
        if WM * WN == 1 {
            warp::sync()
        } else {
            thread::sync_threads()
        }
    }

    /// Starts this thread's copies of turn `turn` into the stage at `to`. Rows that do not exist are left out: nobody reads
    /// them. k beyond K is zeros.
    ///
    /// # Safety
    /// As [`Self::product`]; nobody reads the stage.
    #[inline(always)]
    unsafe fn fetch(tokens: Rows, outputs: Rows, k: u32, turn: u32, to: Shared<u8>) {
        let (row, chunk) = (
            thread::thread_idx_x() / Self::CHUNKS,
            thread::thread_idx_x() % Self::CHUNKS,
        );
        let first = (turn * Self::CHUNKS + chunk) * CHUNK;
        let bytes = if first < k { 16 } else { 0 };
        let to = to.add(row * Self::PITCH + chunk * 16);
        // SAFETY: the caller's promise.
        unsafe {
            Self::fetch_side::<true>(tokens, row, first, k, bytes, to);
            Self::fetch_side::<false>(outputs, row, first, k, bytes, to.add(Self::TOKENS * Self::PITCH));
        }
    }

    /// [`Self::fetch`] of the tokens or of the outputs: the chunks at element `first` of rows `row`, `row + AT_A_TIME` and so on.
    ///
    /// # Safety
    /// As [`Self::fetch`].
    #[inline(always)]
    unsafe fn fetch_side<const TOKENS: bool>(side: Rows, row: u32, first: u32, k: u32, bytes: u32, to: Shared<u8>) {
        let rows = if TOKENS { Self::TOKENS } else { Self::OUTPUTS };
        let from = side.first.wrapping_add(row as usize * k as usize + first as usize);
        let mut i = 0;
        while i < rows.div_ceil(Self::AT_A_TIME) {
            let r = i * Self::AT_A_TIME;
            if row + r < side.count && (rows.is_multiple_of(Self::AT_A_TIME) || row + r < rows) {
                let from = from.wrapping_add(r as usize * k as usize);
                // SAFETY: the row exists and the chunk is inside it, or nothing is read; addresses are multiples of 16.
                unsafe { shared::copy_async16_zfill(to.add(r * Self::PITCH), from.cast(), bytes) };
            }
            i += 1;
        }
    }

    /// Where this lane's rows lie. A row that does not exist is the last one that does: its products are not stored.
    #[inline(always)]
    fn places(tokens: u32, outputs: u32) -> Places<MT, NT> {
        // SAFETY: plain numbers, see `product`.
        let mut places: Places<MT, NT> = unsafe { core::mem::zeroed() };
        let lane = warp::lane_id();
        let (token, output) = Self::warp_place();
        // `ldmatrix_x4` of the tokens wants rows 0..8, 8..16 at k 0..8, then at k 8..16; `_x2` of eight tokens, rows 0..8 at both.
        let (row, chunk) = if HALF {
            (lane % 8, lane / 8 % 2)
        } else {
            (lane % 16, lane / 16)
        };
        let mut i = 0;
        while i < MT {
            let row = (token + 16 * i as u32 + row).min(tokens - 1);
            places.a[i] = row * Self::PITCH + chunk * 16;
            i += 1;
        }
        // Of the outputs: rows 0..8 at both k, then rows 8..16.
        let row = if NT == 1 { lane % 8 } else { lane / 16 * 8 + lane % 8 };
        let mut j = 0;
        while j < NT {
            let row = (output + 8 * j as u32 + row).min(outputs - 1);
            places.b[j] = (Self::TOKENS + row) * Self::PITCH + lane / 8 % 2 * 16;
            j += 2;
        }
        places
    }

    /// The operands of k16 step `step` of a stage. The whole warp calls it.
    #[inline(always)]
    fn load(stage: Shared<u8>, places: Places<MT, NT>, step: u32) -> Step<MT, NT> {
        // SAFETY: plain numbers, see `product`.
        let mut now: Step<MT, NT> = unsafe { core::mem::zeroed() };
        let mut i = 0;
        while i < MT {
            let at = stage.add(places.a[i] + step * 32);
            if HALF {
                let [low, high] = shared::ldmatrix_x2(at);
                now.a[i] = [low, 0, high, 0];
            } else {
                now.a[i] = shared::ldmatrix_x4(at);
            }
            i += 1;
        }
        let mut j = 0;
        while j < NT {
            let at = stage.add(places.b[j] + step * 32);
            if NT == 1 {
                now.b[j] = shared::ldmatrix_x2(at);
                j += 1;
            } else {
                let [b0, b1, b2, b3] = shared::ldmatrix_x4(at);
                now.b[j] = [b0, b1];
                now.b[j + 1] = [b2, b3];
                j += 2;
            }
        }
        now
    }
}

/// Waits until, of `S - 1` groups of copies under way, the `oldest` (1 or 2) ones have landed.
#[inline(always)]
fn wait_for_oldest<const S: u32>(oldest: u32) {
    macro_rules! left {
        ($($n:literal)+) => {
            match S - 1 - oldest {
                $($n => shared::copy_async_wait::<$n>(),)+
                _ => shared::copy_async_wait::<0>(),
            }
        };
    }
    left!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30);
}
