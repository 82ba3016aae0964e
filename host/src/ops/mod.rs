//! The operations, one file or folder each.

use crate::op::Operation;

/// Every operation there is, in the order of lists.
pub fn all() -> &'static [&'static dyn Operation] {
    &[]
}

/// An operation by its name.
pub fn by_name(name: &str) -> Option<&'static dyn Operation> {
    all().iter().copied().find(|op| op.name() == name)
}
