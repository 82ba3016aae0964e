//! The whole forward of a step: embedding, layers, last norm, head.

use half::bf16;

use super::builder::Builder;
use super::{Context, Head, Net, Plan, StepShape};
use crate::device::DevPtr;
use crate::model::ModelError;
use crate::model::caches::LayerCache;
use crate::model::config::ModelConfig;
use crate::model::inputs::STEP;
use crate::model::limits::Limits;
use crate::model::memory::{Memory, Region};
use crate::model::weights::{EmbeddingTable, LayerWeights, Linear, MixerWeights, Vector};
use crate::ops::argmax::{self, ArgmaxCall};
use crate::ops::embedding::EmbeddingCall;
use crate::ops::rms_norm::RmsNormCall;
use crate::ops::sample::{self, SampleCall};

/// What steps leave on the device, at fixed places.
#[derive(Clone, Copy, Debug)]
pub struct Outputs {
    /// f32 `[max_out][vocab]`.
    pub logits: Region,
    /// i32 `[max_out]`.
    pub tokens: Region,
    /// bf16 `[2][max_tok][hidden]`: the last normed hidden states of the model, then those of the MTP head. Empty without one.
    pub hidden: Region,
    /// f32 `[max_seqs][vocab]` of the MTP head; empty without one.
    pub draft_logits: Region,
    /// i32 `[max_seqs]` of the MTP head.
    pub draft_tokens: Region,
}

impl Outputs {
    /// Takes the memory.
    ///
    /// # Errors
    /// The memory's.
    pub fn new(memory: &mut Memory, config: &ModelConfig, limits: &Limits) -> Result<Self, ModelError> {
        let rows = limits.max_out as usize;
        let hidden = if config.mtp {
            2 * 2 * limits.max_tok() as usize * config.hidden as usize
        } else {
            0
        };
        let drafts = if config.mtp { limits.max_seqs as usize } else { 0 };
        let outputs = Self {
            logits: memory.alloc(STEP, "logits", 4 * rows * config.vocab as usize)?,
            tokens: memory.alloc(STEP, "tokens", 4 * rows)?,
            hidden: memory.alloc(STEP, "hidden states", hidden)?,
            draft_logits: memory.alloc(STEP, "draft logits", 4 * drafts * config.vocab as usize)?,
            draft_tokens: memory.alloc(STEP, "draft tokens", 4 * drafts)?,
        };
        memory.zero(&outputs.hidden)?;
        Ok(outputs)
    }

    /// Where the last hidden states of a network go; null without an MTP head.
    pub(super) fn hidden_of(&self, net: Net, config: &ModelConfig, limits: &Limits) -> DevPtr<bf16> {
        if self.hidden.len_bytes() == 0 {
            return DevPtr::NULL;
        }
        let first = match net {
            Net::Main => 0,
            Net::Mtp => limits.max_tok() as usize * config.hidden as usize,
        };
        self.hidden.ptr::<bf16>().add(first)
    }
}

impl Plan {
    /// Makes the plan of a step.
    ///
    /// # Errors
    /// A shape beyond the limits; no config for an operation.
    pub fn new(context: Context<'_>, shape: StepShape) -> Result<Plan, ModelError> {
        let Limits {
            max_seqs,
            per_seq,
            max_out,
            ..
        } = *context.limits;
        let fits = shape.n_tok > 0
            && (1..=max_seqs).contains(&shape.n_seq)
            && shape.n_tok <= context.limits.max_tok()
            && shape.n_out <= max_out
            && (shape.kind == super::Kind::Prefill
                || (shape.per_seq() <= per_seq && shape.n_tok == shape.per_seq() * shape.n_seq));
        if !fits {
            return Err(ModelError::Request(format!(
                "a step of {} with {} rows of logits, and the model was loaded for {} rows, {max_seqs} sequences, {per_seq} tokens of a \
                 sequence at a time and {max_out} rows of logits",
                shape.label(),
                shape.n_out,
                context.limits.max_tok()
            )));
        }
        let mut builder = Builder::new(context, shape);
        match shape.net {
            Net::Main => builder.forward()?,
            Net::Mtp => builder.mtp()?,
        }
        let plan = builder.finish();
        if plan.work_bytes > context.work_bytes {
            return Err(ModelError::Request(format!(
                "a step of {} needs {} bytes of work memory, and the model was loaded with {}",
                shape.label(),
                plan.work_bytes,
                context.work_bytes
            )));
        }
        Ok(plan)
    }
}

