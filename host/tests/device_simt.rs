//! The simulator as a device: every operation of `host::device` on it.

use cuda_std::tma::TensorMap;
use cuda_std::{cluster, kernel, mem, shared, thread};
use half::{bf16, f16};
use host::device::{DevPtr, Device, DeviceError, DeviceSpec, Event, LaunchDims, SimtOptions, Swizzle, TensorMapSpec};

/// y[i] = x[i] + add.
///
/// # Safety
/// `x` and `y` have `n` elements.
#[kernel(threads = 64)]
pub unsafe fn add_to(x: *const f32, y: *mut f32, add: f32, n: u32) {
    let i = thread::index_1d();
    if i < n {
        // SAFETY: i < n.
        unsafe { mem::store(y.add(i as usize), mem::load(x.add(i as usize)) + add) };
    }
}

/// Reverses 64 elements through dynamic shared memory.
///
/// # Safety
/// `x` has 64 elements, and the launch 256 bytes of shared memory.
#[kernel]
pub unsafe fn reverse(x: *mut u32) {
    let i = thread::thread_idx_x();
    let tile = shared::dynamic::<u32>();
    // SAFETY: 64 elements, and 64 threads.
    unsafe {
        tile.add(i).store(mem::load(x.add(i as usize)));
        thread::sync_threads();
        mem::store(x.add(i as usize), tile.add(63 - i).load());
    }
}

/// y[i] = the i-th word of the second map.
///
/// # Safety
/// `y` has 16 elements.
#[kernel(threads = 16, archs = "sm_90a")]
pub unsafe fn words_of(y: *mut u64, _first: &TensorMap, n: u32, second: &TensorMap) {
    let i = thread::thread_idx_x();
    if i < n {
        // SAFETY: 16 elements, and i is below 16.
        unsafe { mem::store(y.add(i as usize), second.words[i as usize]) };
    }
}

/// y[i] = the number of the i-th block in its cluster, and ten times the cluster's blocks.
///
/// # Safety
/// `y` has as many elements as there are blocks.
#[kernel(threads = 32)]
pub unsafe fn places(y: *mut u32) {
    if thread::thread_idx_x() == 0 {
        let i = thread::block_idx_x() as usize;
        // SAFETY: one element a block.
        unsafe { mem::store(y.add(i), cluster::rank() + 10 * cluster::size()) };
    }
    cluster::sync();
}

fn simt() -> Device {
    Device::open(&DeviceSpec::Simt).expect("the simulator is always there")
}

#[test]
fn a_launch_computes_and_events_are_marked_as_host_time() {
    let device = simt();
    assert!(device.info().is_simulator);
    assert_eq!(device.info().arch(), "simt");
    let (stream, start, end) = (
        device.stream().unwrap(),
        device.event().unwrap(),
        device.event().unwrap(),
    );
    let x: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let (a, b) = (device.alloc(400, "a").unwrap(), device.alloc(400, "b").unwrap());
    a.upload(&x).unwrap();
    start.record(&stream).unwrap();
    let args = (a.ptr_as::<f32>().cast_const(), b.ptr_as::<f32>(), 0.5, 100);
    device
        .launch(&stream, &add_to::KERNEL, LaunchDims::new(2, 64).dependent(), args)
        .unwrap();
    end.record(&stream).unwrap();
    stream.synchronize().unwrap();
    device.synchronize().unwrap();
    let y: Vec<f32> = b.download_vec(100).unwrap();
    assert!(x.iter().zip(&y).all(|(x, y)| x + 0.5 == *y), "{y:?}");
    assert!(start.is_host_time());
    assert!(Event::elapsed_us(&start, &end).unwrap() >= 0.0);
    assert!(Event::elapsed_us(&end, &start).unwrap() <= 0.0);
    assert!(device.clock_state().is_none());
    let counted = device.last_launch_stats().expect("the simulator counts");
    assert_eq!(
        (counted.threads, counted.loads, counted.global_store_bytes),
        (128, 100, 400)
    );
    assert_eq!(device.blocks_per_sm(&add_to::KERNEL, 64, 0).unwrap(), None);
    device.prepare(&add_to::KERNEL).unwrap();
}

