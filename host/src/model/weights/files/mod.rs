//! Weights from files: what a layout names, found in a [`Source`], checked, and brought to memory in the device's formats.
//!
//! | in the file | of a product | of experts | made bf16 ([`Origin::linear_bf16`]) |
//! | --- | --- | --- | --- |
//! | BF16 | bf16 | bf16 | as it is |
//! | F32, F16 | bf16, rounded to nearest even | the same | the same |
//! | NVFP4 of either convention | NVFP4, codes and scales as they are | NVFP4 with a tensor scale for each expert | the product, rounded once |
//! | Q8_0 | Q8_0 in the quad layout | bf16: there is no grouped product of Q8_0 | d * q, rounded once |
//!
//! Memory that is only counted gets the same matrices from headers alone (and from NVFP4's tensor scales, which decide what can be one
//! matrix).

mod convert;
mod found;
mod rows;
mod upload;

use half::bf16;

use self::found::{Selected, Stored, common, pieces};
use crate::device::DevPtr;
use crate::model::ModelError;
use crate::model::files::Source;
use crate::model::layout::{ExpertsLayout, LinearLayout, Piece, Rows, VectorLayout};
use crate::model::memory::{Memory, Region};
use crate::model::weights::{EmbeddingTable, Experts, Format, Linear, Matrix, Origin, WEIGHTS};

/// Weights from a source.
pub struct FileOrigin<'a> {
    source: &'a dyn Source,
    embedding: Option<Embedded>,
}

/// A bf16 embedding that is on a memory, for a head that is tied to it.
struct Embedded {
    base: String,
    shape: [u32; 2],
    region: Region,
    counted: bool,
}

impl<'a> FileOrigin<'a> {
    /// Of a source's tensors.
    pub fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            embedding: None,
        }
    }

    /// The embedding's table, where it is the one matrix that a layout wants, in bf16, on the same memory.
    fn tied(&self, memory: &Memory, layout: &LinearLayout) -> Option<DevPtr<bf16>> {
        let embedded = self.embedding.as_ref()?;
        let [part] = layout.parts.as_slice() else { return None };
        let [Piece { base, rows: Rows::All }] = part.pieces.as_slice() else {
            return None;
        };
        let address = embedded.region.ptr::<bf16>();
        let here = match memory.buffer(&embedded.region) {
            Some(buffer) => DevPtr::of(buffer) == address,
            None => memory.is_counted() && embedded.counted,
        };
        (here && *base == embedded.base && [part.n, layout.k] == embedded.shape).then_some(address)
    }

    /// The rows of each part of a product.
    fn selected(&self, layout: &LinearLayout) -> Result<Vec<Vec<Selected<'a>>>, ModelError> {
        let of = |part: &crate::model::layout::Part| {
            let what = format!("part `{}` of {}", part.name, layout.role);
            pieces(self.source, &part.pieces, [part.n, layout.k], &what)
        };
        layout.parts.iter().map(of).collect()
    }
}

/// What messages call a matrix.
fn name(role: &str, parts: &[&Selected]) -> String {
    match parts.first() {
        Some(part) => format!("{role} ({})", part.found.raw.name),
        None => role.to_string(),
    }
}

/// A product without its matrices, and its outputs.
fn product(source: &dyn Source, layout: &LinearLayout) -> Result<(Linear, u32), ModelError> {
    let outputs = layout.parts.iter().map(|part| u64::from(part.n)).sum::<u64>();
    let Some(n) = u32::try_from(outputs).ok().filter(|n| *n > 0) else {
        return Err(ModelError::Config {
            origin: source.origin().display().to_string(),
            field: layout.role.into(),
            message: format!("{outputs} outputs; a product has from 1 to {}", u32::MAX),
        });
    };
    let linear = Linear {
        role: layout.role,
        k: layout.k,
        matrices: Vec::new(),
        parts: layout.parts.iter().map(|part| (part.name, part.n)).collect(),
    };
    Ok((linear, n))
}

