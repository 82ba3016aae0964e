//! Skeleton.
use crate::{Dim3, ErrorKind};
use std::marker::PhantomData;
pub struct Lanes<T> {
    mask: u32,
    t: PhantomData<T>,
}
impl<T: Copy> Lanes<T> {
    pub fn get(&self, lane: u32) -> T {
        unimplemented!()
    }
    pub fn mask(&self) -> u32 {
        self.mask
    }
}
pub fn thread_idx() -> Dim3 {
    unimplemented!()
}
pub fn block_idx() -> Dim3 {
    unimplemented!()
}
pub fn block_dim() -> Dim3 {
    unimplemented!()
}
pub fn grid_dim() -> Dim3 {
    unimplemented!()
}
pub fn lane_id() -> u32 {
    unimplemented!()
}
pub fn in_kernel() -> bool {
    false
}
#[track_caller]
pub fn sync_threads() {
    unimplemented!()
}
#[track_caller]
pub fn sync_threads_reduce(pred: bool) -> u32 {
    unimplemented!()
}
#[track_caller]
pub fn barrier_sync(id: u32, threads: u32) {
    unimplemented!()
}
#[track_caller]
pub fn barrier_arrive(id: u32, threads: u32) {
    unimplemented!()
}
#[track_caller]
pub fn warp_exchange<T: Copy + 'static, R>(op: &'static str, mask: u32, value: T, f: impl FnOnce(&Lanes<T>) -> R) -> R {
    unimplemented!()
}
#[track_caller]
pub fn sync_warp(mask: u32) {
    unimplemented!()
}
#[track_caller]
pub unsafe fn load<T: Copy>(p: *const T) -> T {
    unimplemented!()
}
#[track_caller]
pub unsafe fn store<T: Copy>(p: *mut T, v: T) {
    unimplemented!()
}
#[track_caller]
pub unsafe fn atomic_u32(p: *mut u32, f: impl Fn(u32) -> u32) -> u32 {
    unimplemented!()
}
#[track_caller]
pub unsafe fn atomic_u64(p: *mut u64, f: impl Fn(u64) -> u64) -> u64 {
    unimplemented!()
}
pub fn shared_bytes() -> u32 {
    unimplemented!()
}
#[track_caller]
pub fn static_shared(bytes: u32, align: u32) -> u32 {
    unimplemented!()
}
#[track_caller]
pub fn shared_load<T: Copy>(addr: u32) -> T {
    unimplemented!()
}
#[track_caller]
pub fn shared_store<T: Copy>(addr: u32, v: T) {
    unimplemented!()
}
#[track_caller]
pub fn shared_atomic_u32(addr: u32, f: impl Fn(u32) -> u32) -> u32 {
    unimplemented!()
}
#[track_caller]
pub fn shared_atomic_u64(addr: u32, f: impl Fn(u64) -> u64) -> u64 {
    unimplemented!()
}
#[track_caller]
pub unsafe fn copy_async(dst_shared: u32, src: *const u8, bytes: u32, src_bytes: u32) {
    unimplemented!()
}
#[track_caller]
pub fn copy_async_commit() {
    unimplemented!()
}
#[track_caller]
pub fn copy_async_wait(n_left: u32) {
    unimplemented!()
}
#[track_caller]
pub fn fail(kind: ErrorKind, message: String) -> ! {
    unimplemented!()
}
