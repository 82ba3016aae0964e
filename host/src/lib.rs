//! host

pub mod results;
pub mod shapes;
