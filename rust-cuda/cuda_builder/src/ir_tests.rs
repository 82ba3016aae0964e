use super::*;

/// Lines as rustc 1.96 and llvm-link 22 wrote them.
const MODULE: &str = r##"; ModuleID = 'b.bc'
source_filename = "llvm-link"
target triple = "nvptx64-nvidia-cuda"

module asm ".extern .shared .align 1024 .b8 smem[];"
module asm "// lockstep.kernel name=scale family=k::ops::fam_a threads=256 min_blocks=2 allow_local=\22\22"
module asm "// lockstep.kernel name=table family=k::fam_b threads=0 min_blocks=0 allow_local=\22a = b, says \22x\22 here\22"
module asm ".extern .shared .align 1024 .b8 smem[];"

; Function Attrs: convergent nounwind
define ptx_kernel void @scale(ptr noundef %0, [2 x i64] %1, ptr dereferenceable(4) %2) unnamed_addr #0 {
  call void asm sideeffect alignstack "bar.sync 0;", "~{memory}"(), !srcloc !2
  %5 = call i32 asm sideeffect "shfl.sync.bfly.b32 $0, $1, 1, 31, -1;", "=r,r"(i32 %4) #6, !srcloc !17
  %6 = call { i32, i32 } asm "{\0A\09.reg .pred p;\0A\09@p vote.sync.ballot.b32 $0, p, $1;\0A}", "=r,r,r"(i32 %5, ptr @"odd)name") #7
  %7 = tail call i32 asm "add.u32 $0, $1, $2; // foobar barn", "=r,r,r"(i32 %4, i32 %4), !srcloc !3
  store ptr @" asm ", ptr %2, align 8
  ret void
}

define ptx_kernel void @table(i32 noundef %0) unnamed_addr #0 {
  ret void
}

define internal void @helper() unnamed_addr #1 {
  ret void
}

attributes #0 = { convergent nounwind "target-cpu"="sm_80" }
attributes #1 = { convergent "target-cpu"="sm_80" "target-features"="+ptx70,+sm_80" "probe"="x" }
"##;

