//! Indices of several files.

use crate::counting::counted;
use crate::{mutated, read_all, sound};
use host::model::files::{Safetensors, Source};
use std::path::Path;

/// Two files and an index of them.
fn sharded(folder: &Path) -> String {
    let files = [
        ("model-1.safetensors", ["x.weight", "y.weight"]),
        ("model-2.safetensors", ["v.weight", "w.weight"]),
    ];
    let mut map = Vec::new();
    for (file, names) in files {
        std::fs::write(folder.join(file), sound(&names)).unwrap();
        map.extend(names.map(|name| format!("\"{name}\": \"{file}\"")));
    }
    format!(
        "{{\"metadata\": {{\"total_size\": 192}}, \"weight_map\": {{{}}}}}",
        map.join(", ")
    )
}

#[test]
fn indices_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    let sound_index = sharded(folder.path());
    let index = folder.path().join("model.safetensors.index.json");
    let open = |json: &str| {
        std::fs::write(&index, json).unwrap();
        Safetensors::open(folder.path())
    };
    let source = open(&sound_index).unwrap();
    assert_eq!(
        source.names().collect::<Vec<_>>(),
        ["v.weight", "w.weight", "x.weight", "y.weight"]
    );
    assert_eq!((source.files().count(), source.origin()), (2, folder.path()));
    let raw = source.tensor("w.weight").unwrap();
    assert!(
        raw.file.ends_with("model-2.safetensors") && raw.shape.dims() == [8],
        "{raw:?}"
    );
    let missing = source.tensor("z.weight").unwrap_err().to_string();
    assert!(
        missing.contains(&format!(
            "{}: tensor `z.weight` is missing; the nearest",
            folder.path().display()
        )),
        "{missing}"
    );

    let refused = |from: &str, to: &str, texts: &[&str]| {
        let error = open(&sound_index.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.starts_with(&*folder.path().to_string_lossy()), "{error}");
        assert!(
            texts.iter().all(|text| error.contains(text)) && error.len() < 700,
            "{texts:?}: {error}"
        );
    };
    let file = "model-2.safetensors\"}";
    for path in [
        "../model-2.safetensors",
        "/etc/passwd",
        "sub/model-2.safetensors",
        "..",
        "",
    ] {
        let texts = [
            "index.json: tensor `w.weight` is said to be in",
            "which is no name of a safetensors file of the folder",
        ];
        refused(file, &format!("{path}\"}}"), &texts);
    }
    refused(
        file,
        "model-3.safetensors\"}",
        &["said to be in `model-3.safetensors`, and the folder has no such file"],
    );
    refused(
        "\"w.weight\"",
        "\"z.weight\"",
        &["`z.weight` is said to be in `model-2.safetensors`, which has no such tensor"],
    );
    refused(
        file,
        "model-1.safetensors\"}",
        &["`w.weight` is said to be in `model-1.safetensors`, which has no such tensor"],
    );
    refused("weight_map", "weight_mop", &["index.json: has no `weight_map`"]);
    refused("}}", "}", &["EOF while parsing"]);
    refused(
        "model-1",
        &"m".repeat(380),
        &["mmm...", "no name of a safetensors file"],
    );

    // A tensor in both files, one that is no file, one that is cut.
    let second = folder.path().join("model-2.safetensors");
    std::fs::write(&second, sound(&["x.weight", "w.weight"])).unwrap();
    refused(
        "no change",
        "",
        &[
            "model-1.safetensors: tensor `x.weight`: is in ",
            "model-2.safetensors as well",
        ],
    );
    let whole = sound(&["v.weight", "w.weight"]);
    std::fs::write(&second, &whole[..whole.len() - 1]).unwrap();
    refused(
        "no change",
        "",
        &["model-2.safetensors: tensor `", "the file has 95 bytes of data"],
    );
    std::fs::write(&second, b"").unwrap();
    refused("no change", "", &["model-2.safetensors: 0 bytes"]);
    std::fs::remove_file(&index).unwrap();
    let error = Safetensors::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("has neither model.safetensors nor model.safetensors.index.json"),
        "{error}"
    );
    let error = Safetensors::open(folder.path().join("nowhere"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("nowhere: cannot be read: No such file"), "{error}");
    // One file comes before an index, and may be named itself.
    std::fs::write(folder.path().join("model.safetensors"), &whole).unwrap();
    assert_eq!(Safetensors::open(folder.path()).unwrap().names().count(), 2);
    assert_eq!(
        Safetensors::open(folder.path().join("model-1.safetensors"))
            .unwrap()
            .names()
            .count(),
        2
    );
}

/// Ten thousand indices with one to four bytes changed.
#[test]
fn mutated_indices_neither_panic_nor_take_memory() {
    let folder = tempfile::tempdir().unwrap();
    let sound = sharded(folder.path()).into_bytes();
    let path = folder.path().join("model.safetensors.index.json");
    let (mut read, mut refused) = (0, 0);
    for i in 0..10_000 {
        let bytes = mutated(&sound, sound.len(), i);
        std::fs::write(&path, &bytes).unwrap();
        let (result, most, largest) = counted(|| Safetensors::open(folder.path()));
        let bound = bytes.len().max(2048);
        assert!(
            largest <= bound && most <= 4 * bound,
            "{largest} bytes at once, {most} in all, for {}",
            bytes.len()
        );
        match result {
            Ok(source) => {
                read += 1;
                read_all(&source, 1000);
            }
            Err(e) => {
                refused += 1;
                assert!(e.to_string().contains(".safetensors"), "{e}");
            }
        }
    }
    assert!(read > 200 && refused > 1000, "{read} read, {refused} refused");
}
