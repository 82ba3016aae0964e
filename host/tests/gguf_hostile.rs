//! Files made to do harm: every kind of lie gets an error that says where, no lie gets memory or a panic.

mod counting;

use counting::{Counting, counted};
use host::gguf::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens a file and reads all there is in it, and asserts that this took less memory than the file has bytes (or than an
/// error's text needs).
fn open_and_read(bytes: &[u8]) -> Result<(), GgufError> {
    let owned = bytes.to_vec();
    let bound = bytes.len().max(2048);
    let (result, most, largest) = counted(|| Gguf::from_bytes("hostile.gguf", owned));
    assert!(
        largest <= bound && most <= bound,
        "{largest} bytes at once, {most} in all, for {}",
        bytes.len()
    );
    let file = result?;
    assert_eq!(file.keys().count(), file.key_count());
    for (key, value) in file.keys() {
        if let Value::Array(a) = value {
            assert_eq!(a.iter().count() as u64, a.len(), "{key}");
        }
    }
    assert_eq!(file.tensors().count(), file.tensor_count());
    for tensor in file.tensors() {
        assert_eq!(file.tensor(tensor.name()).unwrap().offset(), tensor.offset());
        match tensor.bytes() {
            Ok(data) => {
                assert!(data.len() <= bytes.len());
                tensor.to_f32(&mut vec![0.0; tensor.elements() as usize]).unwrap();
            }
            Err(e) => assert_eq!(e.fault, Fault::Unsupported),
        }
    }
    Ok(())
}

/// A file under construction, with any lie in it. Not a writer: nothing here is compared with a reading of it.
#[derive(Clone)]
struct File(Vec<u8>);

impl File {
    fn new(n_tensors: u64, n_keys: u64) -> File {
        File(b"GGUF\x03\0\0\0".to_vec()).u64(n_tensors).u64(n_keys)
    }
    fn raw(mut self, bytes: &[u8]) -> File {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u32(self, v: u32) -> File {
        self.raw(&v.to_le_bytes())
    }
    fn u64(self, v: u64) -> File {
        self.raw(&v.to_le_bytes())
    }
    fn name(self, s: &str) -> File {
        self.u64(s.len() as u64).raw(s.as_bytes())
    }
    fn tensor(mut self, name: &str, ne: &[u64], ty: u32, offset: u64) -> File {
        self = self.name(name).u32(ne.len() as u32);
        for &n in ne {
            self = self.u64(n);
        }
        self.u32(ty).u64(offset)
    }
    /// Pads to the data's start and adds data.
    fn data(mut self, len: usize) -> File {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + len, 0);
        self
    }
}

#[track_caller]
fn refused(file: File, fault: Fault, offset: u64, text: &str) {
    let error = open_and_read(&file.0).expect_err(text);
    let shown = error.to_string();
    assert!(
        shown.starts_with(&format!("hostile.gguf: at byte {offset}: ")) && shown.contains(text),
        "{shown}"
    );
    assert_eq!(error.fault, fault, "{shown}");
}

#[test]
fn headers_that_lie() {
    let good = File::new(0, 0);
    open_and_read(&good.0).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file.0[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    refused(with(0, b"GGML"), Fault::Magic, 0, "begins with \"GGML\"");
    refused(with(0, b"\xff\0\n\""), Fault::Magic, 0, "header: begins with");
    refused(with(4, &[1]), Fault::Version, 4, "version 1; versions 2 and 3 are read");
    refused(with(4, &[4]), Fault::Version, 4, "version 4");
    refused(with(4, &[0, 0, 0, 3]), Fault::Version, 4, "big-endian");
    refused(
        with(16, &u64::MAX.to_le_bytes()),
        Fault::Truncated,
        16,
        "the number of metadata keys is 18446744073709551615",
    );
    refused(with(16, &[1]), Fault::Truncated, 16, "0 bytes are left");
    refused(
        with(8, &(1u64 << 60).to_le_bytes()),
        Fault::Truncated,
        8,
        "the number of tensors is 1152921504606846976",
    );
    refused(
        File::new(3, 0).raw(&[0; 74]),
        Fault::Truncated,
        8,
        "the number of tensors is 3, of 25 bytes or more each; 74",
    );
}

#[test]
fn metadata_that_lies() {
    let key = |n: u64| File::new(0, n).name("a.b");
    open_and_read(&key(1).u32(0).raw(&[7]).0).unwrap();
    refused(
        key(1).u32(13).raw(&[0; 8]),
        Fault::UnknownType,
        35,
        "metadata key \"a.b\": the value's type is 13",
    );
    refused(key(1).u32(7).raw(&[2]), Fault::Value, 39, "a bool is 2");
    refused(
        key(1).u32(8).u64(u64::MAX),
        Fault::Truncated,
        39,
        "the string is 18446744073709551615 bytes long, 0 are left",
    );
    refused(
        key(1).u32(8).u64(3).raw(b"ab"),
        Fault::Truncated,
        39,
        "the string is 3 bytes long, 2 are left",
    );
    refused(
        key(1).u32(9).u32(10).u64(1 << 61),
        Fault::Truncated,
        43,
        "the array's length is 2305843009213693952",
    );
    refused(
        key(1).u32(9).u32(0).u64(9).raw(&[0; 8]),
        Fault::Truncated,
        43,
        "the array's length is 9, of 1 bytes",
    );
    refused(
        key(1).u32(9).u32(8).u64(2).u64(1).raw(&[0; 8]),
        Fault::Truncated,
        60,
        "the string",
    );
    refused(
        key(1).u32(9).u32(7).u64(2).raw(&[1, 9]),
        Fault::Value,
        52,
        "a bool is 9",
    );
    refused(
        key(1).u32(9).u32(77).u64(0),
        Fault::UnknownType,
        39,
        "the array's element type is 77",
    );
    refused(
        key(2).u32(0).raw(&[7]).name("a.b").u32(0).raw(&[8]),
        Fault::Duplicate,
        40,
        "is there twice, first at byte 24",
    );
    refused(
        File::new(0, 1).u64(0).u32(0).raw(&[0; 8]),
        Fault::Value,
        24,
        "metadata key 1 of 1: has no name",
    );
    refused(
        File::new(0, 1).u64(1).raw(b"\xff").u32(0).raw(&[0]),
        Fault::Utf8,
        24,
        "no UTF-8",
    );
    refused(
        File::new(0, 1).u64(1 << 40).raw(&[0; 20]),
        Fault::Truncated,
        24,
        "metadata key 1 of 1: the name is 1099511627776",
    );
    let align = |value: u32| File::new(0, 1).name("general.alignment").u32(4).u32(value);
    open_and_read(&align(1 << 31).0).unwrap();
    refused(
        align(0),
        Fault::Alignment,
        57,
        "metadata key \"general.alignment\": the alignment is U32(0)",
    );
    refused(align(48), Fault::Alignment, 57, "a power of two");
    refused(
        File::new(0, 1).name("general.alignment").u32(10).u64(32),
        Fault::Alignment,
        61,
        "must be a u32",
    );
}

/// Arrays in arrays are read to a depth, and no deeper, so that no file can use up the stack.
#[test]
fn arrays_in_arrays() {
    let nested = |depth: usize| {
        let mut file = File::new(0, 1).name("a").u32(9);
        for _ in 1..depth {
            file = file.u32(9).u64(1);
        }
        file.u32(0).u64(2).raw(&[5, 6])
    };
    let file = Gguf::from_bytes("nested", nested(3).0).unwrap();
    let mut array: Array = file.meta("a").unwrap();
    for _ in 1..3 {
        assert_eq!((array.element(), array.len()), (ValueType::Array, 1));
        let Some(Value::Array(inner)) = array.iter().next() else {
            panic!("no array in the array")
        };
        array = inner;
    }
    assert_eq!(array.iter().collect::<Vec<_>>(), [Value::U8(5), Value::U8(6)]);
    open_and_read(&nested(4).0).unwrap();
    refused(nested(5), Fault::Depth, 85, "more than 4 deep");
    refused(nested(100_000), Fault::Depth, 85, "metadata key \"a\"");
}

#[test]
fn tensors_that_lie() {
    let one = |ne: &[u64], ty, offset| File::new(1, 0).tensor("t", ne, ty, offset).data(256);
    open_and_read(&one(&[32, 2], 8, 0).0).unwrap();
    open_and_read(&one(&[], 0, 0).0).unwrap();
    open_and_read(&one(&[0], 8, 256).0).unwrap();
    refused(
        one(&[32, 8], 8, 0),
        Fault::Offset,
        24,
        "tensor \"t\": 272 bytes at offset 0 from the data's start at 96",
    );
    refused(one(&[8], 0, 256), Fault::Offset, 24, "beyond the file's end at 320");
    refused(
        one(&[8], 0, 16),
        Fault::Offset,
        24,
        "its offset 16 is no multiple of the alignment 32",
    );
    refused(one(&[8], 0, u64::MAX - 31), Fault::Offset, 24, "beyond the file's end");
    refused(one(&[0], 0, 288), Fault::Offset, 24, "beyond the file's end");
    refused(
        one(&[33], 8, 0),
        Fault::Dims,
        24,
        "rows of 33 elements are no multiple of Q8_0's 32",
    );
    refused(one(&[16, 2], 8, 0), Fault::Dims, 24, "rows of 16");
    refused(one(&[], 8, 0), Fault::Dims, 24, "rows of 1");
    refused(
        one(&[1 << 32, 1 << 32], 0, 0),
        Fault::Dims,
        24,
        "more elements than fit 63 bits",
    );
    refused(
        one(&[1 << 32, 1 << 32, 0], 0, 0),
        Fault::Dims,
        24,
        "more elements than fit",
    );
    refused(one(&[1 << 63], 0, 0), Fault::Dims, 24, "more elements than fit");
    refused(one(&[1 << 61], 28, 0), Fault::Dims, 24, "more bytes than fit 64 bits");
    refused(one(&[1 << 60], 28, 0), Fault::Offset, 24, "beyond the file's end");
    refused(
        one(&[1, 1, 1, 1, 1], 0, 0),
        Fault::Dims,
        33,
        "tensor \"t\": has 5 dimensions; a tensor has at most 4",
    );
    refused(one(&[8], 99, 512), Fault::Offset, 24, "beyond the file's end");
    let two = |b: &str, at| File::new(2, 0).tensor("a", &[8], 0, 0).tensor(b, &[8], 0, at).data(256);
    open_and_read(&two("b", 32).0).unwrap();
    refused(
        two("a", 32),
        Fault::Duplicate,
        57,
        "tensor \"a\": is there twice, first at byte 24",
    );
    refused(
        two("b", 0),
        Fault::Offset,
        57,
        "tensor \"b\": its bytes 96..128 overlap another tensor's 96..128",
    );
    let unknown = Gguf::from_bytes("unknown", one(&[8], 99, 0).0).unwrap();
    let error = unknown.tensor("t").unwrap().bytes().unwrap_err().to_string();
    assert!(
        error.contains("tensor \"t\": is type 99; F32, F16, BF16 and Q8_0 are read"),
        "{error}"
    );
}

/// A long name is not repeated whole in an error.
#[test]
fn errors_stay_short() {
    let name = "\u{1}".repeat(10_000);
    let error = open_and_read(&File::new(0, 1).name(&name).u32(99).raw(&[0]).0).unwrap_err();
    assert!(error.to_string().len() < 1000, "{error}");
}

/// Ten thousand files with one to four bytes of the header, keys and tensor infos changed.
#[test]
fn mutations_neither_panic_nor_take_memory() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/every-type.gguf");
    let sound = std::fs::read(path).unwrap();
    let head = Gguf::open(path).unwrap().data_start() as usize;
    let mut state = 0x10c5_7e9d_u64;
    // SplitMix64 (Steele, Lea and Flood, 2014).
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut bytes = sound.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() as usize % head;
            // Half of them lengths and counts at their worst, half of them anything.
            bytes[at] = [
                0x00,
                0xff,
                0x7f,
                0x80,
                random() as u8,
                random() as u8,
                bytes[at] ^ 1,
                bytes[at] ^ 0x80,
            ][random() as usize % 8];
        }
        match open_and_read(&bytes) {
            Ok(()) => read += 1,
            Err(e) => {
                refused += 1;
                assert!(e.offset <= bytes.len() as u64 && !e.thing.is_empty(), "{e}");
            }
        }
    }
    // Both happen often, so both are tested: a changed value is no fault, a changed length is.
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}
