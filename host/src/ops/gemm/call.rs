//! One launch of `gemm` on tensors that lie anywhere on a device.

use kernels_gpu::gemm as kernels;

use super::common::launch_dims;
use super::family::{self, Addresses, Family, Sizes};
use super::multiply::Args;
use super::{Gemm, Kernels};
use crate::device::{DevPtr, Device, LaunchDims, Stream};
use crate::op::call::{Call, MODEL, refused};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// y = a w^T + bias + residual, of operands `T`.
#[derive(Clone, Copy, Debug)]
pub struct GemmCall<T> {
    /// `[m][k]`.
    pub a: DevPtr<T>,
    /// `[n][k]`.
    pub w: DevPtr<T>,
    /// `[n]`, or null.
    pub bias: DevPtr<T>,
    /// `[m][n]`, or null; may be y. Not where y is f32.
    pub residual: DevPtr<T>,
    /// `[m][n]` of `T`, or of f32.
    pub y: DevPtr<u8>,
    /// Rows of a: tokens.
    pub m: u32,
    /// Rows of w: outputs.
    pub n: u32,
    /// Columns of both: inputs.
    pub k: u32,
    /// Whether y is f32.
    pub out_f32: bool,
}

impl<T: Kernels> Call for GemmCall<T> {
    fn case(&self) -> Case {
        let dims = [
            ("n", u64::from(self.n)),
            ("k", u64::from(self.k)),
            ("n_tok", u64::from(self.m)),
            ("out_f32", u64::from(self.out_f32)),
            ("bias", u64::from(!self.bias.is_null())),
            ("residual", u64::from(!self.residual.is_null())),
        ];
        Case::of::<Gemm>(MODEL, Gemm::NAME, &dims, Values::Normal).with_dtype(T::DTYPE.name())
    }

    fn takes(&self, config: &str) -> Result<(), String> {
        family::find(config)
            .map_err(|error| error.to_string())?
            .takes(self.addresses())
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str) -> Result<(), OpError> {
        let family = family::find(config)?;
        let sizes = self.sizes();
        sizes.check().map_err(OpError::Shape)?;
        if self.out_f32 && !self.residual.is_null() {
            return Err(OpError::Shape(
                "a residual is added to a 16-bit output, and y is f32".into(),
            ));
        }
        if self.m == 0 {
            return Ok(());
        }
        let unfit = |why: String| {
            refused(
                Gemm::NAME,
                format!("config '{config}' does not take this product: {why}"),
            )
        };
        family.admits(sizes).map_err(unfit)?;
        family.takes(self.addresses()).map_err(unfit)?;
        match family {
            Family::Plain => self.plain(device, stream),
            Family::Skinny(entry) => {
                let dims = LaunchDims::new(entry.config.grid(self.m, self.n), entry.config.threads)
                    .shared(entry.config.shared_bytes());
                Ok(device.launch(stream, &T::skinny(entry), dims, self.args())?)
            }
        }
    }
}

impl<T: Kernels> GemmCall<T> {
    fn sizes(&self) -> Sizes {
        Sizes {
            m: self.m,
            n: self.n,
            k: self.k,
        }
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            a: self.a.get() as usize,
            w: self.w.get() as usize,
        }
    }

    /// The parameters of the kernels that take pointers.
    fn args(&self) -> Args {
        (
            self.a.cast().get(),
            self.w.cast().get(),
            self.bias.cast().get(),
            self.residual.cast().get(),
            self.y.get_mut(),
            self.m,
            self.n,
            self.k,
            u32::from(self.out_f32),
        )
    }

    fn plain(&self, device: &Device, stream: &Stream) -> Result<(), OpError> {
        let choice = kernels::choose(self.m, self.n);
        let dims = launch_dims(choice, self.m, self.n, kernels::shared(choice));
        Ok(device.launch(stream, &T::kernel(choice), dims, self.args())?)
    }
}
