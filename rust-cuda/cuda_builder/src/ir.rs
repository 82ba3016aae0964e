//! The edit of the textual IR, between linking and optimising.
//!
//! Three things rustc cannot say are put in here: which `asm` calls are convergent, the launch bounds of kernels, and
//! (by taking it out) that the code is for no architecture in particular. What changes from build to build without a
//! change of the code (file names, source-location cookies) goes too, so that equal code has equal text.

use crate::arch::NvvmArch;
use crate::error::CudaBuilderError;

/// What `#[kernel]` says of a kernel, in a marker line of `module asm`:
/// `// lockstep.kernel name=.. family=.. threads=.. min_blocks=.. archs=.. maps=.. allow_local=".."`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// The symbol.
    pub name: String,
    /// Kernels of one family (the module they are in) share a PTX file and a cubin.
    pub family: String,
    /// Threads a block at most; 0 says nothing.
    pub threads: u32,
    /// Blocks that must fit on a multiprocessor at once; 0 says nothing.
    pub min_blocks: u32,
    /// The architectures it is for; empty for all.
    pub archs: Vec<NvvmArch>,
    /// Which parameters, as launched, are tensor maps.
    pub maps: Vec<u32>,
    /// Why local memory, spills and ptxas's performance messages are accepted, if they are.
    pub allow_local: Option<String>,
}

/// The outcome of [`edit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The module's text.
    pub text: String,
    /// Its kernels, by name.
    pub kernels: Vec<Kernel>,
    /// How many `asm` calls were marked convergent.
    pub convergent_calls: usize,
}

/// Instructions whose meaning depends on which threads reach them together. An `asm` that holds one must not be
/// duplicated into, or moved under, a branch that was not there.
const CONVERGENT: &[&str] = &[
    "activemask",
    "bar",
    "barrier",
    "elect",
    "ldmatrix",
    "match",
    "mbarrier",
    "mma",
    "movmatrix",
    "redux",
    "setmaxnreg",
    "shfl",
    "stmatrix",
    "tcgen05",
    "vote",
    "wgmma",
    "wmma",
];

const MARKER: &str = "// lockstep.kernel ";

/// Edits `ir`, the linked module. Kernels without a marker (written without `#[kernel]`) get `default_family`.
///
/// # Errors
/// A marker that does not parse, one whose kernel is not defined, two of the same name, or an `asm` call of a form
/// not known here.
pub fn edit(ir: &str, default_family: &str) -> Result<Edited, CudaBuilderError> {
    let mut kernels = markers(ir)?;
    let mut defined = Vec::new();
    let mut convergent_calls = 0;
    let mut shared_declarations: Vec<String> = Vec::new();
    let mut text = String::with_capacity(ir.len() + ir.len() / 64);
    for line in ir.lines() {
        if line.starts_with("; ModuleID") || line.starts_with("source_filename") {
            continue;
        }
        if let Some(asm) = module_asm(line) {
            if asm.trim_start().starts_with(MARKER) {
                continue;
            }
            // Every crate that uses dynamic shared memory declares it; ptxas wants to see a symbol once.
            if asm.contains(".extern") && asm.contains(".shared") {
                if shared_declarations.contains(&asm) {
                    continue;
                }
                shared_declarations.push(asm);
            }
            text.push_str(line);
        } else if line.starts_with("define ") && line.contains(" ptx_kernel ") {
            let (name, attributes_at) = kernel_header(line)?;
            let known = kernels
                .iter()
                .position(|kernel| kernel.name == name)
                .unwrap_or_else(|| {
                    let family = default_family.to_string();
                    kernels.push(Kernel {
                        name: name.to_string(),
                        family,
                        ..Kernel::default()
                    });
                    kernels.len() - 1
                });
            text.push_str(&line[..attributes_at]);
            text.push_str(&bounds(&kernels[known]));
            text.push_str(&line[attributes_at..]);
            defined.push(name.to_string());
        } else if line.starts_with("attributes #") {
            let without_cpu = without_attribute(line, "\"target-cpu\"=");
            text.push_str(&without_attribute(&without_cpu, "\"target-features\"="));
        } else {
            let line = without_srcloc(line);
            match asm_call(&line)? {
                Some(call) if is_convergent(&unescape(&line[call.asm_text.clone()])) => {
                    convergent_calls += 1;
                    text.push_str(&line[..call.end_of_arguments]);
                    text.push_str(" convergent");
                    text.push_str(&line[call.end_of_arguments..]);
                }
                _ => text.push_str(&line),
            }
        }
        text.push('\n');
    }
    if let Some(lost) = kernels.iter().find(|kernel| !defined.contains(&kernel.name)) {
        return Err(CudaBuilderError::Marker(format!(
            "kernel `{}` (family {}) has a marker but no code: kernels must be in the kernel crate itself, not in a \
             dependency of it",
            lost.name, lost.family
        )));
    }
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Edited {
        text,
        kernels,
        convergent_calls,
    })
}

