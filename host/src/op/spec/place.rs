//! Tensors on a device: one copy after another, their outputs, and where a byte of those belongs.

use std::sync::Arc;

use super::bound::{Bound, Slot};
use super::tensor::{Role, Tensor};
use crate::device::{Buffer, Device};
use crate::op::OpError;

/// Puts tensors on a device: one buffer for all copies of an input, one a copy for the others.
pub(super) fn bind(device: &Device, tensors: &[Tensor], copies: usize) -> Result<Vec<Bound>, OpError> {
    for (i, t) in tensors.iter().enumerate() {
        let wanted = match t.role {
            Role::Scratch | Role::Output => 0,
            Role::Weight | Role::Input | Role::InOut => t.len_bytes(),
        };
        let (name, got) = (t.name, t.data.len());
        if got != wanted {
            return Err(OpError::Binding(format!(
                "tensor '{name}' has {got} bytes of data, and its shape {wanted}"
            )));
        }
        if tensors[..i].iter().any(|other| other.name == name) {
            return Err(OpError::Binding(format!("two tensors are called '{name}'")));
        }
    }
    let stream = device.stream()?;
    let place = |t: &Tensor, copy: usize, first: Option<&Slot>| -> Result<Slot, OpError> {
        let buffer = device.alloc(t.len_bytes(), &format!("{}{copy}", t.name))?;
        if let Some(first) = first.filter(|_| !t.data.is_empty()) {
            // Within the device: faster than from the host once more.
            device.copy(&stream, &buffer, &first.buffer, t.len_bytes())?;
        } else if !t.data.is_empty() {
            buffer.upload(t.data)?;
        } else if !t.is_empty() {
            buffer.poison()?;
        }
        Ok(Slot {
            name: t.name,
            dtype: t.dtype,
            buffer: Arc::new(buffer),
        })
    };
    let mut bound: Vec<Bound> = Vec::with_capacity(copies);
    for copy in 0..copies {
        let mut slots = Vec::with_capacity(tensors.len());
        for (i, t) in tensors.iter().enumerate() {
            slots.push(match bound.first() {
                Some(first) if t.role == Role::Input => first.slots[i].clone(),
                first => place(t, copy, first.map(|first| &first.slots[i]))?,
            });
        }
        bound.push(Bound { slots });
    }
    // Other streams' work is ordered after uploads by itself, and after these copies by this.
    stream.synchronize()?;
    Ok(bound)
}

/// Makes what the kernels write as good as never written, and sets back what they change.
pub(super) fn poison(tensors: &[Tensor], bound: &Bound) -> Result<(), OpError> {
    for (t, slot) in tensors.iter().zip(&bound.slots).filter(|(t, _)| !t.is_empty()) {
        match t.role {
            Role::Weight | Role::Input => {}
            Role::Scratch | Role::Output => slot.buffer.poison()?,
            Role::InOut => slot.buffer.upload(t.data)?,
        }
    }
    Ok(())
}

/// The bytes of the compared tensors, one after another. The device must be done.
pub(super) fn output(op: &'static str, tensors: &[Tensor], bound: &Bound) -> Result<Vec<u8>, OpError> {
    let mut all: Vec<u8> = Vec::new();
    for (t, slot) in tensors
        .iter()
        .zip(&bound.slots)
        .filter(|(t, _)| t.role.compared() && !t.is_empty())
    {
        let buffer: &Buffer = &slot.buffer;
        if let Some(byte) = buffer.first_unwritten() {
            let coords = t.coords(byte);
            return Err(OpError::Unwritten { op, coords });
        }
        all.extend(buffer.download_vec::<u8>(t.len_bytes())?);
    }
    Ok(all)
}

/// Where a compared tensor begins in the output.
pub(super) fn offset(tensors: &[Tensor], name: &str) -> Option<usize> {
    let mut start = 0;
    for t in tensors.iter().filter(|t| t.role.compared()) {
        if t.name == name {
            return Some(start);
        }
        start += t.len_bytes();
    }
    None
}

/// The compared tensor that a byte of the output is in, where it begins, and the byte's place in it.
pub(super) fn locate<'t, 'd>(tensors: &'t [Tensor<'d>], byte: usize) -> Option<(&'t Tensor<'d>, usize, usize)> {
    let mut start = 0;
    for t in tensors.iter().filter(|t| t.role.compared()) {
        if byte < start + t.len_bytes() {
            return Some((t, start, byte - start));
        }
        start += t.len_bytes();
    }
    None
}
