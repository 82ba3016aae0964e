//! Q8_0 matmul on a device: weights repacked from GGUF's blocks, activations quantised on the device, one launch.
//!
//! ```text
//! x [n_tok][groups * k] f32 or bf16 --q8_quantize--> Q8Activations --q8_matmul--> y [n_tok][groups * n] f32
//! GGUF blocks [groups][n][ceil(k / 32)][34] --repacked once at load--> Q8Weights ----^
//! ```
//! All memory is allocated at load; [`Q8Activations::quantize`] and [`Q8Matmul::launch`] allocate nothing and can be
//! captured in a graph. The layouts and the canonical order are those of [`kernels_gpu::q8`].

mod call;
mod data;
mod operation;
mod pack;
mod prepared;

pub use call::{Q8MatmulCall, Q8QuantizeCall, Q8Source, activation_bytes, weight_bytes};
pub use operation::Q8MatmulOp;
pub use pack::Q8Packed;

use kernels_gpu::q8;
use kernels_gpu::q8_matmul::{self, Entry};

use crate::device::{Buffer, DevPtr, Device, Stream};
use crate::dispatch::Dispatcher;
use crate::gguf::{GgmlType, Tensor};
use crate::op::OpError;

/// The sizes of a Q8_0 matmul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Q8Shape {
    /// Rows of the weights of one group: outputs.
    pub n: u32,
    /// Values of a row: inputs.
    pub k: u32,
    /// Independent products in one call, each with its own weights and its own slice of input and output.
    pub groups: u32,
}

impl Q8Shape {
    /// Checks the sizes.
    ///
    /// # Errors
    /// [`OpError::Shape`] for a zero, or where a tensor would have more elements than the kernels can index.
    pub fn new(n: u32, k: u32, groups: u32) -> Result<Self, OpError> {
        // Beyond it the bytes of a row's segment sums pass 32 bits, in which the kernels count shared memory.
        let longest = 1u32 << 28;
        let limit = 1u64 << 31;
        let widest = u64::from(n.max(k)) * u64::from(groups);
        if n == 0 || k == 0 || groups == 0 || k > longest || widest >= limit {
            return Err(OpError::Shape(format!(
                "q8_matmul of n = {n}, k = {k}, groups = {groups}: all must be at least 1, k at most {longest}, and \
                 groups * max(n, k) below {limit}"
            )));
        }
        Ok(Self { n, k, groups })
    }

    /// Blocks of 32 in a row.
    pub fn blocks(self) -> usize {
        q8::blocks(self.k) as usize
    }

    /// Quads of 128 in a row.
    pub fn quads(self) -> u32 {
        q8::quads(self.k)
    }

    /// Bytes of the GGUF blocks of all groups.
    pub fn gguf_bytes(self) -> usize {
        self.groups as usize * self.n as usize * self.blocks() * q8::GGUF_BLOCK_BYTES as usize
    }
}

/// Weights on a device, in the quad layout.
#[derive(Debug)]
pub struct Q8Weights {
    shape: Q8Shape,
    qs: Buffer,
    ws: Buffer,
}

impl Q8Weights {
    /// Repacks GGUF blocks `[groups][n][ceil(k / 32)][34]` on all cores and uploads them. `name` is for messages.
    ///
    /// # Errors
    /// [`OpError::Shape`] when `blocks` has not that many bytes; the device's when memory is short.
    pub fn from_blocks(device: &Device, blocks: &[u8], shape: Q8Shape, name: &str) -> Result<Self, OpError> {
        Self::upload(device, &Q8Packed::from_blocks(blocks, shape)?, name)
    }

