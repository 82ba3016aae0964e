//! From bitcode to cubins: link, edit, and for each family optimise, generate PTX, assemble, gate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::arch::NvvmArch;
use crate::cache::{Cache, sha256};
use crate::error::CudaBuilderError;
use crate::families;
use crate::ir::{self, Kernel};
use crate::nested::Bitcode;
use crate::ptx;
use crate::ptxas::{self, Resources};
use crate::toolchain::{Llvm, Toolchain};

/// A family of kernels on one architecture.
#[derive(Clone, Debug)]
pub struct Image {
    /// The architecture.
    pub arch: NvvmArch,
    /// The family: the module that holds the kernels.
    pub family: String,
    /// The PTX file.
    pub ptx: PathBuf,
    /// Its SHA-256.
    pub ptx_sha256: String,
    /// The cubin, where there is a ptxas.
    pub cubin: Option<PathBuf>,
    /// What the kernels use, by name. Without ptxas only names and launch bounds are known.
    pub kernels: Vec<Resources>,
    /// Nothing had to be made: everything was in the cache.
    pub cached: bool,
}

/// A set of kernels that becomes one PTX file an architecture.
struct Family {
    name: String,
    kernels: Vec<Kernel>,
    /// The optimised bitcode, and its key in the cache.
    optimised: PathBuf,
    optimised_hash: String,
    cached: bool,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The programs to use.
    pub toolchain: &'a Toolchain,
    /// The architectures.
    pub archs: &'a [NvvmArch],
    /// Only this family.
    pub only: Option<&'a str>,
    /// One PTX of the whole crate, under this name, instead of one a family.
    pub merge_into: Option<&'a str>,
}

/// Builds every family for every architecture, on all cores.
///
/// # Errors
/// A tool that fails, a marker that makes no sense, or [`CudaBuilderError::Gate`] with every refused kernel.
pub fn build(
    request: Request<'_>,
    bitcode: &Bitcode,
    crate_name: &str,
    cache: &Cache,
) -> Result<Vec<Image>, CudaBuilderError> {
    let llvm = &request.toolchain.llvm;
    let linked = link(llvm, bitcode, cache)?;
    let edited = ir::edit(&linked, crate_name)?;
    let mut groups = families::group(edited.kernels, request.archs, request.only)?;
    if let Some(name) = request.merge_into {
        groups = families::merge(name, groups);
    }
    let families = parallel(&groups, |(name, kernels)| {
        optimise(llvm, &edited.text, name, kernels, cache)
    })
    .into_iter()
    .collect::<Result<Vec<_>, _>>()?;
    let jobs: Vec<(&Family, NvvmArch)> = families
        .iter()
        .flat_map(|family| {
            let archs = request
                .archs
                .iter()
                .filter(|arch| families::is_for(&family.kernels[0], **arch));
            archs.map(move |&arch| (family, arch))
        })
        .collect();
    let outcomes = parallel(&jobs, |&(family, arch)| {
        assemble(request.toolchain, family, arch, cache)
    });

    // All refusals at once: who changes a kernel wants to see what it did on every architecture.
    let mut images = Vec::new();
    let mut refusals = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(image) => images.push(image),
            Err(CudaBuilderError::Gate(more)) => refusals.extend(more),
            Err(other) => return Err(other),
        }
    }
    if refusals.is_empty() {
        Ok(images)
    } else {
        Err(CudaBuilderError::Gate(refusals))
    }
}

/// Links the crate's objects and what they need of its dependencies; returns the module's text, not yet edited.
///
/// # Errors
/// [`CudaBuilderError::ToolFailed`], or what the cache's folder gives.
pub fn link(llvm: &Llvm, bitcode: &Bitcode, cache: &Cache) -> Result<String, CudaBuilderError> {
    // Keyed by process, not by content: hashing `core`'s archive would take longer than linking with it.
    let unique = format!("{:?} {}", bitcode.objects, std::process::id());
    let (path, _) = cache.file(&["linked", &unique], "bc", |out| {
        // `--only-needed` does not apply to the first file: the kernel crate comes in whole.
        let mut command = Command::new(&llvm.link);
        command
            .args(["--only-needed", "--ignore-non-bitcode"])
            .args(&bitcode.objects)
            .args(&bitcode.rlibs);
        run(command.arg("-o").arg(out)).map(drop)
    })?;
    let text = run(Command::new(&llvm.dis).arg(&path).args(["-o", "-"]));
    fs::remove_file(&path).map_err(CudaBuilderError::io("remove", &path))?;
    Ok(String::from_utf8_lossy(&text?.stdout).into_owned())
}

