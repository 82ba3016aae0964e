//! Where in the file each key and tensor is, found and checked in one pass when the file is opened.
//!
//! The index holds offsets only: 12 bytes for a key (which takes 14 or more in the file) and 12 for a tensor (25 or more), plus
//! 4 for a tensor while it is made. So the memory it takes is less than the file, whatever the file says.

use super::cursor::Cursor;
use super::error::{Fault, GgufError, shown};
use super::tensor::GgmlType;
use super::value::{Value, read_typed};

/// Bytes of the least metadata entry: a length, a key of one byte, a type, a value of one byte.
const LEAST_KEY: usize = 8 + 1 + 4 + 1;
/// Bytes of the least tensor info: a length, a name of one byte, no dimensions, type and offset.
const LEAST_TENSOR: usize = 8 + 1 + 4 + 4 + 8;
/// The alignment of a file that says none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// What was found.
#[derive(Debug)]
pub(super) struct Index {
    pub version: u32,
    pub alignment: u64,
    /// The byte that tensors' offsets count from.
    pub data_start: u64,
    pub keys: Names,
    pub tensors: Names,
}

/// Entries that begin with their name.
#[derive(Debug)]
pub(super) struct Names {
    /// The byte of each entry, in the file's order.
    pub at: Vec<u64>,
    /// Indices into `at`, ordered by name.
    sorted: Vec<u32>,
}

/// A tensor info as the file has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Info<'a> {
    pub name: &'a str,
    pub ty: GgmlType,
    pub n_dims: u32,
    /// Dimensions beyond `n_dims` are 1.
    pub ne: [u64; 4],
    /// From the data's start.
    pub offset: u64,
}

impl Index {
    /// Reads the header, every key with its value and every tensor info, and checks them all.
    pub fn read(bytes: &[u8]) -> Result<Index, GgufError> {
        let mut cursor = Cursor::new(bytes, 0);
        let version = read_version(&mut cursor).map_err(|e| e.about(|| "header".into()))?;
        let n_tensors = cursor
            .u64("the number of tensors")
            .map_err(|e| e.about(|| "header".into()))?;
        let n_keys = cursor
            .count(LEAST_KEY, "the number of metadata keys")
            .map_err(|e| e.about(|| "header".into()))?;
        cursor
            .check_count(n_tensors, LEAST_TENSOR, "the number of tensors")
            .map_err(|e| GgufError {
                offset: 8,
                ..e.about(|| "header".into())
            })?;

        let mut alignment = DEFAULT_ALIGNMENT;
        let keys = Names::read(bytes, &mut cursor, n_keys, "metadata key", |cursor| {
            let (key, value) = read_key(cursor)?;
            if key == "general.alignment" {
                alignment = check_alignment(cursor.at(), value)?;
            }
            Ok(())
        })?;
        let tensors = Names::read(bytes, &mut cursor, n_tensors, "tensor", |cursor| {
            read_info(cursor).map(drop)
        })?;
        let end = cursor.at() as u64;
        let data_start = end.checked_next_multiple_of(alignment).ok_or_else(|| {
            GgufError::at(
                cursor.at(),
                Fault::Alignment,
                format!("no byte after {end} is a multiple of {alignment}"),
            )
        })?;
        let index = Index {
            version,
            alignment,
            data_start,
            keys,
            tensors,
        };
        index.check_placement(bytes)?;
        Ok(index)
    }

