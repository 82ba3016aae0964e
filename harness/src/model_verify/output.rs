//! What `harness verify --model` prints and writes.

use std::time::Duration;

use anyhow::{Context, Result};
use host::model::engine::Engine;
use serde::Serialize;

use super::Sizes;
use super::checks::Found;
use super::trace::{Difference, Trace};
use crate::cli::VerifyArgs;
use crate::exit::Exit;
use crate::model::again;
use crate::provenance::provenance;
use crate::table::{Format, Table, print};

/// How a check ended.
#[derive(Debug)]
pub enum Outcome {
    /// It ran.
    Ran(Found),
    /// It did not.
    Failed(String),
}

impl Outcome {
    /// Of what a check gave.
    pub fn of(result: Result<Found>) -> Outcome {
        match result {
            Ok(found) => Outcome::Ran(found),
            Err(e) => Outcome::Failed(format!("{e:#}")),
        }
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    check: String,
    what: String,
    /// `equal`, `differs`, `broken` or `failed`.
    outcome: &'static str,
    rows: usize,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Difference>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    seconds: f64,
}

impl Line {
    fn exit(&self) -> Exit {
        match self.outcome {
            "equal" => Exit::Good,
            "failed" => Exit::Failed,
            _ => Exit::Mismatch,
        }
    }
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    device: String,
    mode: host::results::Mode,
    commit: String,
    dirty: bool,
    command: String,
    seed: u64,
    prompt_tokens: usize,
    new_tokens: usize,
    /// Of the logits of every token of the reference.
    logits_hash: String,
    reference_tokens: Vec<u32>,
    checks: Vec<Line>,
}

impl Report {
    /// Without a check.
    pub fn new(args: &VerifyArgs, engine: &Engine, sizes: &Sizes) -> Report {
        Report {
            model: engine.config().name.clone(),
            device: engine.device().info().name.clone(),
            mode: args.whole.mode.into(),
            commit: provenance().commit.clone(),
            dirty: provenance().dirty,
            command: again(args.whole.model.as_deref().unwrap_or_default()),
            seed: args.seed,
            prompt_tokens: sizes.prompt,
            new_tokens: sizes.new,
            logits_hash: String::new(),
            reference_tokens: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Says what everything is compared with.
    pub fn reference(&mut self, reference: &Trace, took: Duration) {
        self.logits_hash = reference.hash().to_string();
        self.reference_tokens.clone_from(&reference.tokens);
        eprintln!(
            "reference: {} tokens, logits {}, {:.1} s",
            reference.tokens.len(),
            self.logits_hash,
            took.as_secs_f64()
        );
    }

    /// Adds a check's end, and says it on stderr.
    pub fn add(&mut self, check: &str, what: &str, outcome: Outcome, took: Duration) {
        let mut line = Line {
            check: check.into(),
            what: what.into(),
            outcome: "equal",
            rows: 0,
            tokens: 0,
            first: None,
            note: String::new(),
            seconds: took.as_secs_f64(),
        };
        match outcome {
            Outcome::Ran(found) => {
                line.outcome = match (&found.first, &found.broken) {
                    (Some(_), _) => "differs",
                    (None, Some(_)) => "broken",
                    (None, None) => "equal",
                };
                let parts = [
                    found.first.as_ref().map(ToString::to_string),
                    found.broken,
                    Some(found.note),
                ];
                let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
                line.note = parts.join("; ");
                (line.rows, line.tokens, line.first) = (found.rows, found.tokens, found.first);
            }
            Outcome::Failed(why) => (line.outcome, line.note) = ("failed", why),
        }
        eprintln!("{check}: {} ({:.1} s)", line.outcome, line.seconds);
        self.checks.push(line);
    }

    /// Prints the table, writes the JSON; how the command ends.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, args: &VerifyArgs) -> Result<Exit> {
        let mut table = Table::new(&["check", "what", "outcome", "rows", "tokens", "note"]);
        for line in &self.checks {
            table.row([
                line.check.clone(),
                line.what.clone(),
                line.outcome.to_string(),
                line.rows.to_string(),
                line.tokens.to_string(),
                line.note.clone(),
            ]);
        }
        let count = |outcome: &str| self.checks.iter().filter(|line| line.outcome == outcome).count();
        let wrong = count("differs") + count("broken");
        let verdict = format!(
            "{} on {}: {} checks, {} equal, {wrong} wrong, {} failed; prompt of {} tokens, {} generated, logits {}\n",
            self.model,
            self.device,
            self.checks.len(),
            count("equal"),
            count("failed"),
            self.prompt_tokens,
            self.new_tokens,
            self.logits_hash
        );
        let json = serde_json::to_string_pretty(self)? + "\n";
        match &args.json {
            Some(path) if path.as_os_str() == "-" => print(&json)?,
            path => {
                print(&(table.render(Format::Text) + &verdict))?;
                if let Some(path) = path {
                    std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        Ok(self.checks.iter().map(Line::exit).max().unwrap_or_default())
    }
}
