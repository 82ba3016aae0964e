//! Which config runs: strict or fast, from what was measured, with a record of why.
//!
//! [`choose`] takes the tuned table's config for the very shape; else that of the nearest tuned shape; else the
//! operation's rule of thumb. A config that does not take the problem, is built for other architectures alone, is not in the canonical order (strict mode) or no
//! longer exists is passed over, and the [`Choice`] says so. A [`Dispatcher`] does that for one device with its tuned table,
//! and keeps every choice it made.

mod dispatcher;

pub use dispatcher::Dispatcher;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::op::{Case, ConfigInfo, Operation, Order};
use crate::ops;
pub use crate::results::Mode;
use crate::results::{Kind, TunedTable};

/// Whether a mode lets an order run: strict only the canonical one.
pub fn admits(mode: Mode, order: Order) -> bool {
    mode == Mode::Fast || order == Order::Canonical
}

/// A config that won somewhere, and how near that is to the shape asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The config.
    pub config: String,
    /// The shape it won.
    pub shape: String,
    /// 0 for the shape asked for.
    pub distance: f64,
    /// What it won with: microseconds, or the model's cost.
    pub median: f64,
    /// Whether that was measured.
    pub kind: Kind,
}

/// Where winners are looked up.
pub trait TunedLookup {
    /// The winners to try for a shape, nearest first. `arch`: the image's, `sm_90a`, as records have it; `dims`:
    /// without the tokens.
    fn candidates(&self, op: &str, arch: &str, dims: &BTreeMap<String, u64>, n_tok: u32, mode: Mode) -> Vec<Candidate>;
}

impl TunedLookup for TunedTable {
    fn candidates(&self, op: &str, arch: &str, dims: &BTreeMap<String, u64>, n_tok: u32, mode: Mode) -> Vec<Candidate> {
        let found = TunedTable::candidates(self, op, arch, dims, n_tok, mode);
        let candidate = |choice: &crate::results::Choice<'_>| Candidate {
            config: choice.winner.config.clone(),
            shape: text(&choice.entry.dims, choice.entry.n_tok),
            distance: choice.distance,
            median: choice.winner.median,
            kind: self.kind,
        };
        found.iter().map(candidate).collect()
    }
}

/// A table of nothing: every choice is by rule of thumb.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untuned;

impl TunedLookup for Untuned {
    fn candidates(&self, _: &str, _: &str, _: &BTreeMap<String, u64>, _: u32, _: Mode) -> Vec<Candidate> {
        Vec::new()
    }
}

/// Why a config was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Reason {
    /// It won the sweep of this very shape.
    Tuned {
        /// Its median: microseconds, or the model's cost.
        median: f64,
        /// Whether that was measured.
        kind: Kind,
    },
    /// It won the sweep of the nearest shape there is.
    Nearest {
        /// That shape.
        shape: String,
        /// How far it is, as the table counts.
        distance: f64,
        /// Whether that sweep measured.
        kind: Kind,
    },
    /// Nothing was tuned for this GPU: the operation's rule of thumb.
    Heuristic,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modelled = |kind: &Kind| {
            if *kind == Kind::Measured {
                ""
            } else {
                " by the model, not measured"
            }
        };
        match self {
            Reason::Tuned { median, kind } if *kind == Kind::Measured => {
                write!(f, "tuned for this shape, {median:.2} us")
            }
            Reason::Tuned { kind, .. } => write!(f, "tuned for this shape{}", modelled(kind)),
            Reason::Nearest { shape, distance, kind } => {
                write!(
                    f,
                    "tuned for {shape}{}, the nearest shape (distance {distance:.2})",
                    modelled(kind)
                )
            }
            Reason::Heuristic => f.write_str("rule of thumb, nothing tuned"),
        }
    }
}

/// A config that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The config's id.
    pub config: String,
    /// Why.
    pub reason: String,
}

/// What runs, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The operation.
    pub op: String,
    /// The dimensions: `n=4096,k=4096,n_tok=1`.
    pub dims: String,
    /// The mode asked for.
    pub mode: Mode,
    /// The chosen config.
    pub config: String,
    /// Its kernel's symbol.
    pub kernel: String,
    /// Its order: whether the bytes are the canonical ones.
    pub order: Order,
    /// Why it.
    pub reason: Reason,
    /// Every config that does not run here, and why.
    pub refused: Vec<Refusal>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice {
            op,
            dims,
            mode,
            config,
            kernel,
            order,
            reason,
            refused,
        } = self;
        write!(
            f,
            "{op} {dims} {}: {config} ({kernel}, {order} order), {reason}",
            name(*mode)
        )?;
        for Refusal { config, reason } in refused {
            write!(f, "\n  not {config}: {reason}")?;
        }
        Ok(())
    }
}

