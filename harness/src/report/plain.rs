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

/// Whether a record is of a plain config: those have tables of their own.
pub fn is_plain(r: &Record) -> bool {
    r.config == PLAIN
}

/// The tables of one device's plain records, each under its model's title; empty without any. A shape that several models have
/// is in the table of each.
pub fn tables(records: &[&Record], shapes: &ShapeSet) -> Result<String> {
    let mut latest: HashMap<Key, &Record> = HashMap::new();
    for r in records.iter().copied().filter(|r| is_plain(r)) {
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
        let mut table = Table::new(&["op", "shape", "sizes", "n_tok", "us", "floor_us", "roof_pct"]);
        for op in host::ops::all() {
            for case in op.cases(&alone) {
                let (dims, n_tok) = case.shape();
                let text: Vec<String> = dims.iter().map(|(d, v)| format!("{d}={v}")).collect();
                let Some(r) = latest.get(&(case.op.clone(), dims, n_tok)) else {
                    continue;
                };
                let (Some(times), roof) = (r.times, r.roof) else {
                    continue;
                };
                let number = |v: Option<f64>, digits: usize| v.map_or_else(String::new, |v| format!("{v:.digits$}"));
                stale += usize::from(store::is_stale(r));
                table.row([
                    case.op.clone(),
                    case.name.clone(),
                    text.join(", "),
                    n_tok.to_string(),
                    format!("{:.2}", times.median_us),
                    number(roof.and_then(|r| r.floor_us), 2),
                    number(roof.and_then(|r| r.share).map(|s| 100.0 * s), 1),
                ]);
            }
        }
        if !table.is_empty() {
            out += &format!(
                "\n**{}**, plain kernels\n\n{}",
                model.title,
                table.render(Format::Markdown)
            );
        }
    }
    if !out.is_empty() {
        out += "\nPlain kernels are what the tuned ones are checked against, and where they start. floor_us is the time of the bytes \
                at this device's copy rate or of the multiply-adds at the rate of their units, whichever is longer; roof_pct is \
                its share of the median.\n";
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
        assert_eq!(cells[1..8], ["silu_mul", "act", "n=8", "2", "5.00", "2.00", "40.0"]);
        assert_eq!(tables(&[], &shapes()).expect("nothing"), "");
    }

    #[test]
    fn records_without_floor_and_share_are_read() {
        let read = parse_records((line("silu_mul", "\"n\":8", PLAIN, 1, 5.0, "") + "\n").as_bytes());
        assert!(read.skipped.is_empty(), "{:?}", read.skipped);
        let text = tables(&read.records.iter().collect::<Vec<_>>(), &shapes()).expect("tables");
        assert!(text.contains("| 5.00 |"), "{text}");
    }
}
