//! Attention's and the delta net's calls on buffers whose offsets and strides are other than those of the operations' own cases, on the
//! simulator, against the CPU references' bytes.

mod attention;
mod gdn;
mod memory;
