//! The operations, one file or folder each.

pub mod q8;

use crate::op::Operation;

/// Every operation there is, in the order of lists.
pub fn all() -> &'static [&'static dyn Operation] {
    &[&q8::Q8MatmulOp]
}

/// An operation by its name.
pub fn by_name(name: &str) -> Option<&'static dyn Operation> {
    all().iter().copied().find(|op| op.name() == name)
}
