//! `harness inspect`: what a kernel uses, how many of its blocks fit on an SM, which instructions it is made of.

mod occupancy;
mod ptx;
mod sass;

use anyhow::{Context, Result, bail};
use host::device::image::{IMAGES, Image, Resources};
use host::op::ConfigInfo;

use crate::cli::InspectArgs;
use crate::exit::{Exit, usage};
use crate::globs::Globs;
use crate::sweep::write;
use crate::table::{Table, print};
use occupancy::{Limits, occupancy};

/// A kernel of an image, with the config that launches it where there is one.
struct Found {
    image: &'static Image,
    kernel: &'static Resources,
    config: Option<ConfigInfo>,
}

/// The command.
///
/// # Errors
/// No such kernel, config or architecture; a build without images; no disassembler where SASS is asked for.
pub fn command(args: &InspectArgs) -> Result<Exit> {
    let found = find(args).map_err(usage)?;
    let mut table = Table::new(&[
        "kernel",
        "config",
        "arch",
        "threads",
        "registers",
        "spill_bytes",
        "stack_bytes",
        "static_shared_bytes",
        "dynamic_shared_bytes",
        "blocks_per_sm",
        "warps_per_sm",
        "occupancy_pct",
        "limited_by",
    ]);
    let mut mixes = String::new();
    for f in &found {
        let dynamic = f.config.as_ref().map_or(0, |c| c.shared_bytes);
        let threads = f.config.as_ref().map_or(f.kernel.max_threads, |c| c.threads);
        let limits = Limits::of(f.image.arch);
        // Without ptxas at build time nobody knows the registers: then no figure, rather than a wrong one.
        let known = f.kernel.registers > 0;
        let number = |v: u32| if known { v.to_string() } else { String::new() };
        let o = limits
            .filter(|_| known)
            .map(|l| occupancy(&l, threads, f.kernel.registers, f.kernel.shared_bytes + dynamic));
        let cell = |v: Option<String>| v.unwrap_or_default();
        table.row([
            f.kernel.name.to_string(),
            f.config.as_ref().map_or_else(String::new, |c| c.id.clone()),
            f.image.arch.to_string(),
            threads.to_string(),
            number(f.kernel.registers),
            number(f.kernel.spill_bytes),
            number(f.kernel.stack_bytes),
            number(f.kernel.shared_bytes),
            dynamic.to_string(),
            cell(o.as_ref().map(|o| o.blocks.to_string())),
            cell(o.as_ref().map(|o| o.warps.to_string())),
            cell(o.as_ref().map(|o| format!("{:.0}", 100.0 * o.share))),
            cell(o.as_ref().map(|o| o.limited_by.to_string())),
        ]);
        let text = String::from_utf8_lossy(f.image.ptx);
        mixes += &format!(
            "{} ({}), PTX instructions: {}\n",
            f.kernel.name,
            f.image.arch,
            ptx::mix(&text, f.kernel.name)
        );
    }
    if found.iter().any(|f| f.kernel.registers == 0) {
        mixes +=
            "No registers, spills and occupancy: ptxas was not there when this was built; `./setup` installs it.\n";
    }
    write(&table, &args.table, &mixes)?;
    if args.sass {
        for f in &found {
            print(&(sass::disassemble(f.image, f.kernel.name)? + "\n"))?;
        }
    }
    Ok(Exit::Good)
}

fn find(args: &InspectArgs) -> Result<Vec<Found>> {
    let mut archs: Vec<&str> = Vec::new();
    for image in IMAGES {
        if !archs.contains(&image.arch) {
            archs.push(image.arch);
        }
    }
    let Some(last) = archs.last() else {
        bail!(
            "this build has no GPU images, because no device compiler was there; `./setup` installs one, then build again"
        );
    };
    let arch = args
        .arch
        .as_deref()
        .unwrap_or(if archs.contains(&"sm_90a") { "sm_90a" } else { last });
    if !archs.contains(&arch) {
        bail!("nothing was built for {arch}; this build has {}", archs.join(", "));
    }
    let glob = Globs::new(std::slice::from_ref(&args.kernel))?;
    let configs: Vec<(&str, ConfigInfo)> = host::ops::all()
        .iter()
        .flat_map(|op| op.configs().into_iter().map(|c| (op.name(), c)))
        .collect();
    let mut found = Vec::new();
    for image in IMAGES.iter().filter(|i| i.arch == arch) {
        for kernel in image.kernels {
            let config = configs.iter().find(|(_, c)| c.kernel == kernel.name);
            let mut names = vec![kernel.name, image.family];
            names.extend(config.map(|(op, _)| *op));
            let wanted = args
                .config
                .as_ref()
                .is_none_or(|id| config.is_some_and(|(_, c)| c.id == *id));
            if glob.any(&names) && wanted {
                found.push(Found {
                    image,
                    kernel,
                    config: config.map(|(_, c)| c.clone()),
                });
            }
        }
    }
    if found.is_empty() {
        let with = args
            .config
            .as_ref()
            .map_or_else(String::new, |id| format!(" with config `{id}`"));
        return Err(anyhow::anyhow!("no kernel `{}`{with} for {arch}", args.kernel))
            .context("`harness list kernels` and `harness list configs` show what there is");
    }
    Ok(found)
}
