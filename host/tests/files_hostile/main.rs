//! safetensors files and their indices made to do harm: every kind of lie gets an error that says where, no lie gets memory or a panic.

#[path = "../counting/mod.rs"]
mod counting;
mod index;

use counting::{Counting, counted};
use host::model::ModelError;
use host::model::files::{Safetensors, Source};
use host::op::random::Random;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A file of a header's text and data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    bytes
}

/// Opens a file and reads all there is in it, and asserts that opening took less memory than the file has bytes (or than an error's text
/// needs).
fn open_and_read(bytes: &[u8]) -> Result<(), ModelError> {
    let owned = bytes.to_vec();
    let bound = bytes.len().max(4096);
    let (result, most, largest) = counted(|| Safetensors::from_bytes("hostile.safetensors", owned));
    // What is held includes the copy that `from_bytes` was given: it was counted before, and is freed with an error.
    assert!(
        largest <= bound && most <= bound,
        "{largest} bytes at once, {most} in all, for {}",
        bytes.len()
    );
    read_all(&result?, bytes.len());
    Ok(())
}

fn read_all(source: &Safetensors, most: usize) {
    let mut all = 0;
    for name in source.names() {
        let raw = source.tensor(name).unwrap();
        assert_eq!(raw.name, name);
        if let Some((block, size)) = raw.dtype.block() {
            assert_eq!(raw.bytes.len() as u64, raw.shape.elements() / block * size);
        }
        all += raw.bytes.iter().map(|_| 1).sum::<usize>();
    }
    assert!(all <= most);
}

#[track_caller]
fn refused(bytes: &[u8], texts: &[&str]) {
    let error = open_and_read(bytes).expect_err(texts[0]).to_string();
    assert!(
        error.starts_with("hostile.safetensors: ") && error.len() < 700,
        "{error}"
    );
    assert!(texts.iter().all(|text| error.contains(text)), "{texts:?}: {error}");
}

#[test]
fn lengths_that_lie() {
    open_and_read(&file("{}", 0)).unwrap();
    refused(&[], &["0 bytes; a safetensors file begins with 8 bytes"]);
    refused(&[1; 7], &["7 bytes;"]);
    refused(
        &file("{}", 0)[..9],
        &["its header is said to be 2 bytes long, and 1 follow"],
    );
    refused(
        &[0xFF; 100],
        &["said to be 18446744073709551615 bytes long, and 92 follow"],
    );
    refused(&file("", 0), &["header: EOF"]);
    refused(
        &file("{}", 3),
        &["the tensors end at byte 0 of the data, and the file has 3 bytes of it"],
    );
    refused(&file("{} {}", 0), &["header: trailing characters at line 1 column 4"]);
    refused(&file("\u{1}", 0), &["header: expected value"]);
    let mut bytes = file("{\"a\":0}", 0);
    bytes[10] = 0xFF;
    refused(&bytes, &["header: invalid unicode code point"]);
}

