//! The parameters of the Q8_0 matmul kernels by name.

/// The parameters as launched; the shapes are in [`crate::q8_matmul`]'s table.
#[derive(Clone, Copy)]
pub(crate) struct Args {
    pub(crate) qs: *const u8,
    pub(crate) ws: *const u16,
    pub(crate) xq: *const u8,
    pub(crate) dx: *const f32,
    pub(crate) y: *mut f32,
    pub(crate) n: u32,
    pub(crate) n_quads: u32,
    pub(crate) n_tok: u32,
    pub(crate) y_stride: u32,
}
