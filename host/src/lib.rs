//! host

pub mod gguf;
pub mod results;
pub mod shapes;