#[test]
fn shared_memory_of_the_launch_reaches_the_kernel_in_any_order() {
    for options in [
        SimtOptions::default(),
        SimtOptions {
            seed: Some(7),
            ..SimtOptions::default()
        },
        SimtOptions {
            checks: false,
            workers: 1,
            tensor: Default::default(),
            ..SimtOptions::default()
        },
    ] {
        let device = Device::simt_with(options);
        let stream = device.stream().unwrap();
        let x = device.alloc(256, "x").unwrap();
        x.upload(&std::array::from_fn::<u32, 64, _>(|i| i as u32)).unwrap();
        device
            .launch(
                &stream,
                &reverse::KERNEL,
                LaunchDims::new(1, 64).shared(256),
                (x.ptr_as(),),
            )
            .unwrap();
        let expected: Vec<u32> = (0..64).rev().collect();
        assert_eq!(x.download_vec::<u32>(64).unwrap(), expected, "{options:?}");
    }
}

#[test]
fn a_graph_records_without_running_and_replays_in_order() {
    let device = simt();
    let stream = device.stream().unwrap();
    let (a, b, c) = (
        device.alloc(256, "a").unwrap(),
        device.alloc(256, "b").unwrap(),
        device.alloc(256, "c").unwrap(),
    );
    a.upload(&[0.0_f32; 64]).unwrap();
    b.upload(&[-1.0_f32; 64]).unwrap();
    let done = device.event().unwrap();
    let step = |from: &host::device::Buffer, to: &host::device::Buffer, add: f32| {
        let args = (from.ptr_as::<f32>().cast_const(), to.ptr_as::<f32>(), add, 64);
        device.launch(&stream, &add_to::KERNEL, LaunchDims::new(1, 64), args)
    };
    let graph = device
        .capture(&stream, || {
            step(&a, &b, 1.0)?;
            step(&b, &a, 1.0)?;
            device.fill(&stream, &c, 7)?;
            device.copy(&stream, &c, &a, 16)?;
            done.record(&stream)
        })
        .unwrap();
    assert_eq!(graph.nodes(), 5);
    assert_eq!(b.download_vec::<f32>(64).unwrap(), [-1.0; 64], "a capture runs nothing");
    assert!(Event::elapsed_us(&done, &done).is_err(), "nor does it record an event");
    for replay in 1..=3 {
        graph.launch(&stream).unwrap();
        assert_eq!(a.download_vec::<f32>(64).unwrap(), [2.0 * replay as f32; 64]);
        let copied = c.download_vec::<u8>(256).unwrap();
        assert_eq!(copied[..4], (2.0 * replay as f32).to_le_bytes());
        assert_eq!(copied[16..], [7; 240]);
    }
    assert_eq!(Event::elapsed_us(&done, &done).unwrap(), 0.0);
}

#[test]
fn a_tensor_map_is_launched_by_value_and_a_graph_keeps_its_own() {
    let device = simt();
    assert_eq!(words_of::KERNEL.meta.archs, ["sm_90a"]);
    let (stream, y) = (device.stream().unwrap(), device.alloc(128, "y").unwrap());
    let map = |rows: u64| {
        let spec = TensorMapSpec {
            address: DevPtr::of(&y),
            element_bytes: 4,
            sizes: &[8, rows],
            strides_bytes: &[32],
            tile: &[8, 4],
            swizzle: Swizzle::B32,
        };
        device.tensor_map(&spec).unwrap()
    };
    let launch = |rows: u64| {
        let args = (y.ptr_as::<u64>(), map(1), 16, map(rows));
        device.launch(&stream, &words_of::KERNEL, LaunchDims::new(1, 16), args)
    };
    launch(3).unwrap();
    assert_eq!(y.download_vec::<u64>(16).unwrap(), map(3).words);
    let graph = device.capture(&stream, || launch(5)).unwrap();
    launch(7).unwrap();
    assert_eq!(y.download_vec::<u64>(16).unwrap(), map(7).words);
    graph.launch(&stream).unwrap();
    assert_eq!(y.download_vec::<u64>(16).unwrap(), map(5).words);
    assert_ne!(map(5).words, map(7).words);
}

