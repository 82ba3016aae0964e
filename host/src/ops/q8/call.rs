//! One launch of the quantiser and one of the matmul on tensors that lie anywhere on a device.

use half::bf16;
use kernels_gpu::q8_matmul::Entry;
use kernels_gpu::{q8, q8_quantize};

use super::{Q8Shape, operation};
use crate::cost::{Math, Work};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, Only, expect_aligned, expect_plain};
use crate::op::spec::PLAIN;
use crate::op::{Case, OpError};

/// The quantiser's name in cases, lists and messages.
const QUANTIZE: &str = "q8_quantize";

/// Bytes of the two planes of weights `[n][k]` on a device: of the integers and of the f16 scales.
pub fn weight_bytes(n: u32, k: u32) -> [usize; 2] {
    let quads = q8::row_tiles(n) as usize * q8::quads(k) as usize;
    [
        quads * q8::QUAD_BYTES as usize,
        quads * q8::QUAD_WEIGHT_SCALES as usize * 2,
    ]
}

/// Bytes of the two planes of quantised activations `[n_tok][k]`: of the integers and of the f32 scales.
pub fn activation_bytes(n_tok: u32, k: u32) -> [usize; 2] {
    let quads = q8::token_tiles(n_tok) as usize * q8::quads(k) as usize;
    let scales = quads * q8::QUAD_TOKEN_SCALES as usize;
    [quads * q8::QUAD_TOKEN_BYTES as usize, scales * 4]
}

/// Activations to be quantised.
#[derive(Clone, Copy, Debug)]
pub enum Q8Source {
    /// f32.
    F32(DevPtr<f32>),
    /// bf16.
    Bf16(DevPtr<bf16>),
}

/// Activations to int8 blocks and their scales, for [`Q8MatmulCall`]. It is no operation of the list: its bytes are checked with
/// the matmul's.
#[derive(Clone, Copy, Debug)]
pub struct Q8QuantizeCall {
    /// `[n_tok]` rows of k values, `x_stride` apart.
    pub x: Q8Source,
    /// The integers, in the layout of [`kernels_gpu::q8`]; [`activation_bytes`], at a multiple of 16.
    pub xq: DevPtr<u8>,
    /// The scales, likewise.
    pub dx: DevPtr<f32>,
    /// Tokens.
    pub n_tok: u32,
    /// Values of a row.
    pub k: u32,
    /// Elements from a row of x to the next.
    pub x_stride: u32,
}

impl Q8QuantizeCall {
    /// The launch, for rows of `groups` slices of k values side by side.
    pub(super) fn quantise(&self, device: &Device, stream: &Stream, groups: u32) -> Result<(), OpError> {
        let Self { n_tok, k, x_stride, .. } = *self;
        if u64::from(k) * u64::from(groups) > u64::from(x_stride) && n_tok > 1 {
            return Err(OpError::Shape(format!(
                "{QUANTIZE}: rows of {groups} times {k} values, {x_stride} apart, overlap"
            )));
        }
        if n_tok > 65_535 {
            return Err(OpError::Shape(format!(
                "{QUANTIZE}: n_tok = {n_tok}: at most 65535 in one launch"
            )));
        }
        expect_aligned(QUANTIZE, "xq", self.xq, 16)?;
        expect_aligned(QUANTIZE, "dx", self.dx, 16)?;
        if n_tok == 0 || k == 0 {
            return Ok(());
        }
        let quads = q8::quads(k);
        let dims = LaunchDims::new(q8_quantize::grid(n_tok, quads, groups), q8_quantize::THREADS).dependent();
        let (xq, dx) = (self.xq.get_mut(), self.dx.get_mut());
        match self.x {
            Q8Source::F32(x) => {
                let args = (x.get(), xq, dx, n_tok, k, x_stride, quads);
                device.launch(stream, &q8_quantize::q8_quantize_f32::KERNEL, dims, args)?;
            }
            Q8Source::Bf16(x) => {
                let args = (x.get(), xq, dx, n_tok, k, x_stride, quads);
                device.launch(stream, &q8_quantize::q8_quantize_bf16::KERNEL, dims, args)?;
            }
        }
        Ok(())
    }
}

