//! What an operation's launch must move and compute, and the model that ranks configs where no GPU can time them.
//!
//! # The model
//! It is a model: an [`Estimate`] says so in its text and its serialised form, and is never mixed with measured times. Its
//! use is to put configs in a plausible order. For a launch of `blocks` thread blocks, of which
//! `resident = min(blocks, sms * blocks_per_sm)` run at a time:
//! ```text
//! blocks_per_sm = min over registers, shared memory, threads and the limit of 32 blocks
//! steps         = units of the block with the most of them, times waves       waves = ceil(blocks / (sms * blocks_per_sm))
//! spread        = share of the SM-steps that have work: units / (steps * slots), slots = min(blocks, sms * blocks_per_sm)
//! rate          = min(copy rate, bytes in flight / latency) * spread          Little's law
//! memory        = (bytes of weights * passes + bytes written) / rate
//! cache         = bytes read again / L2 rate
//! math          = multiply-adds / rate of the units that do them
//! chain         = steps * dependent operations of a unit / clock
//! time          = launch + latency + max(memory, cache, math, chain)
//! ```
//! A unit is what a block does in one go (a group of row tiles by a token tile). Bytes in flight are those of the weights'
//! loads that the kernel's text keeps outstanding, for all resident blocks.

use serde::Serialize;

/// The units that do an operation's multiply-adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Math {
    /// Too few to count: moving the bytes is all the work.
    #[default]
    None,
    /// f32 multiply-adds of the ordinary units.
    F32,
    /// Tensor cores, bf16 or f16 with f32 sums.
    Bf16,
    /// Tensor cores, int8.
    Int8,
}

/// What one launch of one config does on one case. What an operation does not state (zero, the default) is assumed not to
/// limit it: `Work { read_bytes, write_bytes, blocks, threads, ..Work::default() }` is a plain kernel that streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Bytes that must be read from memory once: weights and their scales, at their size on the device.
    pub read_bytes: u64,
    /// How often a launch reads them: once for each tile of tokens.
    pub passes: u32,
    /// Bytes read by every unit that caches are expected to serve: quantised activations.
    pub reread_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Multiply-adds of the mathematics (padding does not count).
    pub multiply_adds: u64,
    /// What does them.
    pub math: Math,
    /// Kernels launched.
    pub launches: u32,
    /// Thread blocks of a launch.
    pub blocks: u64,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Units of work that the blocks of a launch share; 0 for one a block.
    pub units: u64,
    /// Bytes of weights a block has outstanding loads for at a time; 0 for as many as it takes.
    pub bytes_in_flight: u64,
    /// Dependent operations (fma of the accumulator's chain) of a unit.
    pub chain: u64,
    /// Cycles of one of them.
    pub chain_cycles: f64,
}

impl Work {
    /// Bytes that move between memory and the chip at the least.
    pub fn bytes(&self) -> u64 {
        self.read_bytes + self.write_bytes
    }

    /// The time that no config can beat, in microseconds: the bytes at a copy rate (bytes a second), or the multiply-adds at
    /// the rate of their units where the target is known.
    pub fn floor_us(&self, bytes_per_s: f64, target: Option<&Target>) -> f64 {
        let bytes = self.bytes() as f64 / bytes_per_s;
        let math = target.map_or(0.0, |target| target.math_s(self));
        1e6 * bytes.max(math)
    }
}

/// The figures of a GPU that the model uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// The GPU's name.
    pub name: &'static str,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Copy rate in bytes a second.
    pub bytes_per_s: f64,
    /// Rate of the level 2 cache in bytes a second.
    pub l2_bytes_per_s: f64,
    /// Latency of memory in seconds.
    pub latency_s: f64,
    /// SM clock in hertz.
    pub clock_hz: f64,
    /// Dense int8 multiply-adds a second.
    pub int8_per_s: f64,
    /// Dense bf16 (and f16) multiply-adds a second.
    pub bf16_per_s: f64,
    /// f32 multiply-adds a second, without tensor cores.
    pub f32_per_s: f64,
    /// Seconds from one kernel of a graph to the next.
    pub launch_s: f64,
    /// 32-bit registers of an SM.
    pub registers: u32,
    /// Shared memory of an SM in bytes.
    pub shared_bytes: u32,
    /// Resident threads of an SM.
    pub threads: u32,
    /// Resident blocks of an SM.
    pub max_blocks: u32,
}

