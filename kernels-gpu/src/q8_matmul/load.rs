//! How operands arrive: weights through a warp's ring in shared memory, activations in registers.

use cuda_std::shared::Shared;
use cuda_std::vec::{F32x4, U32x4};
use cuda_std::{mem, shared};

use crate::q8;
use crate::q8_config::stage_bytes;

/// Where a lane reads, and its part of the ring of stages that its warp's weights arrive in.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) qs: *const u8,
    pub(super) ws: *const u16,
    pub(super) xq: *const u8,
    pub(super) dx: *const f32,
    pub(super) n_tiles: u32,
    pub(super) n_quads: u32,
    pub(super) lane: u32,
    /// The token of the token tile that this lane multiplies.
    pub(super) token: u32,
    /// The first and the last token of the token tile that this block does.
    pub(super) in_tile: u32,
    pub(super) last: u32,
    /// The warp's ring in shared memory: stages of (U, R) x (2048 bytes of qs), then (U, R) x (128 bytes of ws).
    pub(super) ring: Shared<u8>,
}

/// The activations of one turn: `U` quads of the token this lane multiplies, and the scales of the `P` it adds up.
pub(super) struct Tokens<const U: usize, const P: usize> {
    pub(super) x: [[U32x4; 2]; U],
    pub(super) d: [[F32x4; P]; U],
}

impl Source {
    /// Starts copying the weights of turn `k_turn` of K into a stage of the ring.
    ///
    /// # Safety
    /// The turn of `k_turn` exists, and the pointers have the shapes of the module's table.
    #[inline(always)]
    pub(super) unsafe fn fetch<const R: usize, const U: usize>(self, group: u32, k_turn: u32, stage: u32) {
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
    pub(super) unsafe fn load_tokens<const U: usize, const P: usize>(self, k_turn: u32, into: &mut Tokens<U, P>) {
        let quad = k_turn as usize * U;
        // Plain loads, not the read-only path: the quantiser may still write while this kernel is resident, and only what
        // plain loads see is ordered by the wait for it.
        // SAFETY: the token tile has n_quads quads, and its tokens up to `self.last` were written by the quantiser.
        unsafe {
            let lane = self.token * 4 + self.lane % 4;
            let xq = self
                .xq
                .add(quad * q8::QUAD_TOKEN_BYTES as usize + lane as usize * 16)
                .cast::<U32x4>();
            let dx = self.dx.add(quad * q8::QUAD_TOKEN_SCALES as usize).cast::<F32x4>();
            for u in 0..U {
                into.x[u][0] = mem::load(xq.add(u * 64));
                into.x[u][1] = mem::load(xq.add(u * 64 + 32));
                for p in 0..P {
                    let token = (self.in_tile + self.lane % 4 * P as u32 + p as u32).min(self.last);
                    into.d[u][p] = mem::load(dx.add(u * 8 + token as usize));
                }
            }
        }
    }
}

/// Waits until all but the newest `S - 1` groups of copies have landed.
#[inline(always)]
pub(super) fn wait_all_but_newest<const S: u32>() {
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
