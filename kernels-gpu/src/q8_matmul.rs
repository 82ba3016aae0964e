//! Q8_0 matmul for 1..8 tokens at once (share-warp): y[t][n] = sum_k W[n][k] X[t][k], weights read once for all tokens.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | qs, ws | quad layout of N x K, [`crate::q8`] | int8, f16 |
//! | xq, dx | quad layout of n_tok x K, [`crate::q8`] | int8, f32 |
//! | y | [n_tok][y_stride], N used | f32 |
//!
//! # Canonical order
//! Blocks ascending in segments of 16, segments ascending: [`crate::q8`]. It is the same for every config below, any
//! `n_tok` and any number of blocks, so share-warp and batch invariance are strict by construction.
//!
//! # How
//! The weights are the MMA's B operand (8 rows), the tokens its A operand (8 of 16 rows used). One
//! `mma.m16n8k32.s8` from zero is one block's exact dots for 8 rows and 8 tokens, whatever `n_tok` is; lanes of tokens
//! that do not exist read token `n_tok - 1` and store nothing. The accumulator starts at the bits of 1.5 * 2^23, so that
//! the int32 result is a float already and one subtraction makes it the dot.
//!
//! *Work.* A thread block owns `tiles` row tiles at a time; its `k_warps` warps take the segments of K in turn, `quads` quads at
//! a time. A warp's weights arrive in a ring of `stages` in shared memory, its own, by asynchronous copies; activations
//! come through L1 into registers one turn ahead. Blocks are persistent: the sequence of segments runs on over row tiles,
//! so the next tile's loads are in flight while this one ends.
//!
//! *Barriers.* A warp leaves each segment's sum in shared memory; at the end of a row tile all warps meet once, and one of
//! them (another one each time) adds the sums in order and stores, while the others go on. Sums are double buffered:
//! whoever writes the buffer again has met the adder at the next tile's barrier, after the adder was done.
//!
//! *Shapes.* Any N, any K whose quads are a multiple of `quads` (the padding of [`crate::q8`] counts) and that has at least
//! `k_warps` segments, any n_tok in token tiles of 8 (grid y). Configs with one quad and one warp take everything.
//!
//! # Versions tried
//! H200, 4096 x 14336, n_tok = 1 / 8, us, cold weights, programmatic launch; the canonical order was then one chain over K.
//! | version | what | us |
//! | --- | --- | --- |
//! | 1 | one chain over K handed from warp to warp (relay), loads one turn ahead in registers | 16.9 / 17.0 |
//! | 2 | the same, weights through asynchronous copies, ring of 2..4 stages | 16.4 / 17.0 |
//! | 2b | the same, ring filled again before the wait for the hand-over | 16.9 / 17.4 |
//! | - | no chain to wait for: partial sums a warp (another order) | 15.7 / 16.3 |
//! | 3 | canonical order in segments, sums added at the end of the tile | see results/ |

use cuda_std::mma::m16n8k32_s8;
use cuda_std::shared::Shared;
use cuda_std::vec::{F32x4, U32x4};
use cuda_std::{float, kernel, mem, shared, thread, warp};

use crate::q8;

/// The order a config adds in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Segments of 16 blocks, ascending: the canonical order.
    Canonical,
    /// [`crate::q8_dp4a`]'s: four lanes a row and the k-warps each sum a share. Fast mode only, one token.
    Lanes,
}

/// One tile config: how the work is cut, never what is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileConfig {
    /// Row tiles (16 rows each) that a thread block does at a time.
    pub tiles: u32,
    /// Warps that take turns along K.
    pub k_warps: u32,
    /// Quads (128 k) in a turn.
    pub quads: u32,
    /// Turns of weights that a warp's ring in shared memory holds; one less is in flight.
    pub stages: u32,
    /// Tokens whose sums a lane holds: 1 for up to 4 tokens a launch tile, 2 for up to 8.
    pub lane_tokens: u32,
    /// The order it adds in.
    pub order: Order,
    /// Thread blocks the register budget lets live on one SM; the grid is this times the number of SMs.
    pub blocks_per_sm: u32,
}