impl Builder<'_> {
    fn forward(&mut self) -> Result<(), ModelError> {
        let context = self.context;
        let (weights, hidden) = (context.weights, context.config.hidden);
        let size = self.shape.n_tok as usize * hidden as usize;
        // The residual stream, what a block adds to it, and what a block reads.
        let [residual, branch, x] = [(); 3].map(|()| self.temp::<bf16>(size));
        self.embed(residual)?;
        for (i, (layer, cache)) in weights.layers.iter().zip(&context.caches.layers).enumerate() {
            self.enter(Some(i as u32));
            let first = if i == 0 { None } else { Some(branch) };
            self.layer(layer, *cache, first, residual, branch, x)?;
        }
        self.enter(None);
        let kept = context.outputs.hidden_of(Net::Main, context.config, context.limits);
        let last = if kept.is_null() { x } else { kept };
        self.norm("final_norm", weights.final_norm, Some(branch), residual, last)?;
        self.head(&weights.lm_head, last)
    }

    /// Rows of the embedding for the step's tokens.
    pub(super) fn embed(&mut self, y: DevPtr<bf16>) -> Result<(), ModelError> {
        let (context, n_tok) = (self.context, self.shape.n_tok);
        let call = EmbeddingCall {
            table: context.weights.embedding,
            ids: context.inputs.at(context.inputs.ids),
            y,
            n_tok,
            n: context.config.hidden,
            vocab: context.config.vocab,
        };
        self.call("embedding", call)
    }

    /// One layer. `before` is what the block before it left to be added to the residual; its own last block's is left in `branch`.
    pub(super) fn layer(
        &mut self,
        w: &LayerWeights,
        cache: LayerCache,
        before: Option<DevPtr<bf16>>,
        residual: DevPtr<bf16>,
        branch: DevPtr<bf16>,
        x: DevPtr<bf16>,
    ) -> Result<(), ModelError> {
        self.norm("input_norm", w.input_norm, before, residual, x)?;
        self.scope(|b| match (&w.mixer, cache) {
            (MixerWeights::Attention(w), LayerCache::Kv(cache)) => b.attention(w, cache, x, branch),
            (MixerWeights::Gdn(w), LayerCache::Gdn(cache)) => b.gdn(w, cache, x, branch),
            _ => Err(b
                .context
                .config
                .error("layer_types", "weights and caches of a layer differ in kind")),
        })?;
        self.norm("post_norm", w.post_norm, Some(branch), residual, x)?;
        self.scope(|b| b.mlp(&w.mlp, x, branch))
    }

    /// residual += add; y = norm(residual).
    pub(super) fn norm(
        &mut self,
        role: &'static str,
        w: Vector,
        add: Option<DevPtr<bf16>>,
        residual: DevPtr<bf16>,
        y: DevPtr<bf16>,
    ) -> Result<(), ModelError> {
        let config = self.context.config;
        let n = config.hidden;
        // What was quantised of the old x is of no use any more.
        let rewritten = y.get() as usize;
        self.quantised.retain(|q| q.0 != rewritten);
        let call = RmsNormCall {
            x: add.unwrap_or(residual),
            residual: add.map_or(DevPtr::NULL, |_| residual),
            w,
            y,
            n_tok: self.shape.n_tok,
            heads: 1,
            n,
            x_stride: n,
            r_stride: n,
            y_stride: n,
            eps: config.norm_eps,
            zero_centered: config.zero_centered,
        };
        self.call(role, call)
    }

    /// Logits and tokens of the wanted rows of x, `[n_tok][hidden]`.
    pub(super) fn head(&mut self, lm_head: &Linear, x: DevPtr<bf16>) -> Result<(), ModelError> {
        let context = self.context;
        let (config, inputs, outputs) = (context.config, context.inputs, context.outputs);
        let StepShape { n_tok, n_out, head, .. } = self.shape;
        if head == Head::None || n_out == 0 {
            return Ok(());
        }
        let rows = self.temp::<bf16>(n_out as usize * config.hidden as usize);
        let gather = EmbeddingCall {
            table: EmbeddingTable::Bf16(x),
            ids: inputs.at(inputs.out_rows),
            y: rows,
            n_tok: n_out,
            n: config.hidden,
            vocab: n_tok,
        };
        self.call("gather", gather)?;
        let (logits, tokens) = match self.shape.net {
            Net::Main => (outputs.logits, outputs.tokens),
            Net::Mtp => (outputs.draft_logits, outputs.draft_tokens),
        };
        let (logits, tokens) = (logits.ptr::<f32>(), tokens.ptr::<i32>());
        self.linear_f32(lm_head, rows, logits, n_out)?;
        let vocab = config.vocab;
        if head == Head::Sample {
            let scratch = self.temp::<u8>(sample::scratch_bytes(n_out, vocab)).cast();
            return self.call(
                "sample",
                SampleCall {
                    logits,
                    temperature: inputs.at(inputs.temperature),
                    top_k: inputs.at(inputs.top_k),
                    top_p: inputs.at(inputs.top_p),
                    seed: inputs.at(inputs.seed),
                    position: inputs.at(inputs.sample_position),
                    tokens,
                    scratch,
                    n_tok: n_out,
                    vocab,
                },
            );
        }
        let parts = self.temp::<u8>(argmax::scratch_bytes(n_out, vocab)).cast();
        self.call(
            "argmax",
            ArgmaxCall {
                logits,
                parts,
                tokens,
                n_tok: n_out,
                vocab,
            },
        )
    }
}
