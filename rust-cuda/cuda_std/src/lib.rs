#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(core_float_math))]
//! The device language: Rust-CUDA's modules on rustc's NVPTX back end, and on the CPU through the simulator.

pub mod float;
