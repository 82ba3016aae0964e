//! Metadata values: GGUF's thirteen types, read in place.

use super::cursor::Cursor;
use super::error::{Fault, GgufError};

/// Arrays may hold arrays this deep. No known file goes beyond one; the format sets no limit, so the reader does.
const MAX_DEPTH: u32 = 4;

/// The type of a metadata value, with GGUF's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ValueType {
    /// Unsigned 8-bit.
    U8 = 0,
    /// Signed 8-bit.
    I8 = 1,
    /// Unsigned 16-bit.
    U16 = 2,
    /// Signed 16-bit.
    I16 = 3,
    /// Unsigned 32-bit.
    U32 = 4,
    /// Signed 32-bit.
    I32 = 5,
    /// Single precision.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// A length and that many bytes, meant to be UTF-8.
    Str = 8,
    /// An element type, a length and that many elements.
    Array = 9,
    /// Unsigned 64-bit.
    U64 = 10,
    /// Signed 64-bit.
    I64 = 11,
    /// Double precision.
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Str,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// Bytes of a value in the file: all of them (true), or the least there can be (false).
    fn size(self) -> (usize, bool) {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => (1, true),
            ValueType::U16 | ValueType::I16 => (2, true),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => (4, true),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => (8, true),
            ValueType::Str => (8, false),
            ValueType::Array => (12, false),
        }
    }

    fn read(cursor: &mut Cursor, what: &str) -> Result<ValueType, GgufError> {
        let at = cursor.at();
        let number = cursor.u32(what)?;
        Self::ALL.get(number as usize).copied().ok_or_else(|| {
            GgufError::at(
                at,
                Fault::UnknownType,
                format!("{what} is {number}; GGUF's value types are 0 to 12"),
            )
        })
    }
}

/// A metadata value. Strings and arrays stay in the file's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Unsigned 8-bit.
    U8(u8),
    /// Signed 8-bit.
    I8(i8),
    /// Unsigned 16-bit.
    U16(u16),
    /// Signed 16-bit.
    I16(i16),
    /// Unsigned 32-bit.
    U32(u32),
    /// Signed 32-bit.
    I32(i32),
    /// Single precision.
    F32(f32),
    /// Truth.
    Bool(bool),
    /// Bytes that are meant to be UTF-8; a vocabulary's tokens not always are.
    Str(&'a [u8]),
    /// A list of one type.
    Array(Array<'a>),
    /// Unsigned 64-bit.
    U64(u64),
    /// Signed 64-bit.
    I64(i64),
    /// Double precision.
    F64(f64),
}

/// A list of one type, in the file's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    len: u64,
    /// Exactly the elements.
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The elements' type.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// How many elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (element, mut left, mut cursor) = (self.element, self.len, Cursor::new(self.bytes, 0));
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            // Every element was read once when the file was opened, so this succeeds.
            read(&mut cursor, element, 0).ok()
        })
    }
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// Any integer, as a wide one.
    fn integer(self) -> Option<i128> {
        Some(match self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }
}

/// A Rust type that a metadata value can be taken as. Integers are taken from any integer type that holds the value, since
/// writers differ in the width they choose.
pub trait FromValue<'a>: Sized {
    /// What was asked for, in an error's words.
    const WANTED: &'static str;

    /// The value as this type, if it is one.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

macro_rules! from_integer {
    ($($t:ty),*) => {$(
        impl FromValue<'_> for $t {
            const WANTED: &'static str = concat!("an integer that fits ", stringify!($t));
            fn from_value(value: Value<'_>) -> Option<Self> {
                value.integer().and_then(|v| v.try_into().ok())
            }
        }
    )*};
}
from_integer!(u8, i8, u16, i16, u32, i32, u64, i64);

impl FromValue<'_> for f32 {
    const WANTED: &'static str = "an f32";
    fn from_value(value: Value<'_>) -> Option<Self> {
        if let Value::F32(v) = value { Some(v) } else { None }
    }
}

impl FromValue<'_> for f64 {
    const WANTED: &'static str = "an f32 or f64";
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const WANTED: &'static str = "a bool";
    fn from_value(value: Value<'_>) -> Option<Self> {
        if let Value::Bool(v) = value { Some(v) } else { None }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const WANTED: &'static str = "a string of UTF-8";
    fn from_value(value: Value<'a>) -> Option<Self> {
        if let Value::Str(v) = value {
            std::str::from_utf8(v).ok()
        } else {
            None
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    const WANTED: &'static str = "a string";
    fn from_value(value: Value<'a>) -> Option<Self> {
        if let Value::Str(v) = value { Some(v) } else { None }
    }
}

impl<'a> FromValue<'a> for Array<'a> {
    const WANTED: &'static str = "an array";
    fn from_value(value: Value<'a>) -> Option<Self> {
        if let Value::Array(v) = value { Some(v) } else { None }
    }
}

/// Reads a type and a value of it.
pub(super) fn read_typed<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>, GgufError> {
    let ty = ValueType::read(cursor, "the value's type")?;
    read(cursor, ty, 0)
}

/// Reads a value, and checks everything in it.
fn read<'a>(cursor: &mut Cursor<'a>, ty: ValueType, depth: u32) -> Result<Value<'a>, GgufError> {
    let what = "the value";
    Ok(match ty {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(what)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(what)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(what)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(what)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array(what)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(what)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(what)?)),
        ValueType::Bool => Value::Bool(read_bool(cursor)?),
        ValueType::Str => Value::Str(cursor.string("the string")?),
        ValueType::Array => Value::Array(read_array(cursor, depth)?),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array(what)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(what)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(what)?)),
    })
}

fn read_bool(cursor: &mut Cursor) -> Result<bool, GgufError> {
    let at = cursor.at();
    match cursor.array("the bool")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(GgufError::at(
            at,
            Fault::Value,
            format!("a bool is {other}; it must be 0 or 1"),
        )),
    }
}

fn read_array<'a>(cursor: &mut Cursor<'a>, depth: u32) -> Result<Array<'a>, GgufError> {
    if depth == MAX_DEPTH {
        return Err(GgufError::at(
            cursor.at(),
            Fault::Depth,
            format!("arrays in arrays more than {MAX_DEPTH} deep"),
        ));
    }
    let element = ValueType::read(cursor, "the array's element type")?;
    let (size, exact) = element.size();
    let len = cursor.count(size, "the array's length")?;
    let start = cursor.clone();
    if exact && element != ValueType::Bool {
        // No value of these types is wrong; `count` saw that the product is within the file.
        cursor.take(len * size as u64, "the array")?;
    } else {
        for _ in 0..len {
            read(cursor, element, depth + 1)?;
        }
    }
    let bytes = start.clone().take((cursor.at() - start.at()) as u64, "the array")?;
    Ok(Array { element, len, bytes })
}
