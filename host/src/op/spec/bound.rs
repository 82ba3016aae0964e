//! The tensors of one copy of a problem on a device, as a launch takes them.

use std::sync::Arc;

use super::tensor::{Dtype, Element};
use crate::device::{Buffer, DevPtr};
use crate::op::OpError;

/// Pointers to a problem's tensors on a device, by name.
#[derive(Debug)]
pub struct Bound {
    pub(super) slots: Vec<Slot>,
}

/// One tensor on a device.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: &'static str,
    pub(super) dtype: Dtype,
    pub(super) buffer: Arc<Buffer>,
}

impl Bound {
    /// A tensor that a kernel reads.
    ///
    /// # Errors
    /// [`OpError::Binding`]: no tensor of that name, or one of another element type.
    pub fn ptr<T: Element>(&self, name: &str) -> Result<*const T, OpError> {
        self.ptr_mut(name).map(<*mut T>::cast_const)
    }

    /// A tensor that a kernel writes.
    ///
    /// # Errors
    /// As [`Bound::ptr`].
    pub fn ptr_mut<T: Element>(&self, name: &str) -> Result<*mut T, OpError> {
        let slot = self.slot(name)?;
        if slot.dtype != T::DTYPE {
            return Err(OpError::Binding(format!(
                "tensor '{name}' is {}, and a launch takes it as {}",
                slot.dtype.name(),
                T::DTYPE.name()
            )));
        }
        Ok(slot.buffer.ptr_as())
    }

    /// A tensor as a call takes it.
    ///
    /// # Errors
    /// As [`Bound::ptr`].
    pub fn at<T: Element>(&self, name: &str) -> Result<DevPtr<T>, OpError> {
        self.ptr_mut(name).map(DevPtr::new)
    }

    /// A tensor's buffer, for [`crate::device::Device::fill`] and [`crate::device::Device::copy`].
    ///
    /// # Errors
    /// As [`Bound::ptr`].
    pub fn buffer(&self, name: &str) -> Result<&Buffer, OpError> {
        Ok(&self.slot(name)?.buffer)
    }

    fn slot(&self, name: &str) -> Result<&Slot, OpError> {
        self.slots.iter().find(|slot| slot.name == name).ok_or_else(|| {
            let names: Vec<_> = self.slots.iter().map(|slot| slot.name).collect();
            OpError::Binding(format!(
                "a launch takes a tensor '{name}'; the tensors are {}",
                names.join(", ")
            ))
        })
    }
}
