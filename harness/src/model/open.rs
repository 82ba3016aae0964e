//! From the command line's text to a model, and from a model's errors to exit codes.

use anyhow::Result;
use host::cost::H200;
use host::device::{Device, DeviceInfo, DeviceSpec, SimtOptions};
use host::model::ModelError;
use host::model::engine::Opened;
use host::results::slug;

use crate::exit::usage;
use crate::model::args::Switch;

/// Opens a model: a folder, a .gguf file, or `synthetic:NAME`.
///
/// # Errors
/// No such model, or files that cannot be: exit code 2.
pub fn open(text: &str) -> Result<Box<dyn Opened>> {
    host::model::open(text).map_err(fail)
}

/// Opens the device that a model runs on.
///
/// # Errors
/// A device that is not there or does not open.
pub fn device(spec: &DeviceSpec, simt_checks: Switch) -> Result<Device> {
    let device = Device::open(spec)?;
    if device.info().is_simulator && simt_checks == Switch::Off {
        return Ok(Device::simt_with(SimtOptions {
            checks: false,
            ..SimtOptions::default()
        }));
    }
    Ok(device)
}

/// A model's error with its exit code: what the device did is a failure (3), what cannot be asked for is the command line's (2).
pub fn fail(e: ModelError) -> anyhow::Error {
    match e {
        ModelError::Device(_) | ModelError::Op(_) | ModelError::DoesNotFit { .. } => e.into(),
        _ => usage(e),
    }
}

/// The device that a plan is made for: one named, the one there is, or the H200, whose tuned table is in the binary.
///
/// # Errors
/// A name that nothing is known of; a device that does not open.
pub fn planning_device(gpu: Option<&str>) -> Result<DeviceInfo> {
    let Some(name) = gpu else {
        let here = Device::open(&DeviceSpec::Auto)?;
        return Ok(if here.info().is_simulator {
            h200()
        } else {
            here.info().clone()
        });
    };
    match slug(name).as_str() {
        "simt" => Ok(Device::open(&DeviceSpec::Simt)?.info().clone()),
        "h200" | "nvidia-h200" => Ok(h200()),
        _ => Err(usage(anyhow::anyhow!(
            "nothing is known of the GPU `{name}`; there are H200 and simt, and without --gpu the device that is there"
        ))),
    }
}

/// What dispatch needs to know of an H200; the rest is as the simulator has it.
fn h200() -> DeviceInfo {
    DeviceInfo {
        name: "NVIDIA H200".into(),
        is_simulator: false,
        sms: H200.sms,
        ..Device::simt_with(SimtOptions::default()).info().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_for_named_devices() {
        assert_eq!(planning_device(Some("h200")).unwrap().arch(), "sm_90");
        assert!(planning_device(Some("simt")).unwrap().is_simulator);
        let error = planning_device(Some("RTX 9999")).unwrap_err();
        assert!(
            error.is::<crate::exit::Usage>() && error.to_string().contains("RTX 9999"),
            "{error}"
        );
    }

    /// A model that is too large is the device's affair, and its error has every number.
    #[test]
    fn a_model_that_does_not_fit_says_by_how_much() {
        let error = fail(ModelError::DoesNotFit {
            model: "large".into(),
            needed: 200,
            free: 140,
            total: 141,
            parts: "kv cache 50, weights 150".into(),
            advice: "Take fewer layers",
        });
        let text = error.to_string();
        assert!(!error.is::<crate::exit::Usage>());
        for part in ["large", "200", "140", "141", "weights 150", "fewer layers"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(fail(ModelError::Request("no".into())).is::<crate::exit::Usage>());
    }
}
