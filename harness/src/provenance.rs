//! Where a result comes from: commit, dirty flag, compiler, and the command that makes it again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What this binary was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Full commit id; empty when neither the build nor the run saw a repository.
    pub commit: String,
    /// Whether tracked files differed from the commit.
    pub dirty: bool,
    /// The host compiler, as `rustc --version` says it.
    pub rustc: &'static str,
    /// `debug` or `release`.
    pub profile: &'static str,
}

/// Hash of the kernels' Rust sources in this build: what the simulator ran.
pub const SOURCE_HASH: &str = env!("HARNESS_SOURCE_HASH");

const BUILT_COMMIT: &str = env!("HARNESS_COMMIT");

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
}

/// The commit and dirty flag of this run. A checkout that has moved on since the build says nothing about this binary:
/// then, and outside a checkout, what the build baked in counts.
pub fn provenance() -> &'static Provenance {
    static ONCE: OnceLock<Provenance> = OnceLock::new();
    ONCE.get_or_init(|| {
        let baked = Provenance {
            commit: BUILT_COMMIT.to_string(),
            dirty: env!("HARNESS_DIRTY") == "true",
            rustc: env!("HARNESS_RUSTC"),
            profile: env!("HARNESS_PROFILE"),
        };
        let Some(root) = workspace_root() else { return baked };
        let (Some(head), Some(status)) = (
            git(&root, &["rev-parse", "HEAD"]),
            git(
                &root,
                &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"],
            ),
        ) else {
            return baked;
        };
        if !baked.commit.is_empty() && head != baked.commit {
            return baked;
        }
        Provenance {
            commit: head,
            dirty: !status.is_empty(),
            ..baked
        }
    })
}

/// The workspace this run belongs to: the nearest folder upwards that has both `shapes/` and `kernels-gpu/`, else the one
/// the binary was built in, if it is still there.
pub fn workspace_root() -> Option<PathBuf> {
    let is_root = |p: &Path| p.join("shapes").is_dir() && p.join("kernels-gpu").is_dir();
    let here = std::env::current_dir().ok()?;
    if let Some(p) = here.ancestors().find(|p| is_root(p)) {
        return Some(p.to_path_buf());
    }
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    is_root(built).then(|| built.to_path_buf())
}

/// Where records go when `--out` is not given: `results/` of the workspace, or of the current folder outside one.
pub fn default_results_dir() -> PathBuf {
    workspace_root().unwrap_or_default().join("results")
}

/// A shell line, quoted where needed.
pub fn shell_line<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let quote = |w: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
        if !w.is_empty() && w.chars().all(plain) {
            w.to_string()
        } else {
            format!("'{}'", w.replace('\'', r"'\''"))
        }
    };
    words
        .into_iter()
        .map(|w| quote(w.as_ref()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_lines_are_quoted_only_where_needed() {
        assert_eq!(
            shell_line(["harness", "sweep", "q8*", "m=1,n=2"]),
            "harness sweep 'q8*' m=1,n=2"
        );
        assert_eq!(shell_line(["it's", ""]), r"'it'\''s' ''");
    }

    #[test]
    fn the_build_knows_its_compiler() {
        assert!(provenance().rustc.starts_with("rustc "), "{}", provenance().rustc);
        assert!(["debug", "release"].contains(&provenance().profile));
    }
}