    /// The tensor info at a byte.
    pub fn info<'a>(&self, bytes: &'a [u8], at: u64) -> Result<Info<'a>, GgufError> {
        read_info(&mut Cursor::new(bytes, to_usize(at)))
    }

    /// The first and the last byte plus one of a tensor in the file; for a type whose size is not known, it ends where it
    /// starts.
    ///
    /// # Errors
    /// Elements or bytes beyond what can be counted, rows that do not end with a block, a place that is not aligned or not in
    /// the file. Without an offset: the caller knows where the info is.
    pub fn extent(&self, info: &Info, file_len: usize) -> Result<(u64, u64), GgufError> {
        let fault = |fault, message| GgufError::at(0, fault, message);
        let ne = info.ne;
        let too_many = || {
            fault(
                Fault::Dims,
                format!(
                    "dimensions {:?} are more elements than fit 63 bits",
                    &ne[..info.n_dims as usize]
                ),
            )
        };
        let mut elements = 1u64;
        for n in ne {
            // Checked without zeros, so that a zero does not hide an overflow of the others.
            elements = elements
                .checked_mul(n.max(1))
                .filter(|&e| e <= i64::MAX as u64)
                .ok_or_else(too_many)?;
        }
        if ne.contains(&0) {
            elements = 0;
        }
        if !info.offset.is_multiple_of(self.alignment) {
            let message = format!(
                "its offset {} is no multiple of the alignment {}",
                info.offset, self.alignment
            );
            return Err(fault(Fault::Offset, message));
        }
        let bytes = match info.ty.block() {
            Some((block, block_bytes)) => {
                if !ne[0].is_multiple_of(block) {
                    let message = format!("rows of {} elements are no multiple of {}'s {block}", ne[0], info.ty);
                    return Err(fault(Fault::Dims, message));
                }
                (elements / block).checked_mul(block_bytes).ok_or_else(|| {
                    fault(
                        Fault::Dims,
                        format!("{elements} elements are more bytes than fit 64 bits"),
                    )
                })?
            }
            None => 0,
        };
        let start = self.data_start.checked_add(info.offset);
        match start.and_then(|start| Some((start, start.checked_add(bytes)?))) {
            Some((start, end)) if end <= file_len as u64 => Ok((start, end)),
            _ => Err(fault(
                Fault::Offset,
                format!(
                    "{bytes} bytes at offset {} from the data's start at {} go beyond the file's end at {file_len}",
                    info.offset, self.data_start
                ),
            )),
        }
    }

    /// Checks that every tensor is in the file and that no two overlap.
    fn check_placement(&self, bytes: &[u8]) -> Result<(), GgufError> {
        let extent = |i: u32| -> Result<(u64, u64), GgufError> {
            let at = self.tensors.at[i as usize];
            let info = self.info(bytes, at)?;
            self.extent(&info, bytes.len()).map_err(|e| GgufError {
                offset: at,
                ..e.about(|| format!("tensor {}", shown(info.name.as_bytes())))
            })
        };
        let mut by_place: Vec<u32> = (0..self.tensors.sorted.len() as u32).collect();
        for &i in &by_place {
            extent(i)?;
        }
        // Their extents were just found, so the fallback is never taken.
        by_place.sort_unstable_by_key(|&i| extent(i).unwrap_or((u64::MAX, u64::MAX)));
        let mut before = (0, 0);
        for &i in &by_place {
            let place = extent(i)?;
            if place.0 < before.1 {
                let at = self.tensors.at[i as usize];
                let message = format!(
                    "its bytes {}..{} overlap another tensor's {}..{}",
                    place.0, place.1, before.0, before.1
                );
                return Err(GgufError::at(to_usize(at), Fault::Offset, message)
                    .about(|| format!("tensor {}", shown(name_at(bytes, at)))));
            }
            // A tensor without bytes overlaps nothing.
            before = if place.1 > place.0 { place } else { before };
        }
        Ok(())
    }
}

