//! Counting a kernel's PTX instructions.

use std::collections::BTreeMap;

/// The instruction mix of one kernel: `64 mma.sync, 32 ld.global, ...`, most frequent first.
pub fn mix(ptx: &str, kernel: &str) -> String {
    let Some(body) = body(ptx, kernel) else {
        return "not in the PTX".into();
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in body.lines() {
        if let Some(op) = opcode(line) {
            *counts.entry(op).or_default() += 1;
        }
    }
    let mut all: Vec<(String, usize)> = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: usize = all.iter().map(|c| c.1).sum();
    let parts: Vec<String> = all.iter().map(|(op, n)| format!("{n} {op}")).collect();
    format!("{total} in all: {}", parts.join(", "))
}

/// The text between the braces of a kernel's `.entry`.
fn body<'p>(ptx: &'p str, kernel: &str) -> Option<&'p str> {
    let mut rest = ptx;
    loop {
        let at = rest.find(".entry ")?;
        rest = &rest[at + ".entry ".len()..];
        let name: &str = rest
            .split(|c: char| !(c.is_alphanumeric() || "_$".contains(c)))
            .next()?;
        if name == kernel {
            break;
        }
    }
    let open = rest.find('{')?;
    let mut depth = 0usize;
    for (i, c) in rest[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&rest[open + 1..open + i]);
        }
    }
    None
}

/// The opcode of a line, with what tells its kind: state space for loads and stores, type for arithmetic.
fn opcode(line: &str) -> Option<String> {
    let mut text = line.split("//").next()?.trim().trim_start_matches('{').trim();
    // A predicate: `@%p1 bra`, `@!%p1 bra`.
    if text.starts_with('@') {
        text = text.split_once(char::is_whitespace)?.1.trim();
    }
    let word = text.split([' ', '\t', ';']).next().filter(|w| !w.is_empty())?;
    if word.starts_with(['.', '$', '}', '(', ')', '"', '%']) || word.ends_with(':') {
        return None;
    }
    let parts: Vec<&str> = word.split('.').collect();
    let find = |wanted: &[&str]| wanted.iter().find(|w| parts.contains(w)).map(|s| s.to_string());
    let name = parts[0];
    let detail = match name {
        "ld" | "st" | "atom" | "red" | "cp" | "ldu" => {
            let space = find(&["global", "shared", "param", "local", "const", "async"]);
            let width = find(&["v4", "v2"]).map(|v| format!(".{v}")).unwrap_or_default();
            space.map(|s| s + &width)
        }
        "mma" | "wgmma" => parts
            .iter()
            .find(|p| p.starts_with('m') && p.len() > 3)
            .map(|s| s.to_string()),
        "shfl" | "vote" | "bar" | "barrier" | "match" => parts.get(1).map(|s| s.to_string()),
        "cvt" => None,
        _ => parts
            .iter()
            .rev()
            .find(|p| ["f32", "f64", "f16", "bf16"].contains(p))
            .map(|s| s.to_string()),
    };
    Some(detail.map_or_else(|| name.to_string(), |d| format!("{name}.{d}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "
.visible .entry other(.param .u64 p) { ret; }
.visible .entry kernel(
\t.param .u64 .ptr .align 1 kernel_param_0
)
.maxntid 128
{
\t.reg .pred \t%p<2>;
\t.reg .b32 \t%r<9>;
\tld.param.b64 \t%rd1, [kernel_param_0]; // a comment: add.f32
$L__BB0_1:
\tld.global.nc.v4.b32 \t{%r1, %r2, %r3, %r4}, [%rd1];
\tld.global.nc.v4.b32 \t{%r1, %r2, %r3, %r4}, [%rd1+16];
\t{
\tmma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1}, {%r2}, {%r3}, {%r4};
\t}
\tfma.rn.f32 \t%f1, %f2, %f3, %f1;
\tbar.sync \t0;
\t@%p1 bra \t$L__BB0_1;
\tret;
}
";

    #[test]
    fn the_mix_is_of_the_kernel_alone() {
        let mix = mix(PTX, "kernel");
        let want = "8 in all: 2 ld.global.v4, 1 bar.sync, 1 bra, 1 fma.f32, 1 ld.param, 1 mma.m16n8k32, 1 ret";
        assert_eq!(mix, want);
        assert_eq!(super::mix(PTX, "other"), "1 in all: 1 ret");
        assert_eq!(super::mix(PTX, "kern"), "not in the PTX");
    }
}
