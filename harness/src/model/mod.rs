//! What the commands that run whole models have in common: their options, opening a model, prompts, parameter counts, hashes.

mod again;
pub mod args;
mod hash;
mod open;
mod params;
pub mod plan;
mod plan_text;
mod prompt;

pub use again::{again, short};
pub use hash::Fnv128;
pub use open::{device, fail, open, planning_device};
pub use params::{parameters, short_bytes, short_count};
pub use prompt::made_up;
