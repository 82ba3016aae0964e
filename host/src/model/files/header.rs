//! The header of a safetensors file (<https://github.com/huggingface/safetensors>, "Format").
//!
//! ```text
//! [N u64] [N bytes of JSON] [data]
//! JSON: {"__metadata__": {..}, NAME: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ..}   offsets count from the data
//! ```
//! Little-endian, rows one after another. The tensors cover the data without holes. N is at most 100,000,000.
//!
//! What is kept of a header is where each name is in it, 12 bytes for a tensor that takes 50 or more; the rest is read again when it is
//! asked for. So what an open file takes is less than the file, whatever the file says.

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

use super::{Dtype, Shape, json, shortened};

/// Bytes of the header's length.
const LENGTH: usize = 8;
/// The most bytes of a header: the format's own limit.
const MOST: u64 = 100_000_000;
/// Bytes of the least entry: `"a":{"dtype":"U8","shape":[],"data_offsets":[0,0]}`.
const LEAST_ENTRY: usize = 50;

/// The member that is no tensor.
const METADATA: &str = "__metadata__";

/// Where the tensors of a file are.
#[derive(Debug)]
pub(super) struct Header {
    /// The first byte of the data.
    data: usize,
    /// Byte and length of each name, sorted by name.
    names: Vec<(u32, u32)>,
}

/// What a header says about a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Info {
    pub dtype: Dtype,
    pub shape: Shape,
    /// From the data's first byte.
    pub begin: u64,
    pub end: u64,
}

/// What is wrong, with the tensor where it is about one.
#[derive(Debug)]
pub(super) struct Fault {
    pub tensor: Option<String>,
    pub message: String,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self {
            tensor: None,
            message: message.into(),
        }
    }

    fn of(tensor: &str, message: impl Into<String>) -> Self {
        Self {
            tensor: Some(shortened(tensor)),
            message: message.into(),
        }
    }
}

impl Header {
    /// Reads and checks the header of a whole file.
    pub fn read(file: &[u8]) -> Result<Self, Fault> {
        let Some((length, rest)) = file.split_first_chunk::<LENGTH>() else {
            return Err(Fault::new(format!(
                "{} bytes; a safetensors file begins with {LENGTH} bytes that are the length of its header",
                file.len()
            )));
        };
        let length = u64::from_le_bytes(*length);
        if length > MOST || length > rest.len() as u64 {
            return Err(Fault::new(format!(
                "its header is said to be {length} bytes long, and {} follow (a header has at most {MOST})",
                rest.len()
            )));
        }
        let data = LENGTH + length as usize;
        let text_of_header = &file[LENGTH..data];
        json::check(text_of_header, METADATA, false).map_err(|message| Fault::new(format!("header: {message}")))?;
        let mut names = Vec::with_capacity(text_of_header.len() / LEAST_ENTRY);
        let mut reader = serde_json::Deserializer::from_slice(text_of_header);
        let read = reader
            .deserialize_map(Entries {
                file,
                names: &mut names,
            })
            .and_then(|()| reader.end());
        read.map_err(|e| Fault::new(format!("header: {}", json::message(&e))))?;
        names.sort_unstable_by_key(|&name| text(file, name));
        let header = Self { data, names };
        header.check(file)?;
        Ok(header)
    }

    /// Checks that every tensor's bytes are as many as its shape says, and that the tensors cover the data.
    fn check(&self, file: &[u8]) -> Result<(), Fault> {
        for pair in self.names.windows(2) {
            if text(file, pair[0]) == text(file, pair[1]) {
                return Err(Fault::of(text(file, pair[0]), "is in the header twice"));
            }
        }
        let available = (file.len() - self.data) as u64;
        let mut places = Vec::with_capacity(self.names.len());
        for (i, &name) in self.names.iter().enumerate() {
            let (name, info) = (text(file, name), self.info(file, i)?);
            let Info { begin, end, .. } = info;
            if begin > end || end > available {
                return Err(Fault::of(
                    name,
                    format!("data_offsets [{begin}, {end}]: the file has {available} bytes of data"),
                ));
            }
            let bytes = info.bytes();
            if bytes != Some(end - begin) {
                let wanted = bytes.map_or("another number of".into(), |b| b.to_string());
                return Err(Fault::of(
                    name,
                    format!(
                        "data_offsets [{begin}, {end}] are {} bytes, and {} {} needs {wanted}",
                        end - begin,
                        info.dtype,
                        info.shape
                    ),
                ));
            }
            places.push((begin, end, i as u32));
        }
        places.sort_unstable();
        let mut before = 0;
        for (begin, end, i) in places {
            if begin != before {
                let what = if begin < before {
                    "overlap"
                } else {
                    "leave a hole after"
                };
                return Err(Fault::of(
                    text(file, self.names[i as usize]),
                    format!("data_offsets [{begin}, {end}] {what} the tensors before, which end at {before}"),
                ));
            }
            before = end;
        }
        if before != available {
            return Err(Fault::new(format!(
                "the tensors end at byte {before} of the data, and the file has {available} bytes of it"
            )));
        }
        Ok(())
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of the tensor of an index; they are in the order of the names.
    pub fn name<'a>(&self, file: &'a [u8], index: usize) -> &'a str {
        text(file, self.names[index])
    }

    /// What the header says about the tensor of an index.
    pub fn info(&self, file: &[u8], index: usize) -> Result<Info, Fault> {
        let (at, length) = self.names[index];
        let name = text(file, (at, length));
        // After the name and its quote: a colon between spaces, then the tensor.
        let rest = &file[at as usize + length as usize + 1..self.data];
        let colon = rest.iter().position(|&b| b == b':').map_or(0, |at| at + 1);
        let mut reader = serde_json::Deserializer::from_slice(&rest[colon..]);
        Info::deserialize(&mut reader).map_err(|e| Fault::of(name, json::message(&e)))
    }

    /// The bytes of a tensor.
    pub fn bytes<'a>(&self, file: &'a [u8], info: &Info) -> &'a [u8] {
        // In range: checked when the header was read.
        file.get(self.data + info.begin as usize..self.data + info.end as usize)
            .unwrap_or_default()
    }
}