/// No config can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no config of {op} takes {dims} in {} mode:{}", name(*mode), list(refused))]
pub struct NoConfig {
    /// The operation.
    pub op: String,
    /// The dimensions.
    pub dims: String,
    /// The mode.
    pub mode: Mode,
    /// Every config and why not.
    pub refused: Vec<Refusal>,
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Strict => "strict",
        Mode::Fast => "fast",
    }
}

fn list(refused: &[Refusal]) -> String {
    refused
        .iter()
        .map(|r| format!(" {}: {};", r.config, r.reason))
        .collect()
}

/// What a call's addresses say of a config, by its id: the reason where they do not suit it ([`crate::op::call::Call::takes`]).
pub type Takes<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// A case without addresses, or whose addresses suit every config.
pub const ANY_ADDRESS: Takes<'static> = &|_| Ok(());

/// The device that a config is chosen for. [`Dispatcher`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The device's architecture, `sm_90` or `simt`: configs built for others alone do not run.
    pub arch: &'a str,
    /// That of the image that serves it, as records and tuned tables have it: `sm_90a`.
    pub table_arch: &'a str,
    /// Its multiprocessors, for the rule of thumb.
    pub sm_count: u32,
}

/// Chooses the config for a case on a device, at addresses of which `takes` knows.
///
/// # Errors
/// [`NoConfig`] when no config takes the case in this mode.
pub fn choose(
    op: &dyn Operation,
    case: &Case,
    takes: Takes,
    mode: Mode,
    target: Target<'_>,
    table: &dyn TunedLookup,
) -> Result<Choice, NoConfig> {
    let (usable, mut refused) = sort_out(op, case, takes, mode, target.arch);
    let find = |id: &str| usable.iter().find(|info| info.id == id);

    let (dims, n_tok) = case.shape();
    let mut picked = None;
    // Another dtype than the one that shape files mean has winners of its own, or else that one's.
    let typed = ops::record_name(case);
    let mut candidates = table.candidates(&typed, target.table_arch, &dims, n_tok, mode);
    if typed != op.name() {
        candidates.extend(table.candidates(op.name(), target.table_arch, &dims, n_tok, mode));
        // Stable: of equally near ones its own stay first.
        candidates.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    }
    for candidate in candidates {
        let Candidate {
            config,
            shape,
            distance,
            median,
            kind,
        } = candidate;
        if let Some(info) = find(&config) {
            let reason = if distance == 0.0 {
                Reason::Tuned { median, kind }
            } else {
                Reason::Nearest { shape, distance, kind }
            };
            picked = Some((info, reason));
            break;
        }
        if !refused.iter().any(|r| r.config == config) {
            refused.push(Refusal {
                config,
                reason: "in the tuned table, but no config of this build".to_string(),
            });
        }
    }
    let picked = picked
        .or_else(|| {
            op.heuristic(case, target.sm_count)
                .iter()
                .find_map(|id| find(id))
                .map(|info| (info, Reason::Heuristic))
        })
        .or_else(|| usable.first().map(|info| (info, Reason::Heuristic)));
    let (op_name, dims) = (op.name().to_string(), case.dims_text());
    let Some((info, reason)) = picked else {
        return Err(NoConfig {
            op: op_name,
            dims,
            mode,
            refused,
        });
    };
    Ok(Choice {
        op: op_name,
        dims,
        mode,
        config: info.id.clone(),
        kernel: info.kernel.to_string(),
        order: info.order,
        reason,
        refused,
    })
}

/// The configs that may run on a device of this architecture (`sm_90`, `simt`), and the others with their reasons.
pub fn sort_out(
    op: &dyn Operation,
    case: &Case,
    takes: Takes,
    mode: Mode,
    arch: &str,
) -> (Vec<ConfigInfo>, Vec<Refusal>) {
    let (mut usable, mut refused) = (Vec::new(), Vec::new());
    for info in op.configs() {
        let verdict = if admits(mode, info.order) {
            info.runs_on(arch)
                .and_then(|()| op.admits(case, &info.id))
                .and_then(|()| takes(&info.id))
        } else {
            Err("not in the canonical order, and the mode is strict".to_string())
        };
        match verdict {
            Ok(()) => usable.push(info),
            Err(reason) => refused.push(Refusal {
                config: info.id,
                reason,
            }),
        }
    }
    (usable, refused)
}

fn text(dims: &BTreeMap<String, u64>, n_tok: u32) -> String {
    let parts: Vec<String> = dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
    format!("{},n_tok={n_tok}", parts.join(","))
}

#[cfg(test)]
mod tests;
