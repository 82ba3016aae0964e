//! The command line of Lockstep: see [`cli::Cli`] for the commands, and each command's module for what it does.
//!
//! Tables go to stdout, logs and progress to stderr. Exit codes: 0 all good, 1 bytes differ or a limit was exceeded, 2 the
//! command line asks for what does not exist, 3 a device or worker failed.

mod bench;
mod best;
mod cli;
mod compare;
mod drive;
mod exit;
mod forward;
mod globs;
mod inspect;
mod list;
mod model;
mod model_verify;
mod plan;
mod probe;
mod provenance;
mod report;
mod select;
mod simt_slice;
mod store;
mod sweep;
mod table;
mod verify;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use cli::Command;
use exit::Exit;

fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        Command::List(a) => list::command(&a).map(|()| Exit::Good),
        Command::Plan(a) if a.whole.model.is_some() => model::plan::command(&a).map(|()| Exit::Good),
        Command::Plan(a) => plan::command(&a).map(|()| Exit::Good),
        Command::Sweep(a) => sweep::command(&a),
        Command::Verify(a) if a.whole.model.is_some() => model_verify::command(&a),
        Command::Verify(a) => verify::command(&a),
        Command::Forward(a) => forward::command(&a).map(|()| Exit::Good),
        Command::Bench(a) => bench::command(&a).map(|()| Exit::Good),
        Command::Best(a) => best::command(&a),
        Command::Compare(a) => compare::command(&a),
        Command::Inspect(a) => inspect::command(&a),
        Command::Probe(a) => probe::command(&a),
        Command::Report(a) => report::command(&a),
        Command::Worker(a) => worker::serve(&a.device).map(|()| Exit::Good),
    };
    outcome.map_or_else(|e| exit::report(&e), ExitCode::from)
}
