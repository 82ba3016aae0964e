//! Calls reach the driver exactly as they were made. The driver is a fake one, compiled here with the system's C
//! compiler. One test in a file of its own: the driver is looked up once a process.

use cust_raw::cudaError_enum;
use std::path::Path;
use std::process::Command;

/// `struct Record` of fake_driver.c.
#[repr(C)]
#[derive(Clone, Debug)]
struct Record {
    integers: [u64; 11],
    floats: [f32; 8],
    bytes: [u8; 64],
    stack_misalignment: u64,
}

/// More arguments than there are registers of either class.
type Many = unsafe extern "C" fn(u64, f32, u64, f32, u64, f32, u64, f32, u64, f32, u64, f32, u64, f32, u64, f32) -> u32;

unsafe extern "C" {
    fn cuProfilerInitialize();
}

#[test]
fn arguments_arrive_untouched() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = directory.join("libcuda_fake.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_driver.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    match compiled {
        Ok(status) => assert!(status.success(), "cc could not compile {source}"),
        Err(why) => {
            eprintln!("SKIPPED: the fake driver needs a C compiler, and `cc` does not run: {why}");
            return;
        }
    }
    // SAFETY: this is the only test of its process and no thread of it reads the environment now.
    unsafe { std::env::set_var("LOCKSTEP_LIBCUDA", &library) };
    // SAFETY: likewise.
    unsafe { std::env::remove_var("LOCKSTEP_NO_CUDA") };

    libcuda::available().expect("the fake driver lists one device");
    let record = libcuda::symbol("record")
        .expect("the fake driver exports it")
        .cast::<Record>();
    // SAFETY: the address of the fake driver's record, which only this thread's calls change.
    let last = || unsafe { record.read_volatile() };
    let before = libcuda::calls();

    // The first call goes through the resolver, the second through the slot alone; both must be exact.
    for round in 0..2_u32 {
        // SAFETY: the fake driver dereferences none of these pointers.
        let result = unsafe {
            cust_raw::cuLaunchKernel(
                0x1000 as _,
                round + 1,
                2,
                3,
                4,
                5,
                6,
                u32::MAX,
                0x2000 as _,
                0x3000 as _,
                0x4000 as _,
            )
        };
        assert_eq!(result, cudaError_enum::CUDA_SUCCESS);
        let expected = [
            0x1000,
            u64::from(round) + 1,
            2,
            3,
            4,
            5,
            6,
            u64::from(u32::MAX),
            0x2000,
            0x3000,
            0x4000,
        ];
        assert_eq!(last().integers, expected);
        assert_eq!(last().stack_misalignment, 0);

        // SAFETY: as above.
        unsafe { cust_raw::cuTexRefSetMipmapLevelClamp(0x5000 as _, -1.5, f32::MIN_POSITIVE) };
        assert_eq!(last().integers[0], 0x5000);
        assert_eq!(last().floats[..2], [-1.5, f32::MIN_POSITIVE]);

        let bytes: [u8; 64] = std::array::from_fn(|i| (i as u8).wrapping_mul(7).wrapping_add(round as u8));
        let handle = cust_raw::CUipcMemHandle {
            reserved: bytes.map(|b| b as _),
        };
        let mut pointer = 0;
        // SAFETY: `pointer` is valid for the write.
        unsafe { cust_raw::cuIpcOpenMemHandle_v2(&mut pointer, handle, 9 + round) };
        assert_eq!(pointer, 0x1122334455667788);
        assert_eq!(last().bytes, bytes);
        assert_eq!(last().integers[0], 9 + u64::from(round));

        // SAFETY: the fake driver's function of this name has this signature.
        let code = unsafe {
            let many = std::mem::transmute::<unsafe extern "C" fn(), Many>(cuProfilerInitialize);
            many(
                1,
                0.1,
                2,
                0.2,
                3,
                0.3,
                4,
                0.4,
                5,
                0.5,
                6,
                0.6,
                7,
                0.7,
                u64::MAX,
                f32::MAX,
            )
        };
        assert_eq!(code, 719, "the driver's status comes back");
        assert_eq!(last().integers[..8], [1, 2, 3, 4, 5, 6, 7, u64::MAX]);
        assert_eq!(last().floats, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, f32::MAX]);
        assert_eq!(last().stack_misalignment, 0);
    }

    let made = libcuda::calls() - before;
    assert_eq!((made.launches, made.other, made.allocations), (2, 6, 0));
    libcuda::count(libcuda::Kind::Launch);
    assert_eq!((libcuda::calls() - before).launches, 3);

    // A function that this driver lacks.
    // SAFETY: there is nothing to wait for.
    let result = unsafe { cust_raw::cuCtxSynchronize() };
    assert_eq!(result, cudaError_enum::CUDA_ERROR_NOT_FOUND);
    assert!(cust::error::CudaError::NotFound.to_string().contains("too old"));
    assert!(
        libcuda::symbol("cuLaunchKernelEx").is_some(),
        "functions newer than cust_raw are found"
    );
    assert!(libcuda::symbol("cuNoSuchFunction").is_none());
}
