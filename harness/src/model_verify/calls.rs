//! What a step asks of the driver, once everything is warm.

use host::model::ModelError;
use host::model::engine::Feed;
use libcuda::Calls;

use super::checks::Found;
use super::runner::{GREEDY, Runner};

/// Steps that are counted.
const STEPS: u64 = 8;
/// Steps before: kernels are loaded, graphs captured.
const WARM: usize = 3;

/// Counts decode steps by graphs, then launch by launch.
///
/// # Errors
/// The model's and the device's.
pub fn check(runner: &mut Runner<'_>) -> Result<Found, ModelError> {
    if runner.engine.device().info().is_simulator {
        return Ok(Found {
            note: "driver calls are a GPU's".into(),
            ..Found::default()
        });
    }
    let (mut broken, mut notes) = (None, Vec::new());
    for graphs in [true, false] {
        runner.engine.set_graphs(graphs);
        let calls = count(runner)?;
        broken = broken.or_else(|| judge(calls, graphs));
        let launched = if graphs { calls.graph_launches } else { calls.launches };
        let what = if graphs { "graphs" } else { "kernels" };
        notes.push(format!(
            "{STEPS} steps: {launched} {what} launched, {} copies, {} synchronizations, {} allocations, {} frees",
            calls.copies, calls.synchronizations, calls.allocations, calls.frees
        ));
    }
    Ok(Found {
        broken,
        note: notes.join("; "),
        ..Found::default()
    })
}

/// The driver's calls of some steps.
fn count(runner: &mut Runner<'_>) -> Result<Calls, ModelError> {
    let prompt = runner.prompt("driver-calls");
    runner.with(GREEDY, |runner, seq| {
        let mut last = runner.engine.prefill(&[Feed { seq, tokens: &prompt }])?;
        let mut before = libcuda::calls();
        for step in 0..WARM + STEPS as usize {
            if step == WARM {
                before = libcuda::calls();
            }
            last = runner.engine.decode(&[Feed { seq, tokens: &last }])?.concat();
        }
        Ok(libcuda::calls() - before)
    })
}

/// What the steps should not have done. Copies: the inputs to the device and the tokens from it, which waits for the step.
fn judge(calls: Calls, graphs: bool) -> Option<String> {
    let Calls {
        allocations,
        frees,
        copies,
        launches,
        graph_launches,
        synchronizations,
        module_loads,
        ..
    } = calls;
    let per_step = |what: &str, got: u64, want: u64| {
        (got != want).then(|| format!("{got} {what} in {STEPS} steps, which should be {want}"))
    };
    let launched = if graphs {
        per_step("graph launches", graph_launches, STEPS).or_else(|| per_step("kernel launches", launches, 0))
    } else {
        per_step("graph launches", graph_launches, 0)
    };
    per_step("allocations", allocations, 0)
        .or_else(|| per_step("frees", frees, 0))
        .or_else(|| per_step("copies", copies, 2 * STEPS))
        .or_else(|| per_step("synchronizations", synchronizations, 0))
        .or_else(|| per_step("loads of modules", module_loads, 0))
        .or(launched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_too_many_is_named() {
        let good = Calls {
            copies: 2 * STEPS,
            graph_launches: STEPS,
            ..Calls::default()
        };
        assert_eq!(judge(good, true), None);
        for (bad, named) in [
            (Calls { allocations: 1, ..good }, "1 allocations"),
            (Calls { frees: 2, ..good }, "2 frees"),
            (Calls { copies: 17, ..good }, "17 copies in 8 steps, which should be 16"),
            (
                Calls {
                    synchronizations: 1,
                    ..good
                },
                "1 synchronizations",
            ),
            (Calls { launches: 5, ..good }, "5 kernel launches"),
            (
                Calls {
                    graph_launches: 7,
                    ..good
                },
                "7 graph launches",
            ),
        ] {
            assert!(judge(bad, true).unwrap().contains(named));
        }
    }
}
