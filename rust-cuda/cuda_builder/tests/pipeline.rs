//! The whole way from Rust to cubins, on the kernels in `fixtures/kernels`. Needs a device compiler; without one each
//! test says that it was skipped and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cuda_builder::toolchain::Toolchain;
use cuda_builder::{CudaBuilder, CudaBuilderError, Image, ir, nested, pipeline};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernels")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder the host build uses too, so that `core` is compiled once.
fn device_folder() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target folder holds tmp");
    target.join("device")
}

fn toolchain() -> Option<&'static Toolchain> {
    static FOUND: OnceLock<Option<Toolchain>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            Toolchain::find(&workspace())
                .map_err(|missing| eprintln!("SKIPPED: {missing}"))
                .ok()
        })
        .as_ref()
}

/// Like [`toolchain`], for tests that are about ptxas.
fn toolchain_with_ptxas() -> Option<&'static Toolchain> {
    let toolchain = toolchain()?;
    match &toolchain.ptxas {
        Ok(_) => Some(toolchain),
        Err(missing) => {
            eprintln!("SKIPPED: {missing}");
            None
        }
    }
}

fn build(family: &str, archs: &[&str]) -> Option<Result<Vec<Image>, CudaBuilderError>> {
    let builder = CudaBuilder::new(fixture())
        .archs(archs)
        .expect("known archs")
        .only(family);
    Some(builder.target_dir(device_folder()).images(toolchain()?))
}

fn ptx(image: &Image) -> String {
    fs::read_to_string(&image.ptx).expect("the PTX is there")
}

#[test]
fn bounds_shared_memory_and_exact_arithmetic_reach_the_ptx_of_every_architecture() {
    let archs = ["sm_80", "sm_90a", "sm_120a"];
    let Some(images) = build("good", &archs) else { return };
    let images = images.unwrap();
    assert_eq!(images.iter().map(|image| image.arch.sm()).collect::<Vec<_>>(), archs);
    for image in &images {
        let ptx = ptx(image);
        assert!(ptx.contains(&format!(".target {}\n", image.arch)), "{ptx}");
        assert!(ptx.contains(".maxntid 256") && ptx.contains(".minnctapersm 2"), "{ptx}");
        assert_eq!(
            ptx.matches(".extern .shared .align 1024 .b8 fixture_shared[];").count(),
            1,
            "{ptx}"
        );
        // Not contracted, and not approximate.
        for instruction in ["mul.rn.f32", "add.rn.f32", "div.rn.f32"] {
            assert!(ptx.contains(instruction), "no {instruction} in {ptx}");
        }
        assert!(!ptx.contains("fma.rn.f32"), "{ptx}");
        assert_eq!(image.kernels.len(), 1);
        let kernel = &image.kernels[0];
        assert_eq!(
            (kernel.name.as_str(), kernel.max_threads, kernel.stack_bytes),
            ("axpy", 256, 0)
        );
        if let Some(cubin) = &image.cubin {
            assert!(kernel.registers > 0);
            assert!(fs::read(cubin).unwrap().starts_with(b"\x7fELF"));
        }
    }
}

#[test]
fn a_second_build_takes_everything_from_the_cache_and_one_family_only() {
    let Some(first) = build("good", &["sm_80"]) else { return };
    let (first, second) = (first.unwrap(), build("good", &["sm_80"]).unwrap().unwrap());
    assert!(second.iter().all(|image| image.cached && image.family == "good"));
    assert_eq!(first[0].ptx_sha256, second[0].ptx_sha256);
    let message = build("no_such", &["sm_80"]).unwrap().unwrap_err().to_string();
    assert!(
        message.contains("no_such") && message.contains("divergent"),
        "{message}"
    );
}