/// All markers of the module.
fn markers(ir: &str) -> Result<Vec<Kernel>, CudaBuilderError> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for line in ir.lines() {
        let Some(asm) = module_asm(line) else { continue };
        let Some(fields) = asm.trim_start().strip_prefix(MARKER) else {
            continue;
        };
        let kernel = parse_marker(fields).map_err(|reason| {
            CudaBuilderError::Marker(format!("`{asm}` is not a marker that `#[kernel]` writes: {reason}"))
        })?;
        if kernels.iter().any(|other| other.name == kernel.name) {
            let message = format!(
                "two kernels are named `{}`; a kernel's name is its symbol, rename one",
                kernel.name
            );
            return Err(CudaBuilderError::Marker(message));
        }
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// Parses the fields of a marker line.
fn parse_marker(fields: &str) -> Result<Kernel, String> {
    let mut kernel = Kernel::default();
    let mut rest = fields.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            // The quoted field is the last one, so that its sentence may hold anything, quotes too.
            Some(quoted) => (quoted.strip_suffix('"').ok_or("the last quote is not at the end")?, ""),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        let number = || {
            value
                .parse::<u32>()
                .map_err(|_| format!("{key}={value} is not a number"))
        };
        let list = || value.split(',').filter(|item| !item.is_empty());
        match key {
            "name" => kernel.name = value.to_string(),
            "family" => kernel.family = value.rsplit("::").next().unwrap_or(value).to_string(),
            "threads" => kernel.threads = number()?,
            "min_blocks" => kernel.min_blocks = number()?,
            "archs" => {
                let archs = list().map(|name| name.parse::<NvvmArch>().map_err(|e| e.to_string()));
                kernel.archs = archs.collect::<Result<_, _>>()?;
                kernel.archs.sort_unstable();
            }
            "maps" => {
                let maps = list().map(|index| {
                    index
                        .parse()
                        .map_err(|_| format!("{key}={value} is not a list of numbers"))
                });
                kernel.maps = maps.collect::<Result<_, _>>()?;
            }
            "allow_local" => kernel.allow_local = Some(value.trim().to_string()).filter(|why| !why.is_empty()),
            _ => return Err(format!("unknown key {key}")),
        }
        rest = next.trim_start();
    }
    if kernel.name.is_empty() || kernel.family.is_empty() {
        return Err("name or family is missing".into());
    }
    if kernel.threads > 1024 {
        return Err(format!(
            "threads={} is more than the 1024 a block can have",
            kernel.threads
        ));
    }
    Ok(kernel)
}

/// The function attributes that become `.maxntid` and `.minnctapersm`, each with a space before it.
fn bounds(kernel: &Kernel) -> String {
    let mut text = String::new();
    if kernel.threads > 0 {
        text.push_str(&format!(" \"nvvm.maxntid\"=\"{}\"", kernel.threads));
    }
    if kernel.min_blocks > 0 {
        text.push_str(&format!(" \"nvvm.minctasm\"=\"{}\"", kernel.min_blocks));
    }
    text
}

/// A kernel's name and the offset at which function attributes may stand in its `define` line.
fn kernel_header(line: &str) -> Result<(&str, usize), CudaBuilderError> {
    let unknown = || {
        CudaBuilderError::Ir(format!(
            "a kernel's definition has a form the IR edit does not know: {line}"
        ))
    };
    let at = line.find('@').ok_or_else(unknown)?;
    let open = at + line[at..].find('(').ok_or_else(unknown)?;
    let name = line[at + 1..open].trim_matches('"');
    let mut end = closing_parenthesis(line, open).ok_or_else(unknown)? + 1;
    for address in [" unnamed_addr", " local_unnamed_addr"] {
        if line[end..].starts_with(address) {
            end += address.len();
        }
    }
    Ok((name, end))
}

