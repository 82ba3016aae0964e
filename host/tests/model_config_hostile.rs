//! Ten thousand broken `config.json` texts and as many broken GGUF metadata: no panic, no more memory than the file has and a little, and
//! what is read all the same is a model that could be.

use host::gguf::Gguf;
use host::model::config::ModelConfig;
use host::model::family::{self, Naming};
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

/// Counts what the current thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    // A thread that ends has no counter any more, and need not be counted.
    let _ = HELD.try_with(|c| {
        let (held, most) = c.get();
        c.set((held + change, most.max(held + change)));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory but a thread's own counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What parsed JSON, 4096 layers and an error's text may take beyond the file's length.
const LITTLE: usize = 64 << 10;

/// Runs, and asserts that not more was held at any time than a file of this length may take.
fn bounded<T>(len: usize, run: impl FnOnce() -> T) -> T {
    HELD.with(|c| c.set((0, 0)));
    let result = run();
    let most = HELD.with(Cell::get).1;
    assert!(
        most <= (len + LITTLE) as isize,
        "{most} bytes were held for a file of {len}"
    );
    result
}

/// A model that was read must have passed the checks, and is not in files that have no tensors.
fn sound(mut config: ModelConfig, naming: Naming, len: usize) {
    config.check().unwrap();
    assert!(config.layers.len() <= 4096);
    let result = bounded(len, || family::resolve(&mut config, naming, &|_| false));
    assert!(result.is_err());
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// Bytes changed, doubled, lost, cut.
    fn bytes(&mut self, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(6) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = *self.of(b"0123456789-+.eE\"[]{},: \\"),
                2 => bytes.insert(at, *self.of(b"0123456789-\"[]{},\x00\xff")),
                3 => drop(bytes.remove(at)),
                4 => bytes.truncate(at),
                _ => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    }

    /// One or two values put in place of others, anywhere.
    fn values(&mut self, json: &Value) -> Vec<u8> {
        let mut json = json.clone();
        for _ in 0..1 + self.below(2) {
            let value = self.value();
            let count = places(&mut json, &mut None);
            let mut at = Some((self.below(count), value));
            places(&mut json, &mut at);
        }
        json.to_string().into_bytes()
    }

    fn value(&mut self) -> Value {
        let numbers = [
            0u64,
            1,
            2,
            3,
            7,
            8,
            64,
            127,
            4095,
            4097,
            1 << 24,
            u32::MAX.into(),
            1 << 32,
            u64::MAX,
        ];
        match self.below(12) {
            0..6 => json!(self.of(&numbers)),
            6 => json!(self.of(&[-1i64, i64::MIN])),
            7 => json!(self.of(&[0.0, 1e-300, 1e308, -0.5, 0.25, 1.0])),
            8 => json!(self.of(&["", "llama", "full_attention", "yarn", "\u{10ffff}"])),
            9 => Value::Null,
            10 => json!(self.below(2) == 0),
            _ => self
                .of(&[
                    json!([]),
                    json!({}),
                    json!([[]]),
                    json!([u32::MAX]),
                    json!({"rope_type": "llama3"}),
                ])
                .clone(),
        }
    }
}

/// Numbers the values below a value, and puts one in the place of a number.
fn places(json: &mut Value, put: &mut Option<(usize, Value)>) -> usize {
    let mut count = 0;
    let mut visit = |inner: &mut Value| {
        match put.take() {
            Some((0, value)) => *inner = value,
            Some((n, value)) => *put = Some((n - 1, value)),
            None => {}
        }
        count += 1;
        count += places(inner, put);
    };
    match json {
        Value::Object(map) => map.values_mut().for_each(&mut visit),
        Value::Array(list) => list.iter_mut().for_each(&mut visit),
        _ => {}
    }
    count
}

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

#[test]
fn configs() {
    let mut files: Vec<_> = std::fs::read_dir(data().join("configs"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 7);
    let texts: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let jsons: Vec<Value> = texts.iter().map(|text| serde_json::from_slice(text).unwrap()).collect();
    let (mut random, mut read) = (Random(0x1234567), 0);
    for i in 0..10_000 {
        let which = i % texts.len();
        let text = match random.below(2) {
            0 => random.bytes(&texts[which]),
            _ => random.values(&jsons[which]),
        };
        let result = bounded(text.len(), || family::from_json("mutated", &text));
        if let Ok(config) = result {
            read += 1;
            sound(config, Naming::HuggingFace, text.len());
        }
    }
    // Neither all are refused nor all read: the mutations matter, and do not only break the JSON.
    assert!((500..9000).contains(&read), "{read} of 10000 were read");
}

#[test]
fn metadata() {
    let (mut random, mut opened, mut read) = (Random(0x7654321), 0, 0);
    for name in ["tiny-llama", "tiny-qwen3", "tiny-qwen3-coder"] {
        let good = std::fs::read(data().join(format!("models/{name}-q8_0.gguf"))).unwrap();
        // Up to the vocabulary there are the keys of the architecture.
        let key = b"tokenizer.ggml.tokens";
        let end = good.windows(key.len()).position(|w| w == key).unwrap();
        assert!(end > 200);
        for _ in 0..10_000 / 3 + 1 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(3) {
                let at = 24 + random.below(end - 24);
                match random.below(3) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = *random.of(&[0, 1, 127, 255]),
                    _ => {
                        let words = [u32::MAX, 0, 1, 1 << 30];
                        bytes[at..at + 4].copy_from_slice(&random.of(&words).to_le_bytes());
                    }
                }
            }
            let len = bytes.len();
            let Ok(gguf) = Gguf::from_bytes("mutated", bytes) else {
                continue;
            };
            opened += 1;
            if let Ok(config) = bounded(len, || family::from_gguf("mutated", &gguf)) {
                read += 1;
                sound(config, Naming::Gguf, len);
            }
        }
    }
    assert!(
        opened > 2000 && (200..opened).contains(&read),
        "{read} of {opened} were read"
    );
}

#[test]
#[should_panic(expected = "bytes were held")]
fn memory_is_counted() {
    let taken = bounded(1000, || vec![0u8; 1000 + LITTLE + 1]);
    assert!(taken.len() > 1000);
}
