//! One launch of `nvfp4_matmul` on tensors that lie anywhere on a device.

use kernels_gpu::{gemm::choose, nvfp4_matmul as kernels};

use super::{BLOCK, Convention, Matmul, Nvfp4Matmul};
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::{Call, MODEL, expect_aligned, expect_plain};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};
use crate::ops::gemm::common::{check_tiles, launch_dims};

/// y = a w^T with the tensor scale, plus bias; activations of `T`.
#[derive(Clone, Copy, Debug)]
pub struct Nvfp4MatmulCall<T> {
    /// `[m][k]`.
    pub a: DevPtr<T>,
    /// `[n][k / 2]`: two E2M1 a byte, the low nibble is the even k; at a multiple of 8 bytes.
    pub codes: DevPtr<u8>,
    /// `[n][k / 16]` E4M3.
    pub scales: DevPtr<u8>,
    /// `[1]`, as stored.
    pub tensor_scale: DevPtr<f32>,
    /// What the tensor scale means.
    pub convention: Convention,
    /// `[n]`, or null.
    pub bias: DevPtr<T>,
    /// `[m][n]` of `T`, or of f32.
    pub y: DevPtr<u8>,
    /// Rows of a: tokens.
    pub m: u32,
    /// Rows of the weights: outputs.
    pub n: u32,
    /// Columns of both, a multiple of 16.
    pub k: u32,
    /// Whether y is f32.
    pub out_f32: bool,
}

impl<T: Matmul> Call for Nvfp4MatmulCall<T> {
    fn case(&self) -> Case {
        let dims = [
            ("n", u64::from(self.n)),
            ("k", u64::from(self.k)),
            ("n_tok", u64::from(self.m)),
            ("convention", u64::from(self.convention.divide())),
            ("out_f32", u64::from(self.out_f32)),
            ("bias", u64::from(!self.bias.is_null())),
        ];
        Case::of::<Nvfp4Matmul>(MODEL, Nvfp4Matmul::NAME, &dims, Values::Normal).with_dtype(T::DTYPE.name())
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        expect_plain(Nvfp4Matmul::NAME, config)?;
        let Self { m, n, k, .. } = *self;
        if n == 0 || k == 0 || !k.is_multiple_of(BLOCK) {
            return Err(OpError::Shape(format!(
                "{}: weights of [{n}][{k}]; n is at least 1, k a multiple of {BLOCK} from {BLOCK} on",
                Nvfp4Matmul::NAME
            )));
        }
        expect_aligned(Nvfp4Matmul::NAME, "codes", self.codes, 8)?;
        check_tiles(u64::from(m), u64::from(n)).map_err(OpError::Shape)?;
        if m == 0 {
            return Ok(());
        }
        let choice = choose(m, n);
        let dims = launch_dims(choice, m, n, kernels::shared(choice));
        let args = (
            self.a.cast().get(),
            self.codes.get(),
            self.scales.get(),
            self.tensor_scale.get(),
            self.convention.divide(),
            self.bias.cast().get(),
            self.y.get_mut(),
            m,
            n,
            k,
            u32::from(self.out_f32),
        );
        Ok(device.launch(stream, &T::kernel(choice), dims, args)?)
    }
}
