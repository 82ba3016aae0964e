//! Where a warp's weights and tokens come from: rows of bf16 or NVFP4, four values a lane and k16 step.

use cuda_std::vec::U32x2;
use cuda_std::{mem, warp};

use crate::tile_mma::{Bf16, Element, Scale};
use crate::unroll::unroll;

/// A row of K values, of which a lane reads four of each k16 step.
pub(super) trait Row: Copy {
    /// What is loaded of a step.
    type Loaded: Copy;

    /// Loads values `16 step + 4 t ..` (t: the lane's); zeros where there are none.
    ///
    /// # Safety
    /// The row is what its fields say.
    unsafe fn load(self, step: u32) -> Self::Loaded;

    /// The values, two a register.
    fn values(loaded: Self::Loaded) -> [u32; 2];
}

/// bf16 values, or no row (null).
#[derive(Clone, Copy)]
pub(super) struct Dense {
    pub(super) row: *const u16,
    pub(super) k: u32,
}

impl Row for Dense {
    type Loaded = [u32; 2];

    #[inline(always)]
    unsafe fn load(self, step: u32) -> [u32; 2] {
        let first = step * 16 + warp::lane_id() % 4 * 4;
        let from = self.row.wrapping_add(first as usize);
        let mut words = U32x2::default();
        if self.row.is_null() || first >= self.k {
            return words.0;
        }
        if self.k.is_multiple_of(4) && (self.row as usize).is_multiple_of(8) {
            // SAFETY: k is a multiple of 4, so all four values are inside the row; the address is a multiple of 8.
            return unsafe { mem::load_nc(from.cast::<U32x2>()) }.0;
        }
        unroll!(e < 4 => {
            if first + (e as u32) < self.k {
                // SAFETY: the value is inside the row.
                let bits = unsafe { mem::load_nc(from.add(e)) };
                words.0[e / 2] |= (bits as u32) << (16 * (e % 2));
            }
        });
        words.0
    }

    #[inline(always)]
    fn values(loaded: [u32; 2]) -> [u32; 2] {
        loaded
    }
}

/// NVFP4 values, or no row (null codes). k is a multiple of 16.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    pub(super) codes: *const u8,
    pub(super) scales: *const u8,
    pub(super) k: u32,
}

impl Row for Packed {
    /// Four codes, and the scale of their block.
    type Loaded = (u16, u8);

    #[inline(always)]
    unsafe fn load(self, step: u32) -> (u16, u8) {
        if self.codes.is_null() || step * 16 >= self.k {
            return (0, 0);
        }
        let at = step as usize * 8 + (warp::lane_id() % 4 * 2) as usize;
        // SAFETY: the block is inside the row, two bytes of codes lie at an even address.
        unsafe {
            let codes = mem::load_nc(self.codes.add(at).cast::<u16>());
            (codes, mem::load_nc(self.scales.add(step as usize)))
        }
    }

    #[inline(always)]
    fn values((codes, scale): (u16, u8)) -> [u32; 2] {
        let [low, high, ..] = Bf16::dequantise(codes as u32, Bf16::scale_pair(scale));
        [low, high]
    }
}

/// The weights of all experts, `[E][rows][k]`.
pub(super) trait Weights: Copy {
    /// A row of them.
    type Row: Row;

    /// Row `row` of an expert, where `rows` are an expert's.
    fn row(self, expert: u32, row: u32, rows: u32, k: u32) -> Self::Row;

    /// No row: zeros.
    fn none(self) -> Self::Row;

    /// The tensor scale.
    ///
    /// # Safety
    /// The expert exists.
    unsafe fn scale(self, expert: u32) -> Scale;
}

impl Weights for *const u16 {
    type Row = Dense;

    #[inline(always)]
    fn row(self, expert: u32, row: u32, rows: u32, k: u32) -> Dense {
        let index = expert as usize * rows as usize + row as usize;
        let row = self.wrapping_add(index * k as usize);
        Dense { row, k }
    }

    #[inline(always)]
    fn none(self) -> Dense {
        let row = core::ptr::null();
        Dense { row, k: 0 }
    }

    #[inline(always)]
    unsafe fn scale(self, _: u32) -> Scale {
        Scale::None
    }
}

/// NVFP4 weights as checkpoints have them.
#[derive(Clone, Copy)]
pub(super) struct Nvfp4 {
    pub(super) codes: *const u8,
    pub(super) scales: *const u8,
    pub(super) tensor: *const f32,
    pub(super) divide: bool,
}

impl Weights for Nvfp4 {
    type Row = Packed;

    #[inline(always)]
    fn row(self, expert: u32, row: u32, rows: u32, k: u32) -> Packed {
        let index = expert as usize * rows as usize + row as usize;
        let codes = self.codes.wrapping_add(index * (k / 2) as usize);
        let scales = self.scales.wrapping_add(index * (k / 16) as usize);
        Packed { codes, scales, k }
    }

    #[inline(always)]
    fn none(self) -> Packed {
        let (codes, scales) = (core::ptr::null(), core::ptr::null());
        Packed { codes, scales, k: 0 }
    }

    #[inline(always)]
    unsafe fn scale(self, expert: u32) -> Scale {
        // SAFETY: the caller's promise.
        let scale = unsafe { mem::load(self.tensor.add(expert as usize)) };
        if self.divide {
            Scale::Divide(scale)
        } else {
            Scale::Multiply(scale)
        }
    }
}
