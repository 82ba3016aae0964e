//! A [`Problem`] on a device: buffers, poison, outputs, references.

use std::ops::Range;
use std::sync::Arc;

use super::PLAIN;
use super::bound::{Bound, Slot};
use super::problem::{Answer, Problem, Same};
use super::tensor::{Dtype, Role, Tensor};
use crate::device::{Buffer, Device, Stream};
use crate::op::random::Random;
use crate::op::{AloneCheck, Case, OpError, Part, Prepared, Reference, compare_bytes};

/// A problem with the copies of its tensors.
pub(super) struct OnDevice {
    device: Device,
    op: &'static str,
    case: Case,
    seed: u64,
    problem: Box<dyn Problem>,
    configs: Vec<String>,
    copies: Vec<Bound>,
    reference: Option<Kept>,
    plain: Option<Vec<u8>>,
}

/// The CPU reference's answer in terms of the whole output.
enum Kept {
    Bytes(Vec<u8>),
    Parts(Vec<Part>),
}

impl OnDevice {
    pub fn new(
        device: &Device,
        op: &'static str,
        case: &Case,
        seed: u64,
        problem: Box<dyn Problem>,
        configs: Vec<String>,
        copies: usize,
    ) -> Result<Self, OpError> {
        let copies = bind(device, &problem.tensors(), copies.max(1))?;
        Ok(Self {
            device: device.clone(),
            op,
            case: case.clone(),
            seed,
            problem,
            configs,
            copies,
            reference: None,
            plain: None,
        })
    }

    fn copy(&self, copy: usize) -> Result<&Bound, OpError> {
        let copies = self.copies.len();
        self.copies.get(copy).ok_or(OpError::NoSuchCopy { copy, copies })
    }

    /// Poisons one copy, launches a config on it and gives its output.
    fn run(&self, config: &str, stream: &Stream) -> Result<Vec<u8>, OpError> {
        poison(&self.problem.tensors(), self.copy(0)?)?;
        self.launch(config, stream, 0)?;
        self.output(0)
    }

    /// An answer as bytes of the whole output.
    fn keep(&self, answer: Answer) -> Result<Kept, OpError> {
        let wrong = |what: String| OpError::Binding(format!("{}: the CPU reference {what}", self.op));
        let tensors = self.problem.tensors();
        let compared: Vec<&Tensor> = tensors.iter().filter(|t| t.role.compared()).collect();
        match answer {
            Answer::Whole(all) => {
                let (got, wanted): (Vec<_>, Vec<_>) = (
                    all.iter().map(Vec::len).collect(),
                    compared.iter().map(|t| t.len_bytes()).collect(),
                );
                if got != wanted {
                    return Err(wrong(format!("gave tensors of {got:?} bytes in place of {wanted:?}")));
                }
                Ok(Kept::Bytes(all.concat()))
            }
            Answer::Pieces(pieces) => {
                let missed =
                    |t: &&&Tensor| !t.is_empty() && !pieces.iter().any(|p| p.tensor == t.name && !p.bytes.is_empty());
                if let Some(t) = compared.iter().find(missed) {
                    return Err(wrong(format!("has no piece of {}", t.name)));
                }
                let mut parts = Vec::with_capacity(pieces.len());
                for piece in pieces {
                    let mut start = 0;
                    let found = compared.iter().find(|t| {
                        let here = t.name == piece.tensor;
                        start += if here { 0 } else { t.len_bytes() };
                        here
                    });
                    let end = piece.offset + piece.bytes.len();
                    if found.is_none_or(|t| end > t.len_bytes()) {
                        return Err(wrong(format!(
                            "has a piece of {} that ends at byte {end}",
                            piece.tensor
                        )));
                    }
                    let (offset, bytes) = (start + piece.offset, piece.bytes);
                    parts.push(Part { offset, bytes });
                }
                Ok(Kept::Parts(parts))
            }
        }
    }
}

impl Prepared for OnDevice {
    fn case(&self) -> &Case {
        &self.case
    }

    fn copies(&self) -> usize {
        self.copies.len()
    }

    fn poison(&mut self) -> Result<(), OpError> {
        let tensors = self.problem.tensors();
        self.copies.iter().try_for_each(|bound| poison(&tensors, bound))
    }

    fn launch(&self, config: &str, stream: &Stream, copy: usize) -> Result<(), OpError> {
        if !self.configs.iter().any(|c| c == config) {
            return Err(OpError::UnknownConfig {
                op: self.op,
                config: config.to_string(),
            });
        }
        self.problem.launch(&self.device, stream, config, self.copy(copy)?)
    }

    fn output(&self, copy: usize) -> Result<Vec<u8>, OpError> {
        self.device.synchronize()?;
        output(self.op, &self.problem.tensors(), self.copy(copy)?)
    }

    fn repeatable(&self) -> bool {
        self.problem.tensors().iter().all(|t| t.role != Role::InOut)
    }

