//! What becomes of the accumulators: scale, bias, rounding, residual.

use cuda_std::vec::{F32x2, F32x4, U32x2};
use cuda_std::{float, mem};

use super::Element;

/// The tensor scale of NVFP4 weights, applied to the accumulator in f32.
#[derive(Clone, Copy)]
pub enum Scale {
    /// There is none.
    None,
    /// acc * s: NVIDIA ModelOpt's `weight_scale_2`.
    Multiply(f32),
    /// acc / s: compressed-tensors' `weight_global_scale`.
    Divide(f32),
}

/// Where a row-major output `[rows][n]` goes, and what is done on the way:
/// ```text
/// v = acc, or acc * scale, or acc / scale;  v = v + bias[column];
/// y = v (f32), or E(v), or with a residual E(f32(E(v)) + r)
/// ```
#[derive(Clone, Copy)]
pub struct Output {
    /// `[rows][n]` of f32 or of elements.
    pub y: *mut u8,
    /// Whether y is f32; then there is no residual.
    pub f32: bool,
    /// `[n]` elements, or null.
    pub bias: *const u16,
    /// `[rows][n]` elements, or null; may be `y` itself.
    pub residual: *const u16,
    /// The tensor scale.
    pub scale: Scale,
    /// Columns.
    pub n: u32,
}

impl Output {
    /// Stores the values of four columns next to each other in a row, the first one a multiple of 4; columns beyond n are left out.
    ///
    /// # Safety
    /// The row exists, and the pointers have the shapes of the table.
    #[inline(always)]
    pub unsafe fn store<E: Element>(&self, row: usize, column: u32, acc: [f32; 4]) {
        let at = row * self.n as usize + column as usize;
        // A number of columns that is a multiple of 4 keeps all four inside, and every four at the alignment of the tensors.
        let whole = self.n.is_multiple_of(4)
            && (self.y as usize).is_multiple_of(if self.f32 { 16 } else { 8 })
            && (self.residual as usize).is_multiple_of(8)
            && (self.bias as usize).is_multiple_of(8);
        if whole {
            if column < self.n {
                // SAFETY: the row and the columns exist, and all addresses are multiples of what is moved.
                unsafe { self.store_four::<E>(at, column, acc) };
            }
            return;
        }
        let mut i = 0;
        while i < 4 {
            if column + (i as u32) < self.n {
                // SAFETY: the row and the column exist.
                unsafe { self.store_one::<E>(at + i, column + i as u32, acc[i]) };
            }
            i += 1;
        }
    }

    /// [`Self::store`] of two columns, the first one even.
    ///
    /// # Safety
    /// As [`Self::store`].
    #[inline(always)]
    pub unsafe fn store_two<E: Element>(&self, row: usize, column: u32, acc: [f32; 2]) {
        let at = row * self.n as usize + column as usize;
        // An even number of columns keeps both inside, and every two at the alignment of the tensors.
        let whole = self.n.is_multiple_of(2)
            && (self.y as usize).is_multiple_of(if self.f32 { 8 } else { 4 })
            && (self.residual as usize).is_multiple_of(4)
            && (self.bias as usize).is_multiple_of(4);
        // SAFETY: the row and the columns exist, and where two are moved at once, addresses are multiples of their bytes.
        unsafe {
            if whole {
                if column < self.n {
                    self.store_pair::<E>(at, column, acc);
                }
                return;
            }
            if column < self.n {
                self.store_one::<E>(at, column, acc[0]);
            }
            if column + 1 < self.n {
                self.store_one::<E>(at + 1, column + 1, acc[1]);
            }
        }
    }

    /// Stores the values of one column in two rows below each other; rows from `rows` on are left out.
    ///
    /// # Safety
    /// As [`Self::store`]; the column exists.
    #[inline(always)]
    pub unsafe fn store_column<E: Element>(&self, column: u32, row: u32, rows: u32, acc: [f32; 2]) {
        let at = row as usize * self.n as usize + column as usize;
        // SAFETY: the rows and the column exist.
        unsafe {
            if row < rows {
                self.store_one::<E>(at, column, acc[0]);
            }
            if row + 1 < rows {
                self.store_one::<E>(at + self.n as usize, column, acc[1]);
            }
        }
    }

