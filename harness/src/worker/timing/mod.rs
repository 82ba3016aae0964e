//! Timing on a GPU: device events around replays of a graph of launches over rotating copies of the operands.
//!
//! 1. A short round of every config; one that is far behind the best is dropped, and says so. Of each peer every algorithm it
//!    offers is tried likewise, and the fastest stands for it from here on: a peer is never dropped and never wins.
//! 2. The main round: one replay of each remaining config and peer after another, with a rotating start.
//! 3. The final round: those near the best again, with the peers. Their times are of this round alone, so that a winner is not
//!    one by the luck of the main round.
//! 4. On request, single cold launches of the finalists and the peers.
//!
//! The limits of all of it are in [`budget`]. Before a config's times are given out, its graph runs once more on poisoned
//! outputs and every copy's bytes are compared: what was timed is what was right, launched just so, and a config whose bytes do
//! not hold gets no time. A peer's bytes are compared too, and reported.
//!
//! A sample is the time of one replay over its launches. A ratio to a peer is of medians of the same round.

mod bench;
mod budget;
mod peers;
#[cfg(test)]
mod tests;

use anyhow::Result;
use host::op::{ConfigInfo, Order, Prepared};
use host::peer::Peer;
use host::results::{Place, Times};

use super::child::{Emit, exit_if};
use super::protocol::{Event, Outcome, Phase, Timed};
use super::sweep_job::{References, check_run};
pub use bench::{Bench, Patience};
use bench::{Candidate, Stage, What, clocks};
pub use budget::Budget;

/// Times every config and the peers that take the case, and emits their results, the peers' first.
///
/// # Errors
/// The device's; then the whole case has no times. A peer's failure is its own result.
pub fn time_all(
    bench: &mut Bench,
    prepared: &mut dyn Prepared,
    configs: &[&ConfigInfo],
    peers: &[Box<dyn Peer>],
    cold: bool,
    against: &References,
    emit: Emit,
) -> Result<()> {
    let mut best = f64::INFINITY;
    let mut candidates = Vec::new();
    // Plain kernels last: far behind as a rule, which one sample then shows.
    let (plain, tuned): (Vec<&ConfigInfo>, Vec<&ConfigInfo>) = configs.iter().partition(|c| c.plain);
    for config in tuned.into_iter().chain(plain) {
        let what = What::Config(config);
        what.start(Phase::Time, emit)?;
        let short = bench.short(what, &*prepared, best)?;
        best = best.min(short.least());
        candidates.push(short);
    }
    let limit = bench.budget.prune_ratio * best;
    let (mut kept, mut behind): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| c.least() <= limit);
    let runs = peers::prepare(peers, prepared.case(), emit)?;
    let mut rivals = peers::warm(bench, &runs, &*prepared, emit)?;
    let short_peer = peers::fastest(&rivals, Stage::Short);
    for c in kept.iter_mut() {
        bench.lengthen(c, &*prepared)?;
    }

    let budget = bench.budget;
    let mut all: Vec<&mut Candidate> = kept.iter_mut().chain(rivals.iter_mut()).collect();
    bench.round(&mut all, Stage::Main, budget.main_samples, emit)?;
    let main_peer = peers::fastest(&rivals, Stage::Main);
    kept.sort_by(|a, b| a.median().total_cmp(&b.median()));
    let best = kept.first().map_or(0.0, Candidate::median);
    let near = kept.iter().take_while(|c| c.median() <= budget.final_ratio * best);
    let near = near.count().min(budget.max_finalists);
    // One alone is timed again only beside a peer, for the ratio.
    let finalists = if near > 1 || !rivals.is_empty() { near } else { 0 };
    if finalists > 0 {
        let mut last: Vec<&mut Candidate> = kept[..finalists].iter_mut().chain(rivals.iter_mut()).collect();
        bench.round(&mut last, Stage::Final, budget.final_samples, emit)?;
    }
    if cold {
        let mut last: Vec<&mut Candidate> = kept[..near].iter_mut().chain(rivals.iter_mut()).collect();
        bench.cold(&mut last, &*prepared, emit)?;
    }
    let final_peer = peers::fastest(&rivals, Stage::Final);
    let cold_peer = rivals.iter().filter_map(cold_median).min_by(f64::total_cmp);
    peers::report(bench, prepared, &rivals, &runs, against, emit)?;

    for c in &mut behind {
        c.clocks = clocks(bench.device);
    }
    let fastest = kept.iter().map(Candidate::least).fold(f64::INFINITY, f64::min);
    let timed: Vec<(&Candidate, bool)> = kept
        .iter()
        .map(|c| (c, false))
        .chain(behind.iter().map(|c| (c, true)))
        .collect();
    for (i, (c, dropped)) in timed.iter().enumerate() {
        let peer = match c.stage {
            Stage::Short => short_peer,
            Stage::Main => main_peer,
            Stage::Final => final_peer,
        };
        let why = || {
            let (samples, ratio) = (c.samples.len(), c.least() / fastest);
            format!("dropped after {samples} samples: {ratio:.1} times the fastest")
        };
        let timed = Timed {
            measured: c.measured()?,
            place: if *dropped { Place::Dropped } else { place(c, &kept) },
            ratio_to_peer: peer.map(|us| us / c.median()),
            cold_ratio_to_peer: cold_peer.zip(cold_median(c)).map(|(peer, own)| peer / own),
            pruned: dropped.then(why),
            finalist: i < finalists,
            copies: bench.copies(),
        };
        send(bench, prepared, c, timed, against, emit)?;
    }
    Ok(())
}

