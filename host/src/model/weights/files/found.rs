//! A matrix's tensors in a source, whatever their format, and the rows of them that a layout wants.

use std::fmt;

use super::rows::{Run, runs};
use crate::model::ModelError;
use crate::model::files::{Dtype, Raw, Source};
use crate::model::layout::Piece;
use crate::ops::nvfp4::{BLOCK, Convention};

/// How a matrix is stored on the device, which tensors of one matrix must agree in. F32, F16 and BF16 are all made bf16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stored {
    /// bf16.
    Bf16,
    /// Blocks of 32.
    Q8_0,
    /// Two codes a byte, with the tensor scale's convention and bits.
    Nvfp4 { convention: Convention, bits: u32 },
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Stored::Bf16 => f.write_str("plain numbers"),
            Stored::Q8_0 => f.write_str("Q8_0"),
            Stored::Nvfp4 { convention, bits } => {
                let (name, scale) = (convention.names()[2], f32::from_bits(bits));
                write!(f, "NVFP4 with the {name} {scale:e} (0x{bits:08x})")
            }
        }
    }
}

/// The tensors of a matrix `[rows][k]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// Numbers, blocks or codes.
    pub raw: Raw<'a>,
    /// What goes with codes.
    pub nvfp4: Option<Nvfp4<'a>>,
    /// Rows.
    pub rows: u64,
    /// Elements of a row.
    pub k: u64,
}

/// What goes with NVFP4's codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nvfp4<'a> {
    /// `[rows][k / 16]` E4M3.
    pub scales: Raw<'a>,
    /// As stored.
    pub tensor_scale: f32,
    /// What it means.
    pub convention: Convention,
}

impl<'a> Found<'a> {
    /// Finds a matrix of rows of `k` by its base name: `.weight`, either NVFP4 convention's three tensors, or the base itself. Of its data
    /// nothing is read but NVFP4's tensor scale.
    ///
    /// # Errors
    /// Tensors that are missing, of a type that is not read, or of another shape.
    pub fn find(source: &'a dyn Source, base: &str, k: u32) -> Result<Self, ModelError> {
        let plain = format!("{base}.weight");
        if let Some(raw) = source.find(&plain) {
            return match raw.dtype {
                Dtype::U8 => Self::nvfp4(source, base, raw, Convention::ModelOpt, k),
                _ => Self::plain(raw, k),
            };
        }
        let packed = format!("{base}.{}", Convention::CompressedTensors.names()[0]);
        if let Some(raw) = source.find(&packed) {
            return Self::nvfp4(source, base, raw, Convention::CompressedTensors, k);
        }
        match source.find(base) {
            Some(raw) => Self::plain(raw, k),
            None => Err(source.missing(&plain, ", and so are that name with `_packed` and without `.weight`")),
        }
    }

    fn plain(raw: Raw<'a>, k: u32) -> Result<Self, ModelError> {
        if !raw.dtype.is_float() && raw.dtype != Dtype::Q8_0 {
            return Err(raw.error(format!(
                "is {} {}; weights of F32, F16, BF16, Q8_0 and NVFP4 are read",
                raw.dtype, raw.shape
            )));
        }
        Self {
            raw,
            nvfp4: None,
            rows: raw.shape.rows(),
            k: u64::from(k),
        }
        .of_width(raw, u64::from(k), k)
    }

    fn nvfp4(
        source: &'a dyn Source,
        base: &str,
        codes: Raw<'a>,
        convention: Convention,
        k: u32,
    ) -> Result<Self, ModelError> {
        let [_, scales, tensor] = convention.names();
        let scales = source.tensor(&format!("{base}.{scales}"))?;
        let tensor = source.tensor(&format!("{base}.{tensor}"))?;
        for (raw, dtype) in [(codes, Dtype::U8), (scales, Dtype::F8E4M3), (tensor, Dtype::F32)] {
            if raw.dtype != dtype {
                return Err(raw.error(format!("is {} {}; NVFP4 has {dtype} here", raw.dtype, raw.shape)));
            }
        }
        if k == 0 || !k.is_multiple_of(BLOCK) {
            return Err(codes.error(format!(
                "rows of {k} are wanted, and NVFP4 has a scale for every {BLOCK} values"
            )));
        }
        let Ok(bytes) = tensor.bytes.try_into() else {
            return Err(tensor.error(format!("has the shape {}; a tensor scale is one number", tensor.shape)));
        };
        let tensor_scale = f32::from_le_bytes(bytes);
        let divides = convention == Convention::CompressedTensors;
        if !(tensor_scale.is_finite() && tensor_scale >= 0.0 && !(divides && tensor_scale == 0.0)) {
            let least = if divides { "above 0" } else { "at least 0" };
            return Err(tensor.error(format!("is {tensor_scale}; a tensor scale is finite and {least}")));
        }
        let found = Self {
            raw: codes,
            nvfp4: Some(Nvfp4 {
                scales,
                tensor_scale,
                convention,
            }),
            rows: codes.shape.rows(),
            k: u64::from(k),
        };
        let found = found.of_width(codes, u64::from(k / 2), k)?;
        let found = found.of_width(scales, u64::from(k / BLOCK), k)?;
        if scales.shape.rows() != found.rows {
            return Err(scales.error(format!(
                "has the shape {}, and the codes have {} rows",
                scales.shape, found.rows
            )));
        }
        Ok(found)
    }