    /// Two values at element `at`, from column `column` on.
    ///
    /// # Safety
    /// They are inside the tensors, and aligned to what is moved.
    #[inline(always)]
    unsafe fn store_pair<E: Element>(&self, at: usize, column: u32, acc: [f32; 2]) {
        let mut v = [self.scaled(acc[0]), self.scaled(acc[1])];
        // SAFETY: the caller's promise.
        unsafe {
            if !self.bias.is_null() {
                let b = E::widen_pair(mem::load(self.bias.add(column as usize).cast()));
                v = [v[0] + b[0], v[1] + b[1]];
            }
            if self.f32 {
                let v = F32x2([canonical(v[0]), canonical(v[1])]);
                return mem::store(self.y.cast::<f32>().add(at).cast(), v);
            }
            let mut y = E::round_pair(v);
            if !self.residual.is_null() {
                let (v, r) = (E::widen_pair(y), E::widen_pair(mem::load(self.residual.add(at).cast())));
                y = E::round_pair([v[0] + r[0], v[1] + r[1]]);
            }
            mem::store(self.y.cast::<u16>().add(at).cast(), y);
        }
    }

    /// Four values at element `at`, from column `column` on.
    ///
    /// # Safety
    /// They are inside the tensors, and aligned to what is moved.
    #[inline(always)]
    unsafe fn store_four<E: Element>(&self, at: usize, column: u32, acc: [f32; 4]) {
        let mut v = [
            self.scaled(acc[0]),
            self.scaled(acc[1]),
            self.scaled(acc[2]),
            self.scaled(acc[3]),
        ];
        // SAFETY: the caller's promise.
        unsafe {
            if !self.bias.is_null() {
                let b = widen::<E>(mem::load(self.bias.add(column as usize).cast()));
                v = [v[0] + b[0], v[1] + b[1], v[2] + b[2], v[3] + b[3]];
            }
            if self.f32 {
                let v = F32x4([canonical(v[0]), canonical(v[1]), canonical(v[2]), canonical(v[3])]);
                return mem::store(self.y.cast::<f32>().add(at).cast(), v);
            }
            let mut y = U32x2([E::round_pair([v[0], v[1]]), E::round_pair([v[2], v[3]])]);
            if !self.residual.is_null() {
                let (v, r) = (widen::<E>(y), widen::<E>(mem::load(self.residual.add(at).cast())));
                y = U32x2([
                    E::round_pair([v[0] + r[0], v[1] + r[1]]),
                    E::round_pair([v[2] + r[2], v[3] + r[3]]),
                ]);
            }
            mem::store(self.y.cast::<u16>().add(at).cast(), y);
        }
    }

    /// One value at element `at`.
    ///
    /// # Safety
    /// It is inside the tensors.
    #[inline(always)]
    unsafe fn store_one<E: Element>(&self, at: usize, column: u32, acc: f32) {
        let mut v = self.scaled(acc);
        // SAFETY: the caller's promise.
        unsafe {
            if !self.bias.is_null() {
                v += E::widen(mem::load(self.bias.add(column as usize)));
            }
            if self.f32 {
                return mem::store(self.y.cast::<f32>().add(at), canonical(v));
            }
            let mut y = E::round(v);
            if !self.residual.is_null() {
                y = E::round(E::widen(y) + E::widen(mem::load(self.residual.add(at))));
            }
            mem::store(self.y.cast::<u16>().add(at), y);
        }
    }

    /// The accumulator with the tensor scale.
    #[inline(always)]
    fn scaled(&self, acc: f32) -> f32 {
        match self.scale {
            Scale::None => acc,
            Scale::Multiply(s) => acc * s,
            Scale::Divide(s) => acc / s,
        }
    }
}

/// Four elements as f32.
#[inline(always)]
fn widen<E: Element>(bits: U32x2) -> [f32; 4] {
    let ([v0, v1], [v2, v3]) = (E::widen_pair(bits.0[0]), E::widen_pair(bits.0[1]));
    [v0, v1, v2, v3]
}

/// A float with every NaN replaced by the one that is stored.
#[inline(always)]
fn canonical(v: f32) -> f32 {
    if v.is_nan() { float::CANONICAL_NAN } else { v }
}
