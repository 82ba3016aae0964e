//! Hopper's operations: barriers in shared memory, bulk copies, warpgroup products, clusters.
#![allow(missing_docs, clippy::missing_safety_doc)]

use super::fail;
use crate::error::ErrorKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WgmmaFormat {
    Bf16,
    F16,
    S8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WgmmaA {
    Shared(u64),
    Registers([u32; 4]),
}

/// One warpgroup product: columns, factors, registers of D a thread (an f16 D has n / 4, the others n / 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wgmma {
    pub n: u32,
    pub format: WgmmaFormat,
    pub registers: u32,
    pub accumulate: bool,
}

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
#[track_caller]
pub unsafe fn tma_load(_dst: u32, _map: &[u64; 16], _at: &[i32], _bar: u32, _blocks: Option<u16>) {
    not_yet("cp.async.bulk.tensor")
}
#[track_caller]
pub unsafe fn tma_store(_map: &[u64; 16], _at: &[i32], _src: u32) {
    not_yet("cp.async.bulk.tensor")
}
#[track_caller]
pub unsafe fn bulk_load(_dst: u32, _src: *const u8, _bytes: u32, _bar: u32) {
    not_yet("cp.async.bulk")
}
#[track_caller]
pub unsafe fn bulk_store(_dst: *mut u8, _src: u32, _bytes: u32) {
    not_yet("cp.async.bulk")
}
#[track_caller]
pub fn bulk_commit() {
    not_yet("cp.async.bulk.commit_group")
}
#[track_caller]
pub fn bulk_wait(_left: u32, _reads_only: bool) {
    not_yet("cp.async.bulk.wait_group")
}
#[track_caller]
pub fn wgmma_fence() {
    not_yet("wgmma.fence")
}
#[track_caller]
pub fn wgmma_commit() {
    not_yet("wgmma.commit_group")
}
#[track_caller]
pub fn wgmma_wait(_left: u32) {
    not_yet("wgmma.wait_group")
}
#[track_caller]
pub fn wgmma_landed(_ticket: u64) {
    not_yet("wgmma")
}
#[track_caller]
pub unsafe fn wgmma(_form: Wgmma, _d: *mut u32, _a: WgmmaA, _b: u64) -> u64 {
    not_yet("wgmma")
}
