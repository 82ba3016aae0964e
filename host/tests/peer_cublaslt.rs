//! The peer cuBLASLt against a library that multiplies on the host (peer_fake_library/cublaslt.c), on the fake driver of
//! device_cuda.rs: that it is asked for the operation's own product, on the operation's own buffers, and that refusals come
//! back as words. What the real one computes is a GPU's business. One test in a file of its own: libraries are looked up once
//! a process.

use std::path::{Path, PathBuf};
use std::process::Command;

use host::device::{Device, DeviceSpec};
use host::op::{Case, Operation, Reference, Values, compare_bytes};
use host::peer::{self, PeerError};

/// Compiles a library of C; none where there is no C compiler.
fn compiled(name: &str, source: &str) -> Option<PathBuf> {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let done = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    match done {
        Ok(status) => assert!(status.success(), "cc could not compile {}", source.display()),
        Err(why) => {
            eprintln!("SKIPPED: the fake library needs a C compiler, and `cc` does not run: {why}");
            return None;
        }
    }
    Some(library)
}

fn case(gemm: &dyn Operation, dtype: &str, flags: [u64; 3], k: u64) -> Case {
    let [out_f32, bias, residual] = flags;
    let dims = [
        ("n", 5),
        ("k", k),
        ("n_tok", 3),
        ("out_f32", out_f32),
        ("bias", bias),
        ("residual", residual),
    ];
    let dims = dims.map(|(name, size)| (name.to_string(), size));
    // One product a sum: then no order of adding matters, and bytes can be asked for.
    Case {
        values: Values::Single,
        ..gemm.custom_case(&dims).expect("a case")
    }
    .with_dtype(dtype)
}

#[test]
fn it_multiplies_the_operation_s_own_tensors() {
    let driver = compiled("libcuda_fake_peer.so.1", "device_fake_driver/driver.c");
    let library = compiled("libcublasLt_fake.so", "peer_fake_library/cublaslt.c");
    let (Some(driver), Some(library)) = (driver, library) else {
        return;
    };
    // SAFETY: this is the only test of its process and no thread of it reads the environment now.
    unsafe {
        std::env::set_var("LOCKSTEP_LIBCUDA", &driver);
        std::env::remove_var("LOCKSTEP_NO_CUDA");
        std::env::set_var(peer::cublaslt::VARIABLE, "/nowhere/libcublasLt.so");
    }
    let device = Device::open(&DeviceSpec::Cuda(0)).expect("the fake driver has a device");
    let (none, missing) = peer::open(&device);
    assert!(none.is_empty());
    let why = missing[0].to_string();
    assert!(
        why.starts_with("cublasLt was not found: LOCKSTEP_CUBLASLT: ") && why.contains("/nowhere"),
        "{why}"
    );
    // SAFETY: as above.
    unsafe { std::env::set_var(peer::cublaslt::VARIABLE, &library) };
    let (peers, missing) = peer::open(&device);
    assert!(missing.is_empty(), "{missing:?}");
    let peer = peers.first().expect("the fake library opens");
    assert_eq!((peer.name(), peer.version()), ("cublasLt", "13.0.2"));
    assert_eq!(peer.file(), library.to_string_lossy());

    let gemm = host::ops::by_name("gemm").expect("an operation");
    let stream = device.stream().expect("a stream");
    for (dtype, flags) in [
        ("bf16", [0, 0, 0]),
        ("bf16", [1, 0, 0]),
        ("bf16", [0, 1, 0]),
        ("bf16", [0, 0, 1]),
        ("f16", [1, 0, 0]),
    ] {
        let case = case(gemm, dtype, flags, 8);
        let mut prepared = gemm.prepare(&device, &case, 3, 2).expect("prepared");
        let run = peer.prepare(&case).expect("algorithms");
        // The one that failed the library's own check is left out.
        assert_eq!(run.algorithms(), ["id66 cluster2", "id68 cluster2"]);
        let Reference::Bytes(want) = prepared.cpu_reference().expect("a reference") else {
            panic!("a small case has a whole reference");
        };
        let want = want.to_vec();
        for copy in 0..2 {
            prepared.poison().expect("poisoned");
            run.launch(0, &stream, &*prepared, copy).expect("launched");
            compare_bytes(&want, &prepared.output(copy).expect("output")).expect("the operation's bytes");
        }
        let of_the_other = prepared.output(0).expect("output");
        assert!(
            compare_bytes(&want, &of_the_other).is_err(),
            "copy 0 was poisoned and not launched"
        );
        // An algorithm of other bytes is no error of the peer's: it is seen by comparing.
        run.launch(1, &stream, &*prepared, 0).expect("launched");
        let wrong = compare_bytes(&want, &prepared.output(0).expect("output")).expect_err("planted");
        assert_eq!(wrong.count, 1, "{wrong}");
        // What is launched during a capture is no error either.
        device
            .capture_of(&stream, || run.launch(0, &stream, &*prepared, 0))
            .expect("captured");
        for (algorithm, copy, says) in [(2, 0, "no algorithm 2"), (0, 2, "copy 2 has no tensor")] {
            let why = run.launch(algorithm, &stream, &*prepared, copy).expect_err("refused");
            assert!(why.to_string().contains(says), "{why}");
        }
    }
    let refused = peer
        .prepare(&case(gemm, "bf16", [0, 0, 0], 7))
        .map(|_| ())
        .expect_err("an odd k");
    assert!(
        matches!(refused, PeerError::Refused { .. }) && refused.to_string().contains("no algorithm"),
        "{refused}"
    );
    let unsupported = case(gemm, "bf16", [1, 1, 0], 8);
    assert!(peer.supports(&unsupported).expect_err("refused").contains("bias"));
    assert!(peer.supports(&case(gemm, "f16", [0, 1, 1], 8)).is_ok());
}
