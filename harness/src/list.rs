//! `harness list`.

use anyhow::Result;
use host::device::image::{BUILT_WITH, IMAGES};

use crate::cli::{ListArgs, ListWhat};
use crate::select::shape_set;
use crate::table::{Format, Table};

/// The command.
///
/// # Errors
/// A shape file in the binary that cannot be read; stdout is gone.
pub fn command(args: &ListArgs) -> Result<()> {
    let table = match args.what {
        ListWhat::Kernels => kernels(),
        ListWhat::Configs => configs(),
        ListWhat::Shapes => shapes()?,
        ListWhat::Models => models()?,
    };
    table.write_to(
        std::path::Path::new("-"),
        if args.json { Format::Json } else { Format::Text },
    )?;
    if args.what == ListWhat::Kernels && IMAGES.is_empty() {
        eprintln!(
            "This build has no GPU images (no device compiler was there): kernels run on the simulator. `./setup` installs one."
        );
    } else if args.what == ListWhat::Kernels {
        eprintln!(
            "built with {}, LLVM {}, ptxas {}",
            BUILT_WITH.rustc,
            BUILT_WITH.llvm,
            BUILT_WITH.ptxas.unwrap_or("none")
        );
    }
    Ok(())
}

fn kernels() -> Table {
    let mut t = Table::new(&[
        "kernel",
        "family",
        "arch",
        "registers",
        "shared_bytes",
        "stack_bytes",
        "spill_bytes",
        "max_threads",
        "cubin",
    ]);
    for image in IMAGES {
        for k in image.kernels {
            t.row([
                k.name.to_string(),
                image.family.into(),
                image.arch.into(),
                k.registers.to_string(),
                k.shared_bytes.to_string(),
                k.stack_bytes.to_string(),
                k.spill_bytes.to_string(),
                k.max_threads.to_string(),
                if image.cubin.is_some() {
                    "yes".into()
                } else {
                    "no".into()
                },
            ]);
        }
    }
    if t.is_empty() {
        for op in host::ops::all() {
            for c in op.configs() {
                let none = String::new;
                t.row([
                    c.kernel.into(),
                    c.family.into(),
                    "simt".into(),
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                ]);
            }
        }
    }
    t
}

fn configs() -> Table {
    let mut t = Table::new(&[
        "op",
        "config",
        "order",
        "threads",
        "shared_bytes",
        "min_blocks",
        "archs",
        "kernel",
    ]);
    for op in host::ops::all() {
        for c in op.configs() {
            t.row([
                op.name().to_string(),
                c.id,
                c.order.to_string(),
                c.threads.to_string(),
                c.shared_bytes.to_string(),
                c.min_blocks.to_string(),
                if c.archs.is_empty() {
                    "all".to_string()
                } else {
                    c.archs.join(" ")
                },
                c.kernel.to_string(),
            ]);
        }
    }
    t
}

fn shapes() -> Result<Table> {
    let mut t = Table::new(&["shape", "op", "dims", "n_tok", "calls_per_forward"]);
    for s in shape_set(None)?.ops() {
        let dims: Vec<String> = s.dims.iter().map(|(d, v)| format!("{d}={v}")).collect();
        let n_tok: Vec<String> = s.n_tok.iter().map(u32::to_string).collect();
        // Blanks, so that a single count is not the only number of the column.
        t.row([
            s.label(),
            s.op.clone(),
            dims.join(","),
            n_tok.join(" "),
            s.count.to_string(),
        ]);
    }
    Ok(t)
}

fn models() -> Result<Table> {
    let mut t = Table::new(&["model", "title", "shapes", "layers", "hidden"]);
    for m in shape_set(None)?.models {
        let fact = |f: Option<u64>| f.map_or_else(String::new, |v| v.to_string());
        let (layers, hidden) = (fact(m.facts.layers), fact(m.facts.hidden));
        t.row([m.name, m.title, m.ops.len().to_string(), layers, hidden]);
    }
    Ok(t)
}
