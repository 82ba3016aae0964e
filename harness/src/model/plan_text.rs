//! A plan for people: launches that repeat from layer to layer are one line.

use std::collections::BTreeMap;

use host::model::plan::{Node, Plan};

/// Launches that differ in their layer alone.
pub struct Folded<'p> {
    /// How many there are.
    pub launches: usize,
    /// Of which layers: `0-2 4-6`.
    pub layers: String,
    /// The first of them.
    pub node: &'p Node,
}

/// A plan's launches in the order in which each is first met.
pub fn fold(plan: &Plan) -> Vec<Folded<'_>> {
    let mut rows: Vec<(&Node, usize, Vec<u32>)> = Vec::new();
    for node in &plan.nodes {
        let same = |first: &Node| {
            (first.layer.is_some(), first.role, &first.op, &first.dims, &first.config)
                == (node.layer.is_some(), node.role, &node.op, &node.dims, &node.config)
        };
        let at = rows.iter().position(|row| same(row.0)).unwrap_or_else(|| {
            rows.push((node, 0, Vec::new()));
            rows.len() - 1
        });
        let (_, launches, layers) = &mut rows[at];
        *launches += 1;
        layers.extend(node.layer.filter(|layer| layers.last() != Some(layer)));
    }
    let folded = |(node, launches, layers): (_, usize, Vec<u32>)| Folded {
        launches,
        layers: ranges(&layers),
        node,
    };
    rows.into_iter().map(folded).collect()
}

/// The most ranges of layers that are written out.
const RANGES: usize = 3;

/// Ascending numbers as ranges; many of them by the first and the last.
fn ranges(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &n in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    if let ([first, .., last], true) = (&ranges[..], ranges.len() > RANGES) {
        return format!("{} of {}-{}", numbers.len(), first.0, last.1);
    }
    let text = |&(a, b): &(u32, u32)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// What did not run, by operation and reason: in strict mode, what strictness excluded. A config that several shapes refuse is named once,
/// with its first reason.
pub fn refusals(plan: &Plan) -> String {
    let mut by_config: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for choice in plan.nodes.iter().filter_map(|node| node.choice.as_deref()) {
        for refusal in &choice.refused {
            let reasons = by_config.entry((&choice.op, &refusal.config)).or_default();
            if !reasons.contains(&refusal.reason.as_str()) {
                reasons.push(&refusal.reason);
            }
        }
    }
    if by_config.is_empty() {
        return "refused: none\n".into();
    }
    let mut by_reason: BTreeMap<(&str, &str, usize), Vec<&str>> = BTreeMap::new();
    for ((op, config), reasons) in &by_config {
        let key = (*op, reasons[0], reasons.len() - 1);
        by_reason.entry(key).or_default().push(config);
    }
    let (strict, other): (Vec<_>, Vec<_>) = by_reason
        .iter()
        .partition(|((_, reason, _), _)| reason.contains(STRICT));
    let mut text = String::new();
    for (title, lines) in [("excluded by strict mode:\n", strict), ("refused:\n", other)] {
        if lines.is_empty() {
            continue;
        }
        text += title;
        let mut of_op = ("", 0);
        for ((op, reason, more), configs) in lines {
            of_op = if of_op.0 == *op { (*op, of_op.1 + 1) } else { (*op, 1) };
            match of_op.1 {
                ..=LINES => text += &line(op, reason, *more, configs),
                _ if of_op.1 == LINES + 1 => {
                    text += &format!("  {op}: others as well; --json has every config with its reason\n")
                }
                _ => {}
            }
        }
    }
    text
}

fn line(op: &str, reason: &str, more: usize, configs: &[&str]) -> String {
    let reason = match more {
        0 => reason.to_string(),
        _ => format!("{reason}; +{more} such"),
    };
    match configs {
        [first, .., last] if configs.len() > WRITTEN_OUT => {
            format!("  {op}: {first} .. {last}, {} configs ({reason})\n", configs.len())
        }
        _ => format!("  {op}: {} ({reason})\n", configs.join(" ")),
    }
}

/// Lines of one operation at most.
const LINES: usize = 6;
/// Configs of one line that are named each.
const WRITTEN_OUT: usize = 4;
/// What dispatch says of a config that strictness excludes.
const STRICT: &str = "the mode is strict";

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn layers_are_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 4]), "0-2 4");
        assert_eq!(ranges(&[3, 7, 11, 15]), "4 of 3-15");
    }
}
