//! GGUF files, written for tests.

use host::gguf::Gguf;
use host::model::ModelError;
use host::model::config::ModelConfig;
use host::model::family;

/// A GGUF file under construction. Not a writer for use: little-endian, version 3, alignment 32.
#[derive(Clone, Default)]
pub struct File {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>)>,
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

impl File {
    fn set(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.retain(|(k, _)| k != key);
        self.keys.push((key.into(), [&kind.to_le_bytes(), value].concat()));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(k, _)| k != key);
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.set(key, 4, &value.to_le_bytes())
    }

    pub fn f32(self, key: &str, value: f32) -> Self {
        self.set(key, 6, &value.to_le_bytes())
    }

    pub fn str(self, key: &str, value: &str) -> Self {
        self.set(key, 8, &text(value))
    }

    pub fn bools(self, key: &str, values: &[bool]) -> Self {
        let bytes: Vec<u8> = values.iter().map(|b| u8::from(*b)).collect();
        let head = [&7u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        self.set(key, 9, &[head, bytes].concat())
    }

    /// An F32 tensor of ones.
    pub fn tensor(mut self, name: &str, ne: &[u64]) -> Self {
        self.tensors.retain(|(n, _)| n != name);
        self.tensors.push((name.into(), ne.into()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.keys.len() as u64];
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend(counts.iter().flat_map(|n| n.to_le_bytes()));
        for (key, value) in &self.keys {
            out.extend(text(key));
            out.extend(value);
        }
        let mut offset = 0u64;
        for (name, ne) in &self.tensors {
            out.extend(text(name));
            out.extend((ne.len() as u32).to_le_bytes());
            out.extend(ne.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(0u32.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (4 * ne.iter().product::<u64>()).next_multiple_of(32);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend((0..offset / 4).flat_map(|_| 1f32.to_le_bytes()));
        out
    }

    pub fn read(&self) -> Result<ModelConfig, ModelError> {
        let gguf = Gguf::from_bytes("model.gguf", self.bytes()).unwrap();
        family::from_gguf("model", &gguf)
    }
}
