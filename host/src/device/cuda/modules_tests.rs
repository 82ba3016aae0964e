use super::*;

const fn image(arch: &'static str, family: &'static str, cubin: Option<&'static [u8]>) -> Image {
    Image {
        arch,
        family,
        ptx: arch.as_bytes(),
        cubin,
        ptx_sha256: "",
        kernels: &[],
    }
}

static EMBEDDED: &[Image] = &[
    image("sm_80", "matmul", Some(b"elf 80")),
    image("sm_90a", "matmul", Some(b"elf 90a")),
    image("sm_120a", "matmul", None),
    image("sm_90", "plain", Some(b"elf 90")),
    image("sm_75", "plain", None),
    image("sm_90a", "plain", Some(b"elf 90a plain")),
    image("sm_90a", "hopper", Some(b"elf")),
];

fn labels(family: &str, capability: (u32, u32)) -> Vec<String> {
    candidates(EMBEDDED, family, capability)
        .iter()
        .map(Candidate::label)
        .collect()
}

#[test]
fn machine_code_first_then_its_ptx_then_lower_ptx() {
    assert_eq!(labels("matmul", (9, 0)), ["sm_90a cubin", "sm_90a PTX", "sm_80 PTX"]);
    assert_eq!(labels("matmul", (8, 0)), ["sm_80 cubin", "sm_80 PTX"]);
    // Built without ptxas for this one.
    assert_eq!(labels("matmul", (12, 0)), ["sm_120a PTX", "sm_80 PTX"]);
    // Devices in between: PTX without a suffix only, and no machine code.
    assert_eq!(labels("matmul", (8, 9)), ["sm_80 PTX"]);
    assert_eq!(labels("matmul", (10, 0)), ["sm_80 PTX"]);
    // Older than all: nothing.
    assert_eq!(labels("matmul", (7, 5)), Vec::<String>::new());
}

#[test]
fn a_suffix_is_better_on_its_own_device_and_useless_elsewhere() {
    assert_eq!(
        labels("plain", (9, 0)),
        ["sm_90a cubin", "sm_90 cubin", "sm_90a PTX", "sm_90 PTX", "sm_75 PTX"]
    );
    assert_eq!(labels("plain", (10, 3)), ["sm_90 PTX", "sm_75 PTX"]);
    assert_eq!(labels("hopper", (12, 0)), Vec::<String>::new());
    assert_eq!(labels("nothing", (9, 0)), Vec::<String>::new());
    let best = &candidates(EMBEDDED, "plain", (9, 0))[0];
    assert_eq!(best.code, Code::Cubin(b"elf 90a plain"));
}

#[test]
fn a_missing_image_names_family_device_and_what_there_is() {
    unsafe fn entry(_: *const *const c_void) {}
    let modules = Modules {
        capability: (12, 0),
        images: EMBEDDED,
        loaded: Mutex::default(),
    };
    let meta = KernelMeta {
        name: "wgmma_1",
        family: "hopper",
        max_threads: 0,
        min_blocks: 0,
        archs: &[],
        entry,
    };
    let message = modules
        .load_family(&meta)
        .err()
        .expect("sm_90a serves no sm_120")
        .to_string();
    for part in [
        "`hopper`",
        "`wgmma_1`",
        "sm_120",
        "embedded: sm_90a",
        "./setup",
        "--device simt",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    let meta = KernelMeta {
        family: "no_such",
        ..meta
    };
    let message = modules.load_family(&meta).err().expect("no such family").to_string();
    assert!(message.contains("embedded: none"), "{message}");
}
