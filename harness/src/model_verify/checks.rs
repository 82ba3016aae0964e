//! Every other way of running the subject.

use host::model::ModelError;
use host::model::engine::{Draft, GraphState};

use super::batch::Batch;
use super::runner::{GREEDY, Runner};
use super::trace::{Difference, Judge, Trace};
use super::{Sizes, calls};

/// One way of running the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// As the reference, once more.
    Repeat,
    /// By graphs.
    Graphs,
    /// The prompt in chunks of so many tokens.
    Chunk(u32),
    /// Among others.
    Batch {
        /// Sequences.
        size: u32,
        /// By graphs.
        graphs: bool,
    },
    /// With forced drafts.
    Drafts(u32),
    /// With forced drafts, among others with drafts of their own.
    DraftsInBatch {
        /// Drafts.
        count: u32,
        /// Sequences.
        size: u32,
    },
    /// Drafts looked up in the text.
    Lookup(u32),
    /// Drawn with a seed.
    Drawn,
    /// Drawn, among others.
    DrawnInBatch(u32),
    /// Drawn, with forced drafts.
    DrawnDrafts(u32),
    /// On pages and slots that others have used.
    Reopened,
    /// No work of the driver's but the step's.
    DriverCalls,
    /// Drafts of the MTP head, row by row.
    Mtp(u32),
    /// Generation with the MTP head's drafts.
    MtpGenerated(u32),
}

/// What came of a check.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Rows of logits compared.
    pub rows: usize,
    /// Tokens compared.
    pub tokens: usize,
    /// The first difference.
    pub first: Option<Difference>,
    /// Something else that must not be.
    pub broken: Option<String>,
    /// What else there is to say.
    pub note: String,
}

impl From<Judge<'_>> for Found {
    fn from(judge: Judge<'_>) -> Found {
        (judge, String::new()).into()
    }
}

