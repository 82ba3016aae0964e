//! A [`Problem`] on a device: buffers, poison, outputs, references.

use std::ops::Range;

use super::PLAIN;
use super::bound::Bound;
use super::kept::OnTheDevice;
use super::place::{bind, locate, offset, output, poison};
use super::problem::{Alone, Answer, Problem, Same};
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
    configs: Vec<Known>,
    copies: Vec<Bound>,
    reference: Option<Kept>,
    plain: Option<Vec<u8>>,
    /// The plain kernel's output where it was made; none on the simulator, which checks more than bytes.
    kept: Option<OnTheDevice>,
    /// The parts to be run by themselves: made once for all configs.
    parts: Option<Vec<Lone>>,
}

/// A config of the operation.
pub(super) struct Known {
    pub id: String,
    /// Whether it is in the canonical order and runs on this device: such configs give the same bytes.
    pub equal: bool,
}

/// A part of the problem with its tensors.
struct Lone {
    name: &'static str,
    problem: Box<dyn Problem>,
    same: Vec<Same>,
    bound: Bound,
}

/// The check of a part that another config runs: level L3 where one of the two is for few rows and the other for many.
const OTHER: &str = "part by another config";

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
        configs: Vec<Known>,
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
            kept: None,
            parts: None,
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

    /// Runs a config on a part and compares with the same bytes of the whole's output.
    fn part_check(
        &self,
        part: &Lone,
        config: &str,
        stream: &Stream,
        whole: &[u8],
        name: &'static str,
    ) -> Result<AloneCheck, OpError> {
        let (tensors, part_tensors) = (self.problem.tensors(), part.problem.tensors());
        poison(&part_tensors, &part.bound)?;
        part.problem.launch(&self.device, stream, config, &part.bound)?;
        self.device.synchronize()?;
        let alone = output(self.op, &part_tensors, &part.bound)?;
        let (mut outcome, mut compared) = (Ok(()), 0);
        for same in &part.same {
            let cut = |tensors: &[Tensor], of: usize, at: usize| {
                let start = offset(tensors, same.tensor)? + at;
                (start + same.bytes <= of).then_some(start)
            };
            let (Some(start), Some(there)) = (
                cut(&tensors, whole.len(), same.whole),
                cut(&part_tensors, alone.len(), same.part),
            ) else {
                return Err(OpError::Binding(format!(
                    "{}: '{}' names no {} bytes of {}",
                    self.op, part.name, same.bytes, same.tensor
                )));
            };
            compared += same.bytes;
            let equal = compare_bytes(&whole[start..][..same.bytes], &alone[there..][..same.bytes]);
            if let (Ok(()), Err(mut mismatch)) = (&outcome, equal) {
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
        Ok(AloneCheck {
            name,
            compared,
            outcome,
        })
    }

    /// A part and another config that takes it, both configs canonical: other ones for other seeds and configs.
    fn other<'a>(&'a self, parts: &'a [Lone], config: &str, pick: Random) -> Option<(&'a Lone, &'a str)> {
        let equal = self.configs.iter().filter(|known| known.equal);
        let ids: Vec<&str> = equal.map(|known| known.id.as_str()).collect();
        let at = ids.iter().position(|id| *id == config)?;
        let part = &parts[pick.below(at as u64, parts.len() as u64) as usize];
        let first = pick.below((ids.len() + at) as u64, ids.len() as u64) as usize;
        let others = (0..ids.len()).map(|i| ids[(first + i) % ids.len()]);
        let mut taking = others.filter(|id| *id != config && part.problem.admits(id).is_ok());
        Some((part, taking.next()?))
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
        if !self.configs.iter().any(|known| known.id == config) {
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

    fn tensor(&self, copy: usize, name: &str) -> Option<&Buffer> {
        self.copies.get(copy)?.buffer(name).ok()
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
            None => {
                let bytes = self.run(PLAIN, &self.device.stream()?)?;
                if !self.device.info().is_simulator {
                    // Without room for it outputs are compared on the host.
                    let tensors = self.problem.tensors();
                    self.kept = OnTheDevice::keep(&self.device, &tensors, &self.copies[0]).ok();
                }
                bytes
            }
        };
        Ok(self.plain.insert(bytes))
    }

    fn all_as_plain(&mut self) -> Result<Option<bool>, OpError> {
        let same = self.kept.as_ref().map(|kept| kept.all_same(&self.device, &self.copies));
        Ok(same.transpose()?)
    }

    fn alone(&mut self, config: &str, stream: &Stream) -> Result<Vec<AloneCheck>, OpError> {
        let pick = Random::new(self.seed, "alone");
        if self.parts.is_none() {
            self.parts = Some(lone(&self.device, self.problem.alone(pick))?);
        }
        let parts = self.parts.as_deref().unwrap_or_default();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let whole = self.run(config, stream)?;
        let mut checks = Vec::with_capacity(parts.len() + 1);
        for part in parts.iter().filter(|part| part.problem.admits(config).is_ok()) {
            checks.push(self.part_check(part, config, stream, &whole, part.name)?);
        }
        if let Some((part, other)) = self.other(parts, config, pick) {
            let mut check = self.part_check(part, other, stream, &whole, OTHER)?;
            if let Err(mismatch) = &mut check.outcome {
                mismatch.coords += &format!(" by {other}");
            }
            checks.push(check);
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

/// Puts parts on a device.
fn lone(device: &Device, parts: Vec<Alone>) -> Result<Vec<Lone>, OpError> {
    let place = |Alone { name, problem, same }| {
        let bound = bind(device, &problem.tensors(), 1)?.remove(0);
        Ok(Lone {
            name,
            problem,
            same,
            bound,
        })
    };
    parts.into_iter().map(place).collect()
}
