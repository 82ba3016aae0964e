//! What a step reads besides weights and caches: one piece of device memory at a fixed place, written in one copy before the step, so that
//! a captured graph finds it where it was.

use super::ModelError;
use super::limits::Limits;
use super::memory::{Memory, Region};
use crate::device::{DevPtr, Pod};

/// What the memory of inputs and outputs is called in tables.
pub const STEP: &str = "step";

/// One field: elements of 4 or 8 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field<T> {
    offset: usize,
    len: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T> Field<T> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The inputs of a step on the device.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    region: Region,
    /// `[max_tok]` token ids; -1 for rows that are no token.
    pub ids: Field<i32>,
    /// `[max_tok]`.
    pub positions: Field<i32>,
    /// `[max_seqs + 1]`.
    pub cu_seqlens: Field<i32>,
    /// `[max_seqs]` positions in the cache, the step's included; 0 for a sequence that is none.
    pub seq_lens: Field<i32>,
    /// `[max_seqs]` the slot each sequence's states start from; -1: zeros.
    pub state_in: Field<i32>,
    /// `[max_seqs]` the slot of the state after a prefill; -1: not written.
    pub state_end: Field<i32>,
    /// `[max_tok]` the slot of the state after each token; -1: not written.
    pub state_out: Field<i32>,
    /// `[max_out]` the rows whose logits are wanted; -1 for none.
    pub out_rows: Field<i32>,
    /// `[max_tok]` the rows of hidden states that the MTP head goes on from.
    pub hidden_rows: Field<i32>,
    /// `[max_out]`, of sampling.
    pub temperature: Field<f32>,
    /// `[max_out]`, 0 for all.
    pub top_k: Field<u32>,
    /// `[max_out]`, as the operation `sample` has it.
    pub top_p: Field<u32>,
    /// `[max_out]` the position whose random number is drawn.
    pub sample_position: Field<i32>,
    /// `[max_out]`.
    pub seed: Field<u64>,
    /// `[max_seqs][max_pages]`; -1 for no page.
    pub block_table: Field<i32>,
}

/// The inputs of a step on the host, to be written in one copy.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Vec<u8>,
}

impl Inputs {
    /// Takes the memory.
    ///
    /// # Errors
    /// The memory's.
    pub fn new(memory: &mut Memory, limits: &Limits) -> Result<Self, ModelError> {
        fn field<T>(end: &mut usize, len: usize) -> Field<T> {
            let offset = end.next_multiple_of(16);
            *end = offset + len * size_of::<T>();
            Field {
                offset,
                len,
                kind: std::marker::PhantomData,
            }
        }
        let (tok, seqs, out) = (
            limits.max_tok() as usize,
            limits.max_seqs as usize,
            limits.max_out as usize,
        );
        let end = &mut 0;
        Ok(Self {
            ids: field(end, tok),
            positions: field(end, tok),
            cu_seqlens: field(end, seqs + 1),
            seq_lens: field(end, seqs),
            state_in: field(end, seqs),
            state_end: field(end, seqs),
            state_out: field(end, tok),
            out_rows: field(end, out),
            hidden_rows: field(end, tok),
            temperature: field(end, out),
            top_k: field(end, out),
            top_p: field(end, out),
            sample_position: field(end, out),
            seed: field(end, out),
            block_table: field(end, seqs * limits.max_pages as usize),
            // Fields are counted in the order they are written here: the last has all of them behind it.
            region: memory.alloc(STEP, "inputs", *end)?,
        })
    }

    /// A field on the device.
    pub fn at<T>(&self, field: Field<T>) -> DevPtr<T> {
        self.region.ptr::<u8>().add(field.offset).cast()
    }

    /// An image in which no row is a token and no sequence is one.
    pub fn image(&self) -> Image {
        Image {
            bytes: vec![0xFF; self.region.len_bytes()],
        }
    }

    /// Copies an image to the device.
    ///
    /// # Errors
    /// The device's.
    pub fn write(&self, memory: &Memory, image: &Image) -> Result<(), ModelError> {
        memory.write(&self.region, 0, &image.bytes)
    }
}

impl Image {
    /// Sets the first elements of a field.
    ///
    /// # Panics
    /// If the field has fewer elements: a mistake of the caller's, who knows the limits.
    pub fn set<T: Pod>(&mut self, field: Field<T>, data: &[T]) {
        assert!(
            data.len() <= field.len,
            "{} elements, and the field has {}",
            data.len(),
            field.len
        );
        let bytes: &[u8] = bytemuck::cast_slice(data);
        self.bytes[field.offset..field.offset + bytes.len()].copy_from_slice(bytes);
    }
}