impl TileConfig {
    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        32 * self.k_warps
    }

    /// Bytes of dynamic shared memory for a K of `n_quads`: the segment sums and each warp's ring.
    pub fn shared_bytes(&self, n_quads: u32) -> u32 {
        match self.order {
            Order::Canonical => {
                let sums = if self.k_warps == 1 {
                    0
                } else {
                    2 * sum_bytes(self.tiles, self.lane_tokens, n_quads)
                };
                sums + self.k_warps * self.stages * stage_bytes(self.tiles, self.quads)
            }
            Order::Lanes => 4 * q8::ROW_TILE * self.k_warps,
        }
    }

    /// The launch grid (x, y, z) for N rows and `n_tok` tokens on a device of `sm_count` SMs.
    pub fn grid(&self, n: u32, n_tok: u32, sm_count: u32) -> (u32, u32, u32) {
        let groups = q8::row_tiles(n).div_ceil(self.tiles);
        (
            groups.min(sm_count * self.blocks_per_sm),
            n_tok.div_ceil(4 * self.lane_tokens),
            1,
        )
    }
}

#[cfg(not(target_arch = "nvptx64"))]
impl TileConfig {
    /// The stable name of the config, as results carry it: `t2_r1_kw4_u2_s3_b4`; an order that is not canonical adds
    /// `_dp4a`.
    pub fn id(&self) -> String {
        let Self {
            tiles,
            k_warps,
            quads,
            stages,
            lane_tokens,
            order,
            blocks_per_sm,
        } = self;
        let suffix = match order {
            Order::Canonical => "",
            Order::Lanes => "_dp4a",
        };
        format!("t{lane_tokens}_r{tiles}_kw{k_warps}_u{quads}_s{stages}_b{blocks_per_sm}{suffix}")
    }

    /// Whether the config takes a problem.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    pub fn admits(&self, n: u32, n_quads: u32, n_tok: u32) -> Result<(), String> {
        if n == 0 || n_quads == 0 || n_tok == 0 {
            return Err(format!("nothing to do: N = {n}, quads = {n_quads}, n_tok = {n_tok}"));
        }
        if n_quads % self.quads != 0 {
            return Err(format!(
                "{n_quads} quads of K are no multiple of {} quads a turn",
                self.quads
            ));
        }
        if self.order == Order::Lanes && n_tok != 1 {
            return Err(format!("n_tok = {n_tok}: dp4a configs take one token"));
        }
        let parts = match self.order {
            Order::Canonical => n_quads.div_ceil(q8::SEGMENT_QUADS),
            Order::Lanes => n_quads / self.quads,
        };
        if parts < self.k_warps {
            return Err(format!(
                "{parts} segments of K are too few for {} k-warps",
                self.k_warps
            ));
        }
        if self.order == Order::Lanes && parts % self.k_warps != 0 {
            return Err(format!(
                "{parts} turns do not divide evenly among {} k-warps",
                self.k_warps
            ));
        }
        if self.shared_bytes(n_quads) > MAX_SHARED {
            return Err(format!(
                "{} segments of K need {} bytes of shared memory, more than {MAX_SHARED}",
                parts,
                self.shared_bytes(n_quads)
            ));
        }
        if n_tok.div_ceil(4 * self.lane_tokens) > 65_535 {
            return Err(format!("n_tok = {n_tok} needs more than 65535 blocks in grid y"));
        }
        Ok(())
    }
}

/// The parameters of a matmul kernel as launched: qs, ws, xq, dx, y, N, n_quads, n_tok, y_stride.
#[cfg(not(target_arch = "nvptx64"))]
pub type MatmulArgs = (
    *const u8,
    *const u16,
    *const u8,
    *const f32,
    *mut f32,
    u32,
    u32,
    u32,
    u32,
);

/// A config and its kernel.
#[cfg(not(target_arch = "nvptx64"))]
pub struct Entry {
    /// How the work is cut.
    pub config: TileConfig,
    /// The kernel compiled for it.
    pub kernel: cuda_std::launch::Kernel<MatmulArgs>,
}

