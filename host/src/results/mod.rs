//! What was measured: append-only records, and the table of winners made from them.
//!
//! - [`Record`]: one case (operation, shape, token count, config) run once: its bytes check, its times or its modelled cost,
//!   and everything needed to run it again.
//! - [`RecordFile`] appends records to `results/<device>.jsonl`, one line each, so that a kill at any moment loses none that
//!   was finished; [`read_records`] reads them and reports lines it had to skip.
//! - [`TunedTable`] holds the best strict and the best fast config of each shape; the host's dispatch reads it.
//! - [`compare`] sets two sets of records beside each other, [`agree`] their winners.
//! - [`ratios`] are the winners' speeds against a peer library's in the same run.
//!
//! The schema is written down in `results/README.md`.

mod agree;
mod compare;
mod file;
mod measured;
mod ratios;
mod record;
#[cfg(test)]
mod tests;
mod tuned;
mod tuned_file;

pub use agree::{AgreeRow, Agreed, Agreement, WinnerKey, agree};
pub use compare::{CaseKey, CompareRow, Comparison, Verdict, compare};
pub use file::{ReadRecords, RecordError, RecordFile, SkippedLine, parse_records, read_records};
pub use measured::{Clocks, PeerRun, Place, Roof, Times};
pub use ratios::{LEAST, Ratio, RatioGroup, groups, ratios};
pub use record::{
    BytesCheck, CaseShape, DeviceRecord, FirstBad, Kind, Mode, ModelCost, Record, SCHEMA, Status, Toolchain, slug,
    timestamp,
};
pub use tuned::{
    CANONICAL, Choice, CurrentHash, TuneRules, TunedEntry, TunedTable, Winner, contenders, stale, token_bucket,
};
pub use tuned_file::TunedError;
