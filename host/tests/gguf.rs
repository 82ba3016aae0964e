//! What `host::gguf` reads, against what the `gguf` Python package reads (`scripts/make_gguf_fixture.py` wrote the files and
//! noted the package's reading beside them).

use host::gguf::*;
use serde_json::Value as Json;
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", name].iter().collect()
}

fn noted(name: &str) -> (Json, Vec<u8>) {
    let json = std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
    (
        serde_json::from_str(&json).unwrap(),
        std::fs::read(fixture(&format!("{name}.f32"))).unwrap(),
    )
}

/// The package's name of a type, and a value as the JSON has it: floats as their bits.
fn as_json(value: Value) -> (&'static str, Json) {
    match value {
        Value::U8(v) => ("UINT8", v.into()),
        Value::I8(v) => ("INT8", v.into()),
        Value::U16(v) => ("UINT16", v.into()),
        Value::I16(v) => ("INT16", v.into()),
        Value::U32(v) => ("UINT32", v.into()),
        Value::I32(v) => ("INT32", v.into()),
        Value::U64(v) => ("UINT64", v.into()),
        Value::I64(v) => ("INT64", v.into()),
        Value::F32(v) => ("FLOAT32", v.to_bits().into()),
        Value::F64(v) => ("FLOAT64", v.to_bits().into()),
        Value::Bool(v) => ("BOOL", v.into()),
        Value::Str(v) => ("STRING", std::str::from_utf8(v).unwrap().into()),
        Value::Array(a) => ("ARRAY", a.iter().map(|v| as_json(v).1).collect::<Vec<_>>().into()),
    }
}

fn agrees(name: &str) {
    let (noted, values) = noted(name);
    let file = Gguf::open(fixture(&format!("{name}.gguf"))).unwrap();
    assert_eq!(u64::from(file.version()), noted["version"]);
    assert_eq!(file.alignment(), noted["alignment"]);
    assert_eq!(file.data_start(), noted["data_start"]);

    let metadata = noted["metadata"].as_object().unwrap();
    assert_eq!(
        (file.key_count(), file.keys().count()),
        (metadata.len(), metadata.len())
    );
    for (key, value) in file.keys() {
        let (ty, json) = as_json(value);
        let element = match value {
            Value::Array(a) => {
                assert_eq!(a.len() as usize, a.iter().count());
                a.iter().next().map(|v| as_json(v).0).into()
            }
            _ => Json::Null,
        };
        assert_eq!(Json::from(vec![ty.into(), element, json]), metadata[key], "{key}");
    }

    let tensors = noted["tensors"].as_array().unwrap();
    assert_eq!(
        (file.tensor_count(), file.tensors().count()),
        (tensors.len(), tensors.len())
    );
    for (tensor, want) in file.tensors().zip(tensors) {
        let name = want["name"].as_str().unwrap();
        assert_eq!(tensor.name(), name);
        assert_eq!(file.tensor(name).unwrap().offset(), want["offset"], "{name}");
        assert_eq!(tensor.ty().to_string(), want["type"], "{name}");
        assert_eq!(Json::from(tensor.dims().to_vec()), want["ne"], "{name}");
        assert_eq!(tensor.elements(), tensor.row_len() * tensor.rows());
        let mut got = vec![f32::NAN; tensor.elements() as usize];
        if name.starts_with("refused.") {
            for error in [tensor.bytes().unwrap_err(), tensor.to_f32(&mut got).unwrap_err()] {
                assert_eq!((error.fault, error.offset), (Fault::Unsupported, tensor.offset()));
                let text = error.to_string();
                assert!(
                    text.contains(name) && text.contains(want["type"].as_str().unwrap()),
                    "{text}"
                );
            }
            continue;
        }
        assert_eq!(tensor.bytes().unwrap().len() as u64, want["bytes"], "{name}");
        tensor.to_f32(&mut got).unwrap();
        let at = want["f32_at"].as_u64().unwrap() as usize;
        let len = want["f32_len"].as_u64().unwrap() as usize;
        let got: Vec<u8> = got.iter().flat_map(|v| v.to_le_bytes()).collect();
        // By bytes: zeros keep their sign, and nothing is a little off.
        assert_eq!(got, values[at..at + len], "{name}");
    }
}

