//! Kernels run in a worker process: this same program under the hidden command `worker`, which takes requests and gives
//! events, one JSON value a line. A kernel that crashes or hangs takes the worker with it and nothing else: the parent
//! notes which config it was, starts another worker and goes on.

mod child;
pub mod copy_rate;
mod parent;
pub mod plant;
pub mod protocol;
mod standing;
mod sweep_job;
mod timing;
mod verify_job;

pub use child::serve;
pub use parent::{Heard, Worker};
pub use sweep_job::SAMPLED;
