//! The CUDA back end against a fake driver (device_fake_driver/driver.c), compiled here with the system's C compiler:
//! which calls are made, with which arguments, in which order, and what becomes of errors. What a GPU computes is another
//! test's business (device_gpu.rs). One test in a file of its own: the driver is looked up once a process.

use cuda_std::kernel;
use host::device::image::Image;
use host::device::{DevPtr, Device, DeviceError, DeviceSpec, Event, LaunchDims, Swizzle, TensorMapSpec};
use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::process::Command;

/// A kernel of every kind of parameter; the fake driver runs nothing.
///
/// # Safety
/// None is needed.
#[kernel(threads = 128)]
pub unsafe fn seven(_a: *const f32, _b: *mut u8, _c: *mut f32, _d: u32, _e: u32, _f: u32, _g: u32) {}
use seven::KERNEL;

/// The arguments of `seven`.
type Args = (*const f32, *mut u8, *mut f32, u32, u32, u32, u32);

/// What the fake driver takes for machine code and for PTX, of the family of this file's kernels.
static IMAGES: &[Image] = &[Image {
    arch: "sm_90a",
    family: "device_cuda",
    ptx: b".visible .entry seven()",
    cubin: Some(b"\x7fELF"),
    ptx_sha256: "",
    kernels: &[],
}];

/// Compiles the fake driver and makes it this process's; false where there is no C compiler.
fn install_fake_driver() -> bool {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libcuda_fake_host.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device_fake_driver/driver.c");
    match Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .status()
    {
        Ok(status) => assert!(status.success(), "cc could not compile {source}"),
        Err(why) => {
            eprintln!("SKIPPED: the fake driver needs a C compiler, and `cc` does not run: {why}");
            return false;
        }
    }
    // SAFETY: this is the only test of its process and no thread of it reads the environment now.
    unsafe {
        std::env::set_var("LOCKSTEP_LIBCUDA", &library);
        std::env::remove_var("LOCKSTEP_NO_CUDA");
    }
    true
}

/// The fake driver's log since the last call.
fn log() -> Vec<String> {
    let log = libcuda::symbol("fake_log")
        .expect("the fake driver is loaded")
        .cast_mut()
        .cast::<c_char>();
    // SAFETY: the fake driver's log is a C string that only this thread's calls change.
    unsafe {
        let lines = CStr::from_ptr(log)
            .to_string_lossy()
            .lines()
            .map(str::to_string)
            .collect();
        log.write(0);
        lines
    }
}

fn refuse_cubins(refuse: bool) {
    let flag = libcuda::symbol("fake_refuse_cubins")
        .expect("the fake driver is loaded")
        .cast_mut()
        .cast::<c_int>();
    // SAFETY: an int of the fake driver that only this thread's calls read.
    unsafe { flag.write(c_int::from(refuse)) };
}

