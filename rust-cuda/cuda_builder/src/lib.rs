//! Builds kernels written in Rust for NVIDIA GPUs: Rust-CUDA's `CudaBuilder` on rustc's own NVPTX back end.
//!
//! A build script says
//! ```no_run
//! # fn main() -> Result<(), cuda_builder::CudaBuilderError> {
//! cuda_builder::CudaBuilder::new("../kernels-gpu").archs(&["sm_80", "sm_90a"])?.embed()
//! # }
//! ```
//! and includes the file that [`CudaBuilder::embed`] writes. Where there is no device compiler the build goes on, with
//! an empty list of images and a warning that says what to install.
//!
//! How a build runs (docs/decisions/cuda-builder.md says why): a nested cargo compiles the kernel crate and `core` to
//! bitcode, once for all architectures ([`nested`]); `llvm-link` joins it; its text is edited ([`ir`]); each family of
//! kernels is cut out, optimised, made into PTX and a cubin for each architecture and gated on what ptxas says
//! ([`pipeline`], [`ptxas`]). Results are kept by the hash of what they were made from ([`cache`]).

pub mod arch;
pub mod cache;
mod embed;
pub mod error;
mod families;
pub mod ir;
pub mod nested;
pub mod pipeline;
mod ptx;
pub mod ptxas;
pub mod toolchain;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use arch::NvvmArch;
pub use error::CudaBuilderError;
pub use pipeline::Image;
pub use ptxas::Resources;
pub use toolchain::Toolchain;

use cache::Cache;
use pipeline::Request;

/// Builds the kernels of one crate. The names are Rust-CUDA's where they overlap; `archs`, `only`, `images` and
/// `embed` are added.
#[derive(Clone, Debug)]
pub struct CudaBuilder {
    crate_dir: PathBuf,
    archs: Vec<NvvmArch>,
    copy_to: Option<PathBuf>,
    only: Option<String>,
    target_dir: Option<PathBuf>,
}

impl CudaBuilder {
    /// A builder of the kernel crate in the folder `path`, for `sm_80` until told otherwise.
    pub fn new(path: impl AsRef<Path>) -> Self {
        CudaBuilder {
            crate_dir: path.as_ref().to_path_buf(),
            archs: vec![NvvmArch::Compute80],
            copy_to: None,
            only: None,
            target_dir: None,
        }
    }

    /// Builds for one architecture.
    pub fn arch(mut self, arch: NvvmArch) -> Self {
        self.archs = vec![arch];
        self
    }

    /// Builds for several architectures, named as ptxas does (`sm_90a`).
    ///
    /// # Errors
    /// [`CudaBuilderError::UnknownArch`].
    pub fn archs<S: AsRef<str>>(mut self, names: &[S]) -> Result<Self, CudaBuilderError> {
        self.archs = names
            .iter()
            .map(|name| name.as_ref().parse())
            .collect::<Result<_, _>>()?;
        self.archs.dedup();
        Ok(self)
    }

    /// Copies the PTX file that [`build`](Self::build) makes to `path`.
    pub fn copy_to(mut self, path: impl AsRef<Path>) -> Self {
        self.copy_to = Some(path.as_ref().to_path_buf());
        self
    }

    /// Builds only the family (module) of this name.
    pub fn only(mut self, family: &str) -> Self {
        self.only = Some(family.to_string());
        self
    }

