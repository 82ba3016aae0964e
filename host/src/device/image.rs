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

/// The image that a family's kernels come from on a device of architecture `arch` ([`super::DeviceInfo::arch`], `sm_90`): the
/// first that would be loaded. `None` on the simulator, and where nothing was built. Records, and so the tuned tables, carry
/// this image's architecture (`sm_90a`).
pub fn serving(arch: &str, family: &str) -> Option<&'static Image> {
    let (device, _) = parse_arch(arch)?;
    ranked(IMAGES, family, device).first().map(|&(_, image)| image)
}

/// The images of a family that can serve a device (90 for compute capability 9.0), with their numbers: highest first; of one
/// number, the one with a suffix, whose code may use more of the device. An architecture with a suffix (`sm_90a`) serves no
/// other device, not even as PTX.
pub(super) fn ranked(images: &'static [Image], family: &str, device: u32) -> Vec<(u32, &'static Image)> {
    let mut serving: Vec<(u32, &str, &Image)> = images
        .iter()
        .filter(|image| image.family == family)
        .filter_map(|image| parse_arch(image.arch).map(|(number, suffix)| (number, suffix, image)))
        .filter(|&(number, suffix, _)| number == device || (number < device && suffix.is_empty()))
        .collect();
    serving.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
    serving.into_iter().map(|(number, _, image)| (number, image)).collect()
}

/// Whether code of architecture `of` (`sm_90a`) runs on a device of architecture `device` (`sm_90`), as PTX at the least. A
/// suffix binds code to its own architecture.
pub fn serves(of: &str, device: &str) -> bool {
    match (parse_arch(of), parse_arch(device)) {
        (Some((of, suffix)), Some((device, _))) => of == device || (of < device && suffix.is_empty()),
        _ => false,
    }
}

/// The number and suffix of an architecture: `sm_90a` is (90, "a").
fn parse_arch(arch: &str) -> Option<(u32, &str)> {
    let text = arch.strip_prefix("sm_")?;
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_read() {
        assert_eq!(parse_arch("sm_90a"), Some((90, "a")));
        assert_eq!(parse_arch("sm_120"), Some((120, "")));
        assert_eq!(parse_arch("sm_"), None);
        assert_eq!(parse_arch("compute_90"), None);
        assert!(serving("simt", "q8_matmul").is_none());
    }

    #[test]
    fn a_suffix_binds_code_to_its_architecture() {
        for (of, device, runs) in [
            ("sm_90a", "sm_90", true),
            ("sm_90a", "sm_90a", true),
            ("sm_90a", "sm_100", false),
            ("sm_90a", "sm_80", false),
            ("sm_80", "sm_90", true),
            ("sm_90", "sm_89", false),
            ("sm_90a", "simt", false),
        ] {
            assert_eq!(serves(of, device), runs, "{of} on {device}");
        }
    }

    #[test]
    fn what_was_built_serves_its_own_device_first() {
        for image in IMAGES {
            let device = image.arch.trim_end_matches('a');
            assert_eq!(serving(device, image.family).map(|i| i.arch), Some(image.arch));
        }
        assert!(serving("sm_90", "no such family").is_none());
    }
}
