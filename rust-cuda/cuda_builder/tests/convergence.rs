//! `cuda_std`'s collectives in divergent callers (`cuda_std/tests/divergent`): in the PTX of every architecture each stands once,
//! and before the branch on which its result is used. That the same kernels break where the mark is missing is shown in
//! `pipeline.rs`. Needs a device compiler; without one the tests say that they were skipped and why.

use std::fs;
use std::path::Path;

use cuda_builder::toolchain::Toolchain;
use cuda_builder::{CudaBuilder, Image};

/// The images of a family for the oldest and the newest architecture, and one with its own instructions.
fn images(family: &str) -> Option<Vec<Image>> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let toolchain = Toolchain::find(&manifest.join("../.."))
        .map_err(|missing| eprintln!("SKIPPED: {missing}"))
        .ok()?;
    // The folder the host build uses too, so that `core` is compiled once.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target folder holds tmp");
    let builder = CudaBuilder::new(manifest.join("../cuda_std/tests/divergent"))
        .archs(&["sm_80", "sm_90a", "sm_120a"])
        .expect("known archs")
        .only(family);
    Some(
        builder
            .target_dir(target.join("device"))
            .images(&toolchain)
            .expect("the kernels build"),
    )
}

/// The lines of a kernel's body that hold one of the instructions, and the line of its first branch.
fn places(ptx: &str, kernel: &str, instruction: &str) -> (Vec<usize>, usize) {
    let start = ptx.find(&format!(".entry {kernel}(")).expect("the kernel is there");
    let body = ptx[start..].split("-- End function").next().expect("a first part");
    let holds = |line: &&str| line.contains(instruction);
    let found = body.lines().enumerate().filter(|(_, line)| holds(line)).map(|(i, _)| i);
    let branch = body.lines().position(|line| line.contains(" bra "));
    (found.collect(), branch.unwrap_or(usize::MAX))
}

#[test]
fn a_collective_between_two_branches_is_not_copied_into_them() {
    let Some(images) = images("between") else { return };
    for image in &images {
        let ptx = fs::read_to_string(&image.ptx).expect("the PTX is there");
        for (kernel, instruction) in [
            ("between_sync_threads", "bar.sync"),
            ("between_sync_threads_count", ".red.popc"),
            ("between_barrier_sync", ".sync"),
            ("between_barrier_arrive", ".arrive"),
            ("between_sync_warp", "bar.warp.sync"),
            ("between_copy_async_wait", "cp.async.wait"),
            ("between_copy_async_wait", "bar.sync"),
            ("between_shuffle", "shfl.sync"),
            ("between_ballot", "vote.sync"),
            ("between_match", "match.any.sync"),
            ("between_mma", "mma.sync"),
            ("between_mma_bf16", "mma.sync"),
            ("between_mma_f16", "mma.sync"),
            ("between_ldmatrix", "ldmatrix.sync"),
            ("between_ldmatrix_trans", "ldmatrix.sync"),
        ] {
            let (found, _) = places(&ptx, kernel, instruction);
            assert_eq!(
                found.len(),
                1,
                "{} {kernel}: {instruction} in lines {found:?} of\n{ptx}",
                image.arch
            );
        }
    }
}

#[test]
fn a_collective_does_not_move_to_the_lanes_that_use_its_result() {
    let Some(images) = images("used") else { return };
    for image in &images {
        let ptx = fs::read_to_string(&image.ptx).expect("the PTX is there");
        for (kernel, instruction) in [
            ("used_sync_threads_count", ".red.popc"),
            ("used_shuffle", "shfl.sync"),
            ("used_ballot", "vote.sync"),
            ("used_match", "match.any.sync"),
            ("used_mma", "mma.sync"),
            ("used_mma_bf16", "mma.sync"),
            ("used_mma_f16", "mma.sync"),
            ("used_ldmatrix", "ldmatrix.sync"),
            ("used_ldmatrix_trans", "ldmatrix.sync"),
        ] {
            let (found, branch) = places(&ptx, kernel, instruction);
            assert!(branch != usize::MAX, "{} {kernel} has no branch:\n{ptx}", image.arch);
            let before = found.len() == 1 && found[0] < branch;
            assert!(
                before,
                "{} {kernel}: {instruction} in lines {found:?}, branch in {branch}, of\n{ptx}",
                image.arch
            );
        }
    }
}
