//! Finding the programs: a rustc that can compile `core` for the GPU, the LLVM tools of the same LLVM, and ptxas.
//!
//! Each is looked for in a fixed order of places, and a candidate is taken only after it has shown that it works
//! (a compiler parses every flag the build needs, a tool has the compiler's LLVM major version). The rest are
//! skipped with a reason, and the reasons are part of the message when nothing is left.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that kernels are compiled for.
pub const TARGET: &str = "nvptx64-nvidia-cuda";

/// The environment variables that choose a program. A build script should rerun when one of them changes.
pub const ENV_VARS: &[&str] = &[
    "CUDA_BUILDER_RUSTC",
    "CUDA_BUILDER_LLVM",
    "CUDA_BUILDER_PTXAS",
    "CUDA_HOME",
];

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

/// The assembler from PTX to a cubin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ptxas {
    /// The program.
    pub path: PathBuf,
    /// Its version, such as `13.0.88`.
    pub version: String,
    /// Where it was found, in words.
    pub origin: String,
}

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
        for (path, origin) in rustc_places() {
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

const PTXAS_ADVICE: &str = "\
To get ptxas (without it PTX is built, but no cubins, and spills go unseen), do one of these:
  - run ./setup in the repository's root (it installs the Python package nvidia-cuda-nvcc 13.0.88 into .toolchain/),
  - install CUDA 13.0 and set CUDA_HOME, or have ptxas on PATH,
  - set CUDA_BUILDER_PTXAS to the program.";

/// The places a device compiler may be at, best first.
fn rustc_places() -> Vec<(PathBuf, String)> {
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
    fn check(path: &Path, origin: &str) -> Result<Rustc, String> {
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

impl Llvm {
    /// Looks for the tools of `rustc`'s LLVM. On failure, one reason a place.
    fn find(rustc: &Rustc) -> Result<Llvm, Vec<String>> {
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

impl Ptxas {
    /// Looks for ptxas: `CUDA_BUILDER_PTXAS`, the workspace's `.toolchain/`, `CUDA_HOME`, PATH, `/usr/local/cuda`.
    ///
    /// # Errors
    /// Says where was looked and what to install.
    pub fn find(workspace: &Path) -> Result<Ptxas, Missing> {
        let mut tried = Vec::new();
        for (path, origin) in cuda_places("ptxas", "CUDA_BUILDER_PTXAS", workspace) {
            let text = match output(Command::new(&path).arg("--version")) {
                Ok(text) => text,
                Err(reason) => {
                    tried.push(format!("{origin}, {}: {reason}", path.display()));
                    continue;
                }
            };
            match ptxas_version(&text) {
                Some(version) => {
                    return Ok(Ptxas {
                        path,
                        version: version.to_string(),
                        origin,
                    });
                }
                None => tried.push(format!("{origin}, {}: names no version", path.display())),
            }
        }
        if tried.is_empty() {
            tried.push("CUDA_BUILDER_PTXAS, .toolchain/bin, CUDA_HOME, PATH, /usr/local/cuda: not there".into());
        }
        Err(Missing {
            what: "ptxas".into(),
            tried,
            advice: PTXAS_ADVICE.into(),
        })
    }
}

/// Where another CUDA program, such as `nvdisasm` or `cuobjdump`, is; `None` if nowhere.
pub fn find_cuda_tool(name: &str, workspace: &Path) -> Option<PathBuf> {
    let env = format!("CUDA_BUILDER_{}", name.to_uppercase());
    cuda_places(name, &env, workspace)
        .into_iter()
        .map(|place| place.0)
        .next()
}

/// The existing files that may be the CUDA program `name`, best first.
fn cuda_places(name: &str, env: &str, workspace: &Path) -> Vec<(PathBuf, String)> {
    if let Some(path) = env_path(env) {
        return vec![(path, env.to_string())];
    }
    let name = exe(name);
    let mut places = vec![(workspace.join(".toolchain/bin").join(&name), ".toolchain".to_string())];
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        places.extend(env_path(variable).map(|home| (home.join("bin").join(&name), variable.to_string())));
    }
    places.extend(
        path_folders()
            .into_iter()
            .map(|folder| (folder.join(&name), "PATH".to_string())),
    );
    places.push((
        Path::new("/usr/local/cuda/bin").join(&name),
        "/usr/local/cuda".to_string(),
    ));
    places.retain(|(path, _)| path.is_file());
    places
}

/// A command that runs the device compiler directly, with unstable flags allowed and nothing of the outer cargo's
/// library path (it holds another compiler's libraries).
fn device_command(rustc: &Path) -> Command {
    let mut command = Command::new(rustc);
    command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN");
    clean_library_path(&mut command);
    command
}

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

/// `22.1.8` out of `llc --version` ("LLVM version 22.1.8").
fn llvm_version(text: &str) -> Option<&str> {
    text.split("LLVM version ").nth(1)?.split([' ', '\n', '\r']).next()
}

/// `13.0.88` out of `ptxas --version` ("release 13.0, V13.0.88").
fn ptxas_version(text: &str) -> Option<&str> {
    text.split(", V").nth(1)?.split([' ', '\n', '\r']).next()
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
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
    fn versions_are_read_from_what_the_tools_print() {
        let llc = "Debian LLVM version 22.1.8\n  Optimized build.\n";
        assert_eq!(llvm_version(llc), Some("22.1.8"));
        assert_eq!(
            llvm_version("LLVM (http://llvm.org/):\n  LLVM version 22.1.4-rust-1.97.0-nightly\n"),
            Some("22.1.4-rust-1.97.0-nightly")
        );
        assert_eq!(llvm_version("no such program"), None);
        let ptxas = "Cuda compilation tools, release 13.0, V13.0.88\nBuild cuda_13.0.r13.0/compiler.36424714_0\n";
        assert_eq!(ptxas_version(ptxas), Some("13.0.88"));
        assert_eq!(major("22.1.4-rust"), "22");
    }

    #[test]
    fn a_compiler_that_is_not_there_is_a_reason_not_a_panic() {
        assert_eq!(
            Rustc::check(Path::new("/nonexistent/rustc"), "test").unwrap_err(),
            "not there"
        );
    }

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