/// Cuts one family out of the module and optimises it.
fn optimise(
    llvm: &Llvm,
    module: &str,
    name: &str,
    kernels: &[Kernel],
    cache: &Cache,
) -> Result<Family, CudaBuilderError> {
    let names: Vec<_> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
    let public = format!("--internalize-public-api-list={}", names.join(","));
    // What belongs to the family decides, by its hash, whether the rest has to run: an edit of one family leaves the
    // text of the others as it was. Only the hash is kept.
    let mut code = None;
    let (hash_file, _) = cache.file(&["own", &llvm.version, module, &public], "sha256", |out| {
        let text = extract(llvm, module, &public, out)?;
        let hash = sha256(text.as_bytes());
        code = Some(text);
        fs::write(out, hash).map_err(CudaBuilderError::io("write", out))
    })?;
    let optimised_hash = fs::read_to_string(&hash_file).map_err(CudaBuilderError::io("read", &hash_file))?;
    let key = ["optimised", &llvm.version, OPT_FLAGS[0], OPT_FLAGS[1], &optimised_hash];
    let (optimised, cached) = cache.file(&key, "bc", |out| {
        let code = code.map_or_else(|| extract(llvm, module, &public, out), Ok)?;
        optimise_parts(llvm, &code, &names, out)
    })?;
    Ok(Family {
        name: name.to_string(),
        kernels: kernels.to_vec(),
        optimised,
        optimised_hash,
        cached,
    })
}

/// The oldest architecture's costs: the optimised code serves all of them, llc does the rest for each.
const OPT_FLAGS: [&str; 2] = ["-mcpu=sm_80", "-passes=internalize,globaldce,default<O3>,globaldce"];
/// A family of more kernels than this is optimised in parts, on all cores. A fixed number, so that the result does not
/// depend on the machine.
const PART: usize = 16;

/// Optimises a family's code, and joins the parts again.
fn optimise_parts(llvm: &Llvm, code: &str, names: &[&str], out: &Path) -> Result<(), CudaBuilderError> {
    let size = names.len().div_ceil(names.len().div_ceil(PART));
    let parts: Vec<(usize, &[&str])> = names.chunks(size).enumerate().collect();
    let files = parallel(&parts, |&(i, names)| {
        let source = out.with_extension(format!("{i}.ll"));
        let optimised = out.with_extension(format!("{i}.bc"));
        // Declarations in assembly belong to the module, not to a function: only the first part may bring them.
        let kept = |line: &&str| i == 0 || !line.starts_with("module asm ");
        let text: String = code.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
        fs::write(&source, text).map_err(CudaBuilderError::io("write", &source))?;
        let mut command = Command::new(&llvm.opt);
        command
            .args(OPT_FLAGS)
            .arg(format!("--internalize-public-api-list={}", names.join(",")));
        let result = run(command.arg(&source).arg("-o").arg(&optimised));
        fs::remove_file(&source).map_err(CudaBuilderError::io("remove", &source))?;
        result.map(|_| optimised)
    });
    let files = files.into_iter().collect::<Result<Vec<_>, _>>()?;
    run(Command::new(&llvm.link).args(&files).arg("-o").arg(out))?;
    for file in files {
        fs::remove_file(&file).map_err(CudaBuilderError::io("remove", &file))?;
    }
    Ok(())
}

/// The text of what `public` kernels need of the module. `beside` names a path in the folder for temporary files.
fn extract(llvm: &Llvm, module: &str, public: &str, beside: &Path) -> Result<String, CudaBuilderError> {
    let source = beside.with_extension("module.ll");
    fs::write(&source, module).map_err(CudaBuilderError::io("write", &source))?;
    let result = run(Command::new(&llvm.opt)
        .args(["-S", "-passes=internalize,globaldce", public])
        .arg(&source));
    fs::remove_file(&source).map_err(CudaBuilderError::io("remove", &source))?;
    let text = String::from_utf8_lossy(&result?.stdout).into_owned();
    // The first line is a comment with the temporary file's name.
    Ok(text
        .split_once('\n')
        .map_or(String::new(), |(_, code)| code.to_string()))
}

/// Floating point is exact: nothing is contracted, division and square root are IEEE's, subnormals stay.
const LLC_FLAGS: &[&str] = &[
    "-O3",
    "--fp-contract=off",
    "-nvptx-fma-level=0",
    "-nvptx-prec-divf32=2",
    "-nvptx-prec-sqrtf32",
];
const PTXAS_FLAGS: &[&str] = &["-O3", "-v", "-fmad=false"];