/// Where a lane reads, and its part of the ring of stages that its warp's weights arrive in.
#[derive(Clone, Copy)]
struct Source {
    qs: *const u8,
    ws: *const u16,
    xq: *const u8,
    dx: *const f32,
    n_tiles: u32,
    n_quads: u32,
    lane: u32,
    /// The token of the token tile that this lane multiplies.
    token: u32,
    /// The first and the last token of the token tile that this block does.
    in_tile: u32,
    last: u32,
    /// The warp's ring in shared memory: stages of (U, R) x (2048 bytes of qs), then (U, R) x (128 bytes of ws).
    ring: Shared<u8>,
}

/// The activations of one turn: `U` quads of the token this lane multiplies, and the scales of the `P` it adds up.
struct Tokens<const U: usize, const P: usize> {
    x: [[U32x4; 2]; U],
    d: [[F32x4; P]; U],
}

/// The most dynamic shared memory a config may ask for: what every architecture built for has, less what it reserves.
#[cfg(not(target_arch = "nvptx64"))]
const MAX_SHARED: u32 = 99 * 1024;

/// Bytes of one buffer of segment sums: 2 P floats a lane for each segment and row tile.
const fn sum_bytes(r: u32, p: u32, n_quads: u32) -> u32 {
    256 * r * p * n_quads.div_ceil(q8::SEGMENT_QUADS)
}

/// Bytes of one stage of a warp's ring.
const fn stage_bytes(r: u32, u: u32) -> u32 {
    r * u * (q8::QUAD_BYTES + 2 * q8::QUAD_WEIGHT_SCALES)
}

impl Source {
    /// Starts copying the weights of turn `k_turn` of K into a stage of the ring.
    ///
    /// # Safety
    /// The turn of `k_turn` exists, and the pointers have the shapes of the module's table.
    #[inline(always)]
    unsafe fn fetch<const R: usize, const U: usize>(self, group: u32, k_turn: u32, stage: u32) {
        let stage = self.ring.add(stage * stage_bytes(R as u32, U as u32));
        for r in 0..R {
            // A tile past the end reads the last one again; its rows are never stored.
            let tile = (group * R as u32 + r as u32).min(self.n_tiles - 1) as usize;
            let quad = tile * self.n_quads as usize + k_turn as usize * U;
            // SAFETY: the tile and the turn's quads exist; a lane copies 16 bytes of each 512, 8 lanes a quad's scales.
            unsafe {
                let qs = self.qs.add(quad * q8::QUAD_BYTES as usize + self.lane as usize * 16);
                let to = stage.add(r as u32 * U as u32 * q8::QUAD_BYTES + self.lane * 16);
                for i in 0..4 * U {
                    shared::copy_async16(to.add(i as u32 * 512), qs.add(i * 512));
                }
                if self.lane < 8 * U as u32 {
                    let ws = self
                        .ws
                        .add(quad * q8::QUAD_WEIGHT_SCALES as usize + self.lane as usize * 8);
                    let to = stage.add((R as u32 * q8::QUAD_BYTES + r as u32 * 128) * U as u32 + self.lane * 16);
                    shared::copy_async16(to, ws.cast::<u8>());
                }
            }
        }
    }

    /// Loads the activations of turn `k_turn` of K.
    ///
    /// # Safety
    /// As [`Self::fetch`], and the quantiser's writes are visible.
    #[inline(always)]
    unsafe fn load_tokens<const U: usize, const P: usize>(self, k_turn: u32, into: &mut Tokens<U, P>) {
        let quad = k_turn as usize * U;
        // SAFETY: the token tile has n_quads quads, and its tokens up to `self.last` were written by the quantiser.
        unsafe {
            let lane = self.token * 4 + self.lane % 4;
            let xq = self
                .xq
                .add(quad * q8::QUAD_TOKEN_BYTES as usize + lane as usize * 16)
                .cast::<U32x4>();
            let dx = self.dx.add(quad * q8::QUAD_TOKEN_SCALES as usize).cast::<F32x4>();
            for u in 0..U {
                into.x[u][0] = mem::load_nc(xq.add(u * 64));
                into.x[u][1] = mem::load_nc(xq.add(u * 64 + 32));
                for p in 0..P {
                    let token = (self.in_tile + self.lane % 4 * P as u32 + p as u32).min(self.last);
                    into.d[u][p] = mem::load_nc(dx.add(u * 8 + token as usize));
                }
            }
        }
    }
}