#[test]
fn for_no_architecture_nothing_is_compiled() {
    let Some(toolchain) = toolchain() else { return };
    let folder = tempfile::tempdir().unwrap();
    let builder = CudaBuilder::new(fixture()).archs::<&str>(&[]).unwrap();
    let images = builder.target_dir(folder.path()).images(toolchain).unwrap();
    assert!(images.is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_family_optimised_in_parts_is_whole_again() {
    let Some(images) = build("many", &["sm_90a"]) else {
        return;
    };
    let images = images.unwrap();
    assert_eq!((images.len(), images[0].kernels.len()), (1, 17));
    let ptx = ptx(&images[0]);
    assert_eq!(ptx.matches(".extern .shared").count(), 1, "{ptx}");
    for i in 1..=17 {
        assert!(
            body(&ptx, &format!("m{i:02}")).contains(&format!(", {};", 1000 + i)),
            "{ptx}"
        );
    }
}

#[test]
fn panics_become_traps_and_need_no_symbol() {
    let Some(images) = build("panics", &["sm_90a"]) else {
        return;
    };
    let ptx = ptx(&images.unwrap()[0]);
    assert!(ptx.contains("trap;") && !ptx.contains("panicking"), "{ptx}");
}

#[test]
fn local_memory_is_refused_unless_the_kernel_says_why() {
    if toolchain_with_ptxas().is_none() {
        return;
    }
    let message = build("refused", &["sm_80", "sm_90a"]).unwrap().unwrap_err().to_string();
    for part in [
        "table_refused for sm_80: 256 bytes of stack",
        "table_refused for sm_90a",
        "allow_local",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    // What was refused stays refused when nothing has to be made again.
    assert!(matches!(
        build("refused", &["sm_80"]),
        Some(Err(CudaBuilderError::Gate(_)))
    ));
    let images = build("excused", &["sm_90a"]).unwrap().unwrap();
    assert_eq!(
        (images[0].kernels[0].name.as_str(), images[0].kernels[0].stack_bytes),
        ("table_excused", 256)
    );
}

#[test]
fn instructions_of_newer_architectures_stay_away_from_older_ones() {
    let Some(images) = build("by_arch", &["sm_80", "sm_90a", "sm_120a"]) else {
        return;
    };
    let waits: Vec<_> = images
        .unwrap()
        .iter()
        .map(|image| ptx(image).matches("griddepcontrol.wait").count())
        .collect();
    assert_eq!(waits, [0, 1, 1]);
}

#[test]
fn a_family_of_one_architecture_is_built_for_no_other() {
    let Some(images) = build("tensor_map", &["sm_80", "sm_90a", "sm_120a"]) else {
        return;
    };
    let archs: Vec<_> = images.unwrap().iter().map(|image| image.arch.sm()).collect();
    assert_eq!(archs, ["sm_90a"]);
    let message = build("tensor_map", &["sm_80", "sm_120a"])
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`tensor_map` is for sm_90a alone, and sm_80,sm_120a is asked for"),
        "{message}"
    );
}

#[test]
fn a_tensor_map_is_a_parameter_aligned_to_64_and_used_where_it_is() {
    let Some(images) = build("tensor_map", &["sm_90a"]) else {
        return;
    };
    let ptx = ptx(&images.unwrap()[0]);
    assert!(ptx.contains(".param .align 64 .b8 prefetches_param_1[128]"), "{ptx}");
    // Not copied anywhere: its bytes are not loaded.
    assert!(!ptx.contains("[prefetches_param_1") && !ptx.contains(".local"), "{ptx}");

    let message = build("no_map", &["sm_90a"]).unwrap().unwrap_err().to_string();
    assert!(
        message.contains("parameter 1 of kernel takes_a_number is to be a tensor map"),
        "{message}"
    );
}

/// The PTX of the fixture's `divergent` family from IR text, through the same tools.
fn ptx_of_text(toolchain: &Toolchain, folder: &Path, text: &str) -> String {
    let [source, optimised, ptx] = ["in.ll", "out.bc", "out.ptx"].map(|name| folder.join(name));
    fs::write(&source, text).unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let public = "--internalize-public-api-list=barrier_between_branches,shuffle_used_in_a_branch";
    let passes = "-passes=internalize,globaldce,default<O3>,globaldce";
    run(Command::new(&toolchain.llvm.opt)
        .args([passes, public])
        .arg(&source)
        .arg("-o")
        .arg(&optimised));
    run(Command::new(&toolchain.llvm.llc)
        .args(["-O3", "-mcpu=sm_80"])
        .arg(&optimised)
        .arg("-o")
        .arg(&ptx));
    fs::read_to_string(ptx).unwrap()
}

/// A kernel's body in PTX.
fn body<'a>(ptx: &'a str, kernel: &str) -> &'a str {
    let start = ptx.find(&format!(".entry {kernel}(")).expect("the kernel is there");
    ptx[start..].split("-- End function").next().unwrap()
}

/// Whether the shuffle comes before the first branch.
fn shuffle_is_first(ptx: &str) -> bool {
    let body = body(ptx, "shuffle_used_in_a_branch");
    let branch = body.find(" bra ").expect("the branch is there");
    body.find("shfl.sync").expect("the shuffle is there") < branch
}

#[test]
fn asm_that_all_threads_must_reach_is_neither_copied_nor_moved() {
    let Some(images) = build("divergent", &["sm_90a"]) else {
        return;
    };
    let ptx = ptx(&images.unwrap()[0]);
    assert_eq!(
        body(&ptx, "barrier_between_branches").matches("bar.sync").count(),
        1,
        "{ptx}"
    );
    assert!(shuffle_is_first(&ptx), "{ptx}");
}

#[test]
fn without_the_edit_the_same_kernels_break() {
    let Some(toolchain) = toolchain() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Not through the builder, and so without its lock: cargo finds everything fresh and changes nothing.
    build("divergent", &["sm_90a"]).unwrap().unwrap();
    let bitcode = nested::compile(&toolchain.rustc, &fixture(), &device_folder()).unwrap();
    let cache = cuda_builder::cache::Cache::open(folder.path().join("cache")).unwrap();
    let linked = pipeline::link(&toolchain.llvm, &bitcode, &cache).unwrap();
    let edited = ir::edit(&linked, "fixture").unwrap();
    assert_eq!(edited.convergent_calls, 2);

    let with = ptx_of_text(toolchain, folder.path(), &edited.text);
    assert_eq!(body(&with, "barrier_between_branches").matches("bar.sync").count(), 1);
    assert!(shuffle_is_first(&with));
    let asm_lines = |line: &str| {
        if line.contains(" asm ") {
            line.replace(" convergent", "")
        } else {
            line.to_string()
        }
    };
    let unmarked: Vec<String> = edited.text.lines().map(asm_lines).collect();
    let without = ptx_of_text(toolchain, folder.path(), &unmarked.join("\n"));
    assert_eq!(
        body(&without, "barrier_between_branches").matches("bar.sync").count(),
        2,
        "{without}"
    );
    assert!(!shuffle_is_first(&without), "{without}");
}
