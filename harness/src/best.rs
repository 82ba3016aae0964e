//! `harness best`: the tuned table, made from the records.

use anyhow::{Result, bail};
use host::results::{Kind, Record, TuneRules, TunedEntry, TunedTable, Winner, slug};

use crate::cli::BestArgs;
use crate::exit::{Exit, usage};
use crate::provenance::default_results_dir;
use crate::store;
use crate::sweep::write;
use crate::table::Table;

/// The command.
///
/// # Errors
/// No records, or none of the GPU asked for; a table that cannot be written.
pub fn command(args: &BestArgs) -> Result<Exit> {
    let dir = args.out.clone().unwrap_or_else(default_results_dir);
    let records = store::load(&dir).map_err(usage)?;
    let devices = devices(&records, args.gpu.as_deref()).map_err(usage)?;
    let (stale, fresh): (Vec<Record>, Vec<Record>) = records.into_iter().partition(store::is_stale);
    // Times and modelled costs never share a table: the model's is for those who have nothing else, or ask for it.
    let kind = if devices.iter().any(|d| d.1 == Kind::Measured) {
        Kind::Measured
    } else {
        Kind::Model
    };
    let unit = kind == Kind::Measured;
    let mut table = Table::new(if unit {
        &[
            "gpu",
            "op",
            "shape",
            "n_tok",
            "strict_config",
            "strict_us",
            "fast_config",
            "fast_us",
            "tied",
        ]
    } else {
        &[
            "gpu",
            "op",
            "shape",
            "n_tok",
            "strict_config",
            "strict_model_cost",
            "fast_config",
            "fast_model_cost",
            "tied",
        ]
    });
    for (device, _) in devices.iter().filter(|d| d.1 == kind) {
        let rules = TuneRules {
            kind,
            current: &store::current_hash,
            preference: &preference,
        };
        let tuned = TunedTable::from_records(device, &fresh, &rules);
        tuned.entries.iter().for_each(|e| table.row(cells(device, e)));
        let old = stale.iter().filter(|r| r.device.name == *device).count();
        if old > 0 {
            eprintln!(
                "{device}: {old} stale records (made with another version of their kernel than this build's) do not count; \
                 `harness sweep --resume` runs those cases again"
            );
        }
        if args.write {
            let path = tuned.write(&dir.join("tuned"))?;
            eprintln!("{} entries in {}", tuned.entries.len(), path.display());
        }
    }
    let note = if unit {
        ""
    } else {
        "model_cost ranks the configs by a model of an H200 and is no time.\n"
    };
    write(&table, &args.table, note)?;
    Ok(Exit::Good)
}

/// The devices with records, with the kind of their figures; only those a name selects, where there is one.
fn devices(records: &[Record], gpu: Option<&str>) -> Result<Vec<(String, Kind)>> {
    let mut all: Vec<(String, Kind)> = records
        .iter()
        .filter(|r| !matches!(r.kind, Kind::Verify | Kind::Peer))
        .map(|r| (r.device.name.clone(), r.kind))
        .collect();
    all.sort();
    all.dedup();
    let known: Vec<String> = all.iter().map(|d| d.0.clone()).collect();
    if let Some(wanted) = gpu {
        all.retain(|(name, _)| slug(name).contains(&slug(wanted)));
    }
    match (all.is_empty(), known.is_empty()) {
        (false, _) => Ok(all),
        (true, true) => bail!("there are no records yet; `harness sweep` makes them"),
        (true, false) => bail!(
            "no records of `{}`; there are some of {}",
            gpu.unwrap_or_default(),
            known.join(", ")
        ),
    }
}

/// Of two tied configs the one the operation lists first is the simpler.
fn preference(op: &str, config: &str) -> u32 {
    let op = host::ops::of_record(op);
    let at = op.and_then(|o| o.configs().iter().position(|c| c.id == config));
    at.and_then(|i| u32::try_from(i).ok()).unwrap_or(u32::MAX)
}

fn cells(device: &str, e: &TunedEntry) -> [String; 9] {
    let dims: Vec<String> = e.dims.iter().map(|(d, v)| format!("{d}={v}")).collect();
    let name = |w: Option<&Winner>| w.map_or_else(String::new, |w| w.config.clone());
    let figure = |w: Option<&Winner>| w.map_or_else(String::new, |w| format!("{:.2}", w.median));
    [
        device.to_string(),
        e.op.clone(),
        dims.join(","),
        e.n_tok.to_string(),
        name(e.strict.as_ref()),
        figure(e.strict.as_ref()),
        name(Some(&e.fast)),
        figure(Some(&e.fast)),
        e.strict.as_ref().unwrap_or(&e.fast).tied.join(" "),
    ]
}
