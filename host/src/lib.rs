//! host

pub mod gguf;
pub mod device;
pub mod results;
pub mod shapes;
