//! Where the elements of A and D are in the threads' registers (PTX ISA, "Register fragments" of `wgmma.mma_async`).

use super::Part;
use crate::ctx::{Wgmma, WgmmaA};
use crate::tensor::wgmma;

/// A from the threads' registers, as `mma.sync` takes it: rows of 32 bytes, of which thread 4g + t of each warp holds bytes 4t to
/// 4t + 3 and 16 + 4t to 16 + 4t + 3 of rows g and g + 8.
pub(super) fn from_registers(parts: &[Part]) -> Vec<[u8; 32]> {
    let mut a = vec![[0; 32]; wgmma::ROWS];
    for (i, part) in parts.iter().enumerate() {
        let (warp, g, t) = (i / 32, i % 32 / 4, i % 4);
        if let WgmmaA::Registers(r) = part.a {
            for (j, r) in r.iter().enumerate() {
                a[16 * warp + g + 8 * (j % 2)][16 * (j / 2) + 4 * t..][..4].copy_from_slice(&r.to_le_bytes());
            }
        }
    }
    a
}

/// Where register `r` of thread `i` belongs in D `[64][n]`, with two registers for each pair of columns.
fn place(i: usize, r: usize, n: usize) -> usize {
    let (warp, g, t) = (i / 32, i % 32 / 4, i % 4);
    (16 * warp + g + 8 * (r / 2 % 2)) * n + r / 4 * 8 + 2 * t + r % 2
}

/// D `[64][n]` before the product: zeros if it does not accumulate.
pub(super) fn gather<T: Copy + Default>(form: &Wgmma, parts: &[Part], of: impl Fn(u32) -> T) -> Vec<T> {
    let n = form.n as usize;
    let mut d = vec![T::default(); wgmma::ROWS * n];
    for (i, part) in parts.iter().enumerate().filter(|_| form.accumulate) {
        for r in 0..n / 2 {
            // SAFETY: the thread is suspended in its call, which vouches for so many registers.
            d[place(i, r, n)] = of(unsafe { part.d.add(r).read() });
        }
    }
    d
}

pub(super) fn scatter<T: Copy>(form: &Wgmma, parts: &[Part], d: &[T], bits: impl Fn(T) -> u32) {
    let n = form.n as usize;
    for (i, part) in parts.iter().enumerate() {
        for r in 0..n / 2 {
            // SAFETY: as in `gather`.
            unsafe { part.d.add(r).write(bits(d[place(i, r, n)])) };
        }
    }
}

/// As [`gather`], of `f16`, two columns in a register.
pub(super) fn gather_pairs(form: &Wgmma, parts: &[Part]) -> Vec<u16> {
    let n = form.n as usize;
    let mut d = vec![0; wgmma::ROWS * n];
    for (i, part) in parts.iter().enumerate().filter(|_| form.accumulate) {
        for r in 0..n / 4 {
            // SAFETY: as in `gather`.
            let pair = unsafe { part.d.add(r).read() };
            let at = place(i, 2 * r, n);
            (d[at], d[at + 1]) = (pair as u16, (pair >> 16) as u16);
        }
    }
    d
}

pub(super) fn scatter_pairs(form: &Wgmma, parts: &[Part], d: &[u16]) {
    let n = form.n as usize;
    for (i, part) in parts.iter().enumerate() {
        for r in 0..n / 4 {
            let at = place(i, 2 * r, n);
            let pair = u32::from(d[at]) | u32::from(d[at + 1]) << 16;
            // SAFETY: as in `gather`.
            unsafe { part.d.add(r).write(pair) };
        }
    }
}