#[test]
fn every_type_is_read_as_the_python_package_reads_it() {
    agrees("every-type");
}

#[test]
fn another_alignment_is_read_as_the_python_package_reads_it() {
    agrees("aligned-128");
}

/// The fixture holds what it is for, so that the comparison above cannot become empty.
#[test]
fn the_fixture_has_every_value_type_and_the_blocks_that_matter() {
    let (noted, values) = noted("every-type");
    let metadata = noted["metadata"].as_object().unwrap();
    for ty in [
        "UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64", "FLOAT32", "FLOAT64", "BOOL",
    ] {
        assert!(
            metadata.values().any(|v| v[0] == ty) && metadata.values().any(|v| v[1] == ty),
            "{ty}"
        );
    }
    assert!(metadata.values().any(|v| v[0] == "STRING") && metadata.values().any(|v| v[1] == "STRING"));
    let file = Gguf::open(fixture("every-type.gguf")).unwrap();
    for (name, k, n) in [
        ("q8.31_blocks", 31 * 32, 3),
        ("q8.33_blocks", 33 * 32, 2),
        ("q8.1_block", 32, 1),
    ] {
        let t = file.tensor(name).unwrap();
        assert_eq!((t.ty(), t.row_len(), t.rows()), (GgmlType::Q8_0, k, n));
        assert_eq!(
            t.bytes().unwrap().len(),
            (n * k) as usize / Q8_0_BLOCK * Q8_0_BLOCK_BYTES
        );
    }
    assert!(values.chunks_exact(4).filter(|b| *b != [0; 4]).count() > 5000);
}

/// Block sizes come from the package's table; only there, since the two must not be one source.
#[test]
fn the_table_of_types_is_the_packages() {
    let (noted, _) = noted("every-type");
    let types = noted["types"].as_object().unwrap();
    for (name, row) in types {
        let ty = GgmlType(row[0].as_u64().unwrap() as u32);
        assert_eq!(ty.name(), Some(name.as_str()));
        assert_eq!(
            ty.block(),
            Some((row[1].as_u64().unwrap(), row[2].as_u64().unwrap())),
            "{name}"
        );
    }
    assert_eq!((0..1000).filter(|&n| GgmlType(n).name().is_some()).count(), types.len());
    assert_eq!(GgmlType(99).to_string(), "type 99");
}