    /// Checks the width of one of its tensors.
    fn of_width(self, raw: Raw<'a>, wanted: u64, k: u32) -> Result<Self, ModelError> {
        if k == 0 || raw.shape.k() != wanted {
            return Err(raw.error(format!(
                "has the shape {} of {}; rows of {wanted} are wanted (k = {k})",
                raw.shape, raw.dtype
            )));
        }
        Ok(self)
    }

    /// How it is stored on the device.
    pub fn stored(&self) -> Stored {
        match (self.raw.dtype, self.nvfp4) {
            (_, Some(nvfp4)) => Stored::Nvfp4 {
                convention: nvfp4.convention,
                bits: nvfp4.tensor_scale.to_bits(),
            },
            (Dtype::Q8_0, None) => Stored::Q8_0,
            _ => Stored::Bf16,
        }
    }
}

/// Rows of `raw`, a tensor of as many rows as its matrix.
pub(super) fn row_bytes<'a>(raw: &Raw<'a>, run: Run) -> &'a [u8] {
    let rows = raw.shape.rows().max(1);
    let row = raw.bytes.len() as u64 / rows;
    // In range: the bytes were checked against the shape, the runs against the rows.
    let (begin, end) = (run.first * row, (run.first + run.len) * row);
    raw.bytes.get(begin as usize..end as usize).unwrap_or_default()
}

/// A piece of a layout: rows of tensors that were found.
#[derive(Clone, Debug)]
pub(super) struct Selected<'a> {
    /// Its tensors.
    pub found: Found<'a>,
    /// Which rows.
    pub runs: Vec<Run>,
}

/// The pieces of a matrix of `n` rows of `k`; `what` names it in errors.
///
/// # Errors
/// Those of [`Found::find`]; rows that a tensor has not; more or fewer rows than `n`.
pub(super) fn pieces<'a>(
    source: &'a dyn Source,
    pieces: &[Piece],
    [n, k]: [u32; 2],
    what: &str,
) -> Result<Vec<Selected<'a>>, ModelError> {
    let mut all = Vec::with_capacity(pieces.len());
    let mut rows = 0_u64;
    for piece in pieces {
        let found = Found::find(source, &piece.base, k)?;
        let runs = runs(&piece.rows, found.rows).map_err(|message| found.raw.error(message))?;
        rows = rows.saturating_add(runs.iter().map(|run| run.len).sum());
        all.push(Selected { found, runs });
    }
    match all.last() {
        Some(last) if rows != u64::from(n) => Err(last.found.raw.error(format!(
            "has the shape {}; with it {what} has {rows} rows of {k}, and {n} are wanted",
            last.found.raw.shape
        ))),
        Some(_) => Ok(all),
        None => Err(ModelError::Config {
            origin: source.origin().display().to_string(),
            field: what.to_string(),
            message: "the layout names no tensors for it".into(),
        }),
    }
}

/// How the pieces of one matrix are stored.
///
/// # Errors
/// Two that differ, by their names.
pub(super) fn common(parts: &[Selected]) -> Result<Option<Stored>, ModelError> {
    let Some(first) = parts.first() else { return Ok(None) };
    let stored = first.found.stored();
    match parts.iter().find(|part| part.found.stored() != stored) {
        None => Ok(Some(stored)),
        Some(other) => Err(other.found.raw.error(format!(
            "is {}, and `{}` is {stored}: rows of one matrix must be stored alike",
            other.found.stored(),
            first.found.raw.name
        ))),
    }
}
