//! The plain kernels' tables, one a model: what every operation of its forward takes and how far that is from the floor.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use host::op::spec::PLAIN;
use host::results::Record;
use host::shapes::ShapeSet;

use super::NOT_SHOWN;
use crate::store;
use crate::table::{Format, Table};

/// Operation, sizes and tokens.
type Key = (String, BTreeMap<String, u64>, u32);

/// Operation, shape and sizes, and a cell for each token count.
type Row = ([String; 3], Vec<String>);

/// Whether a record is of a plain kernel, in whichever of its forms (`plain`, `fused`): those have tables of their own. A tuned
/// kernel has an image of its own.
pub fn is_plain(r: &Record) -> bool {
    let configs = host::ops::of_record(&r.op).map_or_else(Vec::new, |op| op.configs());
    let family = |id: &str| configs.iter().find(|c| c.id == id).map(|c| c.family);
    r.config == PLAIN || family(PLAIN).is_some_and(|plain| family(&r.config) == Some(plain))
}

/// The tables of one device's plain records, each under its model's title; empty without any. A shape that several models have
/// is in the table of each; a model with fewer than half of its cases measured has none.
pub fn tables(records: &[&Record], shapes: &ShapeSet) -> Result<String> {
    let mut latest: HashMap<Key, &Record> = HashMap::new();
    for r in records.iter().copied().filter(|r| r.config == PLAIN) {
        let slot = latest
            .entry((r.op.clone(), r.shape.dims.clone(), r.shape.n_tok))
            .or_insert(r);
        if slot.time <= r.time {
            *slot = r;
        }
    }
    let mut out = String::new();
    let mut stale = 0;
    for model in shapes.models.iter().filter(|m| m.name != NOT_SHOWN) {
        let alone = ShapeSet {
            models: vec![model.clone()],
        };
        let mut rows: Vec<Row> = Vec::new();
        let (mut cases, mut found) = (0, 0);
        for case in host::ops::all().iter().flat_map(|op| op.cases(&alone)) {
            if !host::ops::by_name(&case.op).is_some_and(|op| op.configs().iter().any(|c| c.id == PLAIN)) {
                continue;
            }
            cases += 1;
            let (dims, n_tok) = case.shape();
            let text: Vec<String> = dims.iter().map(|(d, v)| format!("{d}={v}")).collect();
            let Some(r) = latest.get(&(case.op.clone(), dims, n_tok)) else {
                continue;
            };
            let Some(times) = r.times else { continue };
            found += 1;
            stale += usize::from(store::is_stale(r));
            let share = r.roof.and_then(|roof| roof.share);
            let share = share.map_or_else(String::new, |s| format!(" ({:.0} %)", 100.0 * s));
            let time = format!("{n_tok}: {:.2}{share}", times.median_us);
            let heading = [case.op, case.name, text.join(", ")];
            match rows.last_mut().filter(|(last, _)| *last == heading) {
                Some((_, cells)) => cells.push(time),
                None => rows.push((heading, vec![time])),
            }
        }
        // A model that was not swept shares a few shapes with one that was: no table of its own for those.
        if found == 0 || 2 * found < cases {
            continue;
        }
        let mut table = Table::new(&["op", "shape", "sizes", "n_tok: us (share of the roof)"]);
        for (heading, cells) in rows {
            table.row(heading.into_iter().chain([cells.join(", ")]));
        }
        out += &format!(
            "\n**{}**, plain kernels\n\n{}",
            model.title,
            table.render(Format::Markdown)
        );
    }
    if !out.is_empty() {
        out += "\nPlain kernels are what the tuned ones are checked against, and where they start. The roof is the time of the bytes \
                at this device's copy rate or of the multiply-adds at the rate of their units, whichever is longer, over the \
                median.\n";
    }
    if stale > 0 {
        out += &format!("{stale} of these rows were measured with an earlier version of their kernel.\n");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::results::parse_records;

    /// A record as the file has it, with and without the fields that old ones lack.
    fn line(op: &str, dims: &str, config: &str, time: u32, us: f64, roof: &str) -> String {
        format!(
            r#"{{"schema":1,"time":"2026-01-01T00:00:0{time}Z","commit":"c","dirty":false,"command":"x","op":"{op}",
            "shape":{{"model":"m","name":"a","dims":{{{dims}}},"n_tok":2}},"config":"{config}","order":"canonical",
            "mode":"strict","device":{{"name":"G","arch":"sm_90a","driver":null,"sm_count":1}},"kind":"measured",
            "status":"PASSED","bytes_check":{{"against":["cpu"],"equal":true,"first_bad":null}},
            "times":{{"median_us":{us},"p20_us":{us},"p80_us":{us},"min_us":{us},"samples":3,"noise":0.0}},
            "roof":{{"bytes":1000,"gb_s":1.0,"share_of_copy":0.5{roof}}},
            "toolchain":{{"rustc":"r","llvm":"l","ptxas":null}},"seed":1}}"#
        )
        .replace('\n', " ")
    }

    fn shapes() -> ShapeSet {
        let dir = tempfile::tempdir().expect("a folder");
        let file = "title = 'My model'\n[[op]]\nop = 'silu_mul'\nname = 'act'\nn = 8\nn_tok = [1, 2]\ncount = 1\n";
        std::fs::write(dir.path().join("my.toml"), file).expect("a file");
        ShapeSet::load(dir.path()).expect("a shape file")
    }

    #[test]
    fn a_model_s_table_has_the_latest_record_of_its_shapes_under_whatever_name() {
        let new = r#","floor_us":2.0,"share":0.4"#;
        let lines = [
            line("silu_mul", "\"n\":8", PLAIN, 2, 5.0, new),
            line("silu_mul", "\"n\":8", PLAIN, 1, 9.0, new),
            line("silu_mul", "\"n\":9", PLAIN, 1, 7.0, new),
            line("silu_mul", "\"n\":8", "tuned", 3, 1.0, new),
        ];
        let read = parse_records((lines.join("\n") + "\n").as_bytes());
        assert!(read.skipped.is_empty(), "{:?}", read.skipped);
        let text = tables(&read.records.iter().collect::<Vec<_>>(), &shapes()).expect("tables");
        assert!(text.contains("**My model**, plain kernels"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|l| l.contains("silu_mul")).collect();
        assert_eq!(rows.len(), 1, "{text}");
        let cells: Vec<&str> = rows[0].split('|').map(str::trim).collect();
        assert_eq!(cells[1..5], ["silu_mul", "act", "n=8", "2: 5.00 (40 %)"]);
        assert_eq!(tables(&[], &shapes()).expect("nothing"), "");
    }

    #[test]
    fn records_without_floor_and_share_are_read() {
        let read = parse_records((line("silu_mul", "\"n\":8", PLAIN, 1, 5.0, "") + "\n").as_bytes());
        assert!(read.skipped.is_empty(), "{:?}", read.skipped);
        let text = tables(&read.records.iter().collect::<Vec<_>>(), &shapes()).expect("tables");
        assert!(text.contains("| 2: 5.00"), "{text}");
    }
}
