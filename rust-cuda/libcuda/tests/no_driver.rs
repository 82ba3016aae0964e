//! With no driver, every call fails with an error that prints, and nothing of CUDA is in the process. One test in a
//! file of its own: the driver is looked up once a process.

use std::collections::BTreeSet;
use std::ffi::CStr;

#[test]
fn calls_fail_politely_and_nothing_of_cuda_is_loaded() {
    // SAFETY: this is the only test of its process and no thread of it reads the environment now.
    unsafe { std::env::set_var("LOCKSTEP_NO_CUDA", "1") };

    let error = cust::init(cust::CudaFlags::empty()).expect_err("there is no driver");
    assert_eq!(error, cust::error::CudaError::NoDevice);
    assert!(error.to_string().contains("no CUDA driver"), "{error}");
    // Every code that cust knows must print, or its Display panics.
    assert!(
        cust::error::CudaError::IllegalAddress
            .to_string()
            .contains("illegal address")
    );
    assert!(
        cust::error::CudaError::ProfilerDisabled
            .to_string()
            .contains("does not know")
    );

    let why = libcuda::available().expect_err("there is no driver");
    assert!(why.contains("LOCKSTEP_NO_CUDA"), "{why}");
    assert_eq!(libcuda::symbol("cuInit"), None);
    assert_eq!(
        libcuda::describe(100),
        "CUDA_ERROR_NO_DEVICE (100): no CUDA driver or no CUDA-capable device"
    );

    let mut name = std::ptr::null();
    // SAFETY: `name` is valid for a write, and on success holds a static C string.
    let name = unsafe {
        cust_raw::cuGetErrorName(cust_raw::cudaError_enum::CUDA_ERROR_NOT_FOUND, &mut name);
        CStr::from_ptr(name)
    };
    assert_eq!(name, c"CUDA_ERROR_NOT_FOUND");

    let before = libcuda::calls();
    let mut pointer = 0;
    // SAFETY: without a driver nothing is touched.
    let result = unsafe { cust_raw::cuMemAlloc_v2(&mut pointer, 16) };
    assert_eq!(result, cust_raw::cudaError_enum::CUDA_ERROR_NO_DEVICE);
    assert_eq!((libcuda::calls() - before).allocations, 1, "failed calls count too");

    // Everything the loader brought in at start is mapped; the kernel lists it.
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux lists the mappings");
    let libraries: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .filter(|file| file.contains(".so"))
        .collect();
    assert!(!libraries.is_empty(), "the test binary is dynamically linked");
    let companions = [
        "libc.",
        "libgcc_s.",
        "libm.",
        "ld-linux",
        "libpthread.",
        "libdl.",
        "librt.",
    ];
    for library in libraries {
        assert!(
            companions.iter().any(|known| library.starts_with(known)),
            "unexpected library {library}"
        );
    }
}
