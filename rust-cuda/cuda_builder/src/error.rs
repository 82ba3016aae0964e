//! What can go wrong, each with what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::arch::NvvmArch;
use crate::toolchain::Missing;

/// An error of [`CudaBuilder`](crate::CudaBuilder).
#[derive(Debug)]
pub enum CudaBuilderError {
    /// The kernel crate's folder, or its `Cargo.toml`, is not there.
    CratePathDoesntExist(PathBuf),
    /// The PTX file could not be copied to where `copy_to` asked.
    FailedToCopyPtxFile(PathBuf, io::Error),
    /// An architecture nobody knows.
    UnknownArch(String),
    /// There is no device compiler.
    NoDeviceCompiler(Missing),
    /// The kernel crate does not compile. Holds the compiler's own messages, whole.
    BuildFailed(String),
    /// One of the LLVM tools or ptxas failed. Holds its command line and its output.
    ToolFailed {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A marker left by `#[kernel]` makes no sense, or a kernel and its marker do not match.
    Marker(String),
    /// The IR has a form the edit does not know.
    Ir(String),
    /// Kernels that use local memory, spill, or that ptxas warns of, without saying why they may.
    Gate(Vec<String>),
    /// Reading or writing a file, or starting a program.
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl CudaBuilderError {
    /// For `map_err`: names the action and the path that failed.
    pub(crate) fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{action} {}", path.display());
        move |source| CudaBuilderError::Io { what, source }
    }
}

impl fmt::Display for CudaBuilderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CratePathDoesntExist(path) => {
                write!(
                    f,
                    "there is no kernel crate at {} (it needs a Cargo.toml)",
                    path.display()
                )
            }
            Self::FailedToCopyPtxFile(path, e) => write!(f, "cannot copy the PTX to {}: {e}", path.display()),
            Self::UnknownArch(name) => {
                let known: Vec<_> = NvvmArch::all().map(NvvmArch::sm).collect();
                write!(f, "unknown GPU architecture `{name}`; known are {}", known.join(", "))
            }
            Self::NoDeviceCompiler(missing) => write!(f, "{missing}"),
            Self::BuildFailed(messages) => write!(f, "the kernel crate does not compile for the GPU:\n{messages}"),
            Self::ToolFailed { command, output } => write!(f, "a tool failed: {command}\n{output}"),
            Self::Marker(message) => write!(f, "{message}"),
            Self::Ir(message) => write!(f, "{message}"),
            Self::Gate(refusals) => {
                writeln!(f, "{} kernel build(s) refused by the gate:", refusals.len())?;
                for refusal in refusals {
                    writeln!(f, "- {refusal}")?;
                }
                f.write_str(crate::ptxas::ADVICE)
            }
            Self::Io { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for CudaBuilderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::FailedToCopyPtxFile(_, source) | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
