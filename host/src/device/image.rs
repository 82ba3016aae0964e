//! Kernel images embedded at build time. The build script writes the list, `IMAGES`, and the versions of the programs that
//! made it, `BUILT_WITH`; both are empty where there was no device compiler.

/// One kernel family compiled for one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Architecture, as `sm_90a`.
    pub arch: &'static str,
    /// Kernel family: the module the kernels are in.
    pub family: &'static str,
    /// PTX text.
    pub ptx: &'static [u8],
    /// Machine code for exactly this architecture, if ptxas was there at build time.
    pub cubin: Option<&'static [u8]>,
    /// SHA-256 of the PTX, in hexadecimal.
    pub ptx_sha256: &'static str,
    /// What ptxas said of each kernel.
    pub kernels: &'static [Resources],
}

/// What one kernel uses, as ptxas reports it.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// The kernel's name.
    pub name: &'static str,
    /// Registers a thread.
    pub registers: u32,
    /// Static shared memory in bytes.
    pub shared_bytes: u32,
    /// Local memory a thread in bytes.
    pub stack_bytes: u32,
    /// Spilled bytes.
    pub spill_bytes: u32,
    /// Launch bound: threads of a block, 0 if unset.
    pub max_threads: u32,
}

/// What the images were built with.
#[derive(Clone, Copy, Debug)]
pub struct Toolchain {
    /// `rustc --version` of the device compiler.
    pub rustc: &'static str,
    /// Its LLVM's version.
    pub llvm: &'static str,
    /// ptxas's version, if it was there.
    pub ptxas: Option<&'static str>,
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
