//! The nested cargo run that compiles the kernel crate, `core` and everything between for the GPU.
//!
//! The target hands its "linker" the bitcode of every crate. Ours is a script that keeps the files (rustc deletes its
//! temporaries once the linker returns) and writes their list where the output was expected. Linking proper is
//! [`pipeline`](crate::pipeline)'s business; so cargo decides what has to be compiled again, and nothing is linked
//! twice.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::CudaBuilderError;
use crate::toolchain::{DEVICE_FLAGS, Rustc, TARGET, clean_library_path};

/// The profile of device code, given on the command line so that the workspace's own profiles do not matter.
/// One codegen unit, because a kernel and what it calls have to be seen together; no overflow checks, because a panic
/// on the GPU is a trap without a message.
const PROFILE: &[&str] = &[
    "inherits=\"release\"",
    "opt-level=3",
    "codegen-units=1",
    "lto=\"off\"",
    "incremental=false",
    "debug=0",
    "debug-assertions=false",
    "overflow-checks=false",
    "build-override.opt-level=0",
    "build-override.debug=0",
];

const LINKER_SCRIPT: &str = r#"#!/bin/sh
# Written by cuda_builder; stands in for a linker. Keeps the objects rustc would delete and lists, in the output file,
# every file to be linked, the kernel crate's own first.
set -e
out=
previous=
for a in "$@"; do
    if [ "$previous" = -o ]; then out=$a; fi
    previous=$a
done
rm -rf "$out" "$out.kept"
mkdir -p "$out.kept"
for a in "$@"; do
    case $a in
    @*) echo "cuda_builder: a response file is not understood: $a" >&2; exit 1 ;;
    *.o) cp "$a" "$out.kept/" && echo "$out.kept/${a##*/}" >>"$out.kept/list" ;;
    *.rlib) echo "$a" >>"$out.kept/list" ;;
    esac
done
mv "$out.kept/list" "$out"
"#;

/// The bitcode of the kernel crate and of everything it depends on.
#[derive(Debug)]
pub struct Bitcode {
    /// Objects of the kernel crate: linked whole.
    pub objects: Vec<PathBuf>,
    /// Its dependencies' archives: only what is needed of them is linked.
    pub rlibs: Vec<PathBuf>,
}

/// Compiles the crate in `crate_dir` with `rustc` into `target_dir`.
///
/// # Errors
/// [`CudaBuilderError::BuildFailed`] with cargo's and rustc's messages, whole.
pub fn compile(rustc: &Rustc, crate_dir: &Path, target_dir: &Path) -> Result<Bitcode, CudaBuilderError> {
    fs::create_dir_all(target_dir).map_err(CudaBuilderError::io("create the folder", target_dir))?;
    let linker = target_dir.join("linker.sh");
    write_script(&linker)?;
    // The second try is for a list that names files somebody deleted: cargo writes a missing output again.
    for last in [false, true] {
        let list = run_cargo(rustc, crate_dir, target_dir, &linker)?;
        let text = fs::read_to_string(&list).map_err(CudaBuilderError::io("read", &list))?;
        let files: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
        let missing: Vec<_> = files.iter().filter(|file| !file.is_file()).collect();
        if files.is_empty() || !missing.is_empty() {
            if last {
                let what = format!("the linker's list {} names missing files: {missing:?}", list.display());
                return Err(CudaBuilderError::BuildFailed(what));
            }
            fs::remove_file(&list).map_err(CudaBuilderError::io("remove", &list))?;
            continue;
        }
        let (rlibs, objects) = files
            .into_iter()
            .partition(|file| file.extension().is_some_and(|e| e == "rlib"));
        return Ok(Bitcode { objects, rlibs });
    }
    unreachable!("the loop's last round returns")
}

/// Runs cargo and returns the path of the linker's list.
fn run_cargo(rustc: &Rustc, crate_dir: &Path, target_dir: &Path, linker: &Path) -> Result<PathBuf, CudaBuilderError> {
    let mut flags: Vec<OsString> = DEVICE_FLAGS.iter().map(OsString::from).collect();
    let mut flag = OsString::from("-Clinker=");
    flag.push(linker);
    flags.push(flag);

    let mut command = Command::new(rustc.cargo());
    clean_environment(&mut command);
    command
        .env("RUSTC", &rustc.path)
        .env("RUSTC_BOOTSTRAP", "1")
        // An empty wrapper overrides one from a configuration file: it would not know this compiler.
        .env("RUSTC_WRAPPER", "")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\u{1f}")))
        .current_dir(crate_dir)
        .args([
            "rustc",
            "--lib",
            "--crate-type",
            "cdylib",
            "--profile",
            "device",
            "--target",
            TARGET,
        ])
        .args([
            "-Zbuild-std=core",
            "--message-format=json-render-diagnostics",
            "--target-dir",
        ])
        .arg(target_dir);
    for setting in PROFILE {
        command.arg("--config").arg(format!("profile.device.{setting}"));
    }
    let shown = format!("{command:?}");
    let result = command.output().map_err(|source| CudaBuilderError::Io {
        what: format!("run {shown}"),
        source,
    })?;
    let stderr = String::from_utf8_lossy(&result.stderr);
    if !result.status.success() {
        return Err(CudaBuilderError::BuildFailed(stderr.into_owned()));
    }
    linked_output(&String::from_utf8_lossy(&result.stdout)).ok_or_else(|| {
        CudaBuilderError::BuildFailed(format!(
            "cargo reported no linked output for {}\n{stderr}",
            crate_dir.display()
        ))
    })
}

/// The file name of the last `cdylib` among cargo's messages.
fn linked_output(messages: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_cdylib = message["target"]["crate_types"]
            .as_array()?
            .iter()
            .any(|kind| kind == "cdylib");
        (message["reason"] == "compiler-artifact" && is_cdylib)
            .then(|| message["filenames"][0].as_str().map(PathBuf::from))
            .flatten()
    })
}

/// Takes out what an outer cargo set for its own build: flags, wrappers, target, profile. What configures the user's
/// cargo (home, network, registries) stays.
fn clean_environment(command: &mut Command) {
    const KEPT: &[&str] = &[
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const DROPPED: &[&str] = &[
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTUP_TOOLCHAIN",
        "CLIPPY_ARGS",
        "TARGET",
        "HOST",
        "PROFILE",
        "OUT_DIR",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "MAKEFLAGS",
        "MFLAGS",
        "__CARGO_FIX_YOLO",
        "__CARGO_DEFAULT_LIB_METADATA",
    ];
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let of_cargo = text.starts_with("CARGO") && !KEPT.iter().any(|kept| text.starts_with(kept));
        if of_cargo || DROPPED.contains(&text) || text.starts_with("DEP_") {
            command.env_remove(&name);
        }
    }
    clean_library_path(command);
}

/// Writes the script, unless it is there already.
fn write_script(path: &Path) -> Result<(), CudaBuilderError> {
    if fs::read_to_string(path).is_ok_and(|text| text == LINKER_SCRIPT) {
        return Ok(());
    }
    fs::write(path, LINKER_SCRIPT).map_err(CudaBuilderError::io("write", path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, executable).map_err(CudaBuilderError::io("make executable", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linked_output_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"crate_types":["lib"]},"filenames":["/t/libcore.rlib"]}
{"reason":"compiler-artifact","target":{"crate_types":["cdylib"]},"filenames":["/t/k.ptx"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(linked_output(messages), Some(PathBuf::from("/t/k.ptx")));
        assert_eq!(linked_output(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
