//! A launch of `kv_append` on tensors that lie anywhere.

use half::bf16;
use kernels_gpu::kv_append::{THREADS, kv_append_bf16};

use super::KvAppend;
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_plain, refused};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// New keys and values to their places in the paged cache: docs/numerics.md, "RoPE, KV append".
#[derive(Clone, Copy, Debug)]
pub struct KvAppendCall {
    /// `[n_tok][kv_heads][head_dim]`.
    pub k: DevPtr<bf16>,
    /// `[n_tok][kv_heads][head_dim]`.
    pub v: DevPtr<bf16>,
    /// `[n_pages][kv_heads][page][head_dim]`.
    pub k_cache: DevPtr<bf16>,
    /// `[n_pages][kv_heads][page][head_dim]`.
    pub v_cache: DevPtr<bf16>,
    /// `[n_seq][max_pages]`: the cache page of each page of a sequence.
    pub block_table: DevPtr<i32>,
    /// `[n_seq + 1]`, ascending: where each sequence's new tokens begin.
    pub cu_seqlens: DevPtr<i32>,
    /// `[n_seq]`: tokens of each sequence, the new ones included.
    pub seq_lens: DevPtr<i32>,
    /// New tokens of all sequences; those of none are not written.
    pub n_tok: u32,
    /// Sequences.
    pub n_seq: u32,
    /// Heads of a token's keys, and of its values.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Tokens of a page.
    pub page: u32,
    /// Pages of a row of the block table.
    pub max_pages: u32,
    /// Pages of a cache.
    pub n_pages: u32,
    /// Elements from a token of `k` to the next, and of `v`.
    pub stride: u32,
}

/// Refuses tokens with more elements than the kernel counts, k and v together and a head before them.
pub(super) fn check_token(kv_heads: u64, head_dim: u64) -> Result<(), String> {
    if (2 * kv_heads + 1) * head_dim >= 1 << 31 {
        return Err(format!(
            "kv_heads = {kv_heads}, head_dim = {head_dim}: a token has 2^31 elements at the most"
        ));
    }
    Ok(())
}

impl Call for KvAppendCall {
    fn case(&self) -> Case {
        let dims = [
            ("n_seq", u64::from(self.n_seq)),
            ("n_tok", u64::from(self.n_tok)),
            ("kv_heads", u64::from(self.kv_heads)),
            ("head_dim", u64::from(self.head_dim)),
            ("page", u64::from(self.page)),
        ];
        Case::of::<KvAppend>(MODEL, KvAppend::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(KvAppend::NAME, config)?;
        check_token(self.kv_heads.into(), self.head_dim.into()).map_err(|why| refused(KvAppend::NAME, why))?;
        if self.page == 0 {
            return Err(refused(KvAppend::NAME, "page = 0: a page has a token at least"));
        }
        if self.n_tok == 0 || self.n_seq == 0 || self.kv_heads == 0 || self.head_dim == 0 {
            return Ok(());
        }
        let args = (
            self.k.get(),
            self.v.get(),
            self.k_cache.get_mut(),
            self.v_cache.get_mut(),
            self.block_table.get(),
            self.cu_seqlens.get(),
            self.seq_lens.get(),
            self.n_seq,
            self.kv_heads,
            self.head_dim,
            self.page,
            self.max_pages,
            self.n_pages,
            self.stride,
        );
        let dims = LaunchDims::new(self.n_tok, THREADS);
        Ok(device.launch(stream, &kv_append_bf16::KERNEL, dims, args)?)
    }
}
