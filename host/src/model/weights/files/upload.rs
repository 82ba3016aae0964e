//! Rows of a source to memory, a piece at a time.

use std::borrow::Cow;

use half::bf16;

use super::convert::bf16_rows;
use super::found::{Found, Selected, Stored, row_bytes};
use super::rows::Run;
use crate::device::DevPtr;
use crate::gguf::{Q8_0_BLOCK, Q8_0_BLOCK_BYTES};
use crate::model::ModelError;
use crate::model::memory::{Memory, Region};
use crate::model::weights::{Format, Matrix, WEIGHTS};
use crate::op::random::parallel;
use crate::ops::nvfp4::{BLOCK, Convention};
use crate::ops::q8::{Q8Packed, Q8Shape, weight_bytes};

/// The most bytes that are put together on the host for one upload.
const CHUNK: usize = 32 << 20;

/// A matrix of the rows of `parts`, which are stored alike (bf16 takes rows of any format). `name` is for messages.
///
/// # Errors
/// The memory's.
pub(super) fn matrix(
    memory: &mut Memory,
    name: &str,
    parts: &[&Selected],
    stored: Stored,
    [n, k]: [u32; 2],
) -> Result<Matrix, ModelError> {
    let format = match stored {
        Stored::Bf16 => Format::Bf16(bf16(memory, name, parts, 1, [n, k])?.ptr::<bf16>()),
        Stored::Q8_0 => {
            let [qs, ws] = planes(memory, name, parts, [n, k])?;
            Format::Q8 {
                qs: qs.ptr(),
                ws: ws.ptr(),
            }
        }
        Stored::Nvfp4 { convention, bits } => {
            nvfp4(memory, name, parts, [1, n, k], convention, &[f32::from_bits(bits)])?
        }
    };
    Ok(Matrix { n, k, format })
}

/// bf16 `[experts][n][k]`.
pub(super) fn bf16(
    memory: &mut Memory,
    name: &str,
    parts: &[&Selected],
    experts: u32,
    [n, k]: [u32; 2],
) -> Result<Region, ModelError> {
    let row = 2 * k as usize;
    let region = memory.alloc(WEIGHTS, name, experts as usize * n as usize * row)?;
    copy(memory, &region, parts, row, bf16_rows)?;
    Ok(region)
}

/// NVFP4 `[experts][n][k]` with the tensor scales of the experts.
pub(super) fn nvfp4(
    memory: &mut Memory,
    name: &str,
    parts: &[&Selected],
    [experts, n, k]: [u32; 3],
    convention: Convention,
    tensor: &[f32],
) -> Result<Format, ModelError> {
    let rows = experts as usize * n as usize;
    let [code_row, scale_row] = [k as usize / 2, (k / BLOCK) as usize];
    let codes = memory.alloc(WEIGHTS, &format!("{name} codes"), rows * code_row)?;
    copy(memory, &codes, parts, code_row, as_they_are)?;
    let scales = memory.alloc(WEIGHTS, &format!("{name} scales"), rows * scale_row)?;
    copy(memory, &scales, parts, scale_row, |found, run| match found.nvfp4 {
        Some(nvfp4) => Cow::Borrowed(row_bytes(&nvfp4.scales, run)),
        None => Cow::Borrowed(&[]),
    })?;
    Ok(Format::Nvfp4 {
        codes: codes.ptr(),
        scales: scales.ptr(),
        tensor: memory.put(WEIGHTS, &format!("{name} tensor scales"), tensor)?.ptr(),
        convention,
    })
}

/// Q8_0 as its blocks are in the file, `[n][k / 32][34]`.
pub(super) fn blocks(
    memory: &mut Memory,
    name: &str,
    parts: &[&Selected],
    [n, k]: [u32; 2],
) -> Result<DevPtr<u8>, ModelError> {
    let row = k as usize / Q8_0_BLOCK * Q8_0_BLOCK_BYTES;
    let region = memory.alloc(WEIGHTS, name, n as usize * row)?;
    copy(memory, &region, parts, row, as_they_are)?;
    Ok(region.ptr())
}

/// Q8_0 in the two planes of the quad layout, repacked some row tiles at a time.
fn planes(memory: &mut Memory, name: &str, parts: &[&Selected], [n, k]: [u32; 2]) -> Result<[Region; 2], ModelError> {
    let shape = Q8Shape::new(n, k, 1)?;
    let [qs_bytes, ws_bytes] = weight_bytes(n, k);
    let qs = memory.alloc(WEIGHTS, &format!("{name} integers"), qs_bytes)?;
    let ws = memory.alloc(WEIGHTS, &format!("{name} scales"), ws_bytes)?;
    if memory.is_counted() {
        return Ok([qs, ws]);
    }
    let tile = kernels_gpu::q8::ROW_TILE as usize;
    let [qs_tile, ws_tile] = weight_bytes(tile as u32, k);
    let row = shape.blocks() * Q8_0_BLOCK_BYTES;
    stream(parts, [row, tile, CHUNK], as_they_are, |first, blocks| {
        let rows = (blocks.len() / row) as u32;
        let packed = Q8Packed::from_blocks(blocks, Q8Shape::new(rows, k, 1)?)?;
        memory.write(&qs, first / tile * qs_tile, &packed.qs)?;
        memory.write(&ws, first / tile * ws_tile, &packed.ws)
    })?;
    Ok([qs, ws])
}

