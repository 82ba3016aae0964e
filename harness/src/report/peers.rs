//! The tables against peers: how fast the strict winners are beside a peer library in the same run.

use std::collections::{BTreeMap, BTreeSet};

use host::results::{Kind, LEAST, Ratio, Record, Status, groups, ratios};

use crate::table::{Format, Table};

/// One device's tables; empty without a ratio. `records` are those of the configs and of the peers.
pub fn tables(device: &str, records: &[&Record]) -> String {
    let rows = ratios(records.iter().copied());
    if rows.is_empty() {
        return String::new();
    }
    let peers: BTreeSet<String> = records
        .iter()
        .filter(|r| r.kind == Kind::Peer && r.status == Status::Passed)
        .filter_map(|r| r.peer.as_ref())
        .map(|peer| format!("{} {}", peer.name, peer.version))
        .collect();
    let peers: Vec<String> = peers.into_iter().collect();
    let mut out = format!("**Against {} on {device}**\n\n", peers.join(", "));
    out += &means(&rows);
    out += &format!(
        "\nThe peer's median over the strict winner's, of the same rounds on the same buffers: above 1 is faster than the peer, \
         which runs the fastest of the algorithms that it offers. {}\n\n",
        bytes(records)
    );
    out += &by_shape(&rows);
    let under: Vec<String> = rows.iter().filter(|r| r.ratio < LEAST).map(line).collect();
    if !under.is_empty() {
        out += &format!("\nUnder {LEAST}: {}.\n", under.join("; "));
    }
    out
}

fn means(rows: &[Ratio]) -> String {
    let mut table = Table::new(&["cases", "rows", "geometric_mean", "wanted", "least", "rows_under_0.9"]);
    for g in groups(rows) {
        table.row([
            g.name.to_string(),
            g.rows.to_string(),
            format!("{:.3}", g.mean),
            g.wanted.map_or_else(String::new, |wanted| format!("{wanted:.1}")),
            format!("{:.3}", g.least),
            g.under.to_string(),
        ]);
    }
    table.render(Format::Markdown)
}

/// A row a shape, a column a token count.
fn by_shape(rows: &[Ratio]) -> String {
    let counts: BTreeSet<u32> = rows.iter().map(|r| r.n_tok).collect();
    type Shape<'r> = (&'r str, &'r BTreeMap<String, u64>);
    let mut shapes: BTreeMap<Shape, BTreeMap<u32, f64>> = BTreeMap::new();
    for r in rows {
        shapes.entry((&r.op, &r.dims)).or_default().insert(r.n_tok, r.ratio);
    }
    let mut columns = vec!["op".to_string(), "sizes".into()];
    columns.extend(counts.iter().map(|n_tok| format!("M={n_tok}")));
    let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
    for ((op, dims), ratios) in shapes {
        let cells = counts
            .iter()
            .map(|n_tok| ratios.get(n_tok).map_or_else(String::new, |r| format!("{r:.2}")));
        table.row([op.to_string(), text(dims)].into_iter().chain(cells));
    }
    table.render(Format::Markdown)
}

fn line(r: &Ratio) -> String {
    format!(
        "{} {}, M={}: {:.3} ({}, {:.2} us)",
        r.op,
        text(&r.dims),
        r.n_tok,
        r.ratio,
        r.config,
        r.us
    )
}

/// Dimensions, flags that are 0 left out.
fn text(dims: &BTreeMap<String, u64>) -> String {
    let given = dims.iter().filter(|(_, v)| **v != 0);
    given.map(|(d, v)| format!("{d}={v}")).collect::<Vec<_>>().join(", ")
}

/// How often the peer's bytes were the reference's.
fn bytes(records: &[&Record]) -> String {
    let known: Vec<bool> = records.iter().filter_map(|r| r.peer.as_ref()?.bytes_equal).collect();
    let equal = known.iter().filter(|equal| **equal).count();
    format!("Its bytes were the reference's in {equal} of {} runs.", known.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::results::parse_records;

    fn line(kind: &str, config: &str, n: u64, n_tok: u32, us: f64, more: &str) -> String {
        let order = if kind == "peer" { "peer" } else { "canonical" };
        format!(
            r#"{{"schema":1,"time":"2026-01-01T00:00:00Z","commit":"c","dirty":false,"command":"x","op":"gemm",
            "shape":{{"model":"m","name":"a","dims":{{"n":{n},"k":64,"bias":0}},"n_tok":{n_tok}}},"config":"{config}",
            "order":"{order}","mode":"strict","device":{{"name":"G","arch":"sm_90a","driver":null,"sm_count":1}},
            "kind":"{kind}","status":"PASSED",
            "times":{{"median_us":{us},"p20_us":{us},"p80_us":{us},"min_us":{us},"samples":3,"noise":0.0}},
            {more}"toolchain":{{"rustc":"r","llvm":"l","ptxas":null}},"seed":1}}"#
        )
        .replace('\n', " ")
    }

    #[test]
    fn ratios_means_and_the_rows_that_fall_short() {
        let config = |ratio: f64| {
            format!(r#""bytes_check":{{"against":["cpu"],"equal":true,"first_bad":null}},"ratio_to_peer":{ratio},"#)
        };
        let peer = |equal: bool| {
            format!(
                r#""peer":{{"name":"cublasLt","version":"13.0.2","algorithm":"id66","tried":8,"bytes_equal":{equal}}},"#
            )
        };
        let lines = [
            line("measured", "slow", 4096, 512, 20.0, &config(0.5)),
            line("measured", "good", 4096, 512, 10.0, &config(1.0)),
            line("measured", "good", 4096, 1024, 25.0, &config(0.81)),
            line("measured", "good", 4096, 1, 5.0, &config(1.25)),
            line("peer", "cublasLt", 4096, 512, 10.0, &peer(true)),
            line("peer", "cublasLt", 4096, 1024, 20.0, &peer(false)),
        ];
        let read = parse_records((lines.join("\n") + "\n").as_bytes());
        assert!(read.skipped.is_empty(), "{:?}", read.skipped);
        let text = tables("G", &read.records.iter().collect::<Vec<_>>());
        assert!(text.contains("**Against cublasLt 13.0.2 on G**"), "{text}");
        let cells = |start: &str| -> Vec<String> {
            let row = text
                .lines()
                .find(|l| l.starts_with(start))
                .unwrap_or_else(|| panic!("{start}: {text}"));
            row.split('|').map(|c| c.trim().to_string()).collect()
        };
        assert_eq!(cells("| M >= 256")[2..7], ["2", "0.900", "1.0", "0.810", "1"]);
        assert_eq!(cells("| M <= 32")[2..7], ["1", "1.250", "1.1", "1.250", "0"]);
        assert_eq!(cells("| gemm")[2..6], ["k=64, n=4096", "1.25", "1.00", "0.81"]);
        assert!(text.contains("in 1 of 2 runs"), "{text}");
        assert!(
            text.contains("Under 0.9: gemm k=64, n=4096, M=1024: 0.810 (good, 25.00 us)."),
            "{text}"
        );
        assert_eq!(tables("G", &[]), "");
    }
}