impl Origin for FileOrigin<'_> {
    fn linear(&mut self, memory: &mut Memory, layout: &LinearLayout) -> Result<Linear, ModelError> {
        let (mut linear, n) = product(self.source, layout)?;
        let k = layout.k;
        if let Some(table) = self.tied(memory, layout) {
            let format = Format::Bf16(table);
            linear.matrices.push(Matrix { n, k, format });
            return Ok(linear);
        }
        let selected = self.selected(layout)?;
        let stored = selected
            .iter()
            .map(|part| common(part))
            .collect::<Result<Vec<_>, _>>()?;
        if stored.iter().all(|other| *other == stored[0]) {
            let all: Vec<&Selected> = selected.iter().flatten().collect();
            let stored = stored[0].unwrap_or(Stored::Bf16);
            let name = name(layout.role, &all);
            linear
                .matrices
                .push(upload::matrix(memory, &name, &all, stored, [n, k])?);
            return Ok(linear);
        }
        for ((part, selected), stored) in layout.parts.iter().zip(&selected).zip(stored) {
            let all: Vec<&Selected> = selected.iter().collect();
            let stored = stored.unwrap_or(Stored::Bf16);
            let name = name(layout.role, &all);
            linear
                .matrices
                .push(upload::matrix(memory, &name, &all, stored, [part.n, k])?);
        }
        Ok(linear)
    }

    fn linear_bf16(&mut self, memory: &mut Memory, layout: &LinearLayout) -> Result<Linear, ModelError> {
        let (mut linear, n) = product(self.source, layout)?;
        let selected = self.selected(layout)?;
        let all: Vec<&Selected> = selected.iter().flatten().collect();
        let name = name(layout.role, &all);
        linear
            .matrices
            .push(upload::matrix(memory, &name, &all, Stored::Bf16, [n, layout.k])?);
        Ok(linear)
    }

    fn experts(&mut self, memory: &mut Memory, layout: &ExpertsLayout) -> Result<Experts, ModelError> {
        let (n, k) = (layout.n, layout.k);
        let mut selected = Vec::with_capacity(layout.experts.len());
        for (i, expert) in layout.experts.iter().enumerate() {
            let what = format!("expert {i} of {}", layout.role);
            selected.push(pieces(self.source, expert, [n, k], &what)?);
        }
        let experts = u32::try_from(selected.len()).unwrap_or(u32::MAX);
        let all: Vec<&Selected> = selected.iter().flatten().collect();
        let name = name(layout.role, &all);
        // The first NVFP4 tensor's convention; the first tensor of another format or convention, if there is one.
        let convention = |part: &Selected| part.found.nvfp4.map(|nvfp4| nvfp4.convention);
        let first = all.iter().find_map(|part| Some((convention(part)?, part.found.raw)));
        let format = match first {
            None => Format::Bf16(upload::bf16(memory, &name, &all, experts, [n, k])?.ptr()),
            Some((of_all, first)) => {
                if let Some(other) = all.iter().find(|part| convention(part) != Some(of_all)) {
                    return Err(other.found.raw.error(format!(
                        "is {} of {}, and `{}` is NVFP4 of {of_all:?}: all experts of a layer must be stored alike",
                        other.found.raw.dtype,
                        convention(other).map_or("no NVFP4 convention".into(), |c| format!("{c:?}")),
                        first.name
                    )));
                }
                let mut tensor = Vec::with_capacity(selected.len());
                for expert in &selected {
                    common(expert)?;
                    tensor.extend(
                        expert
                            .first()
                            .and_then(|part| part.found.nvfp4)
                            .map(|nvfp4| nvfp4.tensor_scale),
                    );
                }
                upload::nvfp4(memory, &name, &all, [experts, n, k], of_all, &tensor)?
            }
        };
        Ok(Experts {
            role: layout.role,
            experts,
            n,
            k,
            format,
        })
    }

    fn vector(&mut self, memory: &mut Memory, layout: &VectorLayout) -> Result<DevPtr<u8>, ModelError> {
        let raw = self.source.tensor(&layout.tensor)?;
        if !raw.dtype.is_float() {
            return Err(raw.error(format!(
                "is {} {}; vectors of F32, F16 and BF16 are read",
                raw.dtype, raw.shape
            )));
        }
        // A vector's rows are its elements.
        let (rows, width) = match raw.shape.dims() {
            [n] => (*n, 1),
            _ => (raw.shape.rows(), raw.shape.k()),
        };
        let runs = rows::runs(&layout.rows, rows).map_err(|message| raw.error(message))?;
        let selected = runs.iter().map(|run| run.len).sum::<u64>().checked_mul(width);
        if selected != Some(layout.len) {
            return Err(raw.error(format!(
                "has the shape {}, of which {} elements are taken for {}; {} are wanted",
                raw.shape,
                selected.unwrap_or(u64::MAX),
                layout.role,
                layout.len
            )));
        }
        let element = convert::element_bytes(layout.store);
        let name = format!("{} ({})", layout.role, raw.name);
        if memory.is_counted() {
            return Ok(memory.alloc(WEIGHTS, &name, layout.len as usize * element)?.ptr());
        }
        let in_file = raw.dtype.block().map_or(0, |(_, bytes)| bytes) * width;
        let mut bytes = Vec::new();
        for run in runs {
            let (begin, end) = (run.first * in_file, (run.first + run.len) * in_file);
            bytes.extend_from_slice(raw.bytes.get(begin as usize..end as usize).unwrap_or_default());
        }
        let values = convert::floats(raw.dtype, &bytes).unwrap_or_default();
        let values = convert::vector(&values, layout.store).map_err(|message| raw.error(message))?;
        Ok(memory.put(WEIGHTS, &name, &values)?.ptr())
    }

    fn embedding(
        &mut self,
        memory: &mut Memory,
        base: &str,
        vocab: u32,
        hidden: u32,
    ) -> Result<EmbeddingTable, ModelError> {
        let piece = Piece {
            base: base.into(),
            rows: Rows::All,
        };
        let shape = [vocab, hidden];
        let selected = pieces(self.source, &[piece], shape, "the embedding")?;
        let all: Vec<&Selected> = selected.iter().collect();
        let name = name("embedding", &all);
        self.embedding = None;
        if common(&selected)? == Some(Stored::Q8_0) {
            return Ok(EmbeddingTable::Q8_0(upload::blocks(memory, &name, &all, shape)?));
        }
        let region = upload::bf16(memory, &name, &all, 1, shape)?;
        // A head that is tied to an embedding in NVFP4 is a product of NVFP4.
        if common(&selected)? == Some(Stored::Bf16) {
            self.embedding = Some(Embedded {
                base: base.into(),
                shape,
                region,
                counted: memory.is_counted(),
            });
        }
        Ok(EmbeddingTable::Bf16(region.ptr()))
    }
}
