//! The kernels by type and head dimension.

use std::fmt;

use cuda_std::launch::Kernel;
use half::{bf16, f16};
use kernels_gpu::attn::Args;
use kernels_gpu::{attn_decode as decode, attn_prefill as prefill};

use crate::op::data::Float;
use crate::reference::attention;

/// Head dimensions that there are kernels for.
pub(super) const HEAD_DIMS: [u64; 4] = [64, 128, 256, 512];

/// The kernel of splits or of folds: the parameters, part_o, part_ml, n_splits.
pub(super) type Decode<T> = Kernel<(Args<T>, *mut f32, *mut f32, u32)>;

/// A type that attention is done in.
pub trait Half: Float + attention::Element + fmt::Debug + Sync + 'static {
    /// A NaN that no result has.
    const POISON: Self;
    /// The prefill kernel of a head dimension among [`HEAD_DIMS`].
    fn prefill(head_dim: usize) -> Kernel<(Args<Self>,)>;
    /// The decode kernels of a head dimension: splits and fold.
    fn decode(head_dim: usize) -> (Decode<Self>, Decode<Self>);
}

impl Half for bf16 {
    const POISON: Self = bf16::from_bits(0xFFFF);
    fn prefill(head_dim: usize) -> Kernel<(Args<Self>,)> {
        match head_dim {
            64 => prefill::attn_prefill_bf16_d64::KERNEL,
            128 => prefill::attn_prefill_bf16_d128::KERNEL,
            256 => prefill::attn_prefill_bf16_d256::KERNEL,
            _ => prefill::attn_prefill_bf16_d512::KERNEL,
        }
    }
    fn decode(head_dim: usize) -> (Decode<Self>, Decode<Self>) {
        match head_dim {
            64 => (
                decode::attn_decode_bf16_d64::KERNEL,
                decode::attn_decode_fold_bf16_d64::KERNEL,
            ),
            128 => (
                decode::attn_decode_bf16_d128::KERNEL,
                decode::attn_decode_fold_bf16_d128::KERNEL,
            ),
            256 => (
                decode::attn_decode_bf16_d256::KERNEL,
                decode::attn_decode_fold_bf16_d256::KERNEL,
            ),
            _ => (
                decode::attn_decode_bf16_d512::KERNEL,
                decode::attn_decode_fold_bf16_d512::KERNEL,
            ),
        }
    }
}

impl Half for f16 {
    const POISON: Self = f16::from_bits(0xFFFF);
    fn prefill(head_dim: usize) -> Kernel<(Args<Self>,)> {
        match head_dim {
            64 => prefill::attn_prefill_f16_d64::KERNEL,
            128 => prefill::attn_prefill_f16_d128::KERNEL,
            256 => prefill::attn_prefill_f16_d256::KERNEL,
            _ => prefill::attn_prefill_f16_d512::KERNEL,
        }
    }
    fn decode(head_dim: usize) -> (Decode<Self>, Decode<Self>) {
        match head_dim {
            64 => (
                decode::attn_decode_f16_d64::KERNEL,
                decode::attn_decode_fold_f16_d64::KERNEL,
            ),
            128 => (
                decode::attn_decode_f16_d128::KERNEL,
                decode::attn_decode_fold_f16_d128::KERNEL,
            ),
            256 => (
                decode::attn_decode_f16_d256::KERNEL,
                decode::attn_decode_fold_f16_d256::KERNEL,
            ),
            _ => (
                decode::attn_decode_f16_d512::KERNEL,
                decode::attn_decode_fold_f16_d512::KERNEL,
            ),
        }
    }
}