    fn cpu_reference(&mut self) -> Result<Reference<'_>, OpError> {
        let kept = match self.reference.take() {
            Some(kept) => kept,
            None => self.keep(self.problem.reference()?)?,
        };
        Ok(match self.reference.insert(kept) {
            Kept::Bytes(bytes) => Reference::Bytes(bytes),
            Kept::Parts(parts) => Reference::Sampled(parts),
        })
    }

    fn plain(&mut self) -> Result<&[u8], OpError> {
        let bytes = match self.plain.take() {
            Some(bytes) => bytes,
            None => self.run(PLAIN, &self.device.stream()?)?,
        };
        Ok(self.plain.insert(bytes))
    }

    fn alone(&mut self, config: &str, stream: &Stream) -> Result<Vec<AloneCheck>, OpError> {
        let parts = self.problem.alone(Random::new(self.seed, "alone"));
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let whole = self.run(config, stream)?;
        let tensors = self.problem.tensors();
        let mut checks = Vec::with_capacity(parts.len());
        for part in parts {
            let part_tensors = part.problem.tensors();
            let bound = bind(&self.device, &part_tensors, 1)?.remove(0);
            poison(&part_tensors, &bound)?;
            part.problem.launch(&self.device, stream, config, &bound)?;
            self.device.synchronize()?;
            let alone = output(self.op, &part_tensors, &bound)?;
            let mut outcome = Ok(());
            let mut compared = 0;
            for same in &part.same {
                let cut = |tensors: &[Tensor], bytes: &[u8], at: usize| {
                    let start = offset(tensors, same.tensor)? + at;
                    Some((start, bytes.get(start..start + same.bytes)?.to_vec()))
                };
                let range = |_: &Same| {
                    format!(
                        "{}: '{}' names no {} bytes of {}",
                        self.op, part.name, same.bytes, same.tensor
                    )
                };
                let (Some((start, wanted)), Some((_, got))) =
                    (cut(&tensors, &whole, same.whole), cut(&part_tensors, &alone, same.part))
                else {
                    return Err(OpError::Binding(range(same)));
                };
                compared += same.bytes;
                if let (Ok(()), Err(mut mismatch)) = (&outcome, compare_bytes(&wanted, &got)) {
                    mismatch.index += start;
                    outcome = Err(mismatch.at(|byte| self.coords(byte)));
                }
            }
            if compared == 0 && !whole.is_empty() {
                return Err(OpError::Binding(format!(
                    "{}: '{}' compares nothing",
                    self.op, part.name
                )));
            }
            let name = part.name;
            checks.push(AloneCheck {
                name,
                compared,
                outcome,
            });
        }
        Ok(checks)
    }

    fn within_tolerance(&mut self, expected: &[u8], got: &[u8]) -> Result<(), OpError> {
        Ok(self.problem.tolerance(expected, got)?)
    }

    fn coords(&self, byte: usize) -> String {
        match locate(&self.problem.tensors(), byte) {
            Some((t, _, at)) => t.coords(at),
            None => format!("byte {byte}, beyond the output"),
        }
    }

    fn elements(&self, bytes: Range<usize>) -> u64 {
        let mut start = 0;
        let mut count = 0;
        for t in self.problem.tensors().iter().filter(|t| t.role.compared()) {
            let end = start + t.len_bytes();
            let (from, to) = (bytes.start.max(start), bytes.end.min(end));
            count += to.saturating_sub(from).div_ceil(t.dtype.bytes()) as u64;
            start = end;
        }
        count
    }

    fn element(&self, byte: usize) -> Option<(usize, Dtype)> {
        let tensors = self.problem.tensors();
        let (t, start, at) = locate(&tensors, byte)?;
        Some((start + at / t.dtype.bytes() * t.dtype.bytes(), t.dtype))
    }
}

/// Puts tensors on a device: one buffer for all copies of an input, one a copy for the others.
fn bind(device: &Device, tensors: &[Tensor], copies: usize) -> Result<Vec<Bound>, OpError> {
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
    let place = |t: &Tensor, copy: usize| -> Result<Slot, OpError> {
        let buffer = device.alloc(t.len_bytes(), &format!("{}{copy}", t.name))?;
        if !t.data.is_empty() {
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
                _ => place(t, copy)?,
            });
        }
        bound.push(Bound { slots });
    }
    Ok(bound)
}

/// Makes what the kernels write as good as never written, and sets back what they change.
fn poison(tensors: &[Tensor], bound: &Bound) -> Result<(), OpError> {
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
fn output(op: &'static str, tensors: &[Tensor], bound: &Bound) -> Result<Vec<u8>, OpError> {
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
fn offset(tensors: &[Tensor], name: &str) -> Option<usize> {
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
fn locate<'t, 'd>(tensors: &'t [Tensor<'d>], byte: usize) -> Option<(&'t Tensor<'d>, usize, usize)> {
    let mut start = 0;
    for t in tensors.iter().filter(|t| t.role.compared()) {
        if byte < start + t.len_bytes() {
            return Some((t, start, byte - start));
        }
        start += t.len_bytes();
    }
    None
}