/// A place in a warp's sequence of turns: it takes every `k_warps`-th segment of this block's row tiles.
#[derive(Clone, Copy)]
struct Cursor {
    group: u32,
    segment: u32,
    /// The turn in the segment.
    turn: u32,
}

/// The extent of the work: what a cursor moves in.
#[derive(Clone, Copy)]
struct Extent {
    groups: u32,
    segments: u32,
    /// Turns in a whole segment, and in all of K.
    turns: u32,
    total_turns: u32,
    stride: u32,
}

impl Cursor {
    /// This turn, counted from the start of K.
    #[inline(always)]
    fn k_turn(self, e: Extent) -> u32 {
        self.segment * e.turns + self.turn
    }

    /// Whether this is its segment's last turn; the last segment may be short.
    #[inline(always)]
    fn ends_segment(self, e: Extent) -> bool {
        self.turn + 1 == e.turns || self.k_turn(e) + 1 == e.total_turns
    }

    /// The place `n` segments on, at its first turn.
    #[inline(always)]
    fn skip(self, n: u32, e: Extent) -> Self {
        let (mut segment, mut group) = (self.segment + n, self.group);
        while segment >= e.segments {
            segment -= e.segments;
            group += e.stride;
        }
        Self {
            group,
            segment,
            turn: 0,
        }
    }

    /// The next turn of a warp that takes every `kw`-th segment.
    #[inline(always)]
    fn next(self, kw: u32, e: Extent) -> Self {
        if self.ends_segment(e) {
            self.skip(kw, e)
        } else {
            Self {
                turn: self.turn + 1,
                ..self
            }
        }
    }
}

/// Waits until all but the newest `S - 1` groups of copies have landed.
#[inline(always)]
fn wait_all_but_newest<const S: u32>() {
    const { assert!(S >= 1 && S <= 6, "the ring has one to six stages") };
    match S {
        1 => shared::copy_async_wait::<0>(),
        2 => shared::copy_async_wait::<1>(),
        3 => shared::copy_async_wait::<2>(),
        4 => shared::copy_async_wait::<3>(),
        5 => shared::copy_async_wait::<4>(),
        _ => shared::copy_async_wait::<5>(),
    }
}

/// Adds one quad of one row tile to a lane's sums `acc[row half][token]`, block by block.
#[inline(always)]
fn multiply<const P: usize>(w: Shared<U32x4>, s: &U32x4, x: &[U32x4; 2], d: &[F32x4; P], acc: &mut [[f32; P]; 2]) {
    let mut a = [[0u32; 4]; 4];
    let mut b = [[0u32; 2]; 4];
    for i in 0..4 {
        a[i] = w.add(i as u32 * 32).load().0;
        b[i] = [x[i / 2].0[2 * (i % 2)], x[i / 2].0[2 * (i % 2) + 1]];
    }
    let dots = m16n8k32_s8::<4>(&a, &b, &[[0; 4]; 4]);
    for i in 0..4 {
        let dw = float::f16x2_to_f32(s.0[i]);
        for half in 0..2 {
            for p in 0..P {
                acc[half][p] = float::fma(dw[half] * d[p].0[i], dots[i][2 * half + p] as f32, acc[half][p]);
            }
        }
    }
}

/// The kernel's parameters by name.
#[derive(Clone, Copy)]
struct Args {
    qs: *const u8,
    ws: *const u16,
    xq: *const u8,
    dx: *const f32,
    y: *mut f32,
    n: u32,
    n_quads: u32,
    n_tok: u32,
    y_stride: u32,
}

/// Writes a lane's outputs: rows `g` and `g + 8` of each of `R` row tiles, for its `P` tokens.
///
/// # Safety
/// The row tiles are this block's.
#[inline(always)]
unsafe fn store<const R: usize, const P: usize>(a: &Args, out: &[[[f32; P]; 2]; R], group: u32, lane: u32) {
    let first_token = thread::block_idx_y() * P as u32 * 4 + lane % 4 * P as u32;
    for r in 0..R {
        for half in 0..2 {
            let row = (group * R as u32 + r as u32) * q8::ROW_TILE + lane / 4 + 8 * half as u32;
            for p in 0..P {
                let token = first_token + p as u32;
                if row < a.n && token < a.n_tok {
                    // SAFETY: row < N and token < n_tok.
                    unsafe {
                        let at = a.y.add(token as usize * a.y_stride as usize + row as usize);
                        mem::store(at, q8::canonical(out[r][half][p]));
                    }
                }
            }
        }
    }
}

