//! Builds the kernels for every architecture and embeds them; see `cuda_builder`.

use std::process::ExitCode;

/// What a release is built for: A100, H100 and H200, RTX 50. `LOCKSTEP_ARCHS=sm_90a` shortens a developer's build.
const ARCHS: &str = "sm_80,sm_90a,sm_120a";

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=LOCKSTEP_ARCHS");
    for source in ["kernels-gpu", "rust-cuda/cuda_std", "rust-cuda/cuda_std_macros"] {
        println!("cargo::rerun-if-changed=../{source}/src");
        println!("cargo::rerun-if-changed=../{source}/Cargo.toml");
    }
    // Embedded by include_dir, which does not tell cargo of new files.
    for data in ["shapes", "results/tuned"] {
        println!("cargo::rerun-if-changed=../{data}");
    }
    let archs = std::env::var("LOCKSTEP_ARCHS").unwrap_or_else(|_| ARCHS.to_string());
    let archs: Vec<&str> = archs
        .split(',')
        .map(str::trim)
        .filter(|arch| !arch.is_empty())
        .collect();
    let result = cuda_builder::CudaBuilder::new("../kernels-gpu")
        .archs(&archs)
        .and_then(|builder| builder.embed());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