impl From<(Judge<'_>, String)> for Found {
    fn from((judge, note): (Judge<'_>, String)) -> Found {
        Found {
            rows: judge.rows,
            tokens: judge.tokens,
            first: judge.first,
            broken: None,
            note,
        }
    }
}

impl Check {
    /// All of them, the MTP head's at the end: from there on it goes along with every step.
    pub fn all(sizes: &Sizes, mtp: bool) -> Vec<Check> {
        let mut all = vec![Check::Repeat, Check::Graphs];
        all.extend(sizes.chunks.iter().map(|&chunk| Check::Chunk(chunk)));
        // A batch of one is what the two above are.
        for &size in sizes.batches.iter().filter(|&&size| size > 1) {
            all.extend([false, true].map(|graphs| Check::Batch { size, graphs }));
        }
        all.extend(sizes.drafts.iter().map(|&count| Check::Drafts(count)));
        let (size, count) = (sizes.batch(), sizes.most_drafts());
        if size > 1 && count > 0 {
            all.push(Check::DraftsInBatch { count, size });
        }
        all.push(Check::Drawn);
        if size > 1 {
            all.push(Check::DrawnInBatch(size));
        }
        if count > 0 {
            all.extend([Check::DrawnDrafts(count), Check::Lookup(count)]);
        }
        all.extend([Check::Reopened, Check::DriverCalls]);
        if mtp {
            all.extend(sizes.drafts.iter().map(|&count| Check::Mtp(count)));
            all.extend((count > 0).then_some(Check::MtpGenerated(count)));
        }
        all
    }

    /// Its name, by which reports and planted faults call it.
    pub fn name(self) -> String {
        match self {
            Check::Repeat => "repeat".into(),
            Check::Graphs => "graphs".into(),
            Check::Chunk(chunk) => format!("chunk-{chunk}"),
            Check::Batch { size, graphs: true } => format!("batch-{size}"),
            Check::Batch { size, graphs: false } => format!("batch-{size}-eager"),
            Check::Drafts(count) => format!("drafts-{count}"),
            Check::DraftsInBatch { count, size } => format!("drafts-{count}-batch-{size}"),
            Check::Lookup(count) => format!("lookup-{count}"),
            Check::Drawn => "drawn".into(),
            Check::DrawnInBatch(size) => format!("drawn-batch-{size}"),
            Check::DrawnDrafts(count) => format!("drawn-drafts-{count}"),
            Check::Reopened => "reopened".into(),
            Check::DriverCalls => "driver-calls".into(),
            Check::Mtp(count) => format!("mtp-{count}"),
            Check::MtpGenerated(count) => format!("mtp-{count}-generated"),
        }
    }

    /// What it does, in words.
    pub fn what(self) -> String {
        match self {
            Check::Repeat => "the reference once more".into(),
            Check::Graphs => "steps as graphs".into(),
            Check::Chunk(chunk) => format!("the prompt in steps of {chunk}, as graphs"),
            Check::Batch { size, graphs } => {
                let how = if graphs { "as graphs" } else { "launch by launch" };
                format!("among {} others, {how}", size - 1)
            }
            Check::Drafts(count) => format!("{count} drafts verified together, right and wrong"),
            Check::DraftsInBatch { count, size } => {
                format!(
                    "up to {count} drafts, right and wrong, among {} others with drafts",
                    size - 1
                )
            }
            Check::Lookup(count) => format!("up to {count} drafts looked up in the text"),
            Check::Drawn => "tokens drawn with a seed, as graphs".into(),
            Check::DrawnInBatch(size) => format!("drawn, among {} others, some drawn and some not", size - 1),
            Check::DrawnDrafts(count) => format!("drawn, {count} drafts verified together"),
            Check::Reopened => "on pages and slots that others have used".into(),
            Check::DriverCalls => "a step takes no memory and waits for its result alone".into(),
            Check::Mtp(count) => format!("up to {count} drafts of the MTP head"),
            Check::MtpGenerated(count) => format!("generation with up to {count} drafts of the MTP head"),
        }
    }

    /// Runs it. `drawn` is the reference of the drawn ones.
    ///
    /// # Errors
    /// The model's and the device's; a graph that was not captured.
    pub fn run(self, runner: &mut Runner<'_>, reference: &Trace, drawn: &Trace) -> Result<Found, ModelError> {
        let eager = matches!(self, Check::Repeat | Check::Batch { graphs: false, .. });
        runner.engine.set_graphs(!eager);
        let chunk = match self {
            Check::Chunk(chunk) => chunk,
            _ => runner.sizes.chunk(),
        };
        runner.engine.set_chunk(chunk)?;
        let name = self.name();
        let draws = super::runner::drawn(runner.seed());
        let mut found: Found = match self {
            Check::Repeat | Check::Graphs | Check::Chunk(_) => runner.alone(&name, reference, GREEDY)?.into(),
            Check::Batch { size, .. } => {
                let batch = Batch {
                    size,
                    sampling: GREEDY,
                    drafts: 0,
                };
                runner.batch(&name, reference, batch)?.into()
            }
            Check::Drafts(count) => runner.drafted(&name, reference, count, GREEDY)?.into(),
            Check::DraftsInBatch { count, size } => {
                let batch = Batch {
                    size,
                    sampling: GREEDY,
                    drafts: count,
                };
                runner.batch(&name, reference, batch)?.into()
            }
            Check::Lookup(count) => runner.generated(&name, reference, Draft::Lookup(count))?.into(),
            Check::Drawn => runner.alone(&name, drawn, draws)?.into(),
            Check::DrawnInBatch(size) => {
                let batch = Batch {
                    size,
                    sampling: draws,
                    drafts: 0,
                };
                runner.batch(&name, drawn, batch)?.into()
            }
            Check::DrawnDrafts(count) => runner.drafted(&name, drawn, count, draws)?.into(),
            Check::Reopened => runner.reopened(&name, reference)?.into(),
            Check::DriverCalls => calls::check(runner)?,
            Check::Mtp(count) => runner.with_mtp(&name, reference, count)?.into(),
            Check::MtpGenerated(count) => runner.generated(&name, reference, Draft::Mtp(count))?.into(),
        };
        if !eager {
            found.broken = found.broken.or_else(|| failed_capture(runner));
        }
        Ok(found)
    }
}

/// A step that ran launch by launch because there was no graph of it.
fn failed_capture(runner: &Runner<'_>) -> Option<String> {
    runner
        .engine
        .graphs()
        .into_iter()
        .find_map(|(step, state)| match state {
            GraphState::Failed(why) => Some(format!("no graph of {}: {why}", step.label())),
            GraphState::None | GraphState::Captured(_) => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(batches: &[u32], drafts: &[u32]) -> Sizes {
        Sizes {
            new: 8,
            prompt: 130,
            batches: batches.to_vec(),
            chunks: vec![64, 128],
            drafts: drafts.to_vec(),
        }
    }

    #[test]
    fn every_size_is_a_check_with_a_name_of_its_own() {
        let all = Check::all(&sizes(&[1, 4, 16], &[2, 3, 4]), true);
        let names: std::collections::BTreeSet<String> = all.iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), all.len());
        for name in [
            "batch-4",
            "batch-16-eager",
            "chunk-64",
            "drafts-3",
            "drafts-4-batch-16",
            "mtp-2",
            "lookup-4",
        ] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
        let few = Check::all(&sizes(&[1], &[]), false);
        assert!(few.iter().all(|check| !matches!(
            check,
            Check::Batch { .. } | Check::Drafts(_) | Check::Lookup(_) | Check::Mtp(_) | Check::DrawnInBatch(_)
        )));
    }
}