impl Call for Q8QuantizeCall {
    fn case(&self) -> Case {
        let case = Case::new(
            QUANTIZE,
            MODEL,
            QUANTIZE,
            &[("k", u64::from(self.k)), ("n_tok", u64::from(self.n_tok))],
        );
        match self.x {
            Q8Source::F32(_) => case,
            Q8Source::Bf16(_) => case.with_dtype("bf16"),
        }
    }

    fn only(&self) -> Option<Only> {
        Some(Only {
            config: PLAIN,
            reason: "the quantiser has one kernel",
        })
    }

    fn work(&self, config: &str, _: u32) -> Option<Work> {
        expect_plain(QUANTIZE, config).ok()?;
        let (n_tok, quads) = (u64::from(self.n_tok), u64::from(q8::quads(self.k)));
        let size = match self.x {
            Q8Source::F32(_) => 4,
            Q8Source::Bf16(_) => 2,
        };
        let (x, y, z) = q8_quantize::grid(self.n_tok, q8::quads(self.k), 1);
        let values = u64::from(q8::QUAD_BLOCKS * q8::BLOCK);
        Some(Work {
            read_bytes: n_tok * u64::from(self.k) * size,
            passes: 1,
            write_bytes: n_tok * quads * (values + 4 * u64::from(q8::QUAD_BLOCKS)),
            math: Math::None,
            blocks: u64::from(x) * u64::from(y) * u64::from(z),
            threads: q8_quantize::THREADS,
            ..Work::default()
        })
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(QUANTIZE, config)?;
        self.quantise(device, stream, 1)
    }
}

/// y = W x of Q8_0 weights and quantised activations.
#[derive(Clone, Copy, Debug)]
pub struct Q8MatmulCall {
    /// The weights' integers, in the layout of [`kernels_gpu::q8`]; [`weight_bytes`], at a multiple of 16.
    pub qs: DevPtr<u8>,
    /// Their f16 scales, likewise.
    pub ws: DevPtr<u16>,
    /// The activations' integers, of a [`Q8QuantizeCall`].
    pub xq: DevPtr<u8>,
    /// Their scales.
    pub dx: DevPtr<f32>,
    /// `[n_tok][n]`.
    pub y: DevPtr<f32>,
    /// Rows of the weights: outputs.
    pub n: u32,
    /// Values of a row: inputs.
    pub k: u32,
    /// Tokens.
    pub n_tok: u32,
}

impl Q8MatmulCall {
    /// The launch of a config, for `groups` such products side by side.
    pub(super) fn multiply(&self, device: &Device, stream: &Stream, entry: &Entry, groups: u32) -> Result<(), OpError> {
        let Self { n, k, n_tok, .. } = *self;
        let quads = Q8Shape::new(n, k, groups)?.quads();
        if u64::from(n_tok) * u64::from(groups) * u64::from(n.max(k)) >= 1 << 32 {
            return Err(OpError::Shape(format!(
                "{}: n_tok = {n_tok} of n = {n}, k = {k}, groups = {groups}: 2^32 elements or more",
                operation::NAME
            )));
        }
        for (name, plane) in [
            ("qs", self.qs),
            ("ws", self.ws.cast()),
            ("xq", self.xq),
            ("dx", self.dx.cast()),
        ] {
            expect_aligned(operation::NAME, name, plane, 16)?;
        }
        if n_tok == 0 {
            return Ok(());
        }
        let config = &entry.config;
        config.admits(n, quads, n_tok).map_err(OpError::Shape)?;
        let dims = LaunchDims::new(config.grid(n, groups, n_tok, device.info().sms), config.threads())
            .shared(config.shared_bytes(quads))
            .dependent();
        let args = (
            self.qs.get(),
            self.ws.get(),
            self.xq.get(),
            self.dx.get(),
            self.y.get_mut(),
            n,
            quads,
            n_tok,
            n * groups,
        );
        Ok(device.launch(stream, &entry.kernel, dims, args)?)
    }
}

impl Call for Q8MatmulCall {
    fn case(&self) -> Case {
        operation::case(MODEL, operation::NAME, [self.n, self.k, 1, self.n_tok].map(u64::from))
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        self.multiply(device, stream, operation::entry(config)?, 1)
    }
}
