//! `cuda-builder`: builds kernels and shows what they use, without building the host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use cuda_builder::toolchain::{Toolchain, find_cuda_tool};
use cuda_builder::{CudaBuilder, CudaBuilderError, Image};

const USAGE: &str = "\
usage: cuda-builder build [--kernels DIR] [--arch sm_XX].. [--only FAMILY] [--out DIR]
       cuda-builder toolchain [--kernels DIR]

build      compiles the kernel crate in DIR (kernels-gpu) to PTX and cubins, applies the gate, prints what each kernel
           uses; --out copies the files there as FAMILY.ARCH.ptx and FAMILY.ARCH.cubin. Default: --arch sm_90a
toolchain  prints the programs that were found, or what to install";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The command line.
struct Options {
    kernels: PathBuf,
    archs: Vec<String>,
    only: Option<String>,
    out: Option<PathBuf>,
}

fn run(arguments: Vec<String>) -> Result<(), String> {
    let mut arguments = arguments.into_iter();
    let command = arguments.next().unwrap_or_default();
    let mut options = Options {
        kernels: "kernels-gpu".into(),
        archs: Vec::new(),
        only: None,
        out: None,
    };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} needs a value\n{USAGE}"));
        match name.as_str() {
            "--kernels" => options.kernels = value()?.into(),
            "--arch" => options.archs.extend(value()?.split(',').map(str::to_string)),
            "--only" => options.only = Some(value()?),
            "--out" => options.out = Some(value()?.into()),
            _ => return Err(format!("unknown argument {name}\n{USAGE}")),
        }
    }
    match command.as_str() {
        "build" => build(&options).map_err(|e| e.to_string()),
        "toolchain" => toolchain(&options).map_err(|e| e.to_string()),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(format!("unknown command `{other}`\n{USAGE}")),
    }
}

fn build(options: &Options) -> Result<(), CudaBuilderError> {
    let start = Instant::now();
    let archs = if options.archs.is_empty() {
        vec!["sm_90a".to_string()]
    } else {
        options.archs.clone()
    };
    let mut builder = CudaBuilder::new(&options.kernels).archs(&archs)?;
    if let Some(family) = &options.only {
        builder = builder.only(family);
    }
    let toolchain = builder.toolchain()?;
    eprintln!("with {}, LLVM {}", toolchain.rustc.version, toolchain.llvm.version);
    match &toolchain.ptxas {
        Ok(ptxas) => eprintln!("and ptxas {} ({})", ptxas.version, ptxas.origin),
        Err(missing) => eprintln!("warning: {missing}"),
    }
    let images = builder.images(&toolchain)?;
    if let Some(out) = &options.out {
        copy(&images, out)?;
    }
    print_table(&images);
    let cached = images.iter().filter(|image| image.cached).count();
    eprintln!(
        "{} image(s), {cached} of them from the cache, in {:.2} s",
        images.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn copy(images: &[Image], out: &PathBuf) -> Result<(), CudaBuilderError> {
    let io = |what: String| move |source| CudaBuilderError::Io { what, source };
    std::fs::create_dir_all(out).map_err(io(format!("create {}", out.display())))?;
    for image in images {
        let files = [(Some(&image.ptx), "ptx"), (image.cubin.as_ref(), "cubin")];
        for (from, extension) in files
            .into_iter()
            .filter_map(|(from, extension)| Some((from?, extension)))
        {
            let to = out.join(format!("{}.{}.{extension}", image.family, image.arch));
            std::fs::copy(from, &to).map_err(io(format!("write {}", to.display())))?;
        }
    }
    Ok(())
}

fn print_table(images: &[Image]) {
    let rows: Vec<_> = images
        .iter()
        .flat_map(|image| image.kernels.iter().map(move |kernel| (image, kernel)))
        .collect();
    let width = rows
        .iter()
        .map(|row| row.1.name.len())
        .max()
        .unwrap_or(0)
        .max("kernel".len());
    println!(
        "{:width$}  {:7}  {:>9}  {:>12}  {:>11}  {:>11}  {:>11}",
        "kernel", "arch", "registers", "shared_bytes", "stack_bytes", "spill_bytes", "max_threads"
    );
    for (image, kernel) in rows {
        println!(
            "{:width$}  {:7}  {:>9}  {:>12}  {:>11}  {:>11}  {:>11}",
            kernel.name,
            image.arch,
            kernel.registers,
            kernel.shared_bytes,
            kernel.stack_bytes,
            kernel.spill_bytes,
            kernel.max_threads
        );
    }
}

fn toolchain(options: &Options) -> Result<(), CudaBuilderError> {
    let workspace = CudaBuilder::new(&options.kernels).workspace();
    let found = Toolchain::find(&workspace).map_err(CudaBuilderError::NoDeviceCompiler)?;
    println!(
        "rustc      {} ({}: {})",
        found.rustc.version,
        found.rustc.origin,
        found.rustc.path.display()
    );
    println!("cargo      {}", found.rustc.cargo().display());
    println!(
        "LLVM       {} ({}: {})",
        found.llvm.version,
        found.llvm.origin,
        found.llvm.llc.display()
    );
    match &found.ptxas {
        Ok(ptxas) => println!(
            "ptxas      {} ({}: {})",
            ptxas.version,
            ptxas.origin,
            ptxas.path.display()
        ),
        Err(missing) => println!("ptxas      {missing}"),
    }
    for name in ["nvdisasm", "cuobjdump"] {
        let place = find_cuda_tool(name, &workspace);
        println!(
            "{name:10} {}",
            place.map_or("not found (only `inspect` wants it)".into(), |p| p
                .display()
                .to_string())
        );
    }
    Ok(())
}
