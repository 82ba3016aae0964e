//! Which kernels become one image, and for which architectures.

use crate::arch::NvvmArch;
use crate::error::CudaBuilderError;
use crate::ir::Kernel;

/// A family's name and its kernels.
pub(crate) type Family = (String, Vec<Kernel>);

/// Whether the kernel is built for this architecture.
pub(crate) fn is_for(kernel: &Kernel, arch: NvvmArch) -> bool {
    kernel.archs.is_empty() || kernel.archs.contains(&arch)
}

/// Names of architectures, with commas; `all` for none.
fn names(archs: &[NvvmArch]) -> String {
    match archs {
        [] => "all".to_string(),
        _ => archs.iter().map(|arch| arch.sm()).collect::<Vec<_>>().join(","),
    }
}

/// Groups the kernels that are for one of the requested architectures into families, in the order of their names.
///
/// # Errors
/// Kernels of one family for different architectures; an `only` that names no family, or one that is for none of `archs`.
pub(crate) fn group(
    kernels: Vec<Kernel>,
    archs: &[NvvmArch],
    only: Option<&str>,
) -> Result<Vec<Family>, CudaBuilderError> {
    let mut groups: Vec<Family> = Vec::new();
    for kernel in kernels {
        match groups.iter_mut().find(|group| group.0 == kernel.family) {
            Some(group) => group.1.push(kernel),
            None => groups.push((kernel.family.clone(), vec![kernel])),
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    for (family, kernels) in &groups {
        if let Some(other) = kernels.iter().find(|kernel| kernel.archs != kernels[0].archs) {
            return Err(CudaBuilderError::Marker(format!(
                "kernels of family `{family}` are for different architectures: `{}` for {}, `{}` for {}; a family is one \
                 image, so give all of its kernels the same `archs`, or move some to a module of their own",
                kernels[0].name,
                names(&kernels[0].archs),
                other.name,
                names(&other.archs)
            )));
        }
    }
    if let Some(only) = only {
        let Some((_, kernels)) = groups.iter().find(|group| group.0 == only) else {
            let known: Vec<_> = groups.iter().map(|group| group.0.as_str()).collect();
            let message = format!("no kernel family is named `{only}`; there are: {}", known.join(", "));
            return Err(CudaBuilderError::Marker(message));
        };
        if !archs.iter().any(|&arch| is_for(&kernels[0], arch)) {
            return Err(CudaBuilderError::Marker(format!(
                "kernel family `{only}` is for {} alone, and {} is asked for",
                names(&kernels[0].archs),
                names(archs)
            )));
        }
        groups.retain(|group| group.0 == only);
    }
    groups.retain(|(_, kernels)| archs.iter().any(|&arch| is_for(&kernels[0], arch)));
    Ok(groups)
}

/// All of these as one family. They are for the one architecture that they are built for.
pub(crate) fn merge(name: &str, groups: Vec<Family>) -> Vec<Family> {
    let mut kernels: Vec<_> = groups.into_iter().flat_map(|(_, kernels)| kernels).collect();
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    for kernel in &mut kernels {
        kernel.archs.clear();
    }
    let family = (!kernels.is_empty()).then(|| (name.to_string(), kernels));
    family.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use NvvmArch::{Compute80, Compute90a, Compute120a};

    fn kernel(name: &str, family: &str, archs: &[NvvmArch]) -> Kernel {
        Kernel {
            name: name.into(),
            family: family.into(),
            archs: archs.to_vec(),
            ..Kernel::default()
        }
    }

    fn names_of(families: &[Family]) -> Vec<(&str, usize)> {
        families
            .iter()
            .map(|(name, kernels)| (name.as_str(), kernels.len()))
            .collect()
    }

    #[test]
    fn families_of_other_architectures_are_left_out() {
        let kernels = vec![
            kernel("a", "plain", &[]),
            kernel("b", "hopper", &[Compute90a]),
            kernel("c", "hopper", &[Compute90a]),
        ];
        let both = group(kernels.clone(), &[Compute80, Compute90a], None).unwrap();
        assert_eq!(names_of(&both), [("hopper", 2), ("plain", 1)]);
        let ampere = group(kernels.clone(), &[Compute80], None).unwrap();
        assert_eq!(names_of(&ampere), [("plain", 1)]);
        assert_eq!(names_of(&merge("all", ampere)), [("all", 1)]);
        let merged = merge("all", both);
        assert_eq!(names_of(&merged), [("all", 3)]);
        assert!(is_for(&merged[0].1[0], Compute120a));
        assert!(merge("all", Vec::new()).is_empty());
        let only = group(kernels.clone(), &[Compute80, Compute90a], Some("hopper")).unwrap();
        assert_eq!(names_of(&only), [("hopper", 2)]);
        let message = group(kernels, &[Compute80, Compute120a], Some("hopper"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("`hopper` is for sm_90a alone, and sm_80,sm_120a"),
            "{message}"
        );
    }

    #[test]
    fn a_family_is_for_the_same_architectures_throughout() {
        let kernels = vec![kernel("a", "mixed", &[Compute90a]), kernel("b", "mixed", &[])];
        let message = group(kernels, &[Compute80], None).unwrap_err().to_string();
        for part in ["family `mixed`", "`a` for sm_90a", "`b` for all"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
}
