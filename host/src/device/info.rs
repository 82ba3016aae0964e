//! What a device is, and what state it is in.

/// A device's fixed properties. Those of the simulator are the H200's where a kernel's choices depend on them.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// The device's name, as the driver gives it, or `simt`.
    pub name: String,
    /// True for the simulator, whose times are host times and must never be shown as a GPU's.
    pub is_simulator: bool,
    /// Number of the device among those CUDA lists; 0 for the simulator.
    pub ordinal: u32,
    /// Compute capability: (9, 0) is sm_90.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors; for the simulator the host's cores.
    pub sms: u32,
    /// Device memory in bytes; 0 for the simulator.
    pub memory_bytes: usize,
    /// Level 2 cache in bytes.
    pub l2_bytes: u32,
    /// The most shared memory one block can have, opted in, in bytes.
    pub shared_bytes_per_block: u32,
    /// Shared memory of an SM in bytes.
    pub shared_bytes_per_sm: u32,
    /// 32-bit registers of an SM.
    pub registers_per_sm: u32,
    /// Resident threads of an SM.
    pub threads_per_sm: u32,
    /// The highest SM clock in kHz.
    pub sm_clock_khz: u32,
    /// The highest memory clock in kHz.
    pub memory_clock_khz: u32,
    /// Width of the memory interface in bits.
    pub memory_bus_bits: u32,
    /// PCI address, as `0000:1b:00.0`; empty for the simulator.
    pub pci_address: String,
    /// The CUDA version the driver supports, as `13.0`; empty for the simulator.
    pub cuda_version: String,
    /// The driver's own version, as `580.95.05`, where NVML tells it.
    pub driver_version: Option<String>,
}

impl DeviceInfo {
    /// The simulator.
    pub(crate) fn simulator() -> DeviceInfo {
        DeviceInfo {
            name: "simt".to_string(),
            is_simulator: true,
            ordinal: 0,
            compute_capability: (9, 0),
            sms: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            memory_bytes: 0,
            l2_bytes: 50 << 20,
            shared_bytes_per_block: 227 << 10,
            shared_bytes_per_sm: 228 << 10,
            registers_per_sm: 65_536,
            threads_per_sm: 2048,
            sm_clock_khz: 0,
            memory_clock_khz: 0,
            memory_bus_bits: 0,
            pci_address: String::new(),
            cuda_version: String::new(),
            driver_version: None,
        }
    }

    /// The architecture, as `sm_90`, or `simt`.
    pub fn arch(&self) -> String {
        if self.is_simulator {
            return "simt".to_string();
        }
        let (major, minor) = self.compute_capability;
        format!("sm_{major}{minor}")
    }
}

/// A GPU's clocks and temperature at one moment. Each is `None` where NVML does not tell it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClockState {
    /// SM clock in MHz.
    pub sm_mhz: Option<u32>,
    /// Memory clock in MHz.
    pub memory_mhz: Option<u32>,
    /// Temperature of the die in degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Power drawn in watts.
    pub power_w: Option<f64>,
    /// NVML's bit mask of why the clocks are below their maximum.
    pub throttle_mask: Option<u64>,
}

/// NVML's reasons that make a measured time worth distrusting, by bit (nvml.h, `nvmlClocksEventReason*`).
const THROTTLE_REASONS: &[(u64, &str)] = &[
    (0x04, "power cap"),
    (0x08, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "software thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "hardware power brake"),
];

impl ClockState {
    /// Why the GPU is throttled right now. Idling and clocks set by the user are no throttling.
    pub fn throttled_by(&self) -> Vec<&'static str> {
        let mask = self.throttle_mask.unwrap_or(0);
        THROTTLE_REASONS
            .iter()
            .filter(|(bit, _)| mask & bit != 0)
            .map(|&(_, reason)| reason)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_told_from_idling() {
        let idle = ClockState {
            throttle_mask: Some(0x1),
            ..ClockState::default()
        };
        assert!(idle.throttled_by().is_empty());
        let hot = ClockState {
            throttle_mask: Some(0x1 | 0x40 | 0x4),
            ..ClockState::default()
        };
        assert_eq!(hot.throttled_by(), ["power cap", "hardware thermal slowdown"]);
        assert!(ClockState::default().throttled_by().is_empty());
    }
}
