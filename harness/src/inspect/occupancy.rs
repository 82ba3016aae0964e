//! How many blocks fit on one SM: registers, shared memory, threads and blocks, by architecture.

/// What one SM has. Source: CUDA C++ Programming Guide 13.0, "Technical Specifications per Compute Capability".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// 32-bit registers.
    pub registers: u32,
    /// Shared memory in bytes.
    pub shared_bytes: u32,
    /// Resident threads.
    pub threads: u32,
    /// Resident blocks.
    pub blocks: u32,
}

/// Registers are handed to a warp in units of this many.
const REGISTER_UNIT: u32 = 256;
/// Shared memory is handed to a block in units of this many bytes.
const SHARED_UNIT: u32 = 128;
/// Shared memory the system takes of each block, in bytes (compute capability 8.0 and later).
const SHARED_RESERVED: u32 = 1024;

impl Limits {
    /// The limits of an architecture such as `sm_90a`; `None` for one this table does not know.
    pub fn of(arch: &str) -> Option<Limits> {
        let (shared_kib, threads, blocks) = match arch.trim_start_matches("sm_").trim_end_matches(['a', 'f']) {
            "80" => (164, 2048, 32),
            "86" => (100, 1536, 16),
            "89" => (100, 1536, 24),
            "90" | "100" | "103" => (228, 2048, 32),
            "120" | "121" => (100, 1536, 24),
            _ => return None,
        };
        Some(Limits {
            registers: 65_536,
            shared_bytes: shared_kib * 1024,
            threads,
            blocks,
        })
    }
}

/// How a kernel fills an SM.
#[derive(Clone, Debug, PartialEq)]
pub struct Occupancy {
    /// Resident blocks.
    pub blocks: u32,
    /// Resident warps.
    pub warps: u32,
    /// Resident warps over the most there can be.
    pub share: f64,
    /// What allows no more: `registers`, `shared memory`, `threads` or `blocks`.
    pub limited_by: &'static str,
}

/// Occupancy of blocks of `threads` threads with `registers` each and `shared_bytes` for the block, static and dynamic.
pub fn occupancy(limits: &Limits, threads: u32, registers: u32, shared_bytes: u32) -> Occupancy {
    let warps = threads.max(1).div_ceil(32);
    let per_warp = (registers.max(1) * 32).next_multiple_of(REGISTER_UNIT);
    let per_block = shared_bytes.next_multiple_of(SHARED_UNIT) + SHARED_RESERVED;
    let bounds = [
        (limits.registers / per_warp / warps, "registers"),
        (limits.shared_bytes / per_block, "shared memory"),
        (limits.threads / (warps * 32), "threads"),
        (limits.blocks, "blocks"),
    ];
    let (blocks, limited_by) = bounds
        .into_iter()
        .fold((u32::MAX, ""), |a, b| if b.0 < a.0 { b } else { a });
    let resident = blocks * warps;
    let share = f64::from(resident) / f64::from(limits.threads / 32);
    Occupancy {
        blocks,
        warps: resident,
        share,
        limited_by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of NVIDIA's occupancy calculator.
    #[test]
    fn known_occupancies() {
        let h = Limits::of("sm_90a").unwrap();
        let o = |threads, registers, shared| occupancy(&h, threads, registers, shared);
        assert_eq!(
            (o(256, 32, 0).blocks, o(256, 32, 0).share, o(256, 32, 0).limited_by),
            (8, 1.0, "registers")
        );
        assert_eq!((o(128, 255, 0).blocks, o(128, 255, 0).limited_by), (2, "registers"));
        assert_eq!(
            (o(128, 16, 100 * 1024).blocks, o(128, 16, 100 * 1024).limited_by),
            (2, "shared memory")
        );
        assert_eq!((o(32, 16, 0).blocks, o(32, 16, 0).limited_by), (32, "blocks"));
        assert_eq!((o(1024, 16, 0).blocks, o(1024, 16, 0).limited_by), (2, "threads"));
    }

    #[test]
    fn architectures() {
        assert_eq!(Limits::of("sm_120a").unwrap().threads, 1536);
        assert_eq!(Limits::of("sm_80").unwrap().shared_bytes, 164 * 1024);
        assert_eq!(Limits::of("sm_52"), None);
    }
}
