//! Machine code, through NVIDIA's disassembler where it is found.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use host::device::image::Image;

use crate::provenance::workspace_root;

/// How deep the toolchain's folder is searched; Python packages put their programs seven folders down.
const DEPTH: u32 = 9;

/// A program of the toolchain's folder, or of the search path.
fn find(name: &str) -> Option<PathBuf> {
    fn below(dir: &Path, name: &str, depth: u32) -> Option<PathBuf> {
        let entries: Vec<PathBuf> = std::fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).collect();
        if let Some(hit) = entries
            .iter()
            .find(|p| p.is_file() && p.file_name().is_some_and(|f| f == name))
        {
            return Some(hit.clone());
        }
        let folders = entries.iter().filter(|p| p.is_dir() && !p.is_symlink());
        folders.filter(|_| depth > 0).find_map(|d| below(d, name, depth - 1))
    }
    let local = workspace_root().and_then(|root| below(&root.join(".toolchain"), name, DEPTH));
    let paths = || {
        std::env::var_os("PATH")
            .map(|p| std::env::split_paths(&p).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    local.or_else(|| paths().into_iter().map(|p| p.join(name)).find(|p| p.is_file()))
}

/// The SASS of one kernel.
///
/// # Errors
/// The image has no cubin, no disassembler is found, or it fails.
pub fn disassemble(image: &Image, kernel: &str) -> Result<String> {
    let Some(cubin) = image.cubin else {
        bail!(
            "{} for {} is PTX only: ptxas was not there when this was built",
            image.family,
            image.arch
        );
    };
    let file = tempfile::Builder::new()
        .suffix(".cubin")
        .tempfile()
        .context("cannot make a temporary file")?;
    std::fs::write(file.path(), cubin).context("cannot write the cubin to a temporary file")?;
    let mut command = match (find("nvdisasm"), find("cuobjdump")) {
        (Some(nvdisasm), _) => {
            let mut c = Command::new(nvdisasm);
            c.arg("-c").arg(file.path());
            c
        }
        (None, Some(cuobjdump)) => {
            let mut c = Command::new(cuobjdump);
            c.args(["-sass", "-fun", kernel]).arg(file.path());
            c
        }
        (None, None) => bail!("no nvdisasm or cuobjdump in .toolchain or PATH; `./setup` installs them"),
    };
    let out = command
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !out.status.success() {
        bail!(
            "{:?} failed: {}",
            command.get_program(),
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(section(&String::from_utf8_lossy(&out.stdout), kernel))
}

/// The kernel's part of nvdisasm's output, which has one section a kernel; all of it where there is no such section.
fn section(text: &str, kernel: &str) -> String {
    let is_head = |l: &&str| l.trim_start().starts_with("//--------------------- .text.");
    let wanted = format!(".text.{kernel}");
    let mut lines = text
        .lines()
        .skip_while(|l| !(is_head(l) && l.split_whitespace().any(|w| w == wanted)));
    match lines.next() {
        Some(head) => {
            let rest = lines.take_while(|l| !l.trim_start().starts_with("//---------------------"));
            std::iter::once(head).chain(rest).collect::<Vec<_>>().join("\n")
        }
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_kernels_section() {
        let text = "head\n//--------------------- .text.a --------------------------\nA1\nA2\n\
                    //--------------------- .text.ab --------------------------\nB\n";
        let a = super::section(text, "a");
        assert!(a.ends_with("A1\nA2") && !a.contains("B"), "{a}");
        assert!(super::section(text, "ab").ends_with("\nB"));
    }
}