#[test]
fn asm_that_synchronises_becomes_convergent_and_nothing_else_does() {
    let edited = edit(MODULE, "k").unwrap();
    let has = |line: &str| {
        assert!(
            edited.text.lines().any(|l| l.trim() == line),
            "no line {line}\n{}",
            edited.text
        )
    };
    has(r#"call void asm sideeffect alignstack "bar.sync 0;", "~{memory}"() convergent"#);
    has(r#"%5 = call i32 asm sideeffect "shfl.sync.bfly.b32 $0, $1, 1, 31, -1;", "=r,r"(i32 %4) convergent #6"#);
    has(concat!(
        r#"%6 = call { i32, i32 } asm "{\0A\09.reg .pred p;\0A\09@p vote.sync.ballot.b32 $0, p, $1;\0A}", "#,
        r#""=r,r,r"(i32 %5, ptr @"odd)name") convergent #7"#
    ));
    has(r#"%7 = tail call i32 asm "add.u32 $0, $1, $2; // foobar barn", "=r,r,r"(i32 %4, i32 %4)"#);
    has(r#"store ptr @" asm ", ptr %2, align 8"#);
    assert_eq!(edited.convergent_calls, 3);
}

#[test]
fn kernels_get_their_bounds_and_lose_their_architecture() {
    let edited = edit(MODULE, "k").unwrap();
    let scale = r#"@scale(ptr noundef %0, [2 x i64] %1, ptr dereferenceable(4) %2) unnamed_addr "nvvm.maxntid"="256" "nvvm.minctasm"="2" #0 {"#;
    assert!(edited.text.contains(scale), "{}", edited.text);
    assert!(edited.text.contains("@table(i32 noundef %0) unnamed_addr #0 {"));
    assert!(edited.text.contains("@helper() unnamed_addr #1 {"));
    assert!(!edited.text.contains("target-cpu") && !edited.text.contains("target-features"));
    assert!(edited.text.contains("attributes #0 = { convergent nounwind }"));
    assert!(edited.text.contains(r#"attributes #1 = { convergent "probe"="x" }"#));
}

#[test]
fn markers_become_kernels_and_leave_the_text() {
    let edited = edit(MODULE, "k").unwrap();
    let [scale, table] = &edited.kernels[..] else {
        panic!("{:?}", edited.kernels)
    };
    assert_eq!((scale.name.as_str(), scale.family.as_str()), ("scale", "fam_a"));
    assert_eq!(
        (scale.threads, scale.min_blocks, scale.allow_local.as_deref()),
        (256, 2, None)
    );
    assert_eq!(
        (table.family.as_str(), table.allow_local.as_deref()),
        ("fam_b", Some(r#"a = b, says "x" here"#))
    );
    assert!(!edited.text.contains("lockstep.kernel"));
    // Two crates that declare the same shared memory are one declaration.
    assert_eq!(edited.text.matches(".extern .shared").count(), 1);
}

#[test]
fn markers_say_architectures_and_tensor_maps() {
    let marker = |fields: &str| format!("module asm \"// lockstep.kernel name=k family=f threads=1 {fields}\"\n");
    let kernel = |fields: &str| {
        let module = marker(fields) + "define ptx_kernel void @k() unnamed_addr #0 {\n";
        edit(&module, "k").unwrap().kernels.remove(0)
    };
    let both = kernel("archs=sm_100a,sm_90a maps=0,11");
    assert_eq!(both.archs, [NvvmArch::Compute90a, NvvmArch::Compute100a]);
    assert_eq!(both.maps, [0, 11]);
    let none = kernel("min_blocks=1");
    assert!(none.archs.is_empty() && none.maps.is_empty());
}

#[test]
fn text_that_differs_only_in_cookies_and_file_names_is_equal_after_the_edit() {
    let other = MODULE
        .replace("!srcloc !17", "!srcloc !99")
        .replace("b.bc", "c.bc")
        .replace("!2\n", "!55\n");
    assert_ne!(MODULE, other);
    assert_eq!(edit(MODULE, "k").unwrap().text, edit(&other, "k").unwrap().text);
}

#[test]
fn a_kernel_without_a_marker_belongs_to_the_crate() {
    let module = "define ptx_kernel void @bare() unnamed_addr #0 {\n  ret void\n}\n";
    let kernels = edit(module, "my_kernels").unwrap().kernels;
    assert_eq!(
        (kernels[0].name.as_str(), kernels[0].family.as_str()),
        ("bare", "my_kernels")
    );
}

#[test]
fn what_makes_no_sense_is_an_error_that_names_it() {
    let marker = |fields: &str| format!("module asm \"// lockstep.kernel {fields}\"\n");
    let whole = "define ptx_kernel void @k() unnamed_addr #0 {\n";
    let cases = [
        (
            marker("name=k family=f") + &marker("name=k family=g") + whole,
            "two kernels are named `k`",
        ),
        (marker("name=k family=f"), "`k` (family f) has a marker but no code"),
        (
            marker("name=k family=f threads=many") + whole,
            "threads=many is not a number",
        ),
        (marker("name=k family=f threads=2048") + whole, "threads=2048"),
        (marker("name=k family=f colour=red") + whole, "unknown key colour"),
        (marker("name=k family=f archs=sm_90a,sm_70") + whole, "`sm_70`"),
        (marker("name=k family=f maps=1,x") + whole, "maps=1,x is not a list"),
        (marker("family=f") + whole, "name or family is missing"),
        (
            "  call void asm sideeffect \"bar.sync 0;\"\n".to_string(),
            "form the IR edit does not know",
        ),
        (
            "define ptx_kernel void no_name\n".to_string(),
            "form the IR edit does not know",
        ),
    ];
    for (module, expected) in cases {
        let message = edit(&module, "k").unwrap_err().to_string();
        assert!(message.contains(expected), "{expected} is not in {message}");
    }
}

#[test]
fn every_synchronising_instruction_is_known_and_its_namesakes_are_not() {
    for asm in [
        "bar.sync 0;",
        "barrier.cluster.arrive;",
        "@p shfl.sync.idx.b32 %0|p, $1, $2, 31, $3;",
        "{ activemask.b32 $0; }",
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {$0}",
        "wgmma.fence.sync.aligned;",
        "setmaxnreg.inc.sync.aligned.u32 240;",
        "L:\n\tmbarrier.try_wait.parity.shared.b64 p, [$0], $1;",
        "elect.sync _|p, -1;",
        "bar.warp.sync -1;",
    ] {
        assert!(is_convergent(asm), "{asm}");
    }
    for asm in [
        "membar.gl;",
        "cp.async.wait_group 0;",
        "mov.u32 $0, %barrier;",
        "fma.rn.f32 $0,$1,$2,$3;",
        "dp4a.s32.s32 $0;",
    ] {
        assert!(!is_convergent(asm), "{asm}");
    }
}