#[test]
fn blocks_know_their_place_in_the_cluster() {
    let device = simt();
    let (stream, y) = (device.stream().unwrap(), device.alloc(32, "y").unwrap());
    let launch = |dims: LaunchDims| device.launch(&stream, &places::KERNEL, dims, (y.ptr_as::<u32>(),));
    launch(LaunchDims::new(8, 32)).unwrap();
    assert_eq!(y.download_vec::<u32>(8).unwrap(), [10; 8]);
    let graph = device
        .capture(&stream, || launch(LaunchDims::new(8, 32).cluster(4).dependent()))
        .unwrap();
    graph.launch(&stream).unwrap();
    let expected = [40, 41, 42, 43, 40, 41, 42, 43];
    assert_eq!(y.download_vec::<u32>(8).unwrap(), expected);
}

#[test]
fn a_capture_refuses_what_cuda_refuses_and_ends_after_an_error() {
    let device = simt();
    let (stream, x) = (device.stream().unwrap(), device.alloc(4, "x").unwrap());
    x.fill(0).unwrap();
    let captured = device.capture(&stream, || x.upload(&[1_u32]));
    assert!(matches!(captured.err(), Some(DeviceError::Capture(what)) if what.contains("Buffer::upload")));
    assert!(device.capture(&stream, || device.synchronize()).is_err());
    assert!(device.capture(&stream, || x.download(&mut [0_u32])).is_err());
    assert!(
        device
            .capture(&stream, || device.capture(&stream, || Ok(())).map(|_| ()))
            .is_err()
    );
    x.upload(&[2_u32]).expect("a failed capture is over");
    assert_eq!(device.capture(&stream, || Ok(())).unwrap().nodes(), 0);
    assert_eq!(x.download_vec::<u32>(1).unwrap(), [2]);
}

#[test]
fn buffers_hold_all_plain_types_and_know_their_size() {
    let device = simt();
    let x = device.alloc(64, "x").unwrap();
    assert_eq!((x.name(), x.len_bytes(), x.ptr() as usize % 256), ("x", 64, 0));
    x.upload(&[f16::from_f32(1.5); 8]).unwrap();
    x.upload_at(16, &[bf16::from_f32(-2.0); 8]).unwrap();
    x.upload_at(32, &[[1_i8, -1]; 16]).unwrap();
    assert_eq!(x.download_vec::<u16>(1).unwrap(), [0x3E00]);
    let mut halves = [bf16::ZERO; 8];
    x.download_at(16, &mut halves).unwrap();
    assert_eq!(halves, [bf16::from_f32(-2.0); 8]);

    let error = x.upload(&[0_u64; 9]).unwrap_err().to_string();
    assert_eq!(error, "upload of bytes 0..72 of buffer `x`, which has 64 bytes");
    assert!(x.download_at(60, &mut [0_u64]).is_err());
    assert!(x.upload_at(usize::MAX, &[0_u8]).is_err());
    assert!(x.download_vec::<u64>(usize::MAX).is_err());
    let y = device.alloc(32, "y").unwrap();
    let stream = device.stream().unwrap();
    assert!(device.copy(&stream, &y, &x, 33).is_err());

    let empty = device.alloc(0, "empty").unwrap();
    assert_eq!(empty.len_bytes(), 0);
    empty.upload::<f32>(&[]).unwrap();
    assert!(empty.upload(&[1_u8]).is_err());
}

