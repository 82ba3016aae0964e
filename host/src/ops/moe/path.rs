//! The same experts on the path of prefill: sort, grouped gate and up, silu, grouped down, combine. What `moe_decode` is
//! compared with, launch by launch.

use half::bf16;
use kernels_gpu::{moe_combine, silu_mul};

use super::decode::Data;
use super::launch::Launch;
use super::sort;
use super::weights::{DOWN, W};
use crate::device::{Device, LaunchDims, Stream};
use crate::op::OpError;
use crate::op::spec::{Answer, Bound, Problem, Tensor};

/// The problem of `moe_decode`, done in sorted order.
pub(super) struct Sorted(pub Data);

impl Problem for Sorted {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let Data {
            experts, n, k, ref ids, ..
        } = self.0;
        let pairs = ("pair", ids.len());
        let mut tensors = self.0.operands();
        tensors.extend([
            Tensor::scratch::<u32>("counts", &sort::counts(ids.len(), experts)),
            Tensor::scratch::<i32>("offsets", &[("bucket", experts + 1)]),
            Tensor::scratch::<i32>("sorted", &[pairs]),
            Tensor::scratch::<bf16>("gu", &[pairs, ("gate or up", 2), ("n", n)]),
            Tensor::scratch::<bf16>("h", &[pairs, ("n", n)]),
            Tensor::scratch::<bf16>("rows", &[pairs, ("k", k)]),
        ]);
        tensors
    }

    fn launch(&self, device: &Device, stream: &Stream, _: &str, tensors: &Bound) -> Result<(), OpError> {
        let Data {
            n_tok,
            experts,
            top_k,
            n,
            k,
            ref ids,
            ..
        } = self.0;
        let (pairs, experts, top_k) = (ids.len() as u32, experts as u32, top_k as u32);
        let (n, k) = (n as u32, k as u32);
        let ptr = |name: &str| tensors.ptr_mut::<bf16>(name);
        sort::launch(device, stream, tensors, pairs, experts)?;
        let gate_up = Launch {
            x: ptr("x")?.cast::<u16>(),
            w: self.0.gate_up.pointers(W, tensors)?,
            offsets: tensors.ptr("offsets")?,
            sorted: tensors.ptr("sorted")?,
            y: ptr("gu")?.cast(),
            pairs,
            experts,
            top_k,
            n: 2 * n,
            k,
            gather: true,
        };
        gate_up.run(device, stream)?;
        let blocks = silu_mul::grid(u64::from(n), u64::from(pairs)) as u32;
        let args = (ptr("gu")?.cast_const(), ptr("h")?, n, pairs);
        let dims = LaunchDims::new(blocks, silu_mul::THREADS);
        device.launch(stream, &silu_mul::silu_mul::KERNEL, dims, args)?;
        let down = Launch {
            x: ptr("h")?.cast::<u16>(),
            w: self.0.down.pointers(DOWN, tensors)?,
            y: ptr("rows")?.cast(),
            n: k,
            k: n,
            gather: false,
            ..gate_up
        };
        down.run(device, stream)?;
        let args = (
            ptr("rows")?.cast_const(),
            tensors.ptr::<f32>("weights")?,
            std::ptr::null(),
            std::ptr::null(),
            std::ptr::null(),
            ptr("y")?,
            top_k,
            k,
        );
        let dims = LaunchDims::new(moe_combine::grid(n_tok as u32, k), moe_combine::THREADS);
        Ok(device.launch(stream, &moe_combine::moe_combine::KERNEL, dims, args)?)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        self.0.reference()
    }
}
