//! Result tables: one set of rows, written as aligned text, Markdown, CSV or JSON. Units belong in the column names.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// A table of strings; every row has as many cells as there are columns.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns aligned with blanks, for a terminal.
    Text,
    /// A Markdown table.
    Markdown,
    /// RFC 4180 CSV with a header line.
    Csv,
    /// A JSON array of objects keyed by column name; cells that are numbers are written as numbers.
    Json,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new(columns: &[&str]) -> Table {
        Table {
            columns: columns.iter().map(|&column| column.to_string()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Panics if the number of cells is not the number of columns (a bug of the caller, not of the user).
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row of {} needs as many cells",
            self.columns.join(", ")
        );
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text in `format`.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.aligned("  ", None),
            Format::Markdown => self.aligned(" | ", Some("|")),
            Format::Csv => self.csv(),
            Format::Json => self.json(),
        }
    }

    /// Writes to `path`, or to stdout where it is `-`.
    pub fn write_to(&self, path: &Path, format: Format) -> Result<()> {
        let text = self.render(format);
        if path.as_os_str() == "-" {
            print(&text)
        } else {
            std::fs::write(path, text).with_context(|| format!("cannot write the table to {}", path.display()))
        }
    }

    fn aligned(&self, gap: &str, edge: Option<&str>) -> String {
        let width = |s: &str| s.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|c| {
                let cells = self.rows.iter().map(|r| width(&r[c]));
                cells.chain([width(&self.columns[c])]).max().unwrap_or(0)
            })
            .collect();
        // A column of numbers reads best flush right.
        let numeric: Vec<bool> = (0..self.columns.len())
            .map(|c| !self.rows.is_empty() && self.rows.iter().all(|r| r[c].is_empty() || number(&r[c]).is_some()))
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> = cells
                .enumerate()
                .map(|(c, s)| {
                    let pad = " ".repeat(widths[c] - width(s));
                    if numeric[c] { pad + s } else { s.to_string() + &pad }
                })
                .collect();
            match edge {
                Some(e) => format!("{e} {} {e}\n", padded.join(gap)),
                None => padded.join(gap).trim_end().to_string() + "\n",
            }
        };
        let mut out = line(&mut self.columns.iter().map(String::as_str));
        if edge.is_some() {
            let rules: Vec<String> = (0..widths.len())
                .map(|c| if numeric[c] { "---:".into() } else { "---".to_string() })
                .collect();
            out += &format!("| {} |\n", rules.join(" | "));
        } else {
            out += &("-".repeat(widths.iter().sum::<usize>() + gap.len() * (widths.len().max(1) - 1)) + "\n");
        }
        for r in &self.rows {
            out += &line(&mut r.iter().map(String::as_str));
        }
        out
    }

    fn csv(&self) -> String {
        let quote = |s: &str| {
            if s.contains([',', '"', '\n']) {
                format!("\"{}\"", s.replace('"', "\"\""))
            } else {
                s.to_string()
            }
        };
        let mut out = self.columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(",") + "\n";
        for r in &self.rows {
            out += &(r.iter().map(|c| quote(c)).collect::<Vec<_>>().join(",") + "\n");
        }
        out
    }

    fn json(&self) -> String {
        let value = |s: &str| number(s).map_or_else(|| serde_json::Value::from(s), serde_json::Value::Number);
        let rows: Vec<serde_json::Value> = self
            .rows
            .iter()
            .map(|r| {
                self.columns
                    .iter()
                    .zip(r)
                    .map(|(c, s)| (c.to_string(), value(s)))
                    .collect()
            })
            .collect();
        let rows = serde_json::Value::Array(rows);
        serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n"
    }
}

/// Writes text to stdout. A reader that has gone (`| head`) has what it wanted: no error, and the command's own exit code
/// stands. `print!` would panic.
///
/// # Errors
/// Stdout cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

fn number(s: &str) -> Option<serde_json::Number> {
    if let Ok(i) = s.parse::<i64>() {
        return Some(i.into());
    }
    s.parse::<f64>().ok().and_then(serde_json::Number::from_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut t = Table::new(&["case", "time_us"]);
        t.row(["a,b", "10.5"]);
        t.row(["c\"d", "2"]);
        t
    }

    #[test]
    fn every_format() {
        assert_eq!(
            sample().render(Format::Text),
            "case  time_us\n-------------\na,b      10.5\nc\"d         2\n"
        );
        assert_eq!(
            sample().render(Format::Markdown),
            "| case | time_us |\n| --- | ---: |\n| a,b  |    10.5 |\n| c\"d  |       2 |\n"
        );
        assert_eq!(
            sample().render(Format::Csv),
            "case,time_us\n\"a,b\",10.5\n\"c\"\"d\",2\n"
        );
        let json: serde_json::Value = serde_json::from_str(&sample().render(Format::Json)).unwrap();
        assert_eq!(json[0]["time_us"], 10.5);
        assert_eq!(json[1]["case"], "c\"d");
    }
}
