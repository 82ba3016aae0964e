//! One check of one config: poison, launch, read back, compare. The command line and the tests both call this.

use super::{ConfigInfo, Mismatch, OpError, Order, Prepared, Reference, compare_bytes};
use crate::device::{Device, Stream};

/// What an output is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// The plain CPU path.
    CpuReference,
    /// The plain kernel on the same device.
    PlainKernel,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Expected::CpuReference => "CPU reference",
            Expected::PlainKernel => "plain kernel",
        })
    }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It did not run, or the simulator found an error in the kernel.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The bytes are wrong.
    #[error("{config} against the {against}, copy {copy}: {mismatch}")]
    Mismatch {
        /// The config.
        config: String,
        /// What it was compared with.
        against: Expected,
        /// The copy of the operands.
        copy: usize,
        /// The first difference.
        mismatch: Box<Mismatch>,
    },
}

/// Runs one config on every copy and compares each output with the CPU reference, or with the plain kernel where the case
/// is too large for the CPU: byte for byte if the config's order is canonical, else within the operation's tolerance.
/// Gives back what was compared with.
///
/// # Errors
/// The first difference, or what kept the config from running.
pub fn check(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    stream: &Stream,
) -> Result<Expected, CheckError> {
    let against = match prepared.cpu_reference()? {
        Reference::Bytes(_) => Expected::CpuReference,
        Reference::Sampled(_) | Reference::TooLarge(_) => Expected::PlainKernel,
    };
    check_against(device, prepared, config, stream, against)?;
    Ok(against)
}

/// As [`check`], against a named reference. A CPU reference that is too large is replaced by nothing: it passes no config.
///
/// # Errors
/// As [`check`], and [`OpError::Shape`] when there is no CPU reference for the case.
pub fn check_against(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    stream: &Stream,
    against: Expected,
) -> Result<(), CheckError> {
    let expected = match against {
        Expected::PlainKernel => prepared.plain()?.to_vec(),
        Expected::CpuReference => match prepared.cpu_reference()? {
            Reference::Bytes(bytes) => bytes.to_vec(),
            Reference::Sampled(_) => return Err(OpError::Shape("sampled".into()).into()),
            Reference::TooLarge(why) => return Err(OpError::Shape(why).into()),
        },
    };
    check_bytes(device, prepared, config, stream, &[(against, &expected)])
}

/// Launches one config on every copy, once, and compares each output with each of the expected bytes.
///
/// # Errors
/// As [`check`].
pub fn check_bytes(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    stream: &Stream,
    expected: &[(Expected, &[u8])],
) -> Result<(), CheckError> {
    check_after(device, prepared, config, expected, |prepared| {
        (0..prepared.copies()).try_for_each(|copy| prepared.launch(&config.id, stream, copy))
    })
}

/// Poisons every output, lets `run` launch the config on every copy in its own way (from a graph, say), and compares each
/// output with each of the expected bytes.
///
/// # Errors
/// As [`check`].
pub fn check_after(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    expected: &[(Expected, &[u8])],
    run: impl FnOnce(&dyn Prepared) -> Result<(), OpError>,
) -> Result<(), CheckError> {
    prepared.poison()?;
    run(prepared)?;
    device.synchronize().map_err(OpError::from)?;
    for copy in 0..prepared.copies() {
        let got = prepared.output(copy)?;
        for &(against, expected) in expected {
            let outcome = match config.order {
                Order::Canonical => compare_bytes(expected, &got).map_err(OpError::from),
                Order::Fast => prepared.within_tolerance(expected, &got),
            };
            outcome.map_err(|error| match error {
                OpError::Mismatch(mismatch) => CheckError::Mismatch {
                    config: config.id.clone(),
                    against,
                    copy,
                    mismatch: Box::new(mismatch.at(|byte| prepared.coords(byte))),
                },
                other => CheckError::Op(other),
            })?;
        }
    }
    Ok(())
}