/// Rows of numbers, blocks or codes as the file has them.
fn as_they_are<'a>(found: &Found<'a>, run: Run) -> Cow<'a, [u8]> {
    Cow::Borrowed(row_bytes(&found.raw, run))
}

/// Copies rows to a region from its start; nothing where memory is only counted.
fn copy<'a>(
    memory: &Memory,
    region: &Region,
    parts: &[&Selected<'a>],
    row: usize,
    read: impl Fn(&Found<'a>, Run) -> Cow<'a, [u8]>,
) -> Result<(), ModelError> {
    if memory.is_counted() {
        return Ok(());
    }
    stream(parts, [row, 1, CHUNK], read, |first, bytes| {
        memory.write(region, first * row, bytes)
    })
}

/// Hands the rows of all parts to `sink`, in order, in chunks of at most `chunk` bytes (or one unit) that begin at multiples of `unit`
/// rows, each with its first row. Where consecutive rows of the source make up a chunk and need no conversion, nothing is copied.
fn stream<'a>(
    parts: &[&Selected<'a>],
    [row, unit, chunk]: [usize; 3],
    read: impl Fn(&Found<'a>, Run) -> Cow<'a, [u8]>,
    mut sink: impl FnMut(usize, &[u8]) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let most = (chunk / (row * unit).max(1)).max(1) * unit;
    let (mut buffer, mut done) = (Vec::new(), 0);
    for part in parts {
        for run in &part.runs {
            let mut run = *run;
            while run.len > 0 {
                let held = buffer.len() / row.max(1);
                let len = run.len.min((most - held) as u64);
                let rows = read(&part.found, Run { len, ..run });
                run.first += len;
                run.len -= len;
                if held == 0 && len as usize == most {
                    sink(done, &rows)?;
                    done += most;
                    continue;
                }
                append(&mut buffer, &rows);
                if held + len as usize == most {
                    sink(done, &buffer)?;
                    done += most;
                    buffer.clear();
                }
            }
        }
    }
    if buffer.is_empty() { Ok(()) } else { sink(done, &buffer) }
}

/// Appends bytes; many of them on all cores, as most of the time goes into reading the file.
fn append(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let start = buffer.len();
    buffer.resize(start + bytes.len(), 0);
    parallel(&mut buffer[start..], 1, |first, part| {
        part.copy_from_slice(&bytes[first..first + part.len()]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::files::{Dtype, Raw, Shape};
    use crate::op::random::Random;
    use std::path::Path;

    /// Whatever the runs and the chunks: all rows in order, in chunks that begin where they should.
    #[test]
    fn chunks_are_the_rows_in_order() {
        let (rows, k) = (50_u64, 3_u64);
        let bytes: Vec<u8> = (0..rows * k).map(|i| i as u8).collect();
        let raw = Raw {
            file: Path::new("made"),
            name: "w",
            dtype: Dtype::U8,
            shape: Shape::new(&[rows, k]).unwrap(),
            bytes: &bytes,
        };
        let found = Found {
            raw,
            nvfp4: None,
            rows,
            k,
        };
        let (mut lent, mut put_together) = (0, 0);
        for i in 0..2000 {
            let random = Random::new(i, "chunks");
            let runs = (0..random.below(0, 5)).map(|r| {
                let first = random.below(2 * r + 1, rows);
                let len = random.below(2 * r + 2, rows - first + 1);
                Run { first, len }
            });
            let parts =
                [runs.collect::<Vec<_>>(), vec![Run { first: 7, len: i % 40 }]].map(|runs| Selected { found, runs });
            let parts: Vec<&Selected> = parts.iter().collect();
            let (unit, chunk) = (1 + random.below(20, 4) as usize, random.below(21, 60) as usize);
            let (mut got, most) = (Vec::new(), (chunk / (3 * unit)).max(1) * unit);
            stream(&parts, [3, unit, chunk], as_they_are, |first, chunk| {
                assert_eq!((first * 3, first % unit), (got.len(), 0));
                assert!(!chunk.is_empty() && chunk.len() <= 3 * most);
                match bytes.as_ptr_range().contains(&chunk.as_ptr()) {
                    true => lent += 1,
                    false => put_together += 1,
                }
                got.extend_from_slice(chunk);
                Ok(())
            })
            .unwrap();
            let rows = parts
                .iter()
                .flat_map(|part| &part.runs)
                .flat_map(|run| run.first..run.first + run.len);
            assert_eq!(
                got,
                rows.flat_map(|row| 3 * row..3 * row + 3)
                    .map(|i| i as u8)
                    .collect::<Vec<_>>()
            );
        }
        assert!(
            lent > 1000 && put_together > 1000,
            "{lent} lent, {put_together} put together"
        );
    }
}