/// Where a lane's sum of a segment lies in shared memory: [segment][r][half][p][lane].
#[inline(always)]
fn slot<const R: usize, const P: usize>(segment: u32, r: usize, half: usize, p: usize, lane: u32) -> u32 {
    (((segment * R as u32 + r as u32) * 2 + half as u32) * P as u32 + p as u32) * 32 + lane
}

/// Adds the segment sums of a lane's outputs in ascending order.
#[inline(always)]
fn add_segments<const R: usize, const P: usize>(sums: Shared<f32>, segments: u32, lane: u32) -> [[[f32; P]; 2]; R] {
    // SAFETY: floats, for which all zeroes is a value.
    let mut total: [[[f32; P]; 2]; R] = unsafe { core::mem::zeroed() };
    for r in 0..R {
        for half in 0..2 {
            for p in 0..P {
                let at = |segment: u32| sums.add(slot::<R, P>(segment, r, half, p, lane)).load();
                let mut sum = 0.0f32;
                let mut segment = 0;
                // Four at a time: their loads do not wait for each other.
                while segment + 4 <= segments {
                    let part = (at(segment), at(segment + 1), at(segment + 2), at(segment + 3));
                    sum = sum + part.0 + part.1 + part.2 + part.3;
                    segment += 4;
                }
                while segment < segments {
                    sum += at(segment);
                    segment += 1;
                }
                total[r][half][p] = sum;
            }
        }
    }
    total
}

