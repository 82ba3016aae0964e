//! A launch of either operation on tensors that lie anywhere on a device.

use kernels_gpu::attn::Args;
use kernels_gpu::{attn_decode, attn_prefill};

use super::half::Half;
use super::{AttnDecode, AttnPrefill, LARGEST_GRID, check_sizes};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};
use crate::reference::attention::Order;

/// Attention of `n_tok` packed query tokens on a paged cache that already holds their keys and values. bf16 or f16.
///
/// Strides are in elements and multiples of 8, tensors aligned to 16 bytes. A sequence's query tokens are the last of its positions.
#[derive(Clone, Copy, Debug)]
pub struct AttnCall<T> {
    /// The order of arithmetic: `attn_prefill`'s or `attn_decode`'s.
    pub order: Order,
    /// Queries: token t, head h at `t * q_row + h * q_head`, `[head_dim]` each.
    pub q: DevPtr<T>,
    /// Output gates: token t, head h at `t * gate_row + h * gate_head`, `[head_dim]` each; NULL without.
    pub gate: DevPtr<T>,
    /// Keys, `[n_pages][kv_heads][page][head_dim]`.
    pub k: DevPtr<T>,
    /// Values, as the keys.
    pub v: DevPtr<T>,
    /// Outputs, written: token t at `t * o_row`, `[q_heads][head_dim]`.
    pub o: DevPtr<T>,
    /// `[n_seq][max_pages]`: the page of each `page` positions of a sequence.
    pub block_table: DevPtr<i32>,
    /// `[n_seq + 1]`: each sequence's first query token, and the number of all.
    pub cu_seqlens: DevPtr<i32>,
    /// `[n_seq]`: positions in the cache, those of the query tokens included.
    pub seq_lens: DevPtr<i32>,
    /// Elements from a token's queries to the next one's.
    pub q_row: u32,
    /// Elements from a head's query to the next one's.
    pub q_head: u32,
    /// Elements from a token's gates to the next one's.
    pub gate_row: u32,
    /// Elements from a head's gate to the next one's.
    pub gate_head: u32,
    /// Elements from a token's outputs to the next one's.
    pub o_row: u32,
    /// Query tokens of all sequences.
    pub n_tok: u32,
    /// Sequences.
    pub n_seq: u32,
    /// Decode: query tokens of the sequence that has most. Prefill does not look at it.
    pub max_tok: u32,
    /// Heads of q, the gate and o: a multiple of `kv_heads`.
    pub q_heads: u32,
    /// Heads of the cache.
    pub kv_heads: u32,
    /// Elements of a head: 64, 128, 256 or 512.
    pub head_dim: u32,
    /// Positions of a page: 16, 32 or 64.
    pub page: u32,
    /// Pages of a sequence at most: a row of the block table.
    pub max_pages: u32,
    /// How many positions a token sees, itself included; 0 for all before it.
    pub window: u32,
    /// The scale of the scores times log2 e, rounded once; above 0.
    pub scale_log2: f32,
    /// Decode's scratch: `[n_tok * q_heads][splits][head_dim]`, see [`decode_scratch`]. NULL in prefill.
    pub part_o: DevPtr<f32>,
    /// Decode's scratch: `[n_tok * q_heads][splits][2]`. NULL in prefill.
    pub part_ml: DevPtr<f32>,
}

/// Bytes of [`AttnCall::part_o`] and [`AttnCall::part_ml`] for `n_tok` query tokens of all sequences together, where a sequence has room
/// for `capacity` positions (`max_pages * page`).
pub fn decode_scratch(n_tok: u32, q_heads: u32, head_dim: u32, capacity: u32) -> [u64; 2] {
    let parts = u64::from(n_tok) * u64::from(q_heads) * u64::from(attn_decode::splits(capacity));
    [4 * parts * u64::from(head_dim), 4 * parts * 2]
}

