//! The worker's end: opens the device, then does one request after another until stdin closes.

use std::io::{BufRead, Write};
use std::sync::mpsc::channel;

use anyhow::{Context, Result};
use host::device::{Device, DeviceSpec, SimtOptions};
use host::op::OpError;

use super::protocol::{Event, Opened, Request};
use super::standing::Standing;
use super::{copy_rate, sweep_job, verify_job};

/// Exit code of a worker whose device cannot be used any more after a kernel's fault.
pub const DEVICE_LOST: i32 = 9;

/// Where a job's events go.
pub type Emit<'a> = &'a mut dyn FnMut(Event) -> Result<()>;

/// The `worker` command.
///
/// # Errors
/// The device does not open; a request that cannot be read; stdout is gone.
pub fn serve(spec: &DeviceSpec) -> Result<()> {
    let device = Device::open(spec)?;
    let mut emit = |event: Event| -> Result<()> {
        let mut line = serde_json::to_string(&event)?;
        line.push('\n');
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes())?;
        Ok(out.flush()?)
    };
    let info = device.info();
    emit(Event::Ready(Opened {
        name: info.name.clone(),
        arch: info.arch(),
        simulator: info.is_simulator,
        driver: info.driver_version.clone(),
        sm_count: info.sms,
    }))?;
    // A thread of its own reads stdin, so that the end of the parent ends the worker too, even inside a kernel.
    let (send, requests) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    let mut standing = Standing::default();
    for line in requests {
        let request: Request = serde_json::from_str(&line).with_context(|| format!("`{line}` is no request"))?;
        handle(&device, &mut standing, request, &mut emit)?;
        emit(Event::Done)?;
    }
    Ok(())
}

fn handle(device: &Device, standing: &mut Standing, request: Request, emit: Emit) -> Result<()> {
    let simulator = device.info().is_simulator;
    let outcome = match request {
        Request::CopyRate => copy_rate::measure(device).and_then(|rate| emit(Event::CopyRate(rate))),
        Request::Peers => standing.peers.tell(device, emit),
        Request::Sweep(job) => {
            let own = simulator.then(|| {
                Device::simt_with(SimtOptions {
                    checks: job.checks,
                    ..SimtOptions::default()
                })
            });
            sweep_job::run(own.as_ref().unwrap_or(device), &job, standing, emit)
        }
        Request::Verify(job) => {
            let seeded = || SimtOptions {
                seed: Some(job.seed ^ job.index),
                ..SimtOptions::default()
            };
            let own = simulator.then(|| Device::simt_with(seeded()));
            verify_job::run(own.as_ref().unwrap_or(device), &job, emit)
        }
    };
    if let Err(e) = outcome {
        let lost = is_fatal(&e);
        emit(Event::Failed {
            message: format!("{e:#}"),
        })?;
        exit_if(lost);
    }
    Ok(())
}

/// Whether a kernel has faulted, so that this process can use the GPU no more.
fn is_fatal(e: &anyhow::Error) -> bool {
    matches!(e.downcast_ref::<OpError>(), Some(OpError::Device(d)) if d.is_fatal())
        || e.downcast_ref::<host::device::DeviceError>()
            .is_some_and(host::device::DeviceError::is_fatal)
}

/// Ends the worker after a fault: what it was doing has been reported, a fresh process does the rest.
pub fn exit_if(lost: bool) {
    if lost {
        std::process::exit(DEVICE_LOST);
    }
}

/// The operation of a name.
///
/// # Errors
/// No such operation.
pub fn operation(name: &str) -> Result<&'static dyn host::op::Operation> {
    host::ops::by_name(name).with_context(|| format!("no operation `{name}`"))
}