/// The kernel's body for one config: `R` row tiles, `KW` warps along K, `U` quads a turn, `S` stages, `P` tokens a lane.
///
/// # Safety
/// The tensors must have the shapes of the module's table and the config must admit the problem.
#[inline(always)]
unsafe fn body<const R: usize, const KW: u32, const U: usize, const S: u32, const P: usize>(a: Args) {
    let lane = warp::lane_id();
    let kw = thread::thread_idx_x() / 32;
    // 4 P tokens a block in grid y: one token tile, or half of one, whose tokens take every second column of the MMA.
    let first_token = thread::block_idx_y() * 4 * P as u32;
    let tok_tile = first_token / q8::TOKEN_TILE;
    let in_tile = first_token % q8::TOKEN_TILE;
    let last = in_tile + (a.n_tok - first_token).min(4 * P as u32) - 1;
    let n_tiles = q8::row_tiles(a.n);
    let extent = Extent {
        groups: n_tiles.div_ceil(R as u32),
        segments: a.n_quads.div_ceil(q8::SEGMENT_QUADS),
        turns: q8::SEGMENT_QUADS / U as u32,
        total_turns: a.n_quads / U as u32,
        stride: thread::grid_dim_x(),
    };
    // Two buffers of segment sums, then the rings.
    let sums = shared::dynamic::<f32>();
    let rings = if KW == 1 {
        0
    } else {
        2 * sum_bytes(R as u32, P as u32, a.n_quads)
    };
    let source = Source {
        qs: a.qs,
        ws: a.ws,
        // SAFETY: the token tile exists.
        xq: unsafe {
            a.xq.add(tok_tile as usize * a.n_quads as usize * q8::QUAD_TOKEN_BYTES as usize)
        },
        // SAFETY: as above.
        dx: unsafe {
            a.dx.add(tok_tile as usize * a.n_quads as usize * q8::QUAD_TOKEN_SCALES as usize)
        },
        n_tiles,
        n_quads: a.n_quads,
        lane,
        token: (in_tile + lane / 4 * P as u32 / 2).min(last),
        last,
        in_tile,
        ring: shared::dynamic::<u8>().add(rings + kw * S * stage_bytes(R as u32, U as u32)),
    };

    // The kernel after this one may start as soon as there is room, and fetch its weights while this one ends; this one's
    // own weights are on their way before it waits for the kernel before it, which wrote the activations.
    thread::launch_dependents();
    let mut at = Cursor {
        group: thread::block_idx_x(),
        segment: 0,
        turn: 0,
    }
    .skip(kw, extent);
    let mut ahead = at;
    for stage in 0..S {
        if ahead.group < extent.groups {
            // SAFETY: the cursor is inside the extent.
            unsafe { source.fetch::<R, U>(ahead.group, ahead.k_turn(extent), stage) };
        }
        shared::copy_async_commit();
        ahead = ahead.next(KW, extent);
    }
    thread::wait_for_prerequisites();
    // SAFETY: plain words, for which all zeroes is a value; loads overwrite them. Not an array literal: that is a loop of
    // stores, and the array would stay in local memory.
    let mut held: Tokens<U, P> = unsafe { core::mem::zeroed() };
    if at.group < extent.groups {
        // SAFETY: the cursor is inside the extent, and what the kernel before wrote is visible now.
        unsafe { source.load_tokens(at.k_turn(extent), &mut held) };
    }

    let mut stage = 0;
    let mut adder = 0;
    let mut buffer = 0;
    // SAFETY: floats, see above.
    let (mut acc, mut total): ([[[f32; P]; 2]; R], [[[f32; P]; 2]; R]) = unsafe { core::mem::zeroed() };
    while at.group < extent.groups {
        // This turn's stage has landed, in every lane.
        wait_all_but_newest::<S>();
        warp::sync();
        let weights = source.ring.add(stage * stage_bytes(R as u32, U as u32));
        for u in 0..U {
            for r in 0..R {
                let i = (r * U + u) as u32;
                let w = weights.add(i * q8::QUAD_BYTES + lane * 16).cast::<U32x4>();
                let s = weights
                    .add((R * U) as u32 * q8::QUAD_BYTES + i * 128 + (lane / 4) * 16)
                    .cast::<U32x4>();
                multiply(w, &s.load(), &held.x[u], &held.d[u], &mut acc[r]);
            }
        }
        // Every lane has read the stage: it is filled again, and the next turn's activations are asked for.
        warp::sync();
        if ahead.group < extent.groups {
            // SAFETY: the cursor is inside the extent.
            unsafe { source.fetch::<R, U>(ahead.group, ahead.k_turn(extent), stage) };
        }
        shared::copy_async_commit();
        ahead = ahead.next(KW, extent);
        stage = if stage + 1 == S { 0 } else { stage + 1 };
        let this = at;
        at = at.next(KW, extent);
        if at.group < extent.groups {
            // SAFETY: as above.
            unsafe { source.load_tokens(at.k_turn(extent), &mut held) };
        }

        if this.ends_segment(extent) {
            for r in 0..R {
                for half in 0..2 {
                    for p in 0..P {
                        if KW == 1 {
                            total[r][half][p] += acc[r][half][p];
                        } else {
                            let slot = slot::<R, P>(buffer * extent.segments + this.segment, r, half, p, lane);
                            sums.add(slot).store(acc[r][half][p]);
                        }
                        acc[r][half][p] = 0.0;
                    }
                }
            }
        }
        if at.group != this.group {
            if KW > 1 {
                thread::sync_threads();
                if kw == adder {
                    let sums = sums.add(slot::<R, P>(buffer * extent.segments, 0, 0, 0, 0));
                    total = add_segments(sums, extent.segments, lane);
                }
            }
            if KW == 1 || kw == adder {
                // SAFETY: the row tiles are this block's.
                unsafe { store(&a, &total, this.group, lane) };
            }
            // SAFETY: floats, see above.
            total = unsafe { core::mem::zeroed() };
            buffer = 1 - buffer;
            adder = if adder + 1 == KW { 0 } else { adder + 1 };
        }
    }
}

