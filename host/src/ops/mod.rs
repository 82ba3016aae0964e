//! The operations, one file or folder each.

pub mod accept_draft;
pub mod argmax;
pub mod attention;
mod elementwise;
pub mod embedding;
pub mod gated_rms_norm;
pub mod gdn;
pub mod gemm;
pub mod kv_append;
pub mod moe;
pub mod nvfp4;
pub mod q8;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod silu_mul;
pub mod to_bf16;

use crate::op::spec::Described;
use crate::op::{Case, Operation, typed};

/// Every operation there is, in the order of lists.
pub fn all() -> &'static [&'static dyn Operation] {
    &[
        &Described::<accept_draft::AcceptDraft>::OP,
        &Described::<argmax::Argmax>::OP,
        &Described::<attention::AttnDecode>::OP,
        &Described::<attention::AttnPrefill>::OP,
        &Described::<embedding::Embedding>::OP,
        &Described::<gated_rms_norm::GatedRmsNorm>::OP,
        &Described::<gdn::GdnConv>::OP,
        &Described::<gdn::GdnDecode>::OP,
        &Described::<gdn::GdnGates>::OP,
        &Described::<gdn::GdnPrefill>::OP,
        &Described::<gemm::Gemm>::OP,
        &Described::<kv_append::KvAppend>::OP,
        &Described::<moe::MoeCombine>::OP,
        &Described::<moe::MoeDecode>::OP,
        &Described::<moe::MoeGrouped>::OP,
        &Described::<moe::MoeRouter>::OP,
        &Described::<moe::MoeSort>::OP,
        &Described::<nvfp4::Nvfp4Matmul>::OP,
        &Described::<nvfp4::Nvfp4Quantize>::OP,
        &q8::Q8MatmulOp,
        &Described::<rms_norm::RmsNorm>::OP,
        &Described::<rope::Rope>::OP,
        &Described::<sample::Sample>::OP,
        &Described::<silu_mul::SiluMul>::OP,
        &Described::<to_bf16::ToBf16>::OP,
    ]
}

/// An operation by its name.
pub fn by_name(name: &str) -> Option<&'static dyn Operation> {
    all().iter().copied().find(|op| op.name() == name)
}

/// The name under which records and tuned tables have a case: its operation's, with the dtype where that is not the one that shape
/// files mean (`gemm`, `gemm_f16`).
pub fn record_name(case: &Case) -> String {
    let first = by_name(&case.op).and_then(|op| op.dtypes().first());
    match first {
        Some(first) if *first != case.dtype => case.typed_op(),
        _ => case.op.clone(),
    }
}

/// The operation of a record's name ([`record_name`]).
pub fn of_record(name: &str) -> Option<&'static dyn Operation> {
    let typed_as = |op: &&dyn Operation| op.dtypes().iter().any(|dtype| typed(op.name(), dtype) == name);
    by_name(name).or_else(|| all().iter().copied().find(typed_as))
}

#[cfg(test)]
mod reached_tests;
