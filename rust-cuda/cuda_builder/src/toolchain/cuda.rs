//! ptxas and the other programs of CUDA.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Missing, env_path, exe, output, path_folders};

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

const PTXAS_ADVICE: &str = "\
To get ptxas (without it PTX is built, but no cubins, and spills go unseen), do one of these:
  - run ./setup in the repository's root (it installs the Python package nvidia-cuda-nvcc 13.0.88 into .toolchain/),
  - install CUDA 13.0 and set CUDA_HOME, or have ptxas on PATH,
  - set CUDA_BUILDER_PTXAS to the program.";

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

/// `13.0.88` out of `ptxas --version` ("release 13.0, V13.0.88").
fn ptxas_version(text: &str) -> Option<&str> {
    text.split(", V").nth(1)?.split([' ', '\n', '\r']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_ptxas_prints() {
        let ptxas = "Cuda compilation tools, release 13.0, V13.0.88\nBuild cuda_13.0.r13.0/compiler.36424714_0\n";
        assert_eq!(ptxas_version(ptxas), Some("13.0.88"));
    }
}
