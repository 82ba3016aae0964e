//! Bakes the commit, the dirty flag, the compiler and the profile into the binary, so that a record still says what it
//! was made with when the binary runs outside its checkout.
use std::path::{Path, PathBuf};
use std::process::Command;

/// What decides the simulator's bytes: the kernels and the device language under them.
const KERNEL_SOURCES: [&str; 3] = [
    "../kernels-gpu/src",
    "../rust-cuda/cuda_std/src",
    "../rust-cuda/simt/src",
];

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// FNV-1a over the names and contents of the kernels' sources: tells versions apart, protects against nobody.
fn source_hash() -> String {
    let mut all = Vec::new();
    KERNEL_SOURCES.iter().for_each(|dir| files(Path::new(dir), &mut all));
    all.sort();
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58du128;
    for path in all {
        let text = std::fs::read(&path).unwrap_or_default();
        for byte in path.to_string_lossy().bytes().chain(text) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    format!("{hash:032x}")
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
}

fn main() {
    let commit = output("git", &["rev-parse", "HEAD"]).unwrap_or_default();
    let dirty = output("git", &["status", "--porcelain", "--untracked-files=no"]).is_none_or(|s| !s.is_empty());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustc_version = output(&rustc, &["--version"]).unwrap_or_default();
    println!("cargo::rustc-env=HARNESS_COMMIT={commit}");
    println!("cargo::rustc-env=HARNESS_DIRTY={dirty}");
    println!("cargo::rustc-env=HARNESS_RUSTC={rustc_version}");
    println!(
        "cargo::rustc-env=HARNESS_PROFILE={}",
        std::env::var("PROFILE").unwrap_or_default()
    );
    println!("cargo::rustc-env=HARNESS_SOURCE_HASH={}", source_hash());
    println!("cargo::rerun-if-changed=build.rs");
    KERNEL_SOURCES
        .iter()
        .for_each(|dir| println!("cargo::rerun-if-changed={dir}"));
    // HEAD alone names a branch; the reflog changes with every commit and every checkout.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = output("git", &["rev-parse", "--path-format=absolute", "--git-path", file])
            && std::path::Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
