//! The device compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{clean_library_path, env_path, exe, output};

/// The target that kernels are compiled for.
pub const TARGET: &str = "nvptx64-nvidia-cuda";

/// Compiler flags for every device crate, `core` included. They double as the test of a candidate.
///
/// - `-Cpanic=immediate-abort`: one `%` or index would otherwise leave an unresolved symbol of `core::panicking`.
/// - `-Cno-prepopulate-passes`: the IR edit must see code that nothing has optimised yet.
/// - `-Zmir-enable-passes=-JumpThreading`: rustc's MIR jump threading duplicates barriers.
pub const DEVICE_FLAGS: &[&str] = &[
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    "-Cno-prepopulate-passes",
    "-Zmir-enable-passes=-JumpThreading",
    "-Ctarget-cpu=sm_80",
];

/// A rustc with `core`'s source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rustc {
    /// The program.
    pub path: PathBuf,
    /// Its sysroot.
    pub sysroot: PathBuf,
    /// The first line of `rustc -vV`, such as `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    pub version: String,
    /// The host triple.
    pub host: String,
    /// The LLVM it was built with, such as `22.1.8`.
    pub llvm: String,
    /// Where it was found, in words.
    pub origin: String,
}

/// The places a device compiler may be at, best first.
pub(super) fn places() -> Vec<(PathBuf, String)> {
    let mut places = Vec::new();
    if let Some(path) = env_path("CUDA_BUILDER_RUSTC") {
        // A choice made by name is the only candidate: silently taking another would hide a typing error.
        return vec![(path, "CUDA_BUILDER_RUSTC".to_string())];
    }
    let rustup = env_path("RUSTUP_HOME").or_else(|| env_path("HOME").map(|home| home.join(".rustup")));
    if let Some(toolchains) = rustup.map(|home| home.join("toolchains")) {
        let mut found: Vec<_> = std::fs::read_dir(&toolchains)
            .map(|dir| dir.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        found.sort();
        for path in found {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            places.push((path.join("bin").join(exe("rustc")), format!("rustup toolchain {name}")));
        }
    }
    // `rustc` on PATH is rustup's proxy on most machines, so the system's own is asked for by its place.
    for folder in ["/usr/bin", "/usr/local/bin"] {
        places.push((Path::new(folder).join("rustc"), "the system's rustc".to_string()));
    }
    places
}

impl Rustc {
    /// Takes `path` if it is a compiler the build can use.
    pub(super) fn check(path: &Path, origin: &str) -> Result<Rustc, String> {
        if !path.is_file() {
            return Err("not there".into());
        }
        let verbose = output(device_command(path).arg("-vV"))?;
        let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let version = verbose.lines().next().unwrap_or_default().trim().to_string();
        let host = field("host:").ok_or("`rustc -vV` names no host")?.to_string();
        let llvm = field("LLVM version:")
            .ok_or("`rustc -vV` names no LLVM version")?
            .to_string();
        let sysroot = PathBuf::from(output(device_command(path).args(["--print", "sysroot"]))?.trim());
        if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
            return Err(format!(
                "{version} has no source of `core` in its sysroot (component rust-src)"
            ));
        }
        let mut probe = device_command(path);
        probe.args(DEVICE_FLAGS).args(["--target", TARGET, "--print", "cfg"]);
        let cfg = output(&mut probe).map_err(|e| format!("{version} refuses the flags of the build: {e}"))?;
        if !cfg.contains("target_arch=\"nvptx64\"") {
            return Err(format!("{version} does not know the target {TARGET}"));
        }
        Ok(Rustc {
            path: path.to_path_buf(),
            sysroot,
            version,
            host,
            llvm,
            origin: origin.to_string(),
        })
    }

    /// The cargo to run with this compiler: its own where it has one, else the one in `CARGO` or on PATH.
    pub fn cargo(&self) -> PathBuf {
        let own = self.sysroot.join("bin").join(exe("cargo"));
        if own.is_file() {
            own
        } else {
            env_path("CARGO").unwrap_or_else(|| PathBuf::from("cargo"))
        }
    }
}

/// A command that runs the device compiler directly, with unstable flags allowed and nothing of the outer cargo's
/// library path (it holds another compiler's libraries).
fn device_command(rustc: &Path) -> Command {
    let mut command = Command::new(rustc);
    command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN");
    clean_library_path(&mut command);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_is_not_there_is_a_reason_not_a_panic() {
        assert_eq!(
            Rustc::check(Path::new("/nonexistent/rustc"), "test").unwrap_err(),
            "not there"
        );
    }
}