impl Target {
    /// Seconds that a launch's multiply-adds take at this target's rate.
    pub fn math_s(&self, work: &Work) -> f64 {
        let rate = match work.math {
            Math::None => return 0.0,
            Math::F32 => self.f32_per_s,
            Math::Bf16 => self.bf16_per_s,
            Math::Int8 => self.int8_per_s,
        };
        work.multiply_adds as f64 / rate
    }

    /// The figures of a device by the name it gives itself; none for one whose figures are not here.
    pub fn of(device: &str) -> Option<&'static Target> {
        [&H200].into_iter().find(|target| device.contains(target.name))
    }
}

/// The H200: copy rate and launch as measured on one (4.2 TB/s, 0.55 us a graph node), the rest from NVIDIA's data sheet;
/// 800 ns is the latency of a load under load, 5.5 TB/s a usual figure for its L2.
pub const H200: Target = Target {
    name: "H200",
    sms: 132,
    bytes_per_s: 4.2e12,
    l2_bytes_per_s: 5.5e12,
    latency_s: 800e-9,
    clock_hz: 1.785e9,
    int8_per_s: 0.989e15,
    // 989 and 67 TFLOP/s, a multiply-add being two.
    bf16_per_s: 494.5e12,
    f32_per_s: 33.5e12,
    launch_s: 0.55e-6,
    registers: 65_536,
    shared_bytes: 228 * 1024,
    threads: 2048,
    max_blocks: 32,
};

/// Registers assumed for a kernel whose image is not embedded.
pub const ASSUMED_REGISTERS: u32 = 128;

/// What the model says of one launch. Not a measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Always `model`: no reader of a record can take it for a measured time.
    pub source: &'static str,
    /// The GPU modelled.
    pub target: &'static str,
    /// Modelled time of the case in microseconds, all its launches.
    pub us: f64,
    /// The part that decides: `memory`, `latency` (too few bytes in flight), `cache`, `math` or `chain`.
    pub limited_by: &'static str,
    /// Blocks that fit on one SM.
    pub blocks_per_sm: u32,
    /// Rounds of resident blocks.
    pub waves: u64,
    /// [`Work::floor_us`]: no config can be faster.
    pub floor_us: f64,
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "model {}: {:.2} us, limited by {}",
            self.target, self.us, self.limited_by
        )
    }
}

/// Registers of an embedded kernel for an architecture (`sm_90a`), as ptxas reported them; `None` when it is not embedded.
pub fn registers(arch: &str, kernel: &str) -> Option<u32> {
    let images = crate::device::image::IMAGES.iter().filter(|image| image.arch == arch);
    images
        .flat_map(|image| image.kernels)
        .find(|k| k.name == kernel)
        .map(|k| k.registers)
        .filter(|&r| r > 0)
}

