//! Calls of the row operations and of the head on tensors that lie where their operations' own cases do not: inside larger
//! buffers, at addresses of every kind, rows with gaps between them. On the simulator, against the CPU reference: what is between
//! the rows of an input was never written, so that reading it is an error, and must be unchanged in an output.

mod elementwise;
mod head;
mod moves;
mod norms;
mod rows;
