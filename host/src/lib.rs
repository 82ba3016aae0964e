//! The model forward: devices, weights, operations, dispatch; and the plain reference everything is checked against.

pub mod cost;
pub mod device;
pub mod dispatch;
pub mod gguf;
pub mod model;
pub mod op;
pub mod ops;
pub mod peer;
pub mod reference;
pub mod results;
pub mod rope;
pub mod shapes;
