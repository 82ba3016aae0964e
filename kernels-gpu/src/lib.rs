//! Lockstep's kernels: one file or folder per operation, and nothing else.
//!
//! Every kernel here is one Rust function. Compiled for `nvptx64-nvidia-cuda` it runs on the GPU; compiled for the host
//! it runs on the SIMT simulator, bit for bit the same. A kernel knows nothing of models, files or devices: it gets
//! pointers and sizes. Each header states the mathematics, the layouts, the canonical order of the arithmetic
//! and the versions tried.
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(abi_ptx, asm_experimental_arch, stdarch_nvptx))]
// Loops over arrays go by index: it is what unrolls into registers. An iterator's own state can end up in local memory.
#![allow(clippy::needless_range_loop, clippy::type_complexity)]
#![cfg_attr(target_arch = "nvptx64", allow(improper_ctypes_definitions))]

pub mod accept_draft;
pub mod argmax;
pub mod attn;
pub mod attn_decode;
pub mod attn_prefill;
pub mod embedding;
pub mod gated_rms_norm;
pub mod gdn;
pub mod gdn_conv;
pub mod gdn_decode;
pub mod gdn_gates;
pub mod gdn_prefill;
pub mod gemm;
pub mod gemm_hopper;
pub mod gemm_skinny;
pub mod kv_append;
mod logits;
pub mod mma_probe;
pub mod moe_combine;
pub mod moe_decode;
pub mod moe_grouped;
pub mod moe_router;
pub mod moe_sort;
mod norm;
pub mod nvfp4_matmul;
pub mod nvfp4_quantize;
pub mod q8;
mod q8_args;
pub mod q8_config;
pub mod q8_dp4a;
pub mod q8_matmul;
pub mod q8_plain;
pub mod q8_quantize;
pub mod rms_norm;
pub mod rope;
mod rows;
pub mod same_bytes;
pub mod sample;
pub mod silu_mul;
pub mod synthesize;
pub mod tile_mma;
pub mod to_bf16;
mod unroll;
pub mod wgmma_probe;
