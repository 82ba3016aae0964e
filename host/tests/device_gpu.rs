//! A real GPU, if there is one: memory, streams, events, graphs and launches do what the simulator says they do. Without a
//! GPU every test says that it was skipped, and why.

use host::device::{Device, DeviceError, DeviceSpec, Event};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: while one captures, no other may upload.
static TURN: Mutex<()> = Mutex::new(());

/// The first GPU and the turn to use it, or none, saying so.
fn gpu() -> Option<(Device, MutexGuard<'static, ()>)> {
    match libcuda::available() {
        Ok(()) => {
            let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            Some((
                Device::open(&DeviceSpec::Cuda(0)).expect("a GPU that the driver lists opens"),
                turn,
            ))
        }
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            None
        }
    }
}

#[test]
fn the_gpu_describes_itself() {
    let Some((device, _turn)) = gpu() else { return };
    let info = device.info();
    assert!(
        !info.is_simulator && !info.name.is_empty() && info.pci_address.contains(':'),
        "{info:?}"
    );
    assert!(
        info.sms > 0 && info.memory_bytes > 1 << 30 && info.shared_bytes_per_block >= 48 << 10,
        "{info:?}"
    );
    assert!(info.arch().starts_with("sm_"));
    println!("{info:#?}\n{:#?}", device.clock_state());
}

#[test]
fn bytes_survive_the_way_there_and_back() {
    let Some((device, _turn)) = gpu() else { return };
    let stream = device.stream().unwrap();
    let words: Vec<u32> = (0..1 << 20).map(|i: u32| i.wrapping_mul(0x9E37_79B9)).collect();
    let (a, b) = (device.alloc(4 << 20, "a").unwrap(), device.alloc(4 << 20, "b").unwrap());
    a.upload(&words).unwrap();
    b.poison().unwrap();
    assert_eq!(b.download_vec::<u8>(64).unwrap(), [0xA5; 64]);
    let (start, end) = (device.event().unwrap(), device.event().unwrap());
    start.record(&stream).unwrap();
    device.copy(&stream, &b, &a, 4 << 20).unwrap();
    device.fill(&stream, &a, 3).unwrap();
    end.record(&stream).unwrap();
    assert_eq!(b.download_vec::<u32>(1 << 20).unwrap(), words);
    assert_eq!(a.download_vec::<u8>(100).unwrap(), [3; 100]);
    let microseconds = Event::elapsed_us(&start, &end).unwrap();
    assert!(microseconds > 0.0 && !start.is_host_time(), "{microseconds}");
    assert!(
        Event::elapsed_us(&start, &device.event().unwrap()).is_err(),
        "an event never recorded has no time"
    );
}

#[test]
fn an_allocation_past_the_memory_names_the_numbers() {
    let Some((device, _turn)) = gpu() else { return };
    let total = device.info().memory_bytes;
    let error = device.alloc(2 * total, "too large").unwrap_err();
    assert!(
        matches!(error, DeviceError::OutOfMemory { bytes, .. } if bytes == 2 * total),
        "{error}"
    );
    device.alloc(1 << 20, "small").expect("the device goes on");
}

#[test]
fn a_graph_of_copies_replays() {
    let Some((device, _turn)) = gpu() else { return };
    let (stream, a, b) = (
        device.stream().unwrap(),
        device.alloc(64, "a").unwrap(),
        device.alloc(64, "b").unwrap(),
    );
    a.upload(&[5_u8; 64]).unwrap();
    b.fill(0).unwrap();
    let graph = device.capture(&stream, || device.copy(&stream, &b, &a, 64)).unwrap();
    assert_eq!(b.download_vec::<u8>(64).unwrap(), [0; 64], "a capture runs nothing");
    let before = libcuda::calls();
    for value in 6..9_u8 {
        a.fill(value).unwrap();
        graph.launch(&stream).unwrap();
        assert_eq!(b.download_vec::<u8>(64).unwrap(), [value; 64]);
    }
    let calls = libcuda::calls() - before;
    assert_eq!(
        (calls.graph_launches, calls.allocations, calls.launches),
        (3, 0, 0),
        "{calls:?}"
    );
    let refused = device.capture(&stream, || a.upload(&[1_u8]));
    assert!(refused.is_err(), "an upload cannot be part of a graph");
    a.upload(&[1_u8]).expect("the failed capture is over");
}
