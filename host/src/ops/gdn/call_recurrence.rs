//! Launches of the recurrence, by steps and by chunks, on tensors that lie anywhere on a device.

use half::bf16;
use kernels_gpu::gdn_decode as steps;
use kernels_gpu::gdn_prefill::{
    self, CHUNKS_SHARED_BYTES, CHUNKS_THREADS, chunks_grid, gdn_prefill_chunks, gdn_prefill_chunks_fused,
    gdn_prefill_state, state_grid, state_stages, state_warps,
};

use super::call::{case_of, shape};
use super::{FUSED, GdnDecode, GdnPrefill, Mixer, check_head_counts, is_fused};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, Only};
use crate::op::spec::{PLAIN, Spec};
use crate::op::{Case, OpError};

/// The config that the gates admit, where one of their two forms is missing.
fn only_of(plain: DevPtr<f32>, fused: DevPtr<bf16>) -> Option<Only> {
    if fused.is_null() {
        Some(Only {
            config: PLAIN,
            reason: "the gates' inputs are not in rows of their own",
        })
    } else if plain.is_null() {
        Some(Only {
            config: FUSED,
            reason: "the gates are not computed beforehand",
        })
    } else {
        None
    }
}

/// Whether the config is [`FUSED`], refusing one whose gates are missing.
fn fused(op: &'static str, config: &str, only: Option<Only>) -> Result<bool, OpError> {
    let fused = is_fused(op, config)?;
    match only {
        Some(only) if only.config != config => Err(OpError::Shape(format!(
            "{op}: the tensors admit '{}' alone and not '{config}': {}",
            only.config, only.reason
        ))),
        _ => Ok(fused),
    }
}

/// Steps of the recurrence: `n_tok` tokens of each of `n_seq` sequences, each as if alone.
#[derive(Clone, Copy, Debug)]
pub struct GdnDecodeCall {
    /// Queries, `[n_seq * n_tok][k_heads][128]`, tokens `q_stride` apart.
    pub q: DevPtr<bf16>,
    /// Keys, `[n_seq * n_tok][k_heads][128]`, tokens `k_stride` apart.
    pub k: DevPtr<bf16>,
    /// Values, `[n_seq * n_tok][v_heads][128]`, tokens `v_stride` apart.
    pub v: DevPtr<bf16>,
    /// Decay gates (logarithms), `[n_seq * n_tok][v_heads]`; NULL: only `fused`.
    pub g: DevPtr<f32>,
    /// Update gates, `[n_seq * n_tok][v_heads]`; NULL with `g`.
    pub beta: DevPtr<f32>,
    /// Inputs of the decay gates, `[n_seq * n_tok][v_heads]`, contiguous; NULL: only `plain`.
    pub a: DevPtr<bf16>,
    /// Inputs of the update gates, as `a`.
    pub b: DevPtr<bf16>,
    /// `[v_heads]`, of the decay gates; NULL with `a`.
    pub a_log: DevPtr<f32>,
    /// `[v_heads]`, of the decay gates; NULL with `a`.
    pub dt_bias: DevPtr<f32>,
    /// States, `[slots][v_heads][128][128]` (V, K), read and written.
    pub state: DevPtr<f32>,
    /// `[n_seq]`: the slot a sequence starts from; -1: zeros.
    pub state_in: DevPtr<i32>,
    /// `[n_seq * n_tok]`: the slot of the state after each token; -1: not written.
    pub state_out: DevPtr<i32>,
    /// Outputs, `[n_seq * n_tok][v_heads][128]`, written.
    pub o: DevPtr<bf16>,
    /// Sequences.
    pub n_seq: u32,
    /// Tokens of each sequence.
    pub n_tok: u32,
    /// Heads of q and k.
    pub k_heads: u32,
    /// Heads of v, o and the state: a multiple of `k_heads`.
    pub v_heads: u32,
    /// Value head h reads key head h mod k_heads, not h / (v_heads / k_heads).
    pub modulo: bool,
    /// Elements from one token of q to the next.
    pub q_stride: u32,
    /// Elements from one token of k to the next.
    pub k_stride: u32,
    /// Elements from one token of v to the next.
    pub v_stride: u32,
}

