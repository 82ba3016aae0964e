//! host

pub mod device;
pub mod gguf;
pub mod results;
pub mod shapes;
