//! How a lane's part of D lies in global memory.

use cuda_std::{F32x2, U32x2, mem};

/// How a lane's part of a warp's tiles of D lies in memory. `p` is the lane's first pair of the warp's first tile; the other pair of a tile
/// is 64 elements on, the warp's next tile four tiles.
pub(super) trait Element: Copy {
    /// Registers of a tile: 4, or 2 of two elements each.
    const REGISTERS: usize;
    /// A tile in values of this type.
    const TILE: usize;
    /// Reads the lane's part of the warp's tile `j`.
    ///
    /// # Safety
    /// The tile is on the device.
    unsafe fn load(p: *const Self, j: usize) -> [Self; 4];
    /// Writes the lane's part.
    ///
    /// # Safety
    /// As for `load`.
    unsafe fn store(p: *mut Self, j: usize, part: [Self; 4]);
}

impl Element for f32 {
    const REGISTERS: usize = 4;
    const TILE: usize = 128;
    #[inline(always)]
    unsafe fn load(p: *const Self, j: usize) -> [Self; 4] {
        // SAFETY: both pairs are within the tile, and begin at even elements.
        unsafe {
            let p = p.add(512 * j).cast::<F32x2>();
            let (F32x2([a, b]), F32x2([c, d])) = (mem::load(p), mem::load(p.add(32)));
            [a, b, c, d]
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut Self, j: usize, [a, b, c, d]: [Self; 4]) {
        // SAFETY: as in `load`.
        unsafe {
            let p = p.add(512 * j).cast::<F32x2>();
            mem::store(p, F32x2([a, b]));
            mem::store(p.add(32), F32x2([c, d]));
        }
    }
}

impl Element for i32 {
    const REGISTERS: usize = 4;
    const TILE: usize = 128;
    #[inline(always)]
    unsafe fn load(p: *const Self, j: usize) -> [Self; 4] {
        // SAFETY: as for f32.
        unsafe {
            let p = p.add(512 * j).cast::<U32x2>();
            let (U32x2([a, b]), U32x2([c, d])) = (mem::load(p), mem::load(p.add(32)));
            [a as i32, b as i32, c as i32, d as i32]
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut Self, j: usize, [a, b, c, d]: [Self; 4]) {
        // SAFETY: as for f32.
        unsafe {
            let p = p.add(512 * j).cast::<U32x2>();
            mem::store(p, U32x2([a as u32, b as u32]));
            mem::store(p.add(32), U32x2([c as u32, d as u32]));
        }
    }
}

/// Two f16: a pair is one word, and a tile half as many words.
impl Element for u32 {
    const REGISTERS: usize = 2;
    const TILE: usize = 64;
    #[inline(always)]
    unsafe fn load(p: *const Self, j: usize) -> [Self; 4] {
        // SAFETY: both words are within the tile.
        unsafe {
            let p = p.add(256 * j);
            let (a, b) = (mem::load(p), mem::load(p.add(32)));
            [a, b, a, b]
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut Self, j: usize, [a, b, _, _]: [Self; 4]) {
        // SAFETY: as in `load`.
        unsafe {
            let p = p.add(256 * j);
            mem::store(p, a);
            mem::store(p.add(32), b);
        }
    }
}
