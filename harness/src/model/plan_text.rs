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

/// What did not run, by operation and reason: in strict mode, what strictness excluded.
pub fn refusals(plan: &Plan) -> String {
    let mut by_reason: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for choice in plan.nodes.iter().filter_map(|node| node.choice.as_deref()) {
        for refusal in &choice.refused {
            let configs = by_reason.entry((&choice.op, &refusal.reason)).or_default();
            if !configs.contains(&refusal.config.as_str()) {
                configs.push(&refusal.config);
            }
        }
    }
    if by_reason.is_empty() {
        return "refused: none\n".into();
    }
    let line = |((op, reason), configs): (&(&str, &str), &Vec<&str>)| match configs[..] {
        [first, .., last] if configs.len() > WRITTEN_OUT => {
            format!("  {op}: {first} .. {last}, {} configs ({reason})\n", configs.len())
        }
        _ => format!("  {op}: {} ({reason})\n", configs.join(" ")),
    };
    let (strict, other): (Vec<_>, Vec<_>) = by_reason.iter().partition(|((_, reason), _)| reason.contains(STRICT));
    let mut text = String::new();
    for (title, lines) in [("excluded by strict mode:\n", strict), ("refused:\n", other)] {
        if !lines.is_empty() {
            text += title;
            text.extend(lines.into_iter().map(line));
        }
    }
    text
}

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