impl Call for GdnDecodeCall {
    fn case(&self) -> Case {
        case_of::<GdnDecode>(&[
            ("n_seq", self.n_seq),
            ("n_tok", self.n_tok),
            ("k_heads", self.k_heads),
            ("v_heads", self.v_heads),
            ("head_map", self.modulo.into()),
        ])
    }

    fn only(&self) -> Option<Only> {
        only_of(self.g, self.a)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        let op = GdnDecode::NAME;
        let kernel = match fused(op, config, self.only())? {
            true => &steps::gdn_decode_fused::KERNEL,
            false => &steps::gdn_decode::KERNEL,
        };
        if self.n_seq == 0 || self.n_tok == 0 {
            return Ok(());
        }
        check_head_counts(self.k_heads.into(), self.v_heads.into()).map_err(shape(op))?;
        super::decode::check_tokens(self.n_seq.into(), self.n_tok.into()).map_err(shape(op))?;
        let args = steps::Args {
            q: self.q.get(),
            k: self.k.get(),
            v: self.v.get(),
            g: self.g.get(),
            beta: self.beta.get(),
            a: self.a.get(),
            b: self.b.get(),
            a_log: self.a_log.get(),
            dt_bias: self.dt_bias.get(),
            state: self.state.get_mut(),
            state_in: self.state_in.get(),
            state_out: self.state_out.get(),
            o: self.o.get_mut(),
            scale: Mixer::scale(),
            n_tok: self.n_tok,
            k_heads: self.k_heads,
            v_heads: self.v_heads,
            head_map: self.modulo.into(),
            q_stride: self.q_stride,
            k_stride: self.k_stride,
            v_stride: self.v_stride,
        };
        let dims = LaunchDims::new(steps::grid(self.n_seq, self.v_heads), steps::THREADS);
        Ok(device.launch(stream, kernel, dims, (args,))?)
    }
}

/// The recurrence over prompts: `n_tok` packed tokens of `n_seq` sequences, in chunks of 64 from each sequence's first token on.
#[derive(Clone, Copy, Debug)]
pub struct GdnPrefillCall {
    /// Queries, `[n_tok][k_heads][128]`, tokens `q_stride` apart.
    pub q: DevPtr<bf16>,
    /// Keys, `[n_tok][k_heads][128]`, tokens `k_stride` apart.
    pub k: DevPtr<bf16>,
    /// Values, `[n_tok][v_heads][128]`, tokens `v_stride` apart.
    pub v: DevPtr<bf16>,
    /// Decay gates (logarithms), `[n_tok][v_heads]`; NULL: only `fused`.
    pub g: DevPtr<f32>,
    /// Update gates, `[n_tok][v_heads]`; NULL with `g`.
    pub beta: DevPtr<f32>,
    /// Inputs of the decay gates, `[n_tok][v_heads]`, contiguous; NULL: only `plain`.
    pub a: DevPtr<bf16>,
    /// Inputs of the update gates, as `a`.
    pub b: DevPtr<bf16>,
    /// `[v_heads]`, of the decay gates; NULL with `a`.
    pub a_log: DevPtr<f32>,
    /// `[v_heads]`, of the decay gates; NULL with `a`.
    pub dt_bias: DevPtr<f32>,
    /// `[n_seq + 1]`: each sequence's first token, and the number of all.
    pub cu_seqlens: DevPtr<i32>,
    /// Scratch of [`chunks_bytes`] bytes, aligned to 16.
    pub chunks: DevPtr<u8>,
    /// States, `[slots][v_heads][128][128]` (V, K), read and written.
    pub state: DevPtr<f32>,
    /// `[n_seq]`: the slot a sequence starts from; -1: zeros.
    pub state_in: DevPtr<i32>,
    /// `[n_seq]`: the slot of the state after a sequence's last token, or of the state it starts from where it has none; -1: not
    /// written.
    pub state_out: DevPtr<i32>,
    /// Outputs, `[n_tok][v_heads][128]`, written.
    pub o: DevPtr<bf16>,
    /// Tokens of all sequences.
    pub n_tok: u32,
    /// Sequences.
    pub n_seq: u32,
    /// Heads of q and k.
    pub k_heads: u32,
    /// Heads of v, o and the state: a multiple of `k_heads`.
    pub v_heads: u32,
    /// Value head h reads key head h mod k_heads, not h / (v_heads / k_heads).
    pub modulo: bool,
    /// Elements from one token of q to the next.
    pub q_stride: u32,
    /// Elements from one token of k to the next.
    pub k_stride: u32,
    /// Elements from one token of v to the next.
    pub v_stride: u32,
}