impl Names {
    /// Reads `count` entries one after another; `check` reads and checks one. The count is known to fit the file.
    fn read(
        bytes: &[u8],
        cursor: &mut Cursor,
        count: u64,
        what: &str,
        mut check: impl FnMut(&mut Cursor) -> Result<(), GgufError>,
    ) -> Result<Names, GgufError> {
        let too_many = |_| cursor.truncated(format!("{count} entries are more than 32 bits count"));
        let count = u32::try_from(count).map_err(too_many)?;
        let mut at = Vec::with_capacity(count as usize);
        for i in 0..count {
            let start = cursor.at() as u64;
            check(cursor).map_err(|e| {
                e.about(|| match name_at(bytes, start) {
                    [] => format!("{what} {} of {count}", i + 1),
                    name => format!("{what} {}", shown(name)),
                })
            })?;
            at.push(start);
        }
        let mut sorted: Vec<u32> = (0..count).collect();
        sorted.sort_unstable_by_key(|&i| (name_at(bytes, at[i as usize]), i));
        for pair in sorted.windows(2) {
            let (first, second) = (at[pair[0] as usize], at[pair[1] as usize]);
            let name = name_at(bytes, second);
            if name_at(bytes, first) == name {
                let message = format!("is there twice, first at byte {first}");
                return Err(GgufError::at(to_usize(second), Fault::Duplicate, message)
                    .about(|| format!("{what} {}", shown(name))));
            }
        }
        Ok(Names { at, sorted })
    }

    /// The byte of the entry of this name.
    pub fn find(&self, bytes: &[u8], name: &str) -> Option<u64> {
        let found = self
            .sorted
            .binary_search_by_key(&name.as_bytes(), |&i| name_at(bytes, self.at[i as usize]));
        found.ok().map(|i| self.at[self.sorted[i] as usize])
    }
}

/// The name that begins at a byte; empty where there is none.
fn name_at(bytes: &[u8], at: u64) -> &[u8] {
    Cursor::new(bytes, to_usize(at)).string("the name").unwrap_or_default()
}

fn to_usize(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

fn read_version(cursor: &mut Cursor) -> Result<u32, GgufError> {
    let magic: [u8; 4] = cursor.array("the magic \"GGUF\"")?;
    if magic != *b"GGUF" {
        return Err(GgufError::at(
            0,
            Fault::Magic,
            format!("begins with {}, not with \"GGUF\"", shown(&magic)),
        ));
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        _ if (1..=3).contains(&version.swap_bytes()) => Err(GgufError::at(
            4,
            Fault::Version,
            "is big-endian; only little-endian files are read",
        )),
        _ => Err(GgufError::at(
            4,
            Fault::Version,
            format!("is of version {version}; versions 2 and 3 are read"),
        )),
    }
}

fn read_name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, GgufError> {
    let at = cursor.at();
    let name = cursor.string("the name")?;
    if name.is_empty() {
        return Err(GgufError::at(at, Fault::Value, "has no name"));
    }
    std::str::from_utf8(name).map_err(|e| GgufError::at(at, Fault::Utf8, format!("its name is no UTF-8: {e}")))
}

/// Reads a key and its value.
pub(super) fn read_key<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, Value<'a>), GgufError> {
    Ok((read_name(cursor)?, read_typed(cursor)?))
}

fn check_alignment(at: usize, value: Value) -> Result<u64, GgufError> {
    match value {
        Value::U32(v) if v.is_power_of_two() => Ok(v.into()),
        _ => Err(GgufError::at(
            at,
            Fault::Alignment,
            format!("the alignment is {value:?}; it must be a u32, a power of two"),
        )),
    }
}

fn read_info<'a>(cursor: &mut Cursor<'a>) -> Result<Info<'a>, GgufError> {
    let name = read_name(cursor)?;
    let at = cursor.at();
    let n_dims = cursor.u32("the number of dimensions")?;
    let mut ne = [1; 4];
    let Some(dims) = ne.get_mut(..n_dims as usize) else {
        return Err(GgufError::at(
            at,
            Fault::Dims,
            format!("has {n_dims} dimensions; a tensor has at most 4"),
        ));
    };
    for n in dims {
        *n = cursor.u64("a dimension")?;
    }
    let ty = GgmlType(cursor.u32("the type")?);
    let offset = cursor.u64("the offset")?;
    Ok(Info {
        name,
        ty,
        n_dims,
        ne,
        offset,
    })
}
