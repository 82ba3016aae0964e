//! That cases reach every kernel of the operations that choose one of several by the shape. A kernel that no case reaches is one that
//! nothing has ever compared.

use std::collections::BTreeSet;

use half::{bf16, f16};
use kernels_gpu::{gemm as dense_tiles, moe_grouped as grouped_tiles};

use super::{by_name, gemm, moe, nvfp4};
use crate::device::image::IMAGES;
use crate::op::Case;

/// Cases beyond the edge cases.
const RANDOM: usize = 500;

/// The kernel that a case of `gemm` is launched with.
fn of_gemm(case: &Case) -> Option<&'static str> {
    let choice = dense_tiles::choose(dim(case, "n_tok")?, dim(case, "n")?);
    Some(match case.dtype.as_str() {
        "f16" => <f16 as gemm::Kernels>::kernel(choice).meta.name,
        _ => <bf16 as gemm::Kernels>::kernel(choice).meta.name,
    })
}

/// The kernel that a case of `nvfp4_matmul` is launched with.
fn of_nvfp4(case: &Case) -> Option<&'static str> {
    let choice = dense_tiles::choose(dim(case, "n_tok")?, dim(case, "n")?);
    Some(match case.dtype.as_str() {
        "f16" => <f16 as nvfp4::Matmul>::kernel(choice).meta.name,
        _ => <bf16 as nvfp4::Matmul>::kernel(choice).meta.name,
    })
}

/// The kernel that a case of `moe_grouped` is launched with.
fn of_grouped(case: &Case) -> Option<&'static str> {
    let pairs = dim(case, "n_tok")? * dim(case, "top_k")?;
    let choice = grouped_tiles::choose(pairs, dim(case, "experts")?);
    Some(match case.dim("nvfp4") {
        Some(0) => moe::launch::dense(choice).meta.name,
        _ => moe::launch::packed(choice).meta.name,
    })
}

/// A size of a case; none where it is 0, for then nothing is launched.
fn dim(case: &Case, axis: &str) -> Option<u32> {
    let size = case.dim(axis)?;
    u32::try_from(size).ok().filter(|size| *size > 0)
}

/// The kernels in an image's PTX.
fn entries(family: &str) -> Option<BTreeSet<&'static str>> {
    let image = IMAGES.iter().find(|image| image.family == family)?;
    let text = std::str::from_utf8(image.ptx).expect("PTX is text");
    let name = |rest: &'static str| rest.split(['(', '\n']).next().unwrap_or(rest).trim();
    Some(text.split(".entry ").skip(1).map(name).collect())
}

fn all_reached(op: &str, kernel: impl Fn(&Case) -> Option<&'static str>) {
    let op = by_name(op).expect("an operation of that name");
    // Edge cases come first; there are fewer than random ones.
    let is_edge = |case: &&Case| case.name == "edge";
    let edges = op.random_cases(1, RANDOM).iter().take_while(is_edge).count();
    let cases = op.random_cases(1, edges + RANDOM);
    let reached: BTreeSet<&str> = cases.iter().filter_map(&kernel).collect();
    assert_eq!(reached.len(), 6, "{}: three tiles, two formats: {reached:?}", op.name());
    // On a machine without a device compiler there are no images to ask.
    if let Some(all) = entries(op.name()) {
        assert_eq!(reached, all, "{}: kernels reached, kernels there are", op.name());
    }
    // The edge cases reach them without luck.
    let by_edges: BTreeSet<&str> = cases[..edges].iter().filter_map(&kernel).collect();
    assert_eq!(by_edges, reached, "{}: by edge cases alone", op.name());
}

#[test]
fn cases_reach_every_kernel_of_gemm() {
    all_reached("gemm", of_gemm);
}

#[test]
fn cases_reach_every_kernel_of_nvfp4_matmul() {
    all_reached("nvfp4_matmul", of_nvfp4);
}

#[test]
fn cases_reach_every_kernel_of_moe_grouped() {
    all_reached("moe_grouped", of_grouped);
}

/// The tuned configs' edges, and what random cases reach, by the operation's own word on what a config takes.
#[test]
fn cases_reach_every_config_of_gemm() {
    let op = by_name("gemm").expect("gemm");
    let cases = op.random_cases(1, RANDOM);
    let edges = cases.iter().take_while(|case| case.name == "edge").count();
    assert!(edges < RANDOM / 2, "{edges} edge cases leave few random ones");
    for config in op.configs() {
        for dtype in op.dtypes() {
            let taken = |case: &&Case| case.dtype == *dtype && op.admits(case, &config.id).is_ok();
            let by_edges = cases[..edges].iter().filter(taken).count();
            let drawn = cases[edges..].iter().filter(taken).count();
            assert!(by_edges >= 2, "{} {dtype}: {by_edges} edge cases", config.id);
            assert!(drawn >= 5, "{} {dtype}: {drawn} random cases", config.id);
        }
    }
}

/// A kernel that no case reaches is noticed: were every f16 case bf16, three would be missing.
#[test]
#[should_panic(expected = "three tiles, two formats")]
fn a_kernel_out_of_reach_is_noticed() {
    all_reached("gemm", |case| {
        let dtype = "bf16".to_string();
        of_gemm(&Case { dtype, ..case.clone() })
    });
}
