//! Files by the hash of everything they were made from: an unchanged family costs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

use crate::error::CudaBuilderError;

/// Changes whenever the steps change in a way their keys do not show.
const FORMAT: &str = "cuda_builder 3";

/// A folder of results.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Uses `folder`, making it if need be.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: PathBuf) -> Result<Cache, CudaBuilderError> {
        fs::create_dir_all(&folder).map_err(CudaBuilderError::io("create the folder", &folder))?;
        Ok(Cache { folder })
    }

    /// The file with the ending `extension` made from `inputs`, and whether it was there already. `make` writes it to
    /// the path it is given, as a file or a folder; it appears under its final name only when it is whole.
    ///
    /// # Errors
    /// Those of `make`, and of the renaming.
    pub fn file(
        &self,
        inputs: &[&str],
        extension: &str,
        make: impl FnOnce(&Path) -> Result<(), CudaBuilderError>,
    ) -> Result<(PathBuf, bool), CudaBuilderError> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let mut hash = Sha256::new();
        for part in [FORMAT, extension].iter().chain(inputs) {
            // The length keeps ("ab", "c") apart from ("a", "bc").
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let path = self
            .folder
            .join(format!("{}.{extension}", &hex(&hash.finalize())[..32]));
        if path.exists() {
            return Ok((path, true));
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let unfinished = self
            .folder
            .join(format!("unfinished-{}-{serial}.{extension}", std::process::id()));
        let made = make(&unfinished).and_then(|()| {
            fs::rename(&unfinished, &path).map_err(CudaBuilderError::io("put into its place the file", &path))
        });
        if let Err(e) = made {
            // Nothing to do about a file that cannot be removed; the error that matters is the first one.
            let _ = fs::remove_file(&unfinished).or_else(|_| fs::remove_dir_all(&unfinished));
            return Err(e);
        }
        Ok((path, false))
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_made_once_and_a_failed_one_never_appears() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().join("cache")).unwrap();
        let write = |path: &Path| fs::write(path, "made").map_err(CudaBuilderError::io("write", path));
        let (path, hit) = cache.file(&["ab", "c"], "txt", write).unwrap();
        assert!(!hit && fs::read_to_string(&path).unwrap() == "made");
        let again = cache.file(&["ab", "c"], "txt", |_| panic!("it is there")).unwrap();
        assert_eq!(again, (path.clone(), true));
        let (other, hit) = cache.file(&["a", "bc"], "txt", write).unwrap();
        assert!(!hit && other != path);

        let fail = |path: &Path| {
            fs::write(path, "half").unwrap();
            Err(CudaBuilderError::Ir("no".into()))
        };
        cache.file(&["d"], "txt", fail).unwrap_err();
        assert_eq!(fs::read_dir(folder.path().join("cache")).unwrap().count(), 2);
        assert!(!cache.file(&["d"], "txt", write).unwrap().1);
    }

    #[test]
    fn the_hash_is_sha256() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
