//! The command that runs this again, as reports and records have it.

use crate::provenance::shell_line;

/// Options that say where something is written: not what was run.
const FILES: [&str; 4] = ["--out", "--json", "--csv", "--md"];

/// A path without its folders; other texts as they are.
pub fn short(model: &str) -> String {
    let path = std::path::Path::new(model);
    match path.file_name() {
        Some(name) if path.exists() => name.to_string_lossy().into_owned(),
        _ => model.into(),
    }
}

/// This process's command line, without files that are written and with the model's path cut to its last part.
pub fn again(model: &str) -> String {
    line(std::env::args().skip(1), model)
}

fn line(words: impl Iterator<Item = String>, model: &str) -> String {
    let mut kept = vec!["harness".to_string()];
    let mut words = words;
    while let Some(word) = words.next() {
        if FILES.contains(&word.as_str()) {
            words.next();
        } else if !FILES.iter().any(|option| word.starts_with(&format!("{option}="))) {
            kept.push(word.replace(model, &short(model)));
        }
    }
    shell_line(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_was_written_is_left_out() {
        let words = [
            "bench",
            "--model",
            "synthetic:m",
            "--out",
            "/x",
            "--md=t.md",
            "-p",
            "512",
        ]
        .map(String::from);
        assert_eq!(
            line(words.into_iter(), "synthetic:m"),
            "harness bench --model synthetic:m -p 512"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_string();
        let words = ["verify".into(), format!("--model={path}")];
        let line = line(words.into_iter(), &path);
        assert!(
            line.starts_with("harness verify --model=") && !line.contains('/'),
            "{line}"
        );
    }
}
