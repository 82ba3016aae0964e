//! Skeleton of the CPU back end: the signatures other rooms compile against.
#![allow(unused_variables, dead_code, clippy::missing_safety_doc, missing_docs)]
pub mod ctx;
pub mod memory;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dim3 {
    pub x: u32,
    pub y: u32,
    pub z: u32,
}
impl From<u32> for Dim3 {
    fn from(x: u32) -> Self {
        Dim3 { x, y: 1, z: 1 }
    }
}
impl From<(u32, u32)> for Dim3 {
    fn from((x, y): (u32, u32)) -> Self {
        Dim3 { x, y, z: 1 }
    }
}
impl From<(u32, u32, u32)> for Dim3 {
    fn from((x, y, z): (u32, u32, u32)) -> Self {
        Dim3 { x, y, z }
    }
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    #[default]
    InOrder,
    Seeded(u64),
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    OutOfBounds,
    UseAfterFree,
    Misaligned,
    Uninitialized,
    SharedRace,
    PartialBarrier,
    PartialWarp,
    AsyncNotWaited,
    Panic,
    Deadlock,
    BadArgument,
    LaunchConfig,
}
#[derive(Clone, Debug)]
pub struct SimError {
    pub kernel: String,
    pub block: Dim3,
    pub thread: Dim3,
    pub location: String,
    pub kind: ErrorKind,
    pub message: String,
}
impl std::fmt::Display for SimError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
impl std::error::Error for SimError {}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchStats {
    pub threads: u64,
    pub blocks: u64,
    pub loads: u64,
    pub stores: u64,
    pub atomics: u64,
    pub global_load_bytes: u64,
    pub global_store_bytes: u64,
    pub shared_load_bytes: u64,
    pub shared_store_bytes: u64,
    pub async_copy_bytes: u64,
    pub exchanges: u64,
    pub barriers: u64,
}
pub struct Launch<'a> {
    pub kernel: &'a str,
    pub grid: Dim3,
    pub block: Dim3,
    pub shared_bytes: u32,
    pub checks: bool,
    pub schedule: Schedule,
    pub workers: usize,
}
impl Launch<'_> {
    pub fn run(&self, body: &(dyn Fn() + Sync)) -> Result<LaunchStats, SimError> {
        unimplemented!()
    }
}
