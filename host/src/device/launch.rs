//! The shape of a launch, and what is wrong with it.

use super::error::dim;
use super::{DeviceError, DeviceInfo, Dim3, Result};
use cuda_std::launch::KernelMeta;

/// The shape of a launch.
#[derive(Clone, Copy, Debug)]
pub struct LaunchDims {
    /// Blocks.
    pub grid: Dim3,
    /// Threads of a block.
    pub block: Dim3,
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Programmatic dependent launch: the kernel may start before the one ahead of it in the stream has ended, and waits
    /// for it itself. The simulator runs one kernel at a time and ignores this.
    pub pdl: bool,
    /// Blocks of a cluster, neighbours in x: 1 (no clusters) to [`MOST_CLUSTER_BLOCKS`].
    pub cluster: u32,
}

/// The largest cluster that every GPU with clusters takes.
pub const MOST_CLUSTER_BLOCKS: u32 = 8;

impl LaunchDims {
    /// `grid` blocks of `block` threads, without dynamic shared memory.
    pub fn new(grid: impl Into<Dim3>, block: impl Into<Dim3>) -> Self {
        LaunchDims {
            grid: grid.into(),
            block: block.into(),
            shared_bytes: 0,
            pdl: false,
            cluster: 1,
        }
    }

    /// The same with `bytes` of dynamic shared memory a block.
    pub fn shared(self, bytes: u32) -> Self {
        LaunchDims {
            shared_bytes: bytes,
            ..self
        }
    }

    /// The same as a programmatic dependent launch.
    pub fn dependent(self) -> Self {
        LaunchDims { pdl: true, ..self }
    }

    /// The same in clusters of `blocks` blocks, neighbours in x, which run at the same time and reach each other's shared memory.
    pub fn cluster(self, blocks: u32) -> Self {
        LaunchDims {
            cluster: blocks,
            ..self
        }
    }
}

impl Default for LaunchDims {
    /// One block of one thread.
    fn default() -> Self {
        LaunchDims::new(1, 1)
    }
}

impl LaunchDims {
    /// Refuses launches that the driver or the simulator would refuse with less to say.
    pub(super) fn check(&self, meta: &KernelMeta, info: &DeviceInfo) -> Result<()> {
        let (grid, block) = (self.grid, self.block);
        let refuse = |why: String| {
            Err(DeviceError::LaunchConfig {
                kernel: meta.name.to_string(),
                grid,
                block,
                why,
            })
        };
        if [grid.x, grid.y, grid.z, block.x, block.y, block.z].contains(&0) {
            return refuse("a dimension is 0; skip the launch when there is nothing to do".to_string());
        }
        if grid.x > i32::MAX as u32 || grid.y > 65_535 || grid.z > 65_535 {
            return refuse("the largest grid is 2147483647x65535x65535".to_string());
        }
        let threads = u64::from(block.x) * u64::from(block.y) * u64::from(block.z);
        let bound = meta.max_threads;
        if bound != 0 && threads > u64::from(bound) {
            return refuse(format!(
                "a block has {threads} threads, and the kernel was built for {bound} at most"
            ));
        }
        if threads > 1024 || block.z > 64 {
            return refuse(format!(
                "a block of {} has {threads} threads; the limits are 1024, and 64 in z",
                dim(block)
            ));
        }
        if self.shared_bytes > info.shared_bytes_per_block {
            let limit = info.shared_bytes_per_block;
            return refuse(format!(
                "{} bytes of shared memory; the device has {limit} a block",
                self.shared_bytes
            ));
        }
        self.check_cluster(info).or_else(refuse)
    }

    fn check_cluster(&self, info: &DeviceInfo) -> Result<(), String> {
        let (blocks, grid) = (self.cluster, self.grid);
        if blocks == 0 || blocks > MOST_CLUSTER_BLOCKS {
            return Err(format!(
                "clusters of {blocks} blocks; there can be 1 to {MOST_CLUSTER_BLOCKS}"
            ));
        }
        if blocks > 1 && info.compute_capability.0 < 9 {
            return Err(format!(
                "clusters of {blocks} blocks; this device is {}, and clusters begin with sm_90",
                info.arch()
            ));
        }
        if !grid.x.is_multiple_of(blocks) {
            return Err(format!(
                "clusters of {blocks} blocks in x; {} blocks in x are no multiple of it",
                grid.x
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_begin_with_hopper() {
        unsafe fn entry(_: *const *const std::ffi::c_void) {}
        let meta = KernelMeta {
            name: "k",
            family: "f",
            max_threads: 0,
            min_blocks: 0,
            archs: &[],
            entry,
        };
        let ada = DeviceInfo {
            is_simulator: false,
            compute_capability: (8, 9),
            ..DeviceInfo::simulator()
        };
        let dims = LaunchDims::new(4, 128);
        assert!(dims.check(&meta, &ada).is_ok());
        let message = dims.cluster(2).check(&meta, &ada).unwrap_err().to_string();
        assert!(
            message.contains("clusters of 2 blocks; this device is sm_89"),
            "{message}"
        );
        assert!(dims.cluster(2).check(&meta, &DeviceInfo::simulator()).is_ok());
        assert!(
            dims.cluster(4)
                .dependent()
                .check(&meta, &DeviceInfo::simulator())
                .is_ok()
        );
    }
}