#[test]
fn typed_getters_take_what_fits_and_say_what_does_not() {
    let file = Gguf::open(fixture("every-type.gguf")).unwrap();
    assert_eq!(file.meta::<&str>("general.architecture").unwrap(), "lockstep-fixture");
    assert_eq!(file.meta::<&[u8]>("general.architecture").unwrap(), b"lockstep-fixture");
    assert_eq!(file.meta::<u64>("test.uint8.1").unwrap(), 255);
    assert_eq!(
        file.meta::<u32>("test.int64.1").map_err(|e| e.fault),
        Err(Fault::WrongType)
    );
    assert_eq!(file.meta::<u8>("test.uint16.0").unwrap(), 0);
    assert_eq!(file.meta::<i64>("test.int64.0").unwrap(), i64::MIN);
    assert_eq!(file.meta::<u64>("test.uint64.1").unwrap(), u64::MAX);
    assert_eq!(file.meta::<f32>("test.float32.1").unwrap(), f32::MAX);
    assert_eq!(file.meta::<f64>("test.float32.1").unwrap(), f64::from(f32::MAX));
    assert_eq!(file.meta::<f64>("test.float64.0").unwrap(), 0.1);
    assert!(file.meta::<bool>("test.bool.0").unwrap());
    let array: Array = file.meta("test.array.int8").unwrap();
    assert_eq!(
        (array.element(), array.len(), array.is_empty()),
        (ValueType::I8, 4, false)
    );
    assert_eq!(
        array.iter().filter_map(i8::from_value).collect::<Vec<_>>(),
        [-128, 127, -128, 127]
    );

    assert_eq!(file.meta_opt::<u32>("no.such").unwrap(), None);
    let missing = file.meta::<u32>("no.such").unwrap_err();
    assert_eq!(missing.fault, Fault::Missing);
    assert!(
        missing
            .to_string()
            .contains("every-type.gguf: at byte 0: metadata key \"no.such\": is not in the file")
    );
    for wrong in [
        file.meta::<u32>("general.architecture").unwrap_err(),
        file.meta::<u8>("test.int8.0").unwrap_err(),
        file.meta::<f32>("test.float64.0").unwrap_err(),
        file.meta::<&str>("test.array.string").map(drop).unwrap_err(),
        file.meta_opt::<bool>("test.uint8.0").unwrap_err(),
    ] {
        assert_eq!(wrong.fault, Fault::WrongType);
        assert!(wrong.offset >= 24 && wrong.message.contains("is wanted"), "{wrong}");
    }
    let missing = file.tensor("no.such").unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("tensor \"no.such\": is not in the file, which has 13 tensors"),
        "{missing}"
    );
    let short = file.tensor("f32.vector").unwrap().to_f32(&mut [0.0; 10]).unwrap_err();
    assert!(
        short
            .to_string()
            .contains("tensor \"f32.vector\": has 11 elements, the buffer for them 10"),
        "{short}"
    );
}

/// Version 2 differs from 3 in the number alone, for a reader.
#[test]
fn version_2_is_read() {
    let mut bytes = std::fs::read(fixture("every-type.gguf")).unwrap();
    bytes[4] = 2;
    let file = Gguf::from_bytes("v2", bytes).unwrap();
    assert_eq!((file.version(), file.tensor_count()), (2, 13));
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    for path in [fixture("no-such.gguf"), fixture("")] {
        let error = Gguf::open(&path).unwrap_err();
        assert_eq!((error.fault, &error.path), (Fault::Io, &path));
        assert!(error.to_string().contains("cannot be opened"), "{error}");
    }
}

/// Cut at any byte, the file is refused with an error that names it and a byte it has, until nothing of a tensor is missing.
#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = std::fs::read(fixture("every-type.gguf")).unwrap();
    let whole = Gguf::from_bytes("whole", bytes.clone()).unwrap();
    let last = whole.tensors().last().unwrap();
    let end = last.offset() as usize + 5 * 4;
    assert!(end <= bytes.len() && bytes.len() < end + 32);
    for len in 0..bytes.len() {
        match Gguf::from_bytes("cut.gguf", bytes[..len].to_vec()) {
            Ok(_) => assert!(len >= end, "cut to {len} bytes, read as whole"),
            Err(e) => {
                assert!(len < end, "{e}");
                let text = e.to_string();
                assert!(
                    text.starts_with("cut.gguf: at byte ") && e.offset <= len as u64,
                    "cut to {len}: {text}"
                );
                assert!(
                    [Fault::Truncated, Fault::Offset].contains(&e.fault),
                    "cut to {len}: {text}"
                );
                assert_eq!(e.thing == "header", len < 24 || e.offset < 24, "cut to {len}: {text}");
            }
        }
    }
    // By map as well, where a file of no bytes is a case of its own.
    let file = tempfile::NamedTempFile::new().unwrap();
    for len in [0, 3, 24, 5000] {
        std::fs::write(file.path(), &bytes[..len]).unwrap();
        let error = Gguf::open(file.path()).unwrap_err();
        assert_eq!(error.path, file.path());
    }
}
