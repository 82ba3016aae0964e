//! What `harness bench` prints and keeps.

use anyhow::{Context, Result};
use host::model::engine::GraphState;
use host::model::plan::StepShape;
use host::results::{Clocks, Mode, RecordFile, slug};

use super::record::{Common, ModelRecord, Source, What};
use super::roles::StepTimes;
use crate::model::args::BenchArgs;
use crate::model::{short_bytes, short_count};
use crate::provenance::default_results_dir;
use crate::store::MODELS;
use crate::table::{Format, Table, print};

/// All records of a run.
pub struct Report {
    common: Common,
    copy_gb_s: Option<f64>,
    records: Vec<ModelRecord>,
}

impl Report {
    /// Without a record.
    pub fn new(common: Common, copy_gb_s: Option<f64>) -> Self {
        Self {
            common,
            copy_gb_s,
            records: Vec::new(),
        }
    }

    /// Adds what was measured.
    pub fn add(&mut self, what: What, clocks: Option<Clocks>) {
        if let Some(state) = clocks.as_ref().filter(|state| !state.throttle.is_empty()) {
            eprintln!("the GPU is throttled: {}", state.throttle.join(", "));
        }
        self.records
            .push(ModelRecord::new(&self.common, what, self.copy_gb_s, clocks));
    }

    /// Says which steps have no graph, and why.
    pub fn graphs(&self, states: &[(StepShape, GraphState)]) {
        for (step, state) in states {
            if let GraphState::Failed(why) = state {
                eprintln!("no graph of {}, it ran launch by launch: {why}", step.label());
            }
        }
    }

    /// Writes the tables, and the records of a GPU.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, args: &BenchArgs) -> Result<()> {
        let (json, csv, md) = (&args.table.json, &args.table.csv, &args.table.md);
        // Stdout first: a file that cannot be written must not cost the tables.
        if !args.table.on_stdout()? {
            print(&self.tables(Format::Text))?;
        }
        let write = |path: &Option<std::path::PathBuf>, text: String| match path {
            Some(path) if path.as_os_str() == "-" => print(&text),
            Some(path) => {
                std::fs::write(path, text).with_context(|| format!("cannot write the table to {}", path.display()))
            }
            None => Ok(()),
        };
        write(json, serde_json::to_string_pretty(&self.records)? + "\n")?;
        write(csv, self.speeds().render(Format::Csv))?;
        write(md, self.tables(Format::Markdown))?;
        if self.common.source == Source::HostTime {
            eprintln!("host time of the simulator: it says nothing of a GPU, and is not recorded");
            return Ok(());
        }
        let dir = args.out.clone().unwrap_or_else(default_results_dir);
        let path = dir.join(format!("{MODELS}{}.jsonl", slug(&self.common.device.name)));
        let mut file = RecordFile::open(&path)?;
        for record in &self.records {
            file.append_json(record)?;
        }
        file.sync()?;
        eprintln!("{} records in {}", self.records.len(), path.display());
        Ok(())
    }

    fn tables(&self, format: Format) -> String {
        let mut text = self.speeds().render(format);
        for record in &self.records {
            if let What::Step(step) = &record.what {
                text += &format!("\n{}\n\n{}", self.title(step), roles(step).render(format));
            }
        }
        text
    }

    fn speeds(&self) -> Table {
        let host = self.common.source == Source::HostTime;
        let speed = if host { "host_time_tokens_per_s" } else { "tokens_per_s" };
        let mut table = Table::new(&[
            "model",
            "size",
            "params",
            "backend",
            "mode",
            "graphs",
            "batch",
            "test",
            speed,
            "deviation",
        ]);
        for record in &self.records {
            let What::Test {
                name,
                batch,
                tokens_per_s,
                ..
            } = &record.what
            else {
                continue;
            };
            table.row([
                self.common.model.clone(),
                short_bytes(self.common.weights_bytes),
                short_count(self.common.parameters),
                if host {
                    "simulator".into()
                } else {
                    format!("CUDA {}", self.common.device.name)
                },
                match self.common.mode {
                    Mode::Strict => "strict".into(),
                    Mode::Fast => "fast".to_string(),
                },
                if self.common.graphs {
                    "on".into()
                } else {
                    "off".to_string()
                },
                batch.to_string(),
                name.clone(),
                format!("{:.2}", tokens_per_s.mean),
                format!("{:.2}", tokens_per_s.deviation),
            ]);
        }
        table
    }

    fn title(&self, step: &StepTimes) -> String {
        let times = match self.common.source {
            Source::Measured => "",
            Source::HostTime => ", host time of the simulator",
        };
        let roof = match self.copy_gb_s {
            Some(rate) => format!("; roofs of a copy rate of {rate:.0} GB/s"),
            None => String::new(),
        };
        format!(
            "{}, {}: one step, {} launches{times}{roof}",
            self.common.model, step.step, step.launches
        )
    }
}

/// A step's time by role.
fn roles(step: &StepTimes) -> Table {
    let mut table = Table::new(&[
        "role",
        "operation",
        "launches",
        "us",
        "share_pct",
        "bytes",
        "floor_us",
        "roof_pct",
    ]);
    let number = |value: Option<f64>, digits: usize| value.map_or_else(String::new, |v| format!("{v:.digits$}"));
    for role in &step.roles {
        table.row([
            role.role.clone(),
            role.ops.join(" "),
            role.launches.to_string(),
            format!("{:.2}", role.us),
            format!("{:.1}", 100.0 * role.share),
            role.bytes.map_or_else(String::new, |bytes| bytes.to_string()),
            number(role.floor_us, 2),
            number(role.roof_share.map(|share| 100.0 * share), 1),
        ]);
    }
    // Of the roles whose operations say what they move: still a time that no step can beat.
    let floors: Vec<f64> = step.roles.iter().filter_map(|role| role.floor_us).collect();
    let floor = (!floors.is_empty()).then(|| floors.iter().sum::<f64>());
    let mut last = |name: &str, launches: String, us: f64, floor: Option<f64>| {
        table.row([
            name.to_string(),
            String::new(),
            launches,
            format!("{us:.2}"),
            format!("{:.1}", 100.0 * us / step.step_us),
            String::new(),
            number(floor, 2),
            number(floor.map(|floor| 100.0 * floor / us), 1),
        ]);
    };
    last("between launches", String::new(), step.between_us, None);
    last("the step", step.launches.to_string(), step.step_us, floor);
    table
}