/// Bytes of [`GdnPrefillCall::chunks`], enough for any lengths of the sequences.
pub fn chunks_bytes(n_tok: u32, n_seq: u32, v_heads: u32) -> u64 {
    gdn_prefill::scratch_bytes(n_tok, n_seq, v_heads)
}

impl GdnPrefillCall {
    /// [`Call::launch`] with blocks that take at most so many bytes of shared memory: how many does not change the bytes.
    pub(super) fn launch_within(
        &self,
        device: &Device,
        stream: &Stream,
        config: &str,
        most_shared: u32,
    ) -> Result<(), OpError> {
        let op = GdnPrefill::NAME;
        let chunks = match fused(op, config, self.only())? {
            true => &gdn_prefill_chunks_fused::KERNEL,
            false => &gdn_prefill_chunks::KERNEL,
        };
        if self.n_seq == 0 {
            return Ok(());
        }
        check_head_counts(self.k_heads.into(), self.v_heads.into()).map_err(shape(op))?;
        // The simulator has few cores and would always take the largest blocks.
        let warps = state_warps(self.n_seq, self.v_heads, device.info().sms.max(100));
        let (stages, shared) = state_stages(warps, most_shared);
        let args = gdn_prefill::Args {
            q: self.q.get(),
            k: self.k.get(),
            v: self.v.get(),
            g: self.g.get(),
            beta: self.beta.get(),
            a: self.a.get(),
            b: self.b.get(),
            a_log: self.a_log.get(),
            dt_bias: self.dt_bias.get(),
            cu_seqlens: self.cu_seqlens.get(),
            chunks: self.chunks.get_mut(),
            state: self.state.get_mut(),
            state_in: self.state_in.get(),
            state_out: self.state_out.get(),
            o: self.o.get_mut(),
            scale: Mixer::scale(),
            n_seq: self.n_seq,
            k_heads: self.k_heads,
            v_heads: self.v_heads,
            head_map: self.modulo.into(),
            stages,
            q_stride: self.q_stride,
            k_stride: self.k_stride,
            v_stride: self.v_stride,
        };
        // Without tokens the states are still handed on.
        if self.n_tok > 0 {
            let grid = chunks_grid(self.n_tok, self.n_seq, self.v_heads);
            let dims = LaunchDims::new(grid, CHUNKS_THREADS).shared(CHUNKS_SHARED_BYTES);
            device.launch(stream, chunks, dims, (args,))?;
        }
        let grid = state_grid(self.n_seq, self.v_heads, warps);
        let dims = LaunchDims::new(grid, 32 * warps).shared(shared);
        Ok(device.launch(stream, &gdn_prefill_state::KERNEL, dims, (args,))?)
    }
}

impl Call for GdnPrefillCall {
    fn case(&self) -> Case {
        case_of::<GdnPrefill>(&[
            ("n_tok", self.n_tok),
            ("n_seq", self.n_seq),
            ("k_heads", self.k_heads),
            ("v_heads", self.v_heads),
            ("head_map", self.modulo.into()),
        ])
    }

    fn only(&self) -> Option<Only> {
        only_of(self.g, self.a)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        self.launch_within(device, stream, config, device.info().shared_bytes_per_block)
    }
}
