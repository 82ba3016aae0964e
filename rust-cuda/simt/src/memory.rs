//! Skeleton.
#[derive(Debug, Clone)]
pub struct MemoryError(pub String);
impl std::fmt::Display for MemoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for MemoryError {}
pub fn alloc(bytes: usize, name: &str) -> Result<*mut u8, MemoryError> {
    unimplemented!()
}
pub unsafe fn free(p: *mut u8) {
    unimplemented!()
}
pub unsafe fn write(dst: *mut u8, src: &[u8]) {
    unimplemented!()
}
pub unsafe fn read(src: *const u8, dst: &mut [u8]) {
    unimplemented!()
}
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) {
    unimplemented!()
}
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    unimplemented!()
}
pub unsafe fn mark_unwritten(dst: *mut u8, len: usize) {
    unimplemented!()
}
pub unsafe fn first_unwritten(p: *const u8, len: usize) -> Option<usize> {
    unimplemented!()
}