#[test]
fn poison_makes_a_buffer_unwritten_again() {
    let device = simt();
    let (stream, a, b) = (
        device.stream().unwrap(),
        device.alloc(256, "a").unwrap(),
        device.alloc(256, "b").unwrap(),
    );
    assert_eq!(a.first_unwritten(), Some(0));
    a.fill(0).unwrap();
    assert_eq!(a.first_unwritten(), None);
    a.poison().unwrap();
    a.upload(&[1.0_f32; 3]).unwrap();
    assert_eq!(a.first_unwritten(), Some(12));
    assert_eq!(a.download_vec::<u8>(16).unwrap()[12..], [0xA5; 4]);
    let args = (a.ptr_as::<f32>().cast_const(), b.ptr_as::<f32>(), 1.0, 64);
    let error = device
        .launch(&stream, &add_to::KERNEL, LaunchDims::new(1, 64), args)
        .unwrap_err();
    let DeviceError::Simulator(error) = error else {
        panic!("the simulator's own error is expected, not {error}")
    };
    assert_eq!((error.kind, error.thread.x), (simt::ErrorKind::Uninitialized, 3));
    assert!(error.location.contains("device_simt.rs"), "{}", error.location);
}

#[test]
fn impossible_launches_are_refused_with_the_numbers() {
    let device = simt();
    let stream = device.stream().unwrap();
    let launch = |dims| {
        let args = (std::ptr::null::<f32>(), std::ptr::null_mut::<f32>(), 0.0, 0);
        device
            .launch(&stream, &add_to::KERNEL, dims, args)
            .unwrap_err()
            .to_string()
    };
    let refused = [
        (LaunchDims::new(0, 64), "a dimension is 0"),
        (LaunchDims::new(1, 65), "65 threads, and the kernel was built for 64"),
        (LaunchDims::new((1, 65_536), 32), "largest grid"),
        (
            LaunchDims::new(1, 64).shared(1 << 20),
            "1048576 bytes of shared memory; the device has 232448",
        ),
        (
            LaunchDims::new(8, 64).cluster(0),
            "clusters of 0 blocks; there can be 1 to 8",
        ),
        (
            LaunchDims::new(32, 64).cluster(16),
            "clusters of 16 blocks; there can be 1 to 8",
        ),
        (
            LaunchDims::new((6, 4), 64).cluster(4),
            "clusters of 4 blocks in x; 6 blocks in x are no multiple of it",
        ),
    ];
    for (dims, part) in refused {
        let message = launch(dims);
        assert!(message.contains(part) && message.contains("`add_to`"), "{message}");
    }
    let message = device.launch(
        &stream,
        &reverse::KERNEL,
        LaunchDims::new(1, 1025),
        (std::ptr::null_mut(),),
    );
    assert!(message.unwrap_err().to_string().contains("1024"));
    let other = simt();
    let args = (std::ptr::null::<f32>(), std::ptr::null_mut::<f32>(), 0.0, 0);
    let error = other
        .launch(&stream, &add_to::KERNEL, LaunchDims::new(1, 64), args)
        .unwrap_err();
    assert!(matches!(error, DeviceError::Misuse(_)), "{error}");
}

#[test]
fn an_allocation_past_all_memory_is_an_error_with_its_name_and_size() {
    let error = simt().alloc(1 << 60, "weights").unwrap_err().to_string();
    assert!(
        error.contains("`weights`") && error.contains(&(1_u64 << 60).to_string()),
        "{error}"
    );
}

#[test]
fn specs_come_from_text() {
    let parsed = ["auto", "cuda", "cuda:3", "simt"].map(|text| text.parse::<DeviceSpec>().unwrap());
    assert_eq!(
        parsed,
        [
            DeviceSpec::Auto,
            DeviceSpec::Cuda(0),
            DeviceSpec::Cuda(3),
            DeviceSpec::Simt
        ]
    );
    assert_eq!(
        parsed.map(|spec| spec.to_string()),
        ["auto", "cuda:0", "cuda:3", "simt"]
    );
    for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "simt:0"] {
        let error = wrong.parse::<DeviceSpec>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{wrong}` is no device")), "{error}");
    }
}