/// Where an `asm` call's parts are in its line.
struct AsmCall {
    asm_text: std::ops::Range<usize>,
    end_of_arguments: usize,
}

/// Finds `call T asm [flags] "text", "constraints"(arguments)` in a line; `None` if the line is no such call.
fn asm_call(line: &str) -> Result<Option<AsmCall>, CudaBuilderError> {
    let Some(at) = find_outside_quotes(line, " asm ") else {
        return Ok(None);
    };
    let head = &line[..at];
    let is_call = head
        .split([' ', '(', ')'])
        .any(|word| matches!(word, "call" | "callbr" | "invoke"));
    if !is_call || line.starts_with(['@', '!', ';']) {
        return Ok(None);
    }
    let parts = || -> Option<AsmCall> {
        let text = quoted(line, at)?;
        let constraints = quoted(line, text.end + 1)?;
        let open = constraints.end + 1;
        let close = (line.as_bytes().get(open) == Some(&b'('))
            .then(|| closing_parenthesis(line, open))
            .flatten()?;
        Some(AsmCall {
            asm_text: text,
            end_of_arguments: close + 1,
        })
    };
    parts()
        .map(Some)
        .ok_or_else(|| CudaBuilderError::Ir(format!("an asm call has a form the IR edit does not know: {line}")))
}

/// Whether an assembly text holds an instruction of [`CONVERGENT`].
fn is_convergent(asm: &str) -> bool {
    asm.split(|c: char| !(c.is_ascii_alphanumeric() || "._%$".contains(c)))
        .any(|word| CONVERGENT.contains(&word.split('.').next().unwrap_or(word)))
}

/// The contents of the next quoted string at or after `from`. LLVM writes a quote inside a string as `\22`.
fn quoted(line: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let start = from + line.get(from..)?.find('"')? + 1;
    let end = start + line[start..].find('"')?;
    Some(start..end)
}

/// The offset of the parenthesis that closes the one at `open`, strings skipped.
fn closing_parenthesis(line: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    let mut in_string = false;
    for (i, byte) in line.bytes().enumerate().skip(open) {
        match byte {
            b'"' => in_string = !in_string,
            b'(' if !in_string => depth += 1,
            b')' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

fn find_outside_quotes(line: &str, pattern: &str) -> Option<usize> {
    line.match_indices(pattern)
        .map(|(at, _)| at)
        .find(|&at| line[..at].bytes().filter(|&byte| byte == b'"').count() % 2 == 0)
}

/// The text of a `module asm` line.
fn module_asm(line: &str) -> Option<String> {
    line.strip_prefix("module asm \"")?.strip_suffix('"').map(unescape)
}

/// Undoes LLVM's escapes: `\22` is a quote, `\5C` a backslash.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, code) {
            (b'\\', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            (b'\\', None) if after.first() == Some(&b'\\') => {
                bytes.push(b'\\');
                rest = &after[1..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Takes ` "key"="value"` out of an attribute line.
fn without_attribute(line: &str, key: &str) -> String {
    let Some(at) = line.find(key) else {
        return line.to_string();
    };
    match quoted(line, at + key.len()) {
        Some(value) => format!("{}{}", line[..at].trim_end(), &line[value.end + 1..]),
        None => line.to_string(),
    }
}

/// Takes `, !srcloc !N` off an instruction: the cookie behind it changes with every edit of the file.
fn without_srcloc(line: &str) -> String {
    let Some(at) = find_outside_quotes(line, ", !srcloc !") else {
        return line.to_string();
    };
    let number = at + ", !srcloc !".len();
    let end = line[number..]
        .find(|c: char| !c.is_ascii_digit())
        .map_or(line.len(), |i| number + i);
    format!("{}{}", &line[..at], &line[end..])
}

#[cfg(test)]
#[path = "ir_tests.rs"]
mod tests;
