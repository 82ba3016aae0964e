//! What `harness forward` prints: tokens and text to stdout, times to stderr, or all of it as JSON.

use std::time::Duration;

use anyhow::Result;
use host::model::engine::{Engine, Generated, GraphState, Opened};
use host::model::tokenizer::Tokenizer;

use crate::model::Fnv128;
use crate::model::args::ForwardArgs;
use crate::table::print;

/// A model's tokenizer, or why there is none.
pub fn tokenizer(opened: &dyn Opened) -> Result<Tokenizer, String> {
    match opened.tokenizer() {
        Ok(Some(tokenizer)) => Ok(tokenizer),
        Ok(None) => Err(format!(
            "{} has no tokenizer; give token ids with --tokens",
            opened.config().name
        )),
        Err(e) => Err(e.to_string()),
    }
}

/// A finished run.
pub struct Outcome<'a> {
    /// The command line.
    pub args: &'a ForwardArgs,
    /// The loaded model.
    pub engine: &'a Engine,
    /// The prompt's tokens.
    pub prompt: &'a [u32],
    /// What was generated, as text.
    pub text: Option<String>,
    /// What was generated.
    pub generated: Generated,
    /// The hash of the prompt's logits, where they were written.
    pub logits: Option<Fnv128>,
    /// Time to load the model.
    pub load: Duration,
    /// Time to the first token.
    pub prefill: Duration,
    /// Time from there to the last.
    pub decode: Duration,
}

/// Things a second; none for no time.
pub fn rate(count: usize, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| count as f64 / time.as_secs_f64())
}

impl Outcome<'_> {
    /// Prints it.
    ///
    /// # Errors
    /// Stdout is gone.
    pub fn print(&self) -> Result<()> {
        if self.args.json {
            return print(&(serde_json::to_string_pretty(&self.json())? + "\n"));
        }
        self.log();
        let mut out = String::new();
        if self.args.new > 0 {
            let ids: Vec<String> = self.generated.tokens.iter().map(u32::to_string).collect();
            out += &(ids.join(",") + "\n");
        }
        if let Some(text) = self.text.as_ref().filter(|_| self.args.new > 0) {
            out += &(text.clone() + "\n");
        }
        if let Some(hash) = self.logits {
            out += &format!("logits {hash}\n");
        }
        print(&out)
    }

    /// Times and what went otherwise than asked for.
    fn log(&self) {
        let info = self.engine.device().info();
        let times = if info.is_simulator {
            " (host time of the simulator)"
        } else {
            ""
        };
        eprintln!(
            "{} on {}: loaded {} in {:.2} s{times}",
            self.engine.config().name,
            info.name,
            crate::model::short_bytes(self.engine.memory().total()),
            self.load.as_secs_f64()
        );
        let speed = |count, time| rate(count, time).map_or_else(String::new, |r| format!(", {r:.2} tokens/s{times}"));
        if self.args.new > 0 {
            eprintln!(
                "prompt: {} tokens{}",
                self.prompt.len(),
                speed(self.prompt.len(), self.prefill)
            );
            let after = self.generated.tokens.len().saturating_sub(1);
            eprintln!(
                "generated: {} tokens in {} steps{}",
                self.generated.tokens.len(),
                self.generated.steps,
                speed(after, self.decode)
            );
        }
        if self.generated.drafted > 0 {
            let Generated { drafted, accepted, .. } = self.generated;
            eprintln!("drafts: {accepted} of {drafted} right");
        }
        for (step, state) in self.engine.graphs() {
            if let GraphState::Failed(why) = state {
                eprintln!("no graph of {}: {why}", step.label());
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let info = self.engine.device().info();
        let generated = &self.generated;
        let excluded: Vec<_> = self
            .engine
            .choices()
            .iter()
            .map(|choice| serde_json::json!(&**choice))
            .collect();
        let graph = |state: &GraphState| match state {
            GraphState::None => "none".to_string(),
            GraphState::Captured(nodes) => format!("{nodes} nodes"),
            GraphState::Failed(why) => format!("failed: {why}"),
        };
        let graphs: Vec<_> = self
            .engine
            .graphs()
            .iter()
            .map(|(step, state)| serde_json::json!({ "step": step.label(), "graph": graph(state) }))
            .collect();
        serde_json::json!({
            "model": self.engine.config().name,
            "device": info.name,
            "times": if info.is_simulator { "host" } else { "device" },
            "mode": self.engine.options().mode,
            "prompt": self.prompt,
            "tokens": generated.tokens,
            "text": self.text,
            "logits_hash": self.logits.map(|hash| hash.to_string()),
            "steps": generated.steps,
            "drafted": generated.drafted,
            "accepted": generated.accepted,
            "memory_bytes": self.engine.memory().parts(),
            "load_s": self.load.as_secs_f64(),
            "prompt_tokens_per_s": rate(self.prompt.len(), self.prefill),
            "generated_tokens_per_s": rate(generated.tokens.len().saturating_sub(1), self.decode),
            "graphs": graphs,
            "choices": excluded,
        })
    }
}
