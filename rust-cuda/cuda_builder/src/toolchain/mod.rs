//! Finding the programs: a rustc that can compile `core` for the GPU, the LLVM tools of the same LLVM, and ptxas.
//!
//! Each is looked for in a fixed order of places, and a candidate is taken only after it has shown that it works
//! (a compiler parses every flag the build needs, a tool has the compiler's LLVM major version). The rest are
//! skipped with a reason, and the reasons are part of the message when nothing is left.

mod compiler;
mod cuda;
mod llvm;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use compiler::{DEVICE_FLAGS, Rustc, TARGET};
pub use cuda::{Ptxas, find_cuda_tool};
pub use llvm::Llvm;

/// The environment variables that choose a program. A build script should rerun when one of them changes.
pub const ENV_VARS: &[&str] = &[
    "CUDA_BUILDER_RUSTC",
    "CUDA_BUILDER_LLVM",
    "CUDA_BUILDER_PTXAS",
    "CUDA_HOME",
];

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The device compiler.
    pub rustc: Rustc,
    /// The LLVM tools of its LLVM.
    pub llvm: Llvm,
    /// ptxas, or why there is none. Without it there are no cubins and no gate.
    pub ptxas: Result<Ptxas, Missing>,
}

/// Why a program was not found: where was looked, and what to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// Each place looked at, with the reason it was passed over.
    pub tried: Vec<String>,
    /// What to install.
    pub advice: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no {} was found. Looked at:", self.what)?;
        for place in &self.tried {
            writeln!(f, "  - {place}")?;
        }
        write!(f, "{}", self.advice)
    }
}

impl Toolchain {
    /// Looks for the whole toolchain. `workspace` is the folder whose `.toolchain/` `setup` fills.
    ///
    /// # Errors
    /// Names what is missing: the compiler, or LLVM tools that match it. A compiler without matching tools is passed
    /// over for the next one.
    pub fn find(workspace: &Path) -> Result<Toolchain, Missing> {
        let mut tried = Vec::new();
        for (path, origin) in compiler::places() {
            let rustc = match Rustc::check(&path, &origin) {
                Ok(rustc) => rustc,
                Err(reason) => {
                    tried.push(format!("{origin}, {}: {reason}", path.display()));
                    continue;
                }
            };
            match Llvm::find(&rustc) {
                Ok(llvm) => {
                    return Ok(Toolchain {
                        rustc,
                        llvm,
                        ptxas: Ptxas::find(workspace),
                    });
                }
                Err(reasons) => {
                    tried.push(format!(
                        "{origin}, {}: usable, but {}",
                        path.display(),
                        reasons.join("; ")
                    ));
                }
            }
        }
        Err(Missing {
            what: "device compiler (rustc and LLVM tools)".into(),
            tried,
            advice: COMPILER_ADVICE.into(),
        })
    }
}

const COMPILER_ADVICE: &str = "\
To build GPU kernels, do one of these (until then everything runs on the simulator):
  - run ./setup in the repository's root (Debian 12 and its like),
  - install the system packages rustc-web, rust-web-src and llvm-22 yourself,
  - rustup toolchain install nightly --component rust-src --component llvm-tools,
  - set CUDA_BUILDER_RUSTC to a rustc 1.96 or newer whose sysroot has library/core's source, and
    CUDA_BUILDER_LLVM to the folder with llvm-link, llvm-dis, opt and llc of the same LLVM.";

/// Takes rustup's toolchain folders out of `LD_LIBRARY_PATH`, where cargo puts them for build scripts and tests.
pub(crate) fn clean_library_path(command: &mut Command) {
    for variable in ["LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"] {
        let Some(value) = std::env::var_os(variable) else {
            continue;
        };
        let kept =
            std::env::split_paths(&value).filter(|path| !path.components().any(|c| c.as_os_str() == "toolchains"));
        match std::env::join_paths(kept) {
            Ok(value) if !value.is_empty() => command.env(variable, value),
            _ => command.env_remove(variable),
        };
    }
}

/// Standard output of a command that must succeed; the error is a reason in one line.
fn output(command: &mut Command) -> Result<String, String> {
    let result = command.output().map_err(|e| format!("cannot be run: {e}"))?;
    if !result.status.success() {
        let stderr = String::from_utf8_lossy(&result.stderr);
        return Err(stderr
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("fails without a word")
            .to_string());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn path_folders() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

fn exe(name: impl AsRef<OsStr>) -> OsString {
    let mut name = name.as_ref().to_os_string();
    name.push(std::env::consts::EXE_SUFFIX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_each_place_and_the_packages() {
        let missing = Missing {
            what: "device compiler".into(),
            tried: vec!["rustup toolchain stable: no source of `core`".into()],
            advice: COMPILER_ADVICE.into(),
        };
        let text = missing.to_string();
        for part in [
            "rustup toolchain stable",
            "./setup",
            "rust-web-src",
            "llvm-tools",
            "CUDA_BUILDER_RUSTC",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
