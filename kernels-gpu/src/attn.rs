//! What the attention kernels share: the parameters, the paged cache, tiles in shared memory, the two types of 16-bit floats.
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | q | token t, head h: `head_dim` elements at `t * q_row + h * q_head` | bf16 or f16 |
//! | gate | the same with `gate_row`, `gate_head`; null where there is none | as q |
//! | o | token t, head h: at `t * o_row + h * head_dim` | as q |
//! | k, v | `[n_pages][kv_heads][page][head_dim]` | as q |
//! | block_table | `[n_seq][max_pages]`: the page of positions `page * j ..` of a sequence | i32 |
//! | cu_seqlens | `[n_seq + 1]`: the first query token of each sequence, and the number of all of them | i32 |
//! | seq_lens | `[n_seq]`: positions in the cache, those of the query tokens included | i32 |
//!
//! A sequence's query tokens are the last of its positions. All strides are multiples of 8 elements and all tensors aligned to 16 bytes.

use cuda_std::float::exact::sigmoid;
use cuda_std::shared::{self, Shared};
use cuda_std::{float, mem, mma};
use half::{bf16, f16};

/// The parameters of an attention kernel: the module's table, strides in elements.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(missing_docs)] // the module's table
pub struct Args<T> {
    pub q: *const T,
    pub gate: *const T,
    pub k: *const T,
    pub v: *const T,
    pub o: *mut T,
    pub block_table: *const i32,
    pub cu_seqlens: *const i32,
    pub seq_lens: *const i32,
    pub q_row: u32,
    pub q_head: u32,
    pub gate_row: u32,
    pub gate_head: u32,
    pub o_row: u32,
    pub n_seq: u32,
    pub kv_heads: u32,
    /// Query heads of one KV head.
    pub group: u32,
    /// The page is `1 << page_shift` positions: 16, 32 or 64.
    pub page_shift: u32,
    pub max_pages: u32,
    /// How many positions a token sees, itself included; 0 for all before it.
    pub window: i32,
    /// scale * log2 e, rounded once; above 0.
    pub scale_log2: f32,
}

// SAFETY: repr(C), pointers to device memory and numbers, aligned to 8.
unsafe impl<T: Copy> cuda_std::launch::KernelArg for Args<T> {}

/// A 16-bit float of the tensor cores.
pub trait Half: mem::Word {
    /// `B` products of 16 x 8 x 16.
    fn mma<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[f32; 4]; B]) -> [[f32; 4]; B];
    /// Two values rounded into a register, `lo` in the low half.
    fn pack(lo: f32, hi: f32) -> u32;
    /// The two values of a register.
    fn unpack(x: u32) -> [f32; 2];
}

impl Half for bf16 {
    #[inline(always)]
    #[track_caller]
    fn mma<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[f32; 4]; B]) -> [[f32; 4]; B] {
        mma::m16n8k16_bf16(a, b, c)
    }
    #[inline(always)]
    fn pack(lo: f32, hi: f32) -> u32 {
        float::f32x2_to_bf16x2(lo, hi)
    }
    #[inline(always)]
    fn unpack(x: u32) -> [f32; 2] {
        float::bf16x2_to_f32(x)
    }
}

impl Half for f16 {
    #[inline(always)]
    #[track_caller]
    fn mma<const B: usize>(a: &[[u32; 4]; B], b: &[[u32; 2]; B], c: &[[f32; 4]; B]) -> [[f32; 4]; B] {
        mma::m16n8k16_f16(a, b, c)
    }
    #[inline(always)]
    fn pack(lo: f32, hi: f32) -> u32 {
        float::f32x2_to_f16x2(lo, hi)
    }
    #[inline(always)]
    fn unpack(x: u32) -> [f32; 2] {
        float::f16x2_to_f32(x)
    }
}

/// The two values of `y` times the sigmoids of those of `gate`, rounded again.
#[inline(always)]
pub(crate) fn gated<T: Half>(y: u32, gate: u32) -> u32 {
    let (y, gate) = (T::unpack(y), T::unpack(gate));
    T::pack(y[0] * sigmoid(gate[0]), y[1] * sigmoid(gate[1]))
}

/// `a / b` without a path for b = 0.
#[inline(always)]
pub(crate) fn quotient(a: u32, b: u32) -> u32 {
    a / b.max(1)
}

/// One sequence of the batch.
#[derive(Clone, Copy)]
pub(crate) struct Sequence {
    pub(crate) index: u32,
    /// Its first query token among all.
    pub(crate) first: u32,
    /// Its query tokens.
    pub(crate) tokens: u32,
    /// Its positions in the cache.
    pub(crate) len: i32,
}

impl<T: Half> Args<T> {
    /// Sequence `index`.
    ///
    /// # Safety
    /// `index < n_seq`; the tensors have the shapes of the module's table.
    #[inline(always)]
    #[track_caller]
    pub(crate) unsafe fn sequence(&self, index: u32) -> Sequence {
        // SAFETY: cu_seqlens has n_seq + 1 elements, seq_lens n_seq.
        unsafe {
            let first = mem::load(self.cu_seqlens.add(index as usize)) as u32;
            let end = mem::load(self.cu_seqlens.add(index as usize + 1)) as u32;
            let len = mem::load(self.seq_lens.add(index as usize));
            Sequence {
                index,
                first,
                tokens: end.wrapping_sub(first),
                len,
            }
        }
    }

