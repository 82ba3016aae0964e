//! The tables of whole models: tokens a second, and where a step's time goes. Made from `models-<device>.jsonl`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use host::results::Mode;

use crate::bench::record::{ModelRecord, SCHEMA, Source, What};
use crate::bench::roles::StepTimes;
use crate::table::{Format, Table};

/// The records of a folder. Lines of another schema are passed over.
fn load(dir: &Path) -> Result<Vec<ModelRecord>> {
    let mut records = Vec::new();
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !(name.starts_with("models-") && name.ends_with(".jsonl")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (i, line) in text.lines().enumerate() {
            match serde_json::from_str::<ModelRecord>(line) {
                Ok(record) if record.schema == SCHEMA => records.push(record),
                Ok(record) => eprintln!("{name}:{}: schema {} is passed over", i + 1, record.schema),
                Err(e) => eprintln!("{name}:{}: no record: {e}", i + 1),
            }
        }
    }
    Ok(records)
}

/// All tables as Markdown; empty without records.
pub(super) fn tables(dir: &Path) -> Result<String> {
    Ok(if dir.exists() {
        render(&load(dir)?)
    } else {
        String::new()
    })
}

fn render(records: &[ModelRecord]) -> String {
    // The latest of each measurement.
    let mut latest: BTreeMap<(String, String, String), &ModelRecord> = BTreeMap::new();
    let measured = records
        .iter()
        .filter(|r| r.common.source == Source::Measured && r.common.mode == Mode::Strict);
    for r in measured.filter(|r| r.common.graphs) {
        let what = match &r.what {
            What::Test { name, batch, .. } => format!("{batch:04} {name}"),
            What::Step(step) => step.step.clone(),
        };
        let key = (r.common.device.name.clone(), r.common.model.clone(), what);
        let slot = latest.entry(key).or_insert(r);
        if slot.time <= r.time {
            *slot = r;
        }
    }
    if latest.is_empty() {
        return String::new();
    }
    let columns = [
        "model",
        "weights_GiB",
        "test",
        "batch",
        "tokens_per_s",
        "deviation",
        "throttled",
    ];
    let mut speeds = Table::new(&columns);
    let mut steps = Vec::new();
    for ((device, model, _), r) in &latest {
        match &r.what {
            What::Test {
                name,
                batch,
                tokens_per_s,
                ..
            } => {
                let throttle = r.clocks.as_ref().map(|clocks| clocks.throttle.join(", "));
                speeds.row(vec![
                    model.clone(),
                    format!("{:.1}", r.common.weights_bytes as f64 / f64::from(1 << 30)),
                    name.clone(),
                    batch.to_string(),
                    format!("{:.1}", tokens_per_s.mean),
                    format!("{:.1}", tokens_per_s.deviation),
                    throttle.unwrap_or_default(),
                ]);
            }
            What::Step(step) => steps.push(step_table(device, model, r, step)),
        }
    }
    let newest = latest.values().max_by_key(|r| &r.time);
    let foot = newest.map_or_else(String::new, |r| {
        let commit: String = r.common.commit.chars().take(12).collect();
        format!(
            "\n{}, strict mode, steps as graphs. Latest record {}, commit {commit}{}: `{}`\n",
            r.common.device.name,
            r.time,
            if r.common.dirty { " with changes" } else { "" },
            r.common.command
        )
    });
    format!(
        "**Whole models**\n\n{}{foot}\n{}",
        speeds.render(Format::Markdown),
        steps.join("\n")
    )
}

/// Where a step's time goes, the largest share first.
fn step_table(device: &str, model: &str, r: &ModelRecord, step: &StepTimes) -> String {
    let mut table = Table::new(&[
        "role",
        "operation",
        "launches",
        "us",
        "share_pct",
        "floor_us",
        "roof_pct",
    ]);
    let mut roles: Vec<_> = step.roles.iter().collect();
    roles.sort_by(|a, b| b.us.total_cmp(&a.us));
    for role in roles {
        table.row(vec![
            role.role.clone(),
            role.ops.join(" "),
            role.launches.to_string(),
            format!("{:.1}", role.us),
            format!("{:.1}", 100.0 * role.share),
            role.floor_us.map_or_else(String::new, |us| format!("{us:.1}")),
            role.roof_share
                .map_or_else(String::new, |share| format!("{:.1}", 100.0 * share)),
        ]);
    }
    let copy = r
        .copy_gb_s
        .map_or_else(String::new, |rate| format!(", roofs of {rate:.0} GB/s"));
    format!(
        "**{model}, {}** on {device}: {:.0} us, {} launches, {:.0} us between roles{copy}\n\n{}",
        step.step,
        step.step_us,
        step.launches,
        step.between_us,
        table.render(Format::Markdown)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = r#"{"schema":1,"time":"2026-11-21T19:00:00Z","commit":"0123456789abcdef","dirty":false,"command":"harness bench","model":"m","parameters":1,
        "weights_bytes":1073741824,"memory_bytes":2,"device":{"name":"G","arch":"sm_90a","sm_count":1},"source":"measured","mode":"strict","graphs":true,
        "chunk":64,"context":64,"toolchain":{"rustc":"r","llvm":"l"},
        "test":{"name":"tg8","batch":4,"tokens":8,"tokens_per_s":{"mean":12.5,"deviation":0.5,"samples":[12,13]}}}"#;

    #[test]
    fn the_latest_measurement_of_each_test_is_shown() {
        let old: ModelRecord = serde_json::from_str(TEST).expect("a record");
        let mut new = old.clone();
        new.time = "2026-11-21T20:00:00Z".into();
        if let What::Test { tokens_per_s, .. } = &mut new.what {
            tokens_per_s.mean = 99.0;
        }
        let mut host = new.clone();
        host.common.source = Source::HostTime;
        host.time = "2026-11-21T21:00:00Z".into();
        let text = render(&[new, host, old]);
        assert!(text.contains("99.0") && !text.contains("12.5"), "{text}");
        assert!(
            text.contains("| m ") && text.contains("20:00:00Z") && text.contains("0123456789ab:"),
            "{text}"
        );
        assert_eq!(render(&[]), "");
    }
}