/// PTX and cubin of a family for one architecture, gated.
fn assemble(toolchain: &Toolchain, family: &Family, arch: NvvmArch, cache: &Cache) -> Result<Image, CudaBuilderError> {
    let llvm = &toolchain.llvm;
    let llc_flags = format!("{LLC_FLAGS:?} {arch} {}", arch.ptx_feature());
    // The one thing that the optimised code does not say.
    let maps: Vec<_> = family
        .kernels
        .iter()
        .filter(|k| !k.maps.is_empty())
        .map(|k| (&k.name, &k.maps))
        .collect();
    let maps = format!("{maps:?}");
    let mut key = vec!["ptx", &llvm.version, &llc_flags, &family.optimised_hash];
    key.extend(Some(maps.as_str()).filter(|maps| *maps != "[]"));
    let (ptx, ptx_cached) = cache.file(&key, "ptx", |out| {
        let mut command = Command::new(&llvm.llc);
        command
            .args(LLC_FLAGS)
            .arg(format!("-mcpu={arch}"))
            .arg(format!("-mattr=+{}", arch.ptx_feature()));
        run(command.arg(&family.optimised).arg("-o").arg(out))?;
        let text = fs::read_to_string(out).map_err(CudaBuilderError::io("read", out))?;
        let text = ptx::align_maps(&ptx::known_to(arch, &text), &family.kernels)?;
        fs::write(out, text).map_err(CudaBuilderError::io("write", out))
    })?;
    let ptx_text = fs::read_to_string(&ptx).map_err(CudaBuilderError::io("read", &ptx))?;
    ptx::check(&ptx_text, &family.kernels)?;

    let mut image = Image {
        arch,
        family: family.name.clone(),
        ptx_sha256: sha256(ptx_text.as_bytes()),
        cubin: None,
        kernels: family.kernels.iter().map(|kernel| resources(kernel, None)).collect(),
        cached: family.cached && ptx_cached,
        ptx,
    };
    if let Ok(ptxas) = &toolchain.ptxas {
        let flags = format!("{PTXAS_FLAGS:?} {arch}");
        let key = ["assembled", &ptxas.version, &flags, &image.ptx_sha256];
        let (folder, cubin_cached) = cache.file(&key, "assembled", |out| {
            fs::create_dir(out).map_err(CudaBuilderError::io("create the folder", out))?;
            let mut command = Command::new(&ptxas.path);
            command
                .args(PTXAS_FLAGS)
                .arg(format!("-arch={arch}"))
                .arg(&image.ptx)
                .arg("-o")
                .arg(out.join("cubin"));
            let result = run(&mut command)?;
            let log = out.join("log");
            fs::write(&log, [result.stdout, result.stderr].concat()).map_err(CudaBuilderError::io("write", &log))
        })?;
        let log = folder.join("log");
        let log = fs::read_to_string(&log).map_err(CudaBuilderError::io("read", &log))?;
        let report = ptxas::parse(&log);
        let refusals = ptxas::gate(&report, &family.kernels, arch);
        if !refusals.is_empty() {
            return Err(CudaBuilderError::Gate(refusals));
        }
        let used = |kernel: &Kernel| report.kernels.iter().find(|used| used.name == kernel.name);
        image.kernels = family
            .kernels
            .iter()
            .map(|kernel| resources(kernel, used(kernel)))
            .collect();
        image.cubin = Some(folder.join("cubin"));
        image.cached &= cubin_cached;
    }
    Ok(image)
}

fn resources(kernel: &Kernel, used: Option<&Resources>) -> Resources {
    let used = used.cloned().unwrap_or_default();
    Resources {
        name: kernel.name.clone(),
        max_threads: kernel.threads,
        ..used
    }
}

/// Runs a program that must succeed.
fn run(command: &mut Command) -> Result<std::process::Output, CudaBuilderError> {
    let shown = format!("{command:?}");
    let result = command.output().map_err(|source| CudaBuilderError::Io {
        what: format!("run {shown}"),
        source,
    })?;
    if result.status.success() {
        return Ok(result);
    }
    let output = format!(
        "{}{}",
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr)
    );
    Err(CudaBuilderError::ToolFailed { command: shown, output })
}

/// Applies `f` to every item, on all cores; results in the items' order.
fn parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = std::thread::available_parallelism()
        .map_or(1, |n| n.get())
        .min(items.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < items.len()) {
                    let result = f(&items[i]);
                    done.lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|&(i, _)| i);
    done.into_iter().map(|(_, result)| result).collect()
}
