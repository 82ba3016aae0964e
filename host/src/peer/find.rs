//! Finding a library that may lie anywhere: by an environment variable, as the system's loader finds it, in CUDA's folders, in
//! Python's packages.

use std::path::{Path, PathBuf};

use libcuda::Library;

/// A library and where it was found.
#[derive(Debug)]
pub struct Found {
    /// The open library.
    pub library: Library,
    /// The file, or the name that the system's loader knew.
    pub file: String,
}

/// Folders of CUDA's own packages.
const CUDA: [&str; 4] = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/usr/local/cuda/targets/sbsa-linux/lib",
    "/opt/cuda/lib64",
];
/// Folders with a `python3*` of their own; the environments of `VIRTUAL_ENV` and `CONDA_PREFIX` come before them.
const PYTHON: [&str; 3] = ["/usr/local/lib", "/usr/lib", "/opt/conda/lib"];
/// Where Python's packages of NVIDIA's libraries keep them, below `site-packages/nvidia`.
const PACKAGES: [&str; 2] = ["cublas/lib", "cu13/lib"];

/// Opens the first of `names` (best first) that can be opened. A path in the environment variable `variable` goes before
/// everything else, and nothing else is tried then.
///
/// # Errors
/// What was tried, and the loader's words on the first name.
pub fn find(names: &[&str], variable: &str) -> Result<Found, String> {
    if let Some(path) = std::env::var(variable).ok().filter(|path| !path.is_empty()) {
        let library = Library::open(&path).map_err(|why| format!("{variable}: {why}"))?;
        return Ok(Found { library, file: path });
    }
    let mut first = None;
    for name in names {
        match Library::open(name) {
            Ok(library) => return Ok(found(library, name)),
            Err(why) => first = first.or(Some(why)),
        }
    }
    let folders = folders();
    for path in folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)))
    {
        if path.is_file()
            && let Ok(library) = Library::open(&path.to_string_lossy())
        {
            return Ok(found(library, &path.to_string_lossy()));
        }
    }
    let shown: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(format!(
        "{}; nor is it in {}; {variable}=PATH names it",
        first.unwrap_or_default(),
        shown.join(", ")
    ))
}

fn found(library: Library, file: &str) -> Found {
    let file = file.to_string();
    Found { library, file }
}

/// The folders that are there, in the order they are tried.
fn folders() -> Vec<PathBuf> {
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os);
    let roots = environments
        .map(|root| PathBuf::from(root).join("lib"))
        .chain(PYTHON.iter().map(PathBuf::from));
    let mut folders: Vec<PathBuf> = CUDA.iter().map(PathBuf::from).filter(|p| p.is_dir()).collect();
    folders.extend(roots.flat_map(|root| packages(&root)));
    folders
}

/// The folders of NVIDIA's libraries in the Python versions below `root`.
fn packages(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let mut pythons: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    pythons.retain(|p| {
        p.file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("python3"))
    });
    pythons.sort();
    let site = |python: &PathBuf| ["site-packages", "dist-packages"].map(|s| python.join(s).join("nvidia"));
    let nvidia = pythons.iter().rev().flat_map(site);
    nvidia
        .flat_map(|nvidia| PACKAGES.map(|package| nvidia.join(package)))
        .filter(|folder| folder.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_python_s_packages_are_found() {
        let root = tempfile::tempdir().expect("a folder");
        for folder in [
            "python3.9/dist-packages/nvidia/cublas/lib",
            "python3.12/site-packages/nvidia/cublas/lib",
            "python3.12/site-packages/nvidia/cu13/lib",
            "perl/site-packages/nvidia/cublas/lib",
        ] {
            std::fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        let found = packages(root.path());
        let tails: Vec<String> = found
            .iter()
            .map(|p| p.strip_prefix(root.path()).expect("below").display().to_string())
            .collect();
        assert_eq!(tails.len(), 3, "{tails:?}");
        assert!(tails.iter().all(|tail| tail.starts_with("python3.")), "{tails:?}");
        assert!(packages(&root.path().join("nowhere")).is_empty());
    }

    #[test]
    fn a_library_that_is_nowhere_is_said_to_be_so() {
        let why = find(&["liblockstep-none.so.9"], "LOCKSTEP_TEST_NOWHERE").expect_err("it is nowhere");
        assert!(
            why.contains("liblockstep-none.so.9") && why.contains("LOCKSTEP_TEST_NOWHERE=PATH"),
            "{why}"
        );
    }
}
