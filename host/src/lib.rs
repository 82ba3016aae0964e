//! host

pub mod shapes;
