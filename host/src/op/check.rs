//! One check of one config: poison, launch, read back, compare. The command line and the tests both call this.

use super::{ConfigInfo, Mismatch, OpError, Order, Part, Prepared, Reference, compare_bytes};
use crate::device::{Device, Stream};

/// What an output is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// The plain CPU path.
    CpuReference,
    /// The plain CPU path, on a seeded sample of the output: the case is too large for all of it.
    CpuSampled,
    /// The plain kernel on the same device.
    PlainKernel,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Expected::CpuReference => "CPU reference",
            Expected::CpuSampled => "CPU reference (sampled)",
            Expected::PlainKernel => "plain kernel",
        })
    }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It did not run, or the simulator found an error in the kernel.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The bytes are wrong.
    #[error("{config} against the {against}, copy {copy}: {mismatch}")]
    Mismatch {
        /// The config.
        config: String,
        /// What it was compared with.
        against: Expected,
        /// The copy of the operands.
        copy: usize,
        /// The first difference.
        mismatch: Box<Mismatch>,
    },
}

/// The right bytes of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// All of them.
    Whole(Vec<u8>),
    /// Some of them.
    Parts(Vec<Part>),
}

impl Want {
    /// Compares with an output.
    ///
    /// # Errors
    /// The first difference; its index is that in the output.
    pub fn compare(&self, got: &[u8]) -> Result<(), Mismatch> {
        let parts = match self {
            Want::Whole(bytes) => return compare_bytes(bytes, got),
            Want::Parts(parts) => parts,
        };
        let (mut first, mut count, mut total) = (None, 0, 0);
        for part in parts {
            let here = got.get(part.offset..).unwrap_or_default();
            let here = &here[..part.bytes.len().min(here.len())];
            total += part.bytes.len().div_ceil(4);
            if let Err(mut mismatch) = compare_bytes(&part.bytes, here) {
                mismatch.index += part.offset;
                count += mismatch.count;
                first.get_or_insert(mismatch);
            }
        }
        first.map_or(Ok(()), |mismatch| {
            Err(Mismatch {
                count,
                total,
                ..mismatch
            })
        })
    }

    /// The expected bytes from `start` on, as far as they are known.
    fn from(&self, start: usize) -> &[u8] {
        let part = |p: &&Part| p.offset <= start && start < p.offset + p.bytes.len();
        match self {
            Want::Whole(bytes) => bytes.get(start..).unwrap_or_default(),
            Want::Parts(parts) => parts.iter().find(part).map_or(&[], |p| &p.bytes[start - p.offset..]),
        }
    }

    /// Elements it compares in an output of `len` bytes.
    pub fn elements(&self, prepared: &dyn Prepared, len: usize) -> u64 {
        let parts = match self {
            Want::Whole(_) => return prepared.elements(0..len),
            Want::Parts(parts) => parts,
        };
        let mut ranges: Vec<_> = parts.iter().map(|p| (p.offset, p.offset + p.bytes.len())).collect();
        ranges.sort_unstable();
        let mut end = 0;
        let fresh = ranges.into_iter().map(|(from, to)| {
            let from = from.max(end);
            end = end.max(to);
            if from < to { prepared.elements(from..to) } else { 0 }
        });
        fresh.sum()
    }
}

/// What a check that held was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// What the output was compared with.
    pub against: Vec<Expected>,
    /// Elements compared with at least one of them.
    pub elements: u64,
    /// Elements of the output.
    pub of: u64,
}

/// What the CPU says of a case: its name and the bytes; none where the case is too large, with the reason.
///
/// # Errors
/// [`OpError::Reference`].
pub fn cpu_answer(prepared: &mut dyn Prepared) -> Result<Result<(Expected, Want), String>, OpError> {
    Ok(match prepared.cpu_reference()? {
        Reference::Bytes(bytes) => Ok((Expected::CpuReference, Want::Whole(bytes.to_vec()))),
        Reference::Sampled(parts) => Ok((Expected::CpuSampled, Want::Parts(parts.to_vec()))),
        Reference::TooLarge(why) => Err(why),
    })
}

/// Runs one config on every copy and compares each output: byte for byte if the config's order is canonical, else within the
/// operation's tolerance. The plain kernel is compared with the CPU reference; others too, and with the plain kernel where
/// the CPU has not the whole answer. Gives back the best of what was compared with.
///
/// # Errors
/// The first difference, or what kept the config from running; [`OpError::NoReference`] for a plain kernel without a CPU
/// reference.
pub fn check(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    stream: &Stream,
) -> Result<Expected, CheckError> {
    let mut wanted = Vec::new();
    match cpu_answer(prepared)? {
        Ok(answer) => wanted.push(answer),
        Err(why) if config.plain => return Err(no_reference(prepared, config, why).into()),
        Err(_) => {}
    }
    let whole = matches!(wanted.first(), Some((Expected::CpuReference, _)));
    if !whole && !config.plain {
        wanted.push((Expected::PlainKernel, Want::Whole(prepared.plain()?.to_vec())));
    }
    let compared = check_bytes(device, prepared, config, stream, &wanted)?;
    Ok(compared.against.first().copied().unwrap_or(Expected::PlainKernel))
}

