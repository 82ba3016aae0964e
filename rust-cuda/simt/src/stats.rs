//! What a launch did, in numbers.

/// Counts over all threads of a launch. `threads`, `blocks`, `exchanges` and `barriers` are always counted; the rest is
/// zero when the launch ran with checks off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchStats {
    /// Threads run.
    pub threads: u64,
    /// Blocks run.
    pub blocks: u64,
    /// Loads from global memory, one for each thread and instruction.
    pub loads: u64,
    /// Stores to global memory.
    pub stores: u64,
    /// Atomics, global and shared.
    pub atomics: u64,
    /// Bytes of those loads, and of the sources of asynchronous copies.
    pub global_load_bytes: u64,
    /// Bytes of those stores.
    pub global_store_bytes: u64,
    /// Bytes loaded from shared memory.
    pub shared_load_bytes: u64,
    /// Bytes stored to shared memory, other than by asynchronous copies.
    pub shared_store_bytes: u64,
    /// Bytes written to shared memory by asynchronous copies.
    pub async_copy_bytes: u64,
    /// Warp collectives completed (one for a whole warp).
    pub exchanges: u64,
    /// Block barriers completed (one for all warps).
    pub barriers: u64,
}

impl LaunchStats {
    pub(crate) fn add(&mut self, o: &LaunchStats) {
        self.threads += o.threads;
        self.blocks += o.blocks;
        self.loads += o.loads;
        self.stores += o.stores;
        self.atomics += o.atomics;
        self.global_load_bytes += o.global_load_bytes;
        self.global_store_bytes += o.global_store_bytes;
        self.shared_load_bytes += o.shared_load_bytes;
        self.shared_store_bytes += o.shared_store_bytes;
        self.async_copy_bytes += o.async_copy_bytes;
        self.exchanges += o.exchanges;
        self.barriers += o.barriers;
    }
}