/// A name in the header.
fn text(file: &[u8], (at, length): (u32, u32)) -> &str {
    // Read as UTF-8 before.
    std::str::from_utf8(&file[at as usize..(at + length) as usize]).unwrap_or_default()
}

/// Reads the entries and keeps where their names are.
struct Entries<'a> {
    file: &'a [u8],
    names: &'a mut Vec<(u32, u32)>,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a member for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if name.is_empty() {
                return Err(de::Error::custom("a tensor has no name"));
            }
            map.next_value::<Info>()
                .map_err(|e| de::Error::custom(format_args!("tensor `{}`: {e}", shortened(name))))?;
            // Borrowed from the file, so the difference is its place there; both are below 2^32, as headers are below 100 MB.
            let at = name.as_ptr() as usize - self.file.as_ptr() as usize;
            self.names.push((at as u32, name.len() as u32));
        }
        Ok(())
    }
}

/// A name as it stands in the file.
struct Name<'de>(&'de str);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tensor's name, written without escapes")
            }
            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(name))
            }
        }
        deserializer.deserialize_str(Borrowed)
    }
}

/// Names of dtypes and bits of an element, as the format's own implementation lists them.
const DTYPES: &[(&str, u64)] = &[
    ("F32", 32),
    ("F16", 16),
    ("BF16", 16),
    ("U8", 8),
    ("F8_E4M3", 8),
    ("BOOL", 8),
    ("I8", 8),
    ("I16", 16),
    ("U16", 16),
    ("I32", 32),
    ("U32", 32),
    ("I64", 64),
    ("U64", 64),
    ("F64", 64),
    ("C64", 64),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
];

impl Info {
    /// The bytes its shape needs; `None` where they are no whole number, or more than fit 64 bits.
    fn bytes(&self) -> Option<u64> {
        let name = self.dtype.to_string();
        let bits = DTYPES.iter().find(|(other, _)| *other == name)?.1;
        let bits = self.shape.elements().checked_mul(bits)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl<'de> Deserialize<'de> for Info {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            dtype: Dtype,
            shape: Shape,
            data_offsets: [u64; 2],
        }
        let Fields {
            dtype,
            shape,
            data_offsets: [begin, end],
        } = Fields::deserialize(deserializer)?;
        Ok(Self {
            dtype,
            shape,
            begin,
            end,
        })
    }
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Dtype;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a dtype's name")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Dtype, E> {
                match DTYPES.iter().find(|(name, _)| *name == text) {
                    Some(("F32", _)) => Ok(Dtype::F32),
                    Some(("F16", _)) => Ok(Dtype::F16),
                    Some(("BF16", _)) => Ok(Dtype::Bf16),
                    Some(("U8", _)) => Ok(Dtype::U8),
                    Some(("F8_E4M3", _)) => Ok(Dtype::F8E4M3),
                    Some((name, _)) => Ok(Dtype::Other(name)),
                    None => Err(E::custom(format_args!("dtype `{}` is not known", shortened(text)))),
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let (mut dims, mut rank) = ([0; Shape::MOST], 0);
                while let Some(n) = list.next_element::<u64>()? {
                    let Some(dim) = dims.get_mut(rank) else {
                        let most = Shape::MOST;
                        return Err(de::Error::custom(format_args!("shape: more than {most} dimensions")));
                    };
                    *dim = n;
                    rank += 1;
                }
                let dims = &dims[..rank];
                Shape::new(dims)
                    .ok_or_else(|| de::Error::custom(format_args!("shape {dims:?}: more elements than fit 63 bits")))
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}
