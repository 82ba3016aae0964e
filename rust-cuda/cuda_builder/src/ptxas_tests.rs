use super::*;

/// What ptxas 13.0.88 printed for a kernel that spills, one that does not, and a called function with a stack frame.
const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'spilling' for 'sm_90a'
ptxas info    : Function properties for spilling
    768 bytes stack frame, 764 bytes spill stores, 768 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 768 bytes cumulative stack size
ptxas info    : Compile time = 37.997 ms
ptxas info    : Compiling entry function 'good' for 'sm_90a'
ptxas info    : Function properties for good
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 128 bytes smem, 356 bytes cmem[0]
ptxas info    : Compile time = 6.212 ms
";

/// And for wgmma accumulators touched in flight, and `setmaxnreg` in a kernel without launch bounds.
const ADVISORIES: &str = "\
ptxas info    : (C7519) warpgroup.arrive is injected in around line 18 by compiler to allow use of registers in GMMA in function 'k2'
ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored; unable to determine register count at entry.
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k2' for 'sm_90a'
ptxas info    : Function properties for k2
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 34 registers, used 0 barriers
";

fn kernel(name: &str, allow_local: Option<&str>) -> Kernel {
    Kernel {
        name: name.into(),
        family: "fam".into(),
        allow_local: allow_local.map(str::to_string),
        ..Kernel::default()
    }
}

#[test]
fn every_number_is_read() {
    let report = parse(LOG);
    let [spilling, good] = &report.kernels[..] else {
        panic!("{report:?}")
    };
    assert_eq!((spilling.name.as_str(), spilling.registers), ("spilling", 64));
    assert_eq!((spilling.stack_bytes, spilling.spill_bytes), (768, 764 + 768));
    assert_eq!(
        (good.name.as_str(), good.registers, good.shared_bytes),
        ("good", 10, 128)
    );
    assert_eq!((good.stack_bytes, good.spill_bytes), (0, 0));
    assert!(report.functions.is_empty() && report.advisories.is_empty());
}

#[test]
fn a_spill_is_refused_by_name_and_number_unless_there_is_a_reason() {
    let report = parse(LOG);
    let refusals = gate(
        &report,
        &[kernel("spilling", None), kernel("good", None)],
        NvvmArch::Compute90a,
    );
    let [refusal] = &refusals[..] else {
        panic!("{refusals:?}")
    };
    for part in [
        "spilling",
        "sm_90a",
        "768 bytes of stack",
        "1532 bytes of spills",
        "64 registers",
    ] {
        assert!(refusal.contains(part), "{part} is not in {refusal}");
    }
    let excused = [kernel("spilling", Some("a table by design")), kernel("good", None)];
    assert!(gate(&report, &excused, NvvmArch::Compute90a).is_empty());
    // The reason is the kernel's own.
    let wrong = [kernel("spilling", None), kernel("good", Some("why"))];
    assert_eq!(gate(&report, &wrong, NvvmArch::Compute90a).len(), 1);
}

#[test]
fn advisories_are_refused_with_their_text() {
    let report = parse(ADVISORIES);
    assert_eq!(report.advisories.len(), 2);
    assert_eq!(report.advisories[0].0.as_deref(), Some("k2"));
    assert!(
        report.advisories[0]
            .1
            .starts_with("C7519: warpgroup.arrive is injected"),
        "{report:?}"
    );
    assert_eq!(report.advisories[1].0, None);
    let refusals = gate(&report, &[kernel("k1", None), kernel("k2", None)], NvvmArch::Compute90a);
    assert_eq!(refusals.len(), 2);
    assert!(
        refusals[0].contains("k2") && refusals[0].contains("C7519"),
        "{refusals:?}"
    );
    // A message that names nobody may be about any kernel, so it passes only when all of them may.
    assert!(
        refusals[1].contains("one of k1, k2") && refusals[1].contains("C7508"),
        "{refusals:?}"
    );
    let one = [kernel("k1", None), kernel("k2", Some("why"))];
    assert_eq!(gate(&report, &one, NvvmArch::Compute90a).len(), 1);
    let all = [kernel("k1", Some("why")), kernel("k2", Some("why"))];
    assert!(gate(&report, &all, NvvmArch::Compute90a).is_empty());
}

#[test]
fn a_called_function_with_a_stack_frame_is_refused() {
    // ptxas lists functions that were not inlined after the last entry; most often it counts their frames there too.
    let log = "\
ptxas info    : Compiling entry function 'k3' for 'sm_90a'
ptxas info    : Function properties for k3
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 0 barriers, 512 bytes cumulative stack size
ptxas info    : Function properties for f
    512 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
";
    let report = parse(log);
    assert_eq!(
        (report.kernels[0].stack_bytes, report.functions[0].stack_bytes),
        (0, 512)
    );
    let refusals = gate(&report, &[kernel("k3", None)], NvvmArch::Compute90a);
    assert!(
        refusals.len() == 1 && refusals[0].contains("device function f"),
        "{refusals:?}"
    );
}

#[test]
fn numbers_and_codes_are_not_taken_from_other_words() {
    assert_eq!(
        number_before("12 bytes stack frame, 34 bytes spill stores", " bytes spill stores"),
        34
    );
    assert_eq!(number_before("no number bytes smem", " bytes smem"), 0);
    assert_eq!(
        advisory_code("Compiling entry function 'gemm_AC7510' for 'sm_90a'"),
        None
    );
    assert_eq!(advisory_code("Compiling entry function 'C75100_x'"), None);
    assert_eq!(advisory_code("ptxas info : (C7510) Potential"), Some("C7510"));
}
