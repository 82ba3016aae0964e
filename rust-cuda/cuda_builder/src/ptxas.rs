//! Reading what `ptxas -v` prints, and the gate made of it.

use crate::arch::NvvmArch;
use crate::ir::Kernel;

/// What a kernel uses on one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The kernel's name.
    pub name: String,
    /// 32-bit registers a thread.
    pub registers: u32,
    /// Static shared memory, in bytes a block; the dynamic part is chosen at launch.
    pub shared_bytes: u32,
    /// Stack frame (local memory), in bytes a thread.
    pub stack_bytes: u32,
    /// Spill stores and loads, in bytes of instructions a thread.
    pub spill_bytes: u32,
    /// Threads a block at most, from the launch bounds; 0 if there are none.
    pub max_threads: u32,
}

/// One run of ptxas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One entry a kernel, in ptxas's order.
    pub kernels: Vec<Resources>,
    /// Device functions that were not inlined and use a stack frame or spill.
    pub functions: Vec<Resources>,
    /// Performance messages with a C-number, as (kernel if named, message).
    pub advisories: Vec<(Option<String>, String)>,
}

/// Parses the output of `ptxas -v`.
pub fn parse(log: &str) -> Report {
    let mut report = Report::default();
    // ptxas announces an entry, then lists properties of it and of the functions it calls, each under its own name.
    let mut entry: Option<Resources> = None;
    let mut subject: Option<String> = None;
    for line in log.lines() {
        if let Some(code) = advisory_code(line) {
            let text = line
                .split_once(code)
                .map_or(line, |parts| parts.1)
                .trim_start_matches([')', ':', ' ']);
            report
                .advisories
                .push((quoted_after(line, "function '"), format!("{code}: {text}")));
        } else if let Some(name) = quoted_after(line, "Compiling entry function '") {
            report.kernels.extend(entry.take());
            entry = Some(Resources {
                name,
                ..Resources::default()
            });
        } else if let Some((_, name)) = line.split_once("Function properties for ") {
            subject = Some(name.trim().trim_matches('\'').to_string());
        } else if line.contains("bytes stack frame") {
            let stack = number_before(line, " bytes stack frame");
            let spill = number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
            match &mut entry {
                Some(kernel) if subject.as_ref().is_none_or(|name| *name == kernel.name) => {
                    kernel.stack_bytes = stack;
                    kernel.spill_bytes = spill;
                }
                _ if stack + spill > 0 => report.functions.push(Resources {
                    name: subject.clone().unwrap_or_default(),
                    stack_bytes: stack,
                    spill_bytes: spill,
                    ..Resources::default()
                }),
                _ => {}
            }
        } else if let (Some(kernel), true) = (&mut entry, line.contains(" registers")) {
            kernel.registers = number_before(line, " registers");
            kernel.shared_bytes = number_before(line, " bytes smem");
        }
    }
    report.kernels.extend(entry);
    report
}

/// Why kernels of one ptxas run are refused; empty if all pass.
///
/// A kernel must not use local memory, not spill, and ptxas must have no performance message for it (wgmma
/// serialised, `setmaxnreg` ignored), unless its marker has `allow_local`.
pub fn gate(report: &Report, kernels: &[Kernel], arch: NvvmArch) -> Vec<String> {
    let reason = |name: &str| {
        kernels
            .iter()
            .find(|k| k.name == name)
            .and_then(|k| k.allow_local.as_deref())
    };
    let mut refusals = Vec::new();
    for kernel in &report.kernels {
        if kernel.stack_bytes + kernel.spill_bytes > 0 && reason(&kernel.name).is_none() {
            refusals.push(format!(
                "kernel {} for {arch}: {} bytes of stack, {} bytes of spills, with {} registers",
                kernel.name, kernel.stack_bytes, kernel.spill_bytes, kernel.registers
            ));
        }
    }
    // A function that was not inlined, or a message without a name, belongs to any of the kernels.
    let all_excused = kernels.iter().all(|kernel| kernel.allow_local.is_some());
    let names: Vec<_> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
    let any = format!("one of {}", names.join(", "));
    for function in report.functions.iter().filter(|_| !all_excused) {
        refusals.push(format!(
            "device function {} for {arch}, called by {any}: {} bytes of stack, {} bytes of spills; mark it \
             #[inline(always)]",
            function.name, function.stack_bytes, function.spill_bytes
        ));
    }
    for (name, message) in &report.advisories {
        let excused = name.as_deref().map_or(all_excused, |name| reason(name).is_some());
        if !excused {
            let name = name.as_ref().unwrap_or(&any);
            refusals.push(format!("kernel {name} for {arch}: ptxas says {message}"));
        }
    }
    refusals.sort();
    refusals
}

/// What to do about a refusal.
pub const ADVICE: &str = "To pass: index arrays with constants only (unroll by macro or const recursion), start \
    accumulators from zeroed() instead of an array literal, ask for fewer min_blocks or threads, hold less in \
    registers. Where it is meant to be so, say why: #[kernel(allow_local = \"why\")].";

/// `C7510` of a line with a C75xx message.
fn advisory_code(line: &str) -> Option<&str> {
    let at = line.match_indices("C75").map(|(at, _)| at).find(|&at| {
        let in_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let alone_before = at == 0 || !in_word(line.as_bytes()[at - 1]);
        let digits = line[at + 1..]
            .bytes()
            .take_while(|&byte| in_word(byte))
            .collect::<Vec<_>>();
        alone_before && digits.len() == 4 && digits.iter().all(u8::is_ascii_digit)
    })?;
    Some(&line[at..at + 5])
}

fn quoted_after(line: &str, prefix: &str) -> Option<String> {
    let start = line.find(prefix)? + prefix.len();
    Some(line[start..].split('\'').next()?.to_string())
}

/// The number right before `unit`; 0 if the line has none.
fn number_before(line: &str, unit: &str) -> u32 {
    let Some(at) = line.find(unit) else { return 0 };
    let start = line[..at].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| i + 1);
    line[start..at].parse().unwrap_or(0)
}

#[cfg(test)]
#[path = "ptxas_tests.rs"]
mod tests;