    /// The last sequence whose slot, `cu_seqlens[index] / unit + (1 if tiled) * index`, is not after `slot`: with unit 1 the sequence of a
    /// token, with tiles of `unit` tokens that of a tile where every sequence has a tile to spare.
    ///
    /// # Safety
    /// As [`Self::sequence`], and n_seq > 0.
    #[inline(always)]
    #[track_caller]
    pub(crate) unsafe fn search(&self, slot: u32, unit: u32, tiled: u32) -> u32 {
        let (mut low, mut end) = (0, self.n_seq);
        while low + 1 < end {
            let middle = (low + end) / 2;
            // SAFETY: middle < n_seq.
            let start = unsafe { mem::load(self.cu_seqlens.add(middle as usize)) } as u32 / unit + tiled * middle;
            if start <= slot {
                low = middle;
            } else {
                end = middle;
            }
        }
        low
    }

    /// The first and the last position that token `t` of a sequence sees; none where the last is before the first.
    #[inline(always)]
    pub(crate) fn admitted(&self, seq: Sequence, t: u32) -> (i32, i32) {
        let last = seq.len - seq.tokens as i32 + t as i32;
        let first = if self.window > 0 { last + 1 - self.window } else { 0 };
        (if first < 0 { 0 } else { first }, last)
    }

    /// Where position p of a sequence is in a cache: elements from its start to the row of a KV head.
    ///
    /// # Safety
    /// As [`Self::sequence`], and 0 <= p < `seq.len`.
    #[inline(always)]
    #[track_caller]
    pub(crate) unsafe fn row_of<const D: u32>(&self, seq: Sequence, kv_head: u32, p: u32) -> usize {
        let entry = seq.index as usize * self.max_pages as usize + (p >> self.page_shift) as usize;
        // SAFETY: the table has an entry for every page that the sequence has positions in.
        let page = unsafe { mem::load(self.block_table.add(entry)) } as usize;
        let in_page = (p & ((1 << self.page_shift) - 1)) as usize;
        (((page * self.kv_heads as usize + kv_head as usize) << self.page_shift) + in_page) * D as usize
    }

    /// Starts copying `ROWS` positions from `first` on into a tile: of each row `W` elements from element `from` on, by
    /// `THREADS` threads of which this is `thread`. Rows outside the sequence become zeros: whatever a page holds there is not
    /// read.
    ///
    /// # Safety
    /// As [`Self::sequence`]; `cache` is k or v; the tile is free.
    #[allow(clippy::too_many_arguments)] // what, from where, to where, by whom
    #[inline(always)]
    #[track_caller]
    pub(crate) unsafe fn fetch<const D: u32, const W: u32, const ROWS: u32, const THREADS: u32>(
        &self,
        cache: *const T,
        seq: Sequence,
        kv_head: u32,
        first: u32,
        from: u32,
        tile: Tile<W>,
        thread: u32,
    ) {
        let chunks = W / 8;
        let mut i = thread;
        while i < ROWS * chunks {
            let (row, chunk) = (i / chunks, i % chunks);
            let p = first + row;
            let inside = (p as i32) < seq.len;
            // SAFETY: inside the sequence the row exists; outside nothing is read.
            unsafe {
                let source = if inside {
                    cache.add(self.row_of::<D>(seq, kv_head, p) + (from + chunk * 8) as usize)
                } else {
                    cache
                };
                shared::copy_async16_zfill(tile.chunk(row, chunk), source.cast(), if inside { 16 } else { 0 });
            }
            i += THREADS;
        }
    }
}

/// Rows of `W` 16-bit elements in shared memory. The 16-byte chunks of a row are permuted by the row's number, so that the eight
/// rows of a matrix that `ldmatrix` reads lie in different banks.
#[derive(Clone, Copy)]
pub(crate) struct Tile<const W: u32> {
    base: Shared<u8>,
}

impl<const W: u32> Tile<W> {
    /// A tile at an address that is a multiple of 16.
    #[inline(always)]
    pub(crate) fn at(base: Shared<u8>) -> Self {
        Self { base }
    }

    /// Bytes of so many rows.
    #[inline(always)]
    pub(crate) const fn bytes(rows: u32) -> u32 {
        rows * W * 2
    }

    /// Eight elements of a row.
    #[inline(always)]
    pub(crate) fn chunk(self, row: u32, chunk: u32) -> Shared<u8> {
        self.base.add(row * (W * 2) + ((chunk ^ (row & 7)) * 16))
    }

    /// For `ldmatrix_x4`: this lane's row of the four 8 x 8 matrices of rows `row..+16`, elements `16 k..+16`, in the order
    /// (upper, left), (lower, left), (upper, right), (lower, right): A of a product, or with `_trans` two B of one k. `row` is a
    /// multiple of 8.
    #[inline(always)]
    pub(crate) fn rows_first(self, row: u32, k: u32, lane: u32) -> Shared<u8> {
        self.matrix_row(row + (lane & 15), k, lane >> 4 & 1, lane)
    }

    /// The same in the order (upper, left), (upper, right), (lower, left), (lower, right): B of two products, or with `_trans`
    /// the A of one.
    #[inline(always)]
    pub(crate) fn columns_first(self, row: u32, k: u32, lane: u32) -> Shared<u8> {
        self.matrix_row(row + (lane & 7) + (lane >> 1 & 8), k, lane >> 3 & 1, lane)
    }

    /// [`Self::chunk`] 2 k + right of a row that is `lane` modulo 8, so written that constant k are constant offsets of four
    /// addresses: the compiler keeps addresses in registers.
    #[inline(always)]
    fn matrix_row(self, row: u32, k: u32, right: u32, lane: u32) -> Shared<u8> {
        let low = ((right ^ (lane & 7)) * 16) ^ (k % 4 * 32);
        self.base.add(row * (W * 2) + low).add(k / 4 * 128)
    }
}