fn cold_median(c: &Candidate) -> Option<f64> {
    Times::from_samples(&c.cold).map(|t| t.median_us)
}

fn is_canonical(c: &Candidate) -> bool {
    matches!(c.what, What::Config(config) if config.order == Order::Canonical)
}

/// The place of one of `kept` among those that its mode admits. Those of the last round are ranked among themselves: the clocks may
/// have changed since the one before.
fn place(c: &Candidate, kept: &[Candidate]) -> Place {
    let admitted = || kept.iter().filter(|other| !is_canonical(c) || is_canonical(other));
    let last = admitted().map(|other| other.stage).max();
    if Some(c.stage) < last {
        return Place::Behind;
    }
    let rivals = admitted().filter(|other| Some(other.stage) == last);
    let figures = rivals.filter_map(|other| Times::from_samples(&other.samples));
    let winner = figures.min_by(|a, b| a.median_us.total_cmp(&b.median_us));
    match (winner, Times::from_samples(&c.samples)) {
        (Some(first), Some(own)) if own.median_us <= first.median_us => Place::Winner,
        (Some(first), Some(own)) if own.p20_us <= first.p80_us && first.p20_us <= own.p80_us => Place::Tie,
        _ => Place::Behind,
    }
}

/// Compares the bytes of what was timed, and emits its times if they hold.
fn send(
    bench: &Bench,
    prepared: &mut dyn Prepared,
    c: &Candidate,
    timed: Timed,
    against: &References,
    emit: Emit,
) -> Result<()> {
    let What::Config(config) = c.what else { return Ok(()) };
    c.what.start(Phase::Check, emit)?;
    // What is updated in place changes with every launch: then each copy is launched once, from a graph all the same.
    let once = if prepared.repeatable() {
        None
    } else {
        Some(bench.capture(&c.what, &*prepared, bench.copies())?)
    };
    let graph = once.as_ref().unwrap_or(&c.graph);
    let (outcome, lost) = check_run(bench.device, prepared, config, against, |_| {
        Ok(graph.launch(bench.stream)?)
    });
    if matches!(outcome, Outcome::Held { .. }) {
        let timed = Box::new(timed);
        return emit(Event::Timed {
            config: config.id.clone(),
            timed,
        });
    }
    emit(Event::Checked {
        config: config.id.clone(),
        outcome,
    })?;
    exit_if(lost);
    Ok(())
}