    /// The weights `[n][k]` of a Q8_0 tensor of a GGUF file, repacked from the file's memory map.
    ///
    /// # Errors
    /// [`OpError::Shape`] for a tensor of another type or size; [`OpError::Gguf`] when the file ends before it; the device's.
    pub fn from_gguf(device: &Device, tensor: &Tensor<'_>) -> Result<Self, OpError> {
        let (name, ty, n, k) = (tensor.name(), tensor.ty(), tensor.rows(), tensor.row_len());
        let (Ok(rows), Ok(row_len), GgmlType::Q8_0) = (u32::try_from(n), u32::try_from(k), ty) else {
            return Err(OpError::Shape(format!(
                "tensor '{name}' is {ty} of {n} rows of {k}; Q8_0 of less than 2^31 either way is needed"
            )));
        };
        Self::from_blocks(device, tensor.bytes()?, Q8Shape::new(rows, row_len, 1)?, name)
    }

    /// Uploads weights that are repacked already.
    ///
    /// # Errors
    /// The device's.
    pub fn upload(device: &Device, packed: &Q8Packed, name: &str) -> Result<Self, OpError> {
        let qs = device.alloc(packed.qs.len(), &format!("{name}.qs"))?;
        let ws = device.alloc(2 * packed.ws.len(), &format!("{name}.ws"))?;
        qs.upload(&packed.qs)?;
        ws.upload(&packed.ws)?;
        Ok(Self {
            shape: packed.shape,
            qs,
            ws,
        })
    }

    /// The sizes.
    pub fn shape(&self) -> Q8Shape {
        self.shape
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.qs.len_bytes() + self.ws.len_bytes()
    }
}

/// Activations to be quantised, on the device: `[n_tok][groups * k]`.
#[derive(Clone, Copy, Debug)]
pub enum Q8Input<'a> {
    /// f32.
    F32(&'a Buffer),
    /// bf16.
    Bf16(&'a Buffer),
}

impl Q8Input<'_> {
    fn check(&self, elements: usize) -> Result<(), OpError> {
        let (buffer, size, dtype) = match self {
            Q8Input::F32(buffer) => (buffer, 4, "f32"),
            Q8Input::Bf16(buffer) => (buffer, 2, "bf16"),
        };
        if buffer.len_bytes() >= elements * size {
            return Ok(());
        }
        let (name, len) = (buffer.name(), buffer.len_bytes());
        Err(OpError::Shape(format!(
            "activations '{name}': {len} bytes, and {elements} values of {dtype} are needed"
        )))
    }
}

/// Room for quantised activations on a device, in the quad layout.
#[derive(Debug)]
pub struct Q8Activations {
    shape: Q8Shape,
    max_tok: u32,
    xq: Buffer,
    dx: Buffer,
}

impl Q8Activations {
    /// Allocates for up to `max_tok` tokens of a shape's input.
    ///
    /// # Errors
    /// The device's.
    pub fn new(device: &Device, shape: Q8Shape, max_tok: u32) -> Result<Self, OpError> {
        let [integers, scales] = activation_bytes(max_tok.max(1), shape.k);
        let xq = device.alloc(integers * shape.groups as usize, "xq")?;
        let dx = device.alloc(scales * shape.groups as usize, "dx")?;
        Ok(Self { shape, max_tok, xq, dx })
    }

    /// Quantises `n_tok` tokens on the device in one launch; none where there are no tokens. Does not wait.
    ///
    /// # Errors
    /// [`OpError::Shape`] when there is no room for so many tokens or `x` is too short; the device's.
    pub fn quantize(&self, device: &Device, stream: &Stream, x: Q8Input<'_>, n_tok: u32) -> Result<(), OpError> {
        let Q8Shape { k, groups, .. } = self.shape;
        self.check_tokens(n_tok)?;
        let stride = k * groups;
        x.check(n_tok as usize * stride as usize)?;
        let call = Q8QuantizeCall {
            x: match x {
                Q8Input::F32(buffer) => Q8Source::F32(DevPtr::of(buffer)),
                Q8Input::Bf16(buffer) => Q8Source::Bf16(DevPtr::of(buffer)),
            },
            xq: DevPtr::of(&self.xq),
            dx: DevPtr::of(&self.dx),
            n_tok,
            k,
            x_stride: stride,
        };
        call.quantise(device, stream, groups)
    }