/// One kernel a line: name, tokens a lane, row tiles a warp, k-warps, quads a turn, stages, threads (32 k-warps), blocks an SM.
macro_rules! configs {
    ($($name:ident($p:literal, $r:literal, $kw:literal, $u:literal, $s:literal, $threads:literal, $blocks:literal);)*) => {
        $(
            /// The kernel of one tile config; see the module for its parameters.
            ///
            /// # Safety
            /// The tensors must have the shapes of the module's table, on the device, and the config must admit them.
            #[kernel(threads = $threads, min_blocks = $blocks)]
            pub unsafe fn $name(
                qs: *const u8,
                ws: *const u16,
                xq: *const u8,
                dx: *const f32,
                y: *mut f32,
                n: u32,
                n_quads: u32,
                n_tok: u32,
                y_stride: u32,
            ) {
                // SAFETY: the caller's promise.
                unsafe { body::<$r, $kw, $u, $s, $p>(Args { qs, ws, xq, dx, y, n, n_quads, n_tok, y_stride }) }
            }
        )*

        /// Every tile config with its kernel.
        #[cfg(not(target_arch = "nvptx64"))]
        pub static CONFIGS: &[Entry] = &[$(Entry {
            config: TileConfig {
                tiles: $r,
                k_warps: $kw,
                quads: $u,
                stages: $s,
                lane_tokens: $p,
                order: Order::Canonical,
                blocks_per_sm: $blocks,
            },
            kernel: $name::KERNEL,
        }),*];
    };
}

configs! {
    q8_matmul_t1_r1_kw1_u1_s4_b8(1, 1, 1, 1, 4, 32, 8);
    q8_matmul_t1_r1_kw2_u1_s3_b8(1, 1, 2, 1, 3, 64, 8);
    q8_matmul_t1_r1_kw2_u2_s2_b6(1, 1, 2, 2, 2, 64, 6);
    q8_matmul_t1_r1_kw4_u1_s2_b4(1, 1, 4, 1, 2, 128, 4);
    q8_matmul_t1_r1_kw4_u1_s3_b4(1, 1, 4, 1, 3, 128, 4);
    q8_matmul_t1_r1_kw4_u1_s4_b4(1, 1, 4, 1, 4, 128, 4);
    q8_matmul_t1_r1_kw4_u2_s1_b4(1, 1, 4, 2, 1, 128, 4);
    q8_matmul_t1_r1_kw4_u2_s2_b3(1, 1, 4, 2, 2, 128, 3);
    q8_matmul_t1_r1_kw4_u2_s2_b4(1, 1, 4, 2, 2, 128, 4);
    q8_matmul_t1_r1_kw8_u1_s2_b2(1, 1, 8, 1, 2, 256, 2);
    q8_matmul_t1_r1_kw8_u1_s3_b2(1, 1, 8, 1, 3, 256, 2);
    q8_matmul_t1_r1_kw8_u1_s2_b3(1, 1, 8, 1, 2, 256, 3);
    q8_matmul_t1_r1_kw8_u2_s1_b2(1, 1, 8, 2, 1, 256, 2);
    q8_matmul_t1_r1_kw8_u2_s2_b2(1, 1, 8, 2, 2, 256, 2);
    q8_matmul_t2_r1_kw1_u1_s4_b8(2, 1, 1, 1, 4, 32, 8);
    q8_matmul_t2_r1_kw2_u1_s3_b8(2, 1, 2, 1, 3, 64, 8);
    q8_matmul_t2_r1_kw2_u2_s2_b6(2, 1, 2, 2, 2, 64, 6);
    q8_matmul_t2_r1_kw4_u1_s2_b4(2, 1, 4, 1, 2, 128, 4);
    q8_matmul_t2_r1_kw4_u1_s3_b4(2, 1, 4, 1, 3, 128, 4);
    q8_matmul_t2_r1_kw4_u1_s4_b4(2, 1, 4, 1, 4, 128, 4);
    q8_matmul_t2_r1_kw4_u2_s1_b4(2, 1, 4, 2, 1, 128, 4);
    q8_matmul_t2_r1_kw4_u2_s2_b3(2, 1, 4, 2, 2, 128, 3);
    q8_matmul_t2_r1_kw4_u2_s2_b4(2, 1, 4, 2, 2, 128, 4);
    q8_matmul_t2_r1_kw8_u1_s2_b2(2, 1, 8, 1, 2, 256, 2);
    q8_matmul_t2_r1_kw8_u1_s3_b2(2, 1, 8, 1, 3, 256, 2);
    q8_matmul_t2_r1_kw8_u1_s2_b3(2, 1, 8, 1, 2, 256, 3);
    q8_matmul_t2_r1_kw8_u2_s1_b2(2, 1, 8, 2, 1, 256, 2);
    q8_matmul_t2_r1_kw8_u2_s2_b2(2, 1, 8, 2, 2, 256, 2);
}