#[test]
fn the_driver_is_called_as_it_should_be() {
    if !install_fake_driver() {
        return;
    }
    let opened = Device::open(&DeviceSpec::Cuda(1));
    assert!(matches!(
        opened,
        Err(DeviceError::NoSuchDevice { ordinal: 1, count: 1 })
    ));
    let device = Device::open_with_images(&DeviceSpec::Auto, IMAGES).expect("there is a device now");
    let info = device.info();
    assert_eq!(
        (info.name.as_str(), info.arch().as_str(), info.is_simulator),
        ("Fake H200", "sm_90", false)
    );
    assert_eq!(
        (info.sms, info.shared_bytes_per_block, info.cuda_version.as_str()),
        (132, 232_448, "13.0")
    );
    assert_eq!((info.sm_clock_khz, info.pci_address.as_str()), (0, "0000:1b:00.0"));
    assert_eq!(log(), ["retain"]);

    memory(&device);
    refuse_cubins(true);
    launches(&device);
    graphs(&device);
    tensor_maps(&device);
    log();
    drop(device);
    assert_eq!(log(), ["unload", "release"]);

    // With a driver that takes the cubin, the PTX is not needed.
    refuse_cubins(false);
    let device = Device::open_with_images(&DeviceSpec::Cuda(0), IMAGES).expect("there is a device");
    device.prepare(&KERNEL).unwrap();
    assert_eq!(log(), ["retain", "load cubin", "function seven"]);
    let none = Device::open_with_images(&DeviceSpec::Cuda(0), &[]).expect("there is a device");
    let error = none.prepare(&KERNEL).unwrap_err();
    assert!(matches!(error, DeviceError::NoImage { .. }), "{error}");
    static BROKEN: &[Image] = &[Image {
        ptx: b"nothing",
        ..IMAGES[0]
    }];
    refuse_cubins(true);
    let broken = Device::open_with_images(&DeviceSpec::Cuda(0), BROKEN).expect("there is a device");
    let message = broken.prepare(&KERNEL).unwrap_err().to_string();
    for part in [
        "`device_cuda`",
        "sm_90a cubin",
        "too new a cubin",
        "sm_90a PTX",
        "(218)",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

fn memory(device: &Device) {
    let (a, b) = (device.alloc(1000, "a").unwrap(), device.alloc(1000, "b").unwrap());
    let stream = device.stream().unwrap();
    let numbers: Vec<u16> = (0..500).collect();
    a.upload(&numbers).unwrap();
    device.copy(&stream, &b, &a, 1000).unwrap();
    device.fill(&stream, &a, 9).unwrap();
    stream.synchronize().unwrap();
    device.synchronize().unwrap();
    assert_eq!(b.download_vec::<u16>(500).unwrap(), numbers);
    assert_eq!(a.download_vec::<u8>(1000).unwrap(), [9; 1000]);
    a.poison().unwrap();
    assert_eq!(a.download_vec::<u8>(1000).unwrap(), [0xA5; 1000]);
    assert_eq!(a.first_unwritten(), None, "a GPU cannot tell");
    let error = device.alloc(2 << 30, "cache").unwrap_err().to_string();
    let expected =
        "buffer `cache` of 2147483648 bytes does not fit: 1073739824 bytes of the device's 1073741824 are free";
    assert_eq!(error, expected);
    let (start, end) = (device.event().unwrap(), device.event().unwrap());
    start.record(&stream).unwrap();
    end.record(&stream).unwrap();
    assert_eq!(Event::elapsed_us(&start, &end).unwrap(), 125.0);
    assert!(!start.is_host_time());
    drop((a, b, stream, start, end));
    assert_eq!(log(), ["free", "free", "stream destroyed"]);
}

fn launches(device: &Device) {
    let kernel = &KERNEL;
    let stream = device.stream().unwrap();
    let args: Args = (0x10 as *const f32, 0x20 as *mut u8, 0x30 as *mut f32, 1, 2, 3, u32::MAX);
    let dims = LaunchDims::new((5, 6, 7), 128);
    device.launch(&stream, kernel, dims.shared(48 << 10), args).unwrap();
    // Its cubin is refused here, so its PTX is loaded, once.
    let name = "seven";
    let params = "params=10,20,30,1,2,3,4294967295";
    let expected = [
        "load ptx".to_string(),
        format!("function {name}"),
        format!("launch {name} grid=5,6,7 block=128,1,1 shared=49152 {params}"),
    ];
    assert_eq!(log(), expected);
    // Above 48 KiB the kernel has to be allowed it, once; a dependent launch carries its attribute.
    let before = libcuda::calls();
    for _ in 0..2 {
        device
            .launch(&stream, kernel, dims.shared(100_000).dependent(), args)
            .unwrap();
    }
    let dependent = format!("dependent {name} grid=5,6,7 block=128,1,1 shared=100000 {params}");
    assert_eq!(
        log(),
        [format!("attribute {name} 8=100000"), dependent.clone(), dependent]
    );
    // Clusters are an attribute as well, beside the other one.
    let cluster = LaunchDims::new(4, 128).cluster(2);
    device.launch(&stream, kernel, cluster, args).unwrap();
    device.launch(&stream, kernel, cluster.dependent(), args).unwrap();
    let rest = format!("{name} grid=4,1,1 block=128,1,1 shared=0 {params}");
    assert_eq!(
        log(),
        [
            format!("cluster=2,1,1  {rest}"),
            format!("cluster=2,1,1 dependent {rest}")
        ]
    );
    let calls = libcuda::calls() - before;
    assert_eq!(
        (calls.launches, calls.allocations, calls.copies, calls.module_loads),
        (4, 0, 0, 0)
    );
    assert_eq!(device.blocks_per_sm(kernel, 128, 0).unwrap(), Some(16));

    let error = device.launch(&stream, kernel, dims.shared(4096), args).unwrap_err();
    assert!(error.is_fatal());
    let message = error.to_string();
    for part in [
        "cuLaunchKernel",
        name,
        "grid 5x6x7",
        "4096 bytes",
        "(719)",
        "said by the driver",
        "--device simt",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

fn tensor_maps(device: &Device) {
    let buffer = device.alloc(1 << 16, "x").unwrap();
    log();
    let spec = TensorMapSpec {
        address: DevPtr::of(&buffer),
        element_bytes: 2,
        sizes: &[100, 7, 3],
        strides_bytes: &[208, 4096],
        tile: &[64, 32, 1],
        swizzle: Swizzle::B128,
    };
    let map = device.tensor_map(&spec).unwrap();
    // 16-bit words, filled up with zeros, fetched into L2 by 256 bytes.
    let at = buffer.ptr() as usize;
    let expected = format!("map element=1 rank=3 address={at:x} interleave=0 swizzle=3 promotion=3 fill=0");
    assert_eq!(log(), [expected]);
    assert_eq!(map.words[1..10], [100, 7, 3, 208, 4096, 0, 64, 32, 1]);
    for (element_bytes, element) in [(1, 0), (4, 2), (8, 4)] {
        let spec = TensorMapSpec {
            element_bytes,
            sizes: &[64],
            strides_bytes: &[],
            tile: &[16],
            swizzle: Swizzle::None,
            ..spec
        };
        device.tensor_map(&spec).unwrap();
        assert!(log()[0].starts_with(&format!("map element={element} rank=1")));
    }
    let wrong = TensorMapSpec {
        strides_bytes: &[200, 4096],
        ..spec
    };
    let message = device.tensor_map(&wrong).unwrap_err().to_string();
    assert!(message.contains("stride of 200 bytes"), "{message}");
    assert!(log().is_empty(), "the driver is not asked");
}

fn graphs(device: &Device) {
    let kernel = &KERNEL;
    let stream = device.stream().unwrap();
    let buffer = device.alloc(16, "x").unwrap();
    let args: Args = (std::ptr::null(), std::ptr::null_mut(), std::ptr::null_mut(), 0, 0, 0, 0);
    log();
    let graph = device
        .capture(&stream, || {
            device.launch(&stream, kernel, LaunchDims::new(1, 128), args)?;
            device.launch(&stream, kernel, LaunchDims::new(1, 128).dependent(), args)?;
            device.fill(&stream, &buffer, 0)
        })
        .unwrap();
    assert_eq!(graph.nodes(), 3);
    graph.launch(&stream).unwrap();
    drop(graph);
    let lines = log();
    assert_eq!(lines[0], "capture mode=2");
    assert!(lines[1].starts_with("launch seven") && lines[2].starts_with("dependent seven"));
    assert_eq!(lines[3..], ["graph destroyed", "graph launch", "graph exec destroyed"]);

    // An error inside ends the capture and leaves nothing behind.
    let error = device
        .capture(&stream, || buffer.upload(&[1_u32]))
        .err()
        .expect("uploads cannot be captured");
    assert!(error.to_string().contains("Inside a capture only"), "{error}");
    assert_eq!(log(), ["capture mode=2", "graph destroyed"]);
    buffer.upload(&[1_u32]).expect("the capture is over");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        device
            .capture(&stream, || panic!("in the middle of a capture"))
            .map(|_| ())
    }));
    assert!(panicked.is_err());
    buffer.upload(&[2_u32]).expect("the capture is over");
}
