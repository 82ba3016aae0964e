//! What is done to llc's PTX before ptxas sees it, and what is checked of it.

use crate::arch::NvvmArch;
use crate::error::CudaBuilderError;
use crate::ir::Kernel;

/// The PTX without the lines marked `// lockstep.from_sm N` for architectures from N on, where `arch` is older: the code is
/// compiled once for all, and hints that an architecture does not know cost it nothing.
pub(crate) fn known_to(arch: NvvmArch, ptx: &str) -> String {
    let number: u32 = arch
        .sm()
        .trim_start_matches("sm_")
        .trim_end_matches('a')
        .parse()
        .unwrap_or(0);
    let known = |line: &&str| match line.split_once("// lockstep.from_sm ") {
        Some((_, from)) => from.trim().parse::<u32>().is_ok_and(|from| from <= number),
        None => true,
    };
    ptx.lines().filter(known).flat_map(|line| [line, "\n"]).collect()
}

/// The PTX with the parameters that are tensor maps aligned to 64 bytes, which TMA asks of a map's address, and rustc cannot
/// say of a parameter.
pub(crate) fn align_maps(ptx: &str, kernels: &[Kernel]) -> Result<String, CudaBuilderError> {
    let mut text = ptx.to_string();
    for kernel in kernels {
        for index in &kernel.maps {
            let declared = |align: u32| format!(".param .align {align} .b8 {}_param_{index}[128]", kernel.name);
            if text.matches(&declared(16)).count() != 1 {
                return Err(CudaBuilderError::Ir(format!(
                    "parameter {index} of kernel {} is to be a tensor map, but the PTX does not declare it once as `{}`",
                    kernel.name,
                    declared(16)
                )));
            }
            text = text.replacen(&declared(16), &declared(64), 1);
        }
    }
    Ok(text)
}

/// Checks that the PTX holds every kernel with its launch bounds, and nothing unresolved.
pub(crate) fn check(ptx: &str, kernels: &[Kernel]) -> Result<(), CudaBuilderError> {
    for kernel in kernels {
        let entry = format!(".entry {}(", kernel.name);
        let Some((_, header)) = ptx.split_once(&entry) else {
            return Err(CudaBuilderError::Ir(format!(
                "kernel {} is missing from the PTX",
                kernel.name
            )));
        };
        let header = header.split('{').next().unwrap_or(header);
        let words: Vec<&str> = header.split_whitespace().collect();
        let has = |directive: &str, value: u32| {
            value == 0
                || words
                    .windows(2)
                    .any(|pair| pair[0] == directive && pair[1] == value.to_string())
        };
        if !has(".maxntid", kernel.threads) || !has(".minnctapersm", kernel.min_blocks) {
            let message = format!(
                "LLVM dropped the launch bounds of kernel {}: the PTX has {header:?}",
                kernel.name
            );
            return Err(CudaBuilderError::Ir(message));
        }
    }
    if let Some(line) = ptx.lines().find(|line| line.starts_with(".extern .func")) {
        return Err(CudaBuilderError::Ir(format!(
            "a function has no definition on the GPU: {line}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "\
.visible .entry k(
\t.param .u32 k_param_0,
\t.param .align 16 .b8 k_param_1[128],
\t.param .align 16 .b8 k_param_10[128]
)
";

    fn kernel(maps: &[u32]) -> Kernel {
        Kernel {
            name: "k".into(),
            maps: maps.to_vec(),
            ..Kernel::default()
        }
    }

    #[test]
    fn maps_alone_are_aligned_to_64() {
        let text = align_maps(PTX, &[kernel(&[1])]).unwrap();
        assert_eq!(text, PTX.replace("16 .b8 k_param_1[", "64 .b8 k_param_1["));
        let text = align_maps(PTX, &[kernel(&[10, 1])]).unwrap();
        assert_eq!(text, PTX.replace(".align 16", ".align 64"));
        assert_eq!(align_maps(PTX, &[kernel(&[])]).unwrap(), PTX);
    }

    #[test]
    fn a_map_that_is_no_parameter_of_its_size_is_an_error() {
        for index in [0, 2] {
            let message = align_maps(PTX, &[kernel(&[index])]).unwrap_err().to_string();
            assert!(
                message.contains(&format!("parameter {index} of kernel k")) && message.contains("[128]"),
                "{message}"
            );
        }
    }
}
