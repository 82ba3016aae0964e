//! A launch of `sample` on tensors that lie anywhere.

use kernels_gpu::sample::{
    BINS_BYTES, EXCHANGE_BYTES, STAGES, THREADS, parts, row_words, sample_bins, sample_max, sample_sums, sample_take,
};

use super::{Sample, check_vocab};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, expect_aligned, expect_plain, refused};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// Bytes of the scratch of a [`SampleCall`].
pub fn scratch_bytes(n_tok: u32, vocab: u32) -> usize {
    n_tok as usize * row_words(vocab) * size_of::<u64>()
}

/// One token of each row of logits, by temperature, top-k, top-p and a seed: docs/numerics.md, "Head and sampling".
#[derive(Clone, Copy, Debug)]
pub struct SampleCall {
    /// `[n_tok][vocab]`.
    pub logits: DevPtr<f32>,
    /// `[n_tok]`; the argmax unless above 0.
    pub temperature: DevPtr<f32>,
    /// `[n_tok]`; 0 keeps all.
    pub top_k: DevPtr<u32>,
    /// `[n_tok]`: ceil(p * 2^24); 2^24 and more keeps all.
    pub top_p: DevPtr<u32>,
    /// `[n_tok]`: the key of the random numbers.
    pub seed: DevPtr<u64>,
    /// `[n_tok]`: their counter.
    pub position: DevPtr<i32>,
    /// Scratch of [`scratch_bytes`], at a multiple of 16 bytes.
    pub scratch: DevPtr<u64>,
    /// `[n_tok]`: the results.
    pub tokens: DevPtr<i32>,
    /// Rows.
    pub n_tok: u32,
    /// Logits of a row.
    pub vocab: u32,
}

impl Call for SampleCall {
    fn case(&self) -> Case {
        let dims = [("n_tok", u64::from(self.n_tok)), ("vocab", u64::from(self.vocab))];
        Case::of::<Sample>(MODEL, Sample::NAME, &dims, Values::Normal)
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(Sample::NAME, config)?;
        check_vocab(self.vocab.into()).map_err(|why| refused(Sample::NAME, why))?;
        if self.n_tok == 0 {
            return Ok(());
        }
        expect_aligned(Sample::NAME, "scratch", self.scratch, 16)?;
        let (logits, temperature) = (self.logits.get(), self.temperature.get());
        let (scratch, vocab) = (self.scratch.get_mut(), self.vocab);
        let of_parts = LaunchDims::new((self.n_tok, parts(vocab)), THREADS).shared(EXCHANGE_BYTES);
        let args = (logits, temperature, scratch, vocab);
        device.launch(stream, &sample_max::KERNEL, of_parts, args)?;
        for stage in 0..STAGES {
            let (top_k, top_p) = (self.top_k.get(), self.top_p.get());
            let with_bins = of_parts.shared(BINS_BYTES);
            let args = (logits, temperature, top_k, top_p, scratch, vocab, stage);
            device.launch(stream, &sample_bins::KERNEL, with_bins, args)?;
        }
        device.launch(stream, &sample_sums::KERNEL, of_parts, args)?;
        let args = (
            logits,
            temperature,
            self.seed.get(),
            self.position.get(),
            scratch,
            self.tokens.get_mut(),
            vocab,
        );
        let of_rows = LaunchDims::new(self.n_tok, THREADS).shared(EXCHANGE_BYTES);
        Ok(device.launch(stream, &sample_take::KERNEL, of_rows, args)?)
    }
}