/// As [`check`], against a named reference. A CPU reference that is too large is replaced by nothing: it passes no config.
///
/// # Errors
/// As [`check`], and [`OpError::Shape`] when there is no such reference for the case.
pub fn check_against(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    stream: &Stream,
    against: Expected,
) -> Result<(), CheckError> {
    let wanted = match against {
        Expected::PlainKernel => (against, Want::Whole(prepared.plain()?.to_vec())),
        Expected::CpuReference | Expected::CpuSampled => {
            let (kind, want) = cpu_answer(prepared)?.map_err(OpError::Shape)?;
            if kind != against {
                return Err(OpError::Shape(format!("the {kind} is there, and not the {against}")).into());
            }
            (kind, want)
        }
    };
    check_bytes(device, prepared, config, stream, &[wanted]).map(|_| ())
}

/// Launches one config on every copy, once, and compares each output with each of the expected bytes.
///
/// # Errors
/// As [`check`].
pub fn check_bytes(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    stream: &Stream,
    expected: &[(Expected, Want)],
) -> Result<Compared, CheckError> {
    check_after(device, prepared, config, expected, |prepared| {
        (0..prepared.copies()).try_for_each(|copy| prepared.launch(&config.id, stream, copy))
    })
}

/// Poisons every output, lets `run` launch the config on every copy in its own way (from a graph, say), and compares each
/// output with each of the expected bytes that can check this config: a plain kernel's bytes check no plain kernel, and a
/// sample checks no tolerance.
///
/// # Errors
/// As [`check`]; [`OpError::NoReference`] where nothing is left to compare with.
pub fn check_after(
    device: &Device,
    prepared: &mut dyn Prepared,
    config: &ConfigInfo,
    expected: &[(Expected, Want)],
    run: impl FnOnce(&dyn Prepared) -> Result<(), OpError>,
) -> Result<Compared, CheckError> {
    let can_check = |(against, _): &&(Expected, Want)| match against {
        Expected::CpuReference => true,
        Expected::CpuSampled => config.order == Order::Canonical,
        Expected::PlainKernel => !config.plain,
    };
    let expected: Vec<&(Expected, Want)> = expected.iter().filter(can_check).collect();
    if expected.is_empty() {
        let why = "the case is too large, or was not asked for".to_string();
        return Err(no_reference(prepared, config, why).into());
    }
    prepared.poison()?;
    run(prepared)?;
    device.synchronize().map_err(OpError::from)?;
    let mut compared = Compared {
        against: expected.iter().map(|(against, _)| *against).collect(),
        ..Compared::default()
    };
    // Where all the other references agree with the plain kernel, being equal to its bytes says everything; and those are compared
    // on the device. A difference is looked for on the host, for its place.
    let plain = expected.iter().find_map(|(against, want)| match want {
        Want::Whole(bytes) if *against == Expected::PlainKernel => Some(bytes),
        _ => None,
    });
    if let Some(bytes) = plain
        && config.order == Order::Canonical
        && expected
            .iter()
            .all(|(against, want)| *against == Expected::PlainKernel || want.compare(bytes).is_ok())
        && prepared.all_as_plain()? == Some(true)
    {
        compared.of = prepared.elements(0..bytes.len());
        compared.elements = compared.of;
        return Ok(compared);
    }
    for copy in 0..prepared.copies() {
        let got = prepared.output(copy)?;
        for (against, want) in &expected {
            let outcome = match (config.order, want) {
                (Order::Fast, Want::Whole(bytes)) => prepared.within_tolerance(bytes, &got),
                _ => want.compare(&got).map_err(OpError::from),
            };
            outcome.map_err(|error| match error {
                OpError::Mismatch(mismatch) => CheckError::Mismatch {
                    config: config.id.clone(),
                    against: *against,
                    copy,
                    mismatch: Box::new(shown(mismatch, prepared, want, &got)),
                },
                other => CheckError::Op(other),
            })?;
        }
        if copy == 0 {
            compared.of = prepared.elements(0..got.len());
            let counts = expected.iter().map(|(_, want)| want.elements(prepared, got.len()));
            compared.elements = counts.max().unwrap_or(0);
        }
    }
    Ok(compared)
}

/// A mismatch with its place and both values in the output's own element type.
fn shown(mismatch: Mismatch, prepared: &dyn Prepared, want: &Want, got: &[u8]) -> Mismatch {
    let mut mismatch = mismatch.at(|byte| prepared.coords(byte));
    if let Some((start, dtype)) = prepared.element(mismatch.index)
        && let Some(expected) = want.from(start).get(..dtype.bytes())
        && let Some(got) = got.get(start..start + dtype.bytes())
    {
        mismatch.expected = dtype.show(expected);
        mismatch.got = dtype.show(got);
    }
    mismatch
}

fn no_reference(prepared: &dyn Prepared, config: &ConfigInfo, why: String) -> OpError {
    OpError::NoReference {
        op: prepared.case().op.clone(),
        config: config.id.clone(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_finds_a_wrong_byte_where_it_looks_and_only_there() {
        let part = |offset, bytes: &[u8]| Part {
            offset,
            bytes: bytes.to_vec(),
        };
        let want = Want::Parts(vec![part(2, &[2, 3]), part(6, &[6, 7])]);
        let mut got: Vec<u8> = (0..10).collect();
        assert_eq!(want.compare(&got), Ok(()));
        got[4] = 99;
        assert_eq!(want.compare(&got), Ok(()));
        got[7] = 99;
        let wrong = want.compare(&got).unwrap_err();
        assert_eq!((wrong.index, wrong.count, wrong.total), (7, 1, 2));
        assert!(want.compare(&got[..5]).is_err(), "an output too short for the sample");
    }
}
