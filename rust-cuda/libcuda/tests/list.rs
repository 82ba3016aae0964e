//! The list of functions is the one `cust_raw` declares.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Where cargo keeps the source of `cust_raw`, if cargo is there to say.
fn cust_raw_source() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO")?;
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let manifest = text
        .split('"')
        .find(|s| s.contains("cust_raw-") && s.ends_with("Cargo.toml"))?;
    Some(PathBuf::from(manifest).with_file_name("src").join("cuda.rs"))
}

#[test]
fn every_function_of_cust_raw_is_defined() {
    let Some(path) = cust_raw_source() else {
        eprintln!("SKIPPED: cargo does not say where the source of cust_raw is");
        return;
    };
    let source = std::fs::read_to_string(&path).expect("cargo has unpacked cust_raw");
    let declared: BTreeSet<&str> = source
        .match_indices("pub fn cu")
        .map(|(at, _)| source[at + "pub fn ".len()..].split('(').next().unwrap_or_default())
        .collect();
    let defined: BTreeSet<&str> = libcuda::function_names().collect();
    assert_eq!(defined.len(), 353);
    assert_eq!(
        declared.difference(&defined).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "declared but not defined"
    );
    assert_eq!(
        defined.difference(&declared).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "defined but not declared"
    );
}