impl<T: Half> AttnCall<T> {
    fn name(&self) -> &'static str {
        match self.order {
            Order::Prefill => AttnPrefill::NAME,
            Order::Decode => AttnDecode::NAME,
        }
    }

    /// Positions that a row of the block table has pages for.
    fn capacity(&self) -> u64 {
        u64::from(self.max_pages) * u64::from(self.page)
    }

    /// What the kernels do not take, of what the host knows.
    fn check(&self) -> Result<(), String> {
        let [q_heads, kv_heads, d, page, n_seq, n_tok] = [
            self.q_heads,
            self.kv_heads,
            self.head_dim,
            self.page,
            self.n_seq,
            self.n_tok,
        ]
        .map(u64::from);
        check_sizes([q_heads, kv_heads, d, page, n_seq])?;
        let strides = [
            ("q_row", self.q_row),
            ("q_head", self.q_head),
            ("gate_row", self.gate_row),
            ("gate_head", self.gate_head),
            ("o_row", self.o_row),
        ];
        for (name, stride) in strides {
            if !(stride.is_multiple_of(8) || name.starts_with("gate") && self.gate.is_null()) {
                return Err(format!("{name} = {stride}: no multiple of 8 elements"));
            }
        }
        for (name, tensor) in [
            ("q", self.q),
            ("gate", self.gate),
            ("k", self.k),
            ("v", self.v),
            ("o", self.o),
        ] {
            if !(tensor.get() as usize).is_multiple_of(16) {
                return Err(format!("{name} at {tensor:?}: not aligned to 16 bytes"));
            }
        }
        let capacity = self.capacity();
        if capacity >= 1 << 30 {
            return Err(format!(
                "max_pages = {}, page = {page}: a sequence has fewer than 2^30 positions",
                self.max_pages
            ));
        }
        if self.window > i32::MAX as u32 {
            return Err(format!("window = {}: below 2^31", self.window));
        }
        match self.order {
            Order::Prefill => super::check_prefill_grid(n_tok, n_seq),
            Order::Decode => self.check_decode(),
        }
    }

    fn check_decode(&self) -> Result<(), String> {
        if self.part_o.is_null() || self.part_ml.is_null() {
            return Err("part_o, part_ml: decode needs its scratch".into());
        }
        let (n_tok, max_tok, capacity) = (u64::from(self.n_tok), u64::from(self.max_tok), self.capacity());
        if n_tok > LARGEST_GRID {
            return Err(format!("n_tok = {n_tok}: at most {LARGEST_GRID} query tokens a launch"));
        }
        // A sequence with more tokens than the grid has columns for would be left unfinished.
        if max_tok > n_tok || max_tok * u64::from(self.n_seq) < n_tok {
            return Err(format!(
                "max_tok = {max_tok}: cannot be the most tokens of n_seq = {} sequences of n_tok = {n_tok}",
                self.n_seq
            ));
        }
        super::check_decode_positions(capacity)
    }

    /// The parameters of a launch.
    fn args(&self) -> Args<T> {
        Args {
            q: self.q.get(),
            gate: self.gate.get(),
            k: self.k.get(),
            v: self.v.get(),
            o: self.o.get_mut(),
            block_table: self.block_table.get(),
            cu_seqlens: self.cu_seqlens.get(),
            seq_lens: self.seq_lens.get(),
            q_row: self.q_row,
            q_head: self.q_head,
            gate_row: self.gate_row,
            gate_head: self.gate_head,
            o_row: self.o_row,
            n_seq: self.n_seq,
            kv_heads: self.kv_heads,
            group: self.q_heads / self.kv_heads,
            page_shift: self.page.ilog2(),
            max_pages: self.max_pages,
            window: self.window as i32,
            scale_log2: self.scale_log2,
        }
    }

    fn launch_prefill(&self, device: &Device, stream: &Stream) -> Result<(), OpError> {
        let d = self.head_dim;
        let tiles = attn_prefill::tiles(self.n_tok, self.n_seq);
        let grid = (self.q_heads, tiles, d / attn_prefill::part(d));
        let dims = LaunchDims::new(grid, attn_prefill::THREADS).shared(attn_prefill::shared_bytes(d));
        Ok(device.launch(stream, &T::prefill(d as usize), dims, (self.args(),))?)
    }

    fn launch_decode(&self, device: &Device, stream: &Stream) -> Result<(), OpError> {
        let (d, args) = (self.head_dim, self.args());
        let capacity = self.max_pages * self.page;
        let (splits, fold) = T::decode(d as usize);
        let all = (
            args,
            self.part_o.get_mut(),
            self.part_ml.get_mut(),
            attn_decode::splits(capacity),
        );
        let grid = attn_decode::grid(self.n_seq, self.kv_heads, args.group, self.max_tok, capacity);
        let dims = LaunchDims::new(grid, attn_decode::THREADS).shared(attn_decode::shared_bytes(d));
        device.launch(stream, &splits, dims, all)?;
        let grid = attn_decode::fold_grid(self.n_tok, self.q_heads, d);
        Ok(device.launch(stream, &fold, LaunchDims::new(grid, attn_decode::FOLD_THREADS), all)?)
    }
}

impl<T: Half> Call for AttnCall<T> {
    /// Prefill: a prompt from its start (`past` = 0, its least cost). Decode: every sequence with `max_tok` tokens and a full cache.
    fn case(&self) -> Case {
        let shared = [
            ("n_seq", self.n_seq),
            ("q_heads", self.q_heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("page", self.page),
            ("window", self.window),
            ("gate", (!self.gate.is_null()).into()),
        ];
        let dims = |own: &[(&'static str, u64)]| -> Vec<(&'static str, u64)> {
            let shared = shared.iter().map(|&(name, size)| (name, u64::from(size)));
            shared.chain(own.iter().copied()).collect()
        };
        let (values, name) = (Values::Normal, self.name());
        let case = match self.order {
            Order::Prefill => Case::of::<AttnPrefill>(MODEL, name, &dims(&[("n_tok", self.n_tok.into())]), values),
            Order::Decode => {
                let own = [("n_tok", self.max_tok.into()), ("kv_len", self.capacity())];
                Case::of::<AttnDecode>(MODEL, name, &dims(&own), values)
            }
        };
        case.with_dtype(T::DTYPE.name())
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        let op = self.name();
        expect_plain(op, config)?;
        if self.n_tok == 0 || self.n_seq == 0 {
            return Ok(());
        }
        self.check().map_err(|why| OpError::Shape(format!("{op}: {why}")))?;
        match self.order {
            Order::Prefill => self.launch_prefill(device, stream),
            Order::Decode => self.launch_decode(device, stream),
        }
    }
}