#[test]
fn tensors_that_lie() {
    let one = |info: &str, data| file(&format!("{{\"t\":{info}}}"), data);
    let info = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
    };
    open_and_read(&one(&info("BF16", "[2,3]", "[0,12]"), 12)).unwrap();
    open_and_read(&one(&info("F4", "[3,2]", "[0,3]"), 3)).unwrap();
    open_and_read(&one(&info("F32", "[]", "[0,4]"), 4)).unwrap();
    open_and_read(&one(&info("F32", "[0,9]", "[0,0]"), 0)).unwrap();
    let t = "tensor `t`: ";
    refused(
        &one(&info("BF16", "[2,3]", "[0,12]"), 11),
        &[t, "data_offsets [0, 12]: the file has 11 bytes of data"],
    );
    refused(
        &one(&info("BF16", "[2,3]", "[0,10]"), 10),
        &[t, "[0, 10] are 10 bytes, and BF16 [2][3] needs 12"],
    );
    refused(&one(&info("BF16", "[2,3]", "[12,0]"), 12), &[t, "data_offsets [12, 0]"]);
    refused(
        &one(&info("U8", "[2]", "[1,3]"), 3),
        &[t, "leave a hole after the tensors before, which end at 0"],
    );
    refused(
        &one(&info("F4", "[3]", "[0,2]"), 2),
        &[t, "F4 [3] needs another number of"],
    );
    refused(
        &one(&info("F64", "[4611686018427387904]", "[0,0]"), 0),
        &[t, "needs another number of"],
    );
    refused(
        &one(&info("U8", "[4294967296,4294967296]", "[0,0]"), 0),
        &[t, "shape [4294967296, 4294967296]: more elements than fit 63 bits"],
    );
    refused(
        &one(&info("U8", "[4294967296,0,4294967296]", "[0,0]"), 0),
        &[t, "more elements than fit"],
    );
    refused(
        &one(&info("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1),
        &[t, "more than 8 dimensions"],
    );
    refused(
        &one(&info("U8", "[-1]", "[0,1]"), 1),
        &[t, "invalid value: integer `-1`"],
    );
    refused(
        &one(&info("U8", "[1.5]", "[0,1]"), 1),
        &[t, "invalid type: floating point"],
    );
    refused(&one(&info("U8", "[18446744073709551616]", "[0,1]"), 1), &[t]);
    refused(&one(&info("Q8", "[1]", "[0,1]"), 1), &[t, "dtype `Q8` is not known"]);
    refused(&one(&info("U8", "[1]", "[0,1,2]"), 1), &[t]);
    refused(
        &one("{\"dtype\":\"U8\",\"shape\":[1]}", 1),
        &[t, "missing field `data_offsets`"],
    );
    refused(
        &one("{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1]}", 1),
        &[t, "duplicate field `dtype`"],
    );
    refused(
        &one("{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}", 1),
        &[t, "unknown field `x`"],
    );
    refused(&one("7", 0), &[t, "invalid type: integer `7`"]);
    let two = |a: &str, at: &str| {
        let (first, second) = (info("U8", "[4]", "[0,4]"), info("U8", "[4]", at));
        file(&format!("{{\"a\":{first},\"{a}\":{second}}}"), 8)
    };
    open_and_read(&two("b", "[4,8]")).unwrap();
    refused(
        &two("b", "[2,6]"),
        &["tensor `b`: data_offsets [2, 6] overlap the tensors before, which end at 4"],
    );
    refused(&two("a", "[4,8]"), &["tensor `a`: is in the header twice"]);
    refused(&two("", "[4,8]"), &["a tensor has no name"]);
    refused(&two("a\\u0062", "[4,8]"), &["has escapes; names are written without"]);
    // Long strings and deep nests are refused, but in what nothing reads.
    let long = "x".repeat(10_000);
    refused(
        &one(&format!("\"{long}\""), 0),
        &["header: at byte 5: a string of 10000 bytes"],
    );
    refused(
        &file(&format!("{{\"{long}\":0}}"), 0),
        &["header: at byte 1: a string of 10000 bytes"],
    );
    refused(&one(&info(&long, "[1]", "[0,1]"), 1), &["a string of 10000 bytes"]);
    refused(
        &one(&format!("\"{}\"", &long[..400]), 0),
        &[t, "invalid type: string", "at line 1 column"],
    );
    refused(
        &one(&"[".repeat(10_000), 0),
        &["brackets within brackets more than 64 deep"],
    );
    let metadata = |value: &str| file(&format!("{{\"__metadata__\":{value}}}"), 0);
    open_and_read(&metadata(&format!("{{\"a\":[[1]],\"b\":\"\\n{long}\"}}"))).unwrap();
    refused(&metadata(&"[".repeat(100)), &["more than 64 deep"]);
    // A header that is nothing but the least entries, and one that is nothing but dimensions.
    let many: Vec<String> = (0..5000)
        .map(|i| format!("\"{i}\":{}", info("U8", "[0]", "[0,0]")))
        .collect();
    open_and_read(&file(&format!("{{{}}}", many.join(",")), 0)).unwrap();
    refused(
        &one(&info("U8", &format!("[{}1]", "1,".repeat(50_000)), "[0,1]"), 1),
        &[t, "more than 8 dimensions"],
    );
}

/// A file as checkpoints have them, by another writer.
fn sound(names: &[&str]) -> Vec<u8> {
    let data: Vec<u8> = (0..=255).collect();
    let kinds = [
        (Dtype::BF16, vec![4, 8], 64),
        (Dtype::F32, vec![8], 32),
        (Dtype::U8, vec![4, 4], 16),
        (Dtype::F8_E4M3, vec![4, 2], 8),
        (Dtype::F32, vec![], 4),
        (Dtype::I64, vec![2, 1], 16),
    ];
    let views = names
        .iter()
        .zip(kinds.iter().cycle())
        .map(|(name, (dtype, shape, bytes))| (*name, TensorView::new(*dtype, shape.clone(), &data[..*bytes]).unwrap()));
    let metadata = [("format".to_string(), "pt".to_string())].into_iter().collect();
    serialize(views, Some(metadata)).unwrap()
}

/// Changes one to four bytes among the first `head`: lengths, digits and syntax at their worst, or anything.
fn mutated(sound: &[u8], head: usize, i: u64) -> Vec<u8> {
    let random = Random::new(i, "mutation");
    let mut bytes = sound.to_vec();
    for change in 0..1 + random.below(0, 4) {
        let draw = |what: u64, end: u64| random.below(1 + 4 * change + what, end);
        let at = draw(0, head as u64) as usize;
        let worst = [
            0,
            0xFF,
            0x7F,
            0x80,
            b'9',
            b'0',
            b'-',
            b'"',
            b'{',
            b'}',
            b'[',
            b']',
            b',',
            b' ',
            b'\\',
            bytes[at] ^ 1,
        ];
        bytes[at] = worst.get(draw(1, 20) as usize).copied().unwrap_or(draw(2, 256) as u8);
    }
    bytes
}

/// Ten thousand files with one to four bytes of the length and the header changed.
#[test]
fn mutated_headers_neither_panic_nor_take_memory() {
    let names = [
        "lm_head.weight",
        "model.norm.weight",
        "a.weight",
        "a.weight_scale",
        "a.weight_scale_2",
        "ids",
        "b",
    ];
    let sound = sound(&names);
    open_and_read(&sound).unwrap();
    let head = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let (mut read, mut refused) = (0, 0);
    for i in 0..10_000 {
        // Every fourth is cut as well.
        let mut bytes = mutated(&sound, head, i);
        if i % 4 == 0 {
            bytes.truncate(Random::new(i, "cut").below(0, sound.len() as u64 + 1) as usize);
        }
        match open_and_read(&bytes) {
            Ok(()) => read += 1,
            Err(e) => {
                refused += 1;
                assert!(e.to_string().starts_with("hostile.safetensors: "), "{e}");
            }
        }
    }
    // Both happen often, so both are tested: a changed letter of a name is no fault, a changed length is.
    assert!(read > 100 && refused > 1000, "{read} read, {refused} refused");
}
