//! One launch of `gemm` on tensors that lie anywhere on a device.

use kernels_gpu::{gemm as kernels, gemm_hopper};

use super::common::launch_dims;
use super::family::{self, Addresses, Family, Sizes};
use super::multiply::Args;
use super::{Gemm, Kernels};
use crate::device::{DevPtr, Device, LaunchDims, Stream, Swizzle, TensorMapSpec};
use crate::op::call::{Call, MODEL, refused};
use crate::op::spec::Spec;
use crate::op::{Case, OpError, Values};

/// y = a w^T + bias + residual, of operands `T`.
#[derive(Clone, Copy, Debug)]
pub struct GemmCall<T> {
    /// `[m][k]`.
    pub a: DevPtr<T>,
    /// `[n][k]`. No kernel right before it in the stream may write it: configs that are launched as its dependents read it early.
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
            Family::Hopper(entry) => self.hopper(device, stream, entry),
            Family::Skinny(entry) => {
                let dims = LaunchDims::new(entry.config.grid(self.m, self.n), entry.config.threads)
                    .shared(entry.config.shared_bytes())
                    .dependent();
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

    /// Maps of a, w and, where it goes out by tensor copies, y are made for each launch: values of 128 bytes, without a call of the
    /// device's.
    fn hopper(&self, device: &Device, stream: &Stream, entry: &gemm_hopper::Entry) -> Result<(), OpError> {
        let Self { m, n, k, .. } = *self;
        let config = &entry.config;
        let map = |address: DevPtr<u8>, [width, rows]: [u32; 2], tile: [u32; 2]| {
            device.tensor_map(&TensorMapSpec {
                address,
                element_bytes: 2,
                sizes: &[u64::from(width), u64::from(rows)],
                strides_bytes: &[2 * u64::from(width)],
                tile: &tile,
                swizzle: Swizzle::B128,
            })
        };
        let a = map(self.a.cast(), [k, m], [gemm_hopper::config::COPY_K, config.box_a()])?;
        let w = map(self.w.cast(), [k, n], [gemm_hopper::config::COPY_K, config.box_w()])?;
        let added = !self.bias.is_null() || !self.residual.is_null();
        let staged = config.stages_y(n, self.out_f32, self.y.get() as usize, added);
        let [rows, columns] = gemm_hopper::config::STORE;
        // A kernel that does not look at y's map takes any.
        let y = if staged {
            map(self.y, [n, m], [columns, rows])?
        } else {
            a
        };
        let (p, q) = if config.swapped { (w, a) } else { (a, w) };
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let args = (
            p,
            q,
            y,
            self.bias.cast().get(),
            self.residual.cast().get(),
            self.y.get_mut(),
            m,
            n,
            k,
            flag(self.out_f32, gemm_hopper::OUT_F32) | flag(staged, gemm_hopper::STAGED),
        );
        let dims = LaunchDims::new(config.grid(m, n, device.info().sms), config.threads)
            .shared(config.shared_bytes)
            .cluster(config.cluster)
            .dependent();
        Ok(device.launch(stream, &T::hopper(entry), dims, args)?)
    }

    fn plain(&self, device: &Device, stream: &Stream) -> Result<(), OpError> {
        let choice = kernels::choose(self.m, self.n);
        let dims = launch_dims(choice, self.m, self.n, kernels::shared(choice));
        Ok(device.launch(stream, &T::kernel(choice), dims, self.args())?)
    }
}