/// Models one case on a target. `registers`: of the kernel, [`ASSUMED_REGISTERS`] where unknown.
pub fn estimate(work: &Work, target: &Target, registers: Option<u32>) -> Estimate {
    let threads = work.threads.max(1);
    // Registers are handed out to a warp in units of 256, eight a thread.
    let per_block = registers.unwrap_or(ASSUMED_REGISTERS).max(1).next_multiple_of(8) * threads.next_multiple_of(32);
    // The system keeps 1 KiB of shared memory for each block.
    let by_shared = target.shared_bytes / (work.shared_bytes + 1024);
    let blocks_per_sm = (target.registers / per_block)
        .min(by_shared)
        .min(target.threads / threads)
        .clamp(1, target.max_blocks);

    let slots = u64::from(target.sms) * u64::from(blocks_per_sm);
    let blocks = work.blocks.max(1);
    let waves = blocks.div_ceil(slots);
    let resident = blocks.min(slots);
    let units = if work.units == 0 { blocks } else { work.units };
    let steps = units.div_ceil(blocks) * waves;
    let spread = (units as f64 / (steps * resident) as f64).min(1.0);

    let launches = f64::from(work.launches.max(1));
    let in_flight = (resident * work.bytes_in_flight) as f64;
    let rate = match work.bytes_in_flight {
        0 => target.bytes_per_s,
        _ => target.bytes_per_s.min(in_flight / target.latency_s).max(1.0),
    };
    let moved = work.read_bytes * u64::from(work.passes.max(1)) + work.write_bytes;
    let starved = rate < target.bytes_per_s;
    let parts = [
        (
            if starved { "latency" } else { "memory" },
            moved as f64 / (rate * spread),
        ),
        ("cache", work.reread_bytes as f64 / target.l2_bytes_per_s),
        ("math", target.math_s(work)),
        (
            "chain",
            launches * (steps * work.chain) as f64 * work.chain_cycles / target.clock_hz,
        ),
    ];
    let (limited_by, longest) = parts.into_iter().fold(parts[0], |a, b| if b.1 > a.1 { b } else { a });
    Estimate {
        source: "model",
        target: target.name,
        us: 1e6 * (launches * (target.launch_s + target.latency_s) + longest),
        limited_by,
        blocks_per_sm,
        waves,
        floor_us: work.floor_us(target.bytes_per_s, Some(target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work {
            read_bytes: 62_390_272,
            passes: 1,
            reread_bytes: 0,
            write_bytes: 16_384,
            multiply_adds: 4096 * 14336,
            math: Math::Int8,
            launches: 1,
            blocks: 512,
            threads: 128,
            shared_bytes: 1024,
            units: 512,
            bytes_in_flight: 8704,
            chain: 448,
            chain_cycles: 4.0,
        }
    }

    #[test]
    fn a_launch_with_enough_in_flight_is_limited_by_memory_and_above_the_floor() {
        let e = estimate(&work(), &H200, Some(64));
        assert_eq!((e.limited_by, e.source, e.waves), ("memory", "model", 1));
        assert!(e.us > e.floor_us && e.us < 2.0 * e.floor_us, "{e:?}");
        assert!(e.to_string().starts_with("model H200"));
    }

    #[test]
    fn fewer_bytes_in_flight_are_slower_and_named_latency() {
        let few = Work {
            bytes_in_flight: 1088,
            ..work()
        };
        let (few, enough) = (estimate(&few, &H200, Some(64)), estimate(&work(), &H200, Some(64)));
        assert!(few.us > 2.0 * enough.us);
        assert_eq!(few.limited_by, "latency");
    }

    #[test]
    fn registers_limit_the_blocks_of_an_sm() {
        let wide = Work { threads: 256, ..work() };
        assert_eq!(estimate(&wide, &H200, Some(255)).blocks_per_sm, 1);
        assert_eq!(estimate(&wide, &H200, Some(64)).blocks_per_sm, 4);
        assert_eq!(estimate(&wide, &H200, None).blocks_per_sm, 2);
    }

    #[test]
    fn shared_memory_limits_the_blocks_of_an_sm() {
        let wide = Work {
            shared_bytes: 100 * 1024,
            ..work()
        };
        assert_eq!(estimate(&wide, &H200, Some(32)).blocks_per_sm, 2);
    }

    #[test]
    fn a_second_wave_costs_time() {
        let full = Work {
            blocks: 132 * 4,
            units: 132 * 4,
            threads: 512,
            ..work()
        };
        let more = Work {
            blocks: 132 * 4 + 1,
            units: 132 * 4 + 1,
            threads: 512,
            ..work()
        };
        let (full, more) = (estimate(&full, &H200, Some(32)), estimate(&more, &H200, Some(32)));
        assert_eq!((full.waves, more.waves), (1, 2));
        assert!(more.us > 1.5 * full.us);
    }

    #[test]
    fn a_long_chain_in_few_blocks_is_named() {
        let e = estimate(
            &Work {
                chain: 100_000,
                ..work()
            },
            &H200,
            Some(64),
        );
        assert_eq!(e.limited_by, "chain");
    }
}