    /// Keeps what is compiled under `path` instead of `device/` in the outer build's target folder.
    pub fn target_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.target_dir = Some(path.as_ref().to_path_buf());
        self
    }

    /// Builds the whole crate into one PTX file for the first architecture, as Rust-CUDA does, and returns its path.
    /// The gate applies where ptxas is there.
    ///
    /// # Errors
    /// All of [`CudaBuilderError`]; in particular when there is no device compiler.
    pub fn build(self) -> Result<PathBuf, CudaBuilderError> {
        let toolchain = self.toolchain()?;
        let name = self.crate_name()?;
        let first = self.archs.get(..1).unwrap_or_default();
        let images = self.run(&toolchain, Some(&name), first)?;
        let ptx = images
            .into_iter()
            .next()
            .map(|image| image.ptx)
            .ok_or_else(|| CudaBuilderError::Marker(format!("{} has no kernels", self.crate_dir.display())))?;
        match &self.copy_to {
            None => Ok(ptx),
            Some(to) => {
                fs::copy(&ptx, to).map_err(|e| CudaBuilderError::FailedToCopyPtxFile(to.clone(), e))?;
                Ok(to.clone())
            }
        }
    }

    /// Builds every family for every architecture with the given programs. For no architecture nothing is compiled at all.
    ///
    /// # Errors
    /// All of [`CudaBuilderError`].
    pub fn images(&self, toolchain: &Toolchain) -> Result<Vec<Image>, CudaBuilderError> {
        if self.archs.is_empty() {
            return Ok(Vec::new());
        }
        self.run(toolchain, None, &self.archs)
    }

    /// For a build script: builds all images and writes `$OUT_DIR/kernels.rs` with the statics `IMAGES` and
    /// `BUILT_WITH`, for an `include!` where `Image`, `Resources` and `Toolchain` are in scope. Without a device
    /// compiler `IMAGES` is empty, and a warning says what to install. Also tells cargo when to run it again.
    ///
    /// # Errors
    /// All of [`CudaBuilderError`] but [`NoDeviceCompiler`](CudaBuilderError::NoDeviceCompiler).
    pub fn embed(self) -> Result<(), CudaBuilderError> {
        embed::embed(&self)
    }

    /// The programs for this crate.
    ///
    /// # Errors
    /// [`CudaBuilderError::NoDeviceCompiler`].
    pub fn toolchain(&self) -> Result<Toolchain, CudaBuilderError> {
        Toolchain::find(&self.workspace()).map_err(CudaBuilderError::NoDeviceCompiler)
    }

    /// The folder of the workspace the kernel crate is in: the nearest one upwards whose manifest says `[workspace]`.
    pub fn workspace(&self) -> PathBuf {
        let start = fs::canonicalize(&self.crate_dir).unwrap_or_else(|_| self.crate_dir.clone());
        let is_root =
            |dir: &&Path| fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"));
        start.ancestors().find(is_root).unwrap_or(&start).to_path_buf()
    }

    fn run(
        &self,
        toolchain: &Toolchain,
        merge_into: Option<&str>,
        archs: &[NvvmArch],
    ) -> Result<Vec<Image>, CudaBuilderError> {
        let crate_name = self.crate_name()?;
        let crate_dir = fs::canonicalize(&self.crate_dir).map_err(CudaBuilderError::io("find", &self.crate_dir))?;
        let folder = self.device_folder();
        fs::create_dir_all(&folder).map_err(CudaBuilderError::io("create the folder", &folder))?;
        // Several builds may share the folder (debug and release, an editor's check): one at a time.
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(CudaBuilderError::io("create", &lock_path))?;
        lock.lock().map_err(CudaBuilderError::io("lock", &lock_path))?;
        let bitcode = nested::compile(&toolchain.rustc, &crate_dir, &folder)?;
        let cache = Cache::open(folder.join("cache"))?;
        let request = Request {
            toolchain,
            archs,
            only: self.only.as_deref(),
            merge_into,
        };
        pipeline::build(request, &bitcode, &crate_name, &cache)
    }

    /// The folder name of the crate, which names kernels that say no family.
    fn crate_name(&self) -> Result<String, CudaBuilderError> {
        if !self.crate_dir.join("Cargo.toml").is_file() {
            return Err(CudaBuilderError::CratePathDoesntExist(self.crate_dir.clone()));
        }
        let path = fs::canonicalize(&self.crate_dir).map_err(CudaBuilderError::io("find", &self.crate_dir))?;
        Ok(path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_"))
    }

    /// Where device code is compiled: one folder for all profiles of the outer build, because nothing of theirs
    /// reaches it.
    fn device_folder(&self) -> PathBuf {
        if let Some(folder) = &self.target_dir {
            return folder.clone();
        }
        // In a build script: target/<profile>/build/<package>/out.
        let of_script =
            std::env::var_os("OUT_DIR").and_then(|out| Some(PathBuf::from(out).ancestors().nth(4)?.to_path_buf()));
        let of_user = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        of_script
            .or(of_user)
            .unwrap_or_else(|| self.workspace().join("target"))
            .join("device")
    }
}
