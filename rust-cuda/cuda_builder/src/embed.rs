//! The file a build script includes: every image as bytes in the host binary.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::CudaBuilder;
use crate::error::CudaBuilderError;
use crate::pipeline::Image;
use crate::toolchain::{ENV_VARS, Missing, Toolchain};

/// See [`CudaBuilder::embed`].
pub(crate) fn embed(builder: &CudaBuilder) -> Result<(), CudaBuilderError> {
    for variable in ENV_VARS {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let workspace = builder.workspace();
    watch_setup(&workspace);
    let toolchain = match builder.toolchain() {
        Ok(toolchain) => toolchain,
        Err(CudaBuilderError::NoDeviceCompiler(missing)) => {
            warn(
                "the GPU kernels are not built; everything runs on the simulator alone",
                &missing,
            );
            return write_source(&source(&[], None));
        }
        Err(other) => return Err(other),
    };
    if let Err(missing) = &toolchain.ptxas {
        warn("the GPU kernels are built as PTX only, and spills go unseen", missing);
    }
    let images = builder.images(&toolchain)?;
    write_source(&source(&images, Some(&toolchain)))
}

/// Has cargo run the build script again after `setup` has installed something. The stamp is made here when it is not
/// there, because cargo takes a missing file for a changed one, every time.
fn watch_setup(workspace: &Path) {
    let stamp = workspace.join(".toolchain/stamp");
    if !stamp.is_file() {
        // A read-only checkout builds all the same; it only misses this notice.
        let _ = fs::create_dir_all(workspace.join(".toolchain")).and_then(|()| fs::write(&stamp, "no setup yet\n"));
    }
    if stamp.is_file() {
        println!("cargo::rerun-if-changed={}", stamp.display());
    }
}

fn warn(consequence: &str, missing: &Missing) {
    println!("cargo::warning={consequence}");
    for line in missing.to_string().lines() {
        println!("cargo::warning={line}");
    }
}

fn write_source(text: &str) -> Result<(), CudaBuilderError> {
    let folder = std::env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or_else(|| CudaBuilderError::Marker("embed() belongs in a build script: OUT_DIR is not set".into()))?;
    let path = folder.join("kernels.rs");
    fs::write(&path, text).map_err(CudaBuilderError::io("write", &path))
}

/// The Rust source of `IMAGES` and `BUILT_WITH`.
fn source(images: &[Image], toolchain: Option<&Toolchain>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "/// Every kernel family of every architecture.\npub static IMAGES: &[Image] = &["
    );
    for image in images {
        let cubin = match &image.cubin {
            Some(path) => format!("Some(include_bytes!({path:?}))"),
            None => "None".to_string(),
        };
        let _ = writeln!(
            text,
            "    Image {{ arch: {:?}, family: {:?}, ptx: include_bytes!({:?}), cubin: {cubin}, ptx_sha256: {:?}, kernels: &[",
            image.arch.sm(),
            image.family,
            image.ptx,
            image.ptx_sha256
        );
        for kernel in &image.kernels {
            let _ = writeln!(
                text,
                "        Resources {{ name: {:?}, registers: {}, shared_bytes: {}, stack_bytes: {}, spill_bytes: {}, \
                 max_threads: {} }},",
                kernel.name,
                kernel.registers,
                kernel.shared_bytes,
                kernel.stack_bytes,
                kernel.spill_bytes,
                kernel.max_threads
            );
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    let (rustc, llvm) = toolchain.map_or(("", ""), |t| (t.rustc.version.as_str(), t.llvm.version.as_str()));
    let ptxas = toolchain
        .and_then(|t| t.ptxas.as_ref().ok())
        .map(|ptxas| ptxas.version.as_str());
    let _ = writeln!(
        text,
        "/// The programs that made them.\npub static BUILT_WITH: Toolchain = Toolchain {{ rustc: {rustc:?}, llvm: {llvm:?}, ptxas: {ptxas:?} }};"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NvvmArch, Resources, cache};

    #[test]
    fn without_a_compiler_the_file_has_no_images() {
        let text = source(&[], None);
        assert!(text.contains("IMAGES: &[Image] = &[\n];"), "{text}");
        assert!(text.contains("rustc: \"\", llvm: \"\", ptxas: None"), "{text}");
    }

    #[test]
    fn an_image_has_its_bytes_and_its_resources() {
        let kernels = vec![Resources {
            name: "k".into(),
            registers: 96,
            max_threads: 128,
            ..Resources::default()
        }];
        let image = Image {
            arch: NvvmArch::Compute90a,
            family: "q8".into(),
            ptx: "/t/a.ptx".into(),
            ptx_sha256: cache::sha256(b"ptx"),
            cubin: Some("/t/a.cubin".into()),
            kernels,
            cached: false,
        };
        let text = source(&[image], None);
        for part in [
            "arch: \"sm_90a\", family: \"q8\"",
            "include_bytes!(\"/t/a.ptx\")",
            "Some(include_bytes!(\"/t/a.cubin\"))",
            "name: \"k\", registers: 96, shared_bytes: 0, stack_bytes: 0, spill_bytes: 0, max_threads: 128",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
