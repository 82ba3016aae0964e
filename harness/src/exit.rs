//! Exit codes, and which errors lead to which.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All good: 0.
    #[default]
    Good,
    /// A device or worker failed, and nothing worse: 3.
    Failed,
    /// Bytes that should be equal are not, or a limit was exceeded: 1.
    Mismatch,
}

impl From<Exit> for ExitCode {
    fn from(e: Exit) -> ExitCode {
        ExitCode::from(match e {
            Exit::Good => 0,
            Exit::Mismatch => 1,
            Exit::Failed => 3,
        })
    }
}

/// The exit code of a command line that asks for what does not exist.
pub const USAGE: u8 = 2;
/// The exit code of everything else that keeps a command from working.
pub const FAILED: u8 = 3;

/// An error of the command line: exit code 2.
#[derive(Debug)]
pub struct Usage(anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&text(&self.0))
    }
}

impl std::error::Error for Usage {}

/// Marks an error as one of the command line.
pub fn usage(e: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Usage(e.into()))
}

/// An error with its causes. A cause that the error's own text ends with already is not said twice.
fn text(e: &anyhow::Error) -> String {
    let mut text = e.to_string();
    for cause in e.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

/// Prints an error and gives its exit code.
pub fn report(e: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", text(e));
    ExitCode::from(if e.is::<Usage>() { USAGE } else { FAILED })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    /// Names its cause in its own text, as this workspace's errors do.
    #[derive(Debug)]
    struct Said(std::io::Error);

    impl std::fmt::Display for Said {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "file: {}", self.0)
        }
    }

    impl std::error::Error for Said {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn no_cause_is_said_twice() {
        let said = || Said(std::io::Error::other("disk gone"));
        let e = Err::<(), _>(said()).context("outer").unwrap_err();
        assert_eq!(text(&e), "outer: file: disk gone");
        assert_eq!(text(&usage(said())), "file: disk gone");
        assert_eq!(text(&anyhow::anyhow!("a").context("b")), "b: a");
    }
}
