//! The tools of the compiler's LLVM.

use std::path::PathBuf;
use std::process::Command;

use super::compiler::Rustc;
use super::{env_path, exe, output, path_folders};

/// The LLVM programs the builder runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Llvm {
    /// Links bitcode.
    pub link: PathBuf,
    /// Bitcode to text.
    pub dis: PathBuf,
    /// The optimiser.
    pub opt: PathBuf,
    /// IR to PTX.
    pub llc: PathBuf,
    /// Their version, such as `22.1.8`.
    pub version: String,
    /// Where they were found, in words.
    pub origin: String,
}

impl Llvm {
    /// Looks for the tools of `rustc`'s LLVM. On failure, one reason a place.
    pub(super) fn find(rustc: &Rustc) -> Result<Llvm, Vec<String>> {
        let major = major(&rustc.llvm);
        let mut places: Vec<(PathBuf, String, String)> = Vec::new();
        if let Some(folder) = env_path("CUDA_BUILDER_LLVM") {
            places.push((folder, String::new(), "CUDA_BUILDER_LLVM".into()));
        } else {
            let own = rustc.sysroot.join("lib/rustlib").join(&rustc.host).join("bin");
            places.push((own, String::new(), "the toolchain's llvm-tools".into()));
            places.push((
                format!("/usr/lib/llvm-{major}/bin").into(),
                String::new(),
                format!("LLVM {major} package"),
            ));
            for folder in path_folders() {
                places.push((folder.clone(), format!("-{major}"), "PATH".into()));
                places.push((folder, String::new(), "PATH".into()));
            }
        }
        let mut reasons = Vec::new();
        for (folder, suffix, origin) in places {
            let tool = |name: &str| folder.join(exe(format!("{name}{suffix}")));
            if !tool("llc").is_file() {
                // PATH has many folders; only the named places are worth a line.
                if origin != "PATH" {
                    reasons.push(format!("no llc in {} ({origin})", folder.display()));
                }
                continue;
            }
            match Llvm::check(tool, major, &origin) {
                Ok(llvm) => return Ok(llvm),
                Err(reason) => reasons.push(format!("{} ({origin}): {reason}", folder.display())),
            }
        }
        reasons.push(format!("LLVM {major} tools are needed to match {}", rustc.version));
        Err(reasons)
    }

    fn check(tool: impl Fn(&str) -> PathBuf, major_wanted: &str, origin: &str) -> Result<Llvm, String> {
        let mut version = String::new();
        for name in ["llvm-link", "llvm-dis", "opt", "llc"] {
            let path = tool(name);
            if !path.is_file() {
                return Err(format!("no {name}"));
            }
            let text = output(Command::new(&path).arg("--version"))?;
            let found = llvm_version(&text).ok_or_else(|| format!("{name} names no LLVM version"))?;
            if major(found) != major_wanted {
                return Err(format!("{name} is of LLVM {found}, not {major_wanted}"));
            }
            if name == "llc" && !text.contains("nvptx64") {
                return Err("llc was built without the NVPTX back end".into());
            }
            version = found.to_string();
        }
        Ok(Llvm {
            link: tool("llvm-link"),
            dis: tool("llvm-dis"),
            opt: tool("opt"),
            llc: tool("llc"),
            version,
            origin: origin.to_string(),
        })
    }
}

/// `22.1.8` out of `llc --version` ("LLVM version 22.1.8").
fn llvm_version(text: &str) -> Option<&str> {
    text.split("LLVM version ").nth(1)?.split([' ', '\n', '\r']).next()
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_tools_print() {
        let llc = "Debian LLVM version 22.1.8\n  Optimized build.\n";
        assert_eq!(llvm_version(llc), Some("22.1.8"));
        assert_eq!(
            llvm_version("LLVM (http://llvm.org/):\n  LLVM version 22.1.4-rust-1.97.0-nightly\n"),
            Some("22.1.4-rust-1.97.0-nightly")
        );
        assert_eq!(llvm_version("no such program"), None);
        assert_eq!(major("22.1.4-rust"), "22");
    }
}
