//! Hopper's operations: barriers in shared memory, bulk copies, warpgroup products, clusters.
#![allow(missing_docs, clippy::missing_safety_doc)]

use super::fail;
use crate::error::ErrorKind;

#[track_caller]
fn not_yet(what: &str) -> ! {
    fail(ErrorKind::BadArgument, format!("{what}: not simulated yet"))
}

#[track_caller]
pub fn cluster_rank() -> u32 {
    0
}
#[track_caller]
pub fn cluster_size() -> u32 {
    1
}
#[track_caller]
pub fn cluster_arrive() {
    not_yet("barrier.cluster.arrive")
}
#[track_caller]
pub fn cluster_wait() {
    not_yet("barrier.cluster.wait")
}
#[track_caller]
pub fn cluster_map(_addr: u32, _rank: u32) -> u32 {
    not_yet("mapa")
}
#[track_caller]
pub fn cluster_load<T: Copy>(_addr: u32) -> T {
    not_yet("ld.shared::cluster")
}
#[track_caller]
pub fn cluster_store<T: Copy>(_addr: u32, _v: T) {
    not_yet("st.shared::cluster")
}