    /// The integers `[groups][n_tok][blocks * 32]` and scales `[groups][n_tok][blocks]` of the `n_tok` tokens last quantised, for
    /// checks. Waits for the device.
    ///
    /// # Errors
    /// As [`Q8Activations::quantize`].
    pub fn download(&self, n_tok: u32) -> Result<(Vec<i8>, Vec<f32>), OpError> {
        self.check_tokens(n_tok)?;
        let groups = self.shape.groups as usize;
        let quads = groups * q8::token_tiles(n_tok) as usize * self.shape.quads() as usize;
        let xq = self.xq.download_vec::<u8>(quads * q8::QUAD_TOKEN_BYTES as usize)?;
        let dx = self.dx.download_vec::<f32>(quads * q8::QUAD_TOKEN_SCALES as usize)?;
        Ok(pack::unpack_activations(
            &xq,
            &dx,
            groups,
            n_tok as usize,
            self.shape.blocks(),
        ))
    }

    fn check_tokens(&self, n_tok: u32) -> Result<(), OpError> {
        if n_tok > self.max_tok {
            let max = self.max_tok;
            return Err(OpError::Shape(format!(
                "n_tok = {n_tok}: these activations have room for {max} tokens"
            )));
        }
        Ok(())
    }
}

/// One config of the matmul, ready to launch on any weights it takes.
#[derive(Clone, Copy)]
pub struct Q8Matmul {
    entry: &'static Entry,
}

impl Q8Matmul {
    /// The config of an id.
    ///
    /// # Errors
    /// [`OpError::UnknownConfig`].
    pub fn new(config: &str) -> Result<Self, OpError> {
        operation::entry(config).map(|entry| Self { entry })
    }

    /// The config that a dispatcher chooses for a shape and `n_tok` tokens. The dispatcher keeps the reasons.
    ///
    /// # Errors
    /// [`OpError::NoConfig`], with every config's reason.
    pub fn dispatched(dispatcher: &Dispatcher, shape: Q8Shape, n_tok: u32) -> Result<Self, OpError> {
        let Q8Shape { n, k, groups } = shape;
        let case = operation::case("dispatch", "dispatch", [n, k, groups, n_tok].map(u64::from));
        Self::new(&dispatcher.choose(&Q8MatmulOp, &case)?.config)
    }

    /// The config.
    pub fn config(&self) -> &'static q8_matmul::TileConfig {
        &self.entry.config
    }

    /// y = W x for the `n_tok` tokens last quantised: `y` is f32 `[n_tok][groups * n]`. One launch; none where there are no tokens.
    /// Does not wait, allocates nothing.
    ///
    /// # Errors
    /// [`OpError::Shape`] when the operands do not fit each other or the config does not take them; the device's.
    pub fn launch(
        &self,
        device: &Device,
        stream: &Stream,
        weights: &Q8Weights,
        x: &Q8Activations,
        y: &Buffer,
        n_tok: u32,
    ) -> Result<(), OpError> {
        let Q8Shape { n, k, groups } = weights.shape;
        x.check_tokens(n_tok)?;
        if (k, groups) != (x.shape.k, x.shape.groups) {
            let Q8Shape { k: xk, groups: xg, .. } = x.shape;
            return Err(OpError::Shape(format!(
                "weights of k = {k}, groups = {groups}; activations of {xk} and {xg}"
            )));
        }
        let needed = 4 * n_tok as usize * n as usize * groups as usize;
        if y.len_bytes() < needed {
            return Err(OpError::Shape(format!(
                "output '{}': {} bytes of {needed}",
                y.name(),
                y.len_bytes()
            )));
        }
        let call = Q8MatmulCall {
            qs: DevPtr::of(&weights.qs),
            ws: DevPtr::of(&weights.ws),
            xq: DevPtr::of(&x.xq),
            dx: DevPtr::of(&x.dx),
            y: DevPtr::of(y),
            n,
            k,
            n_tok,
        };
        call.multiply(device, stream, self.entry, groups)
    }
}
