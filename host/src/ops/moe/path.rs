//! The same experts on the path of prefill: sort, grouped gate and up, silu, grouped down, combine. What `moe_decode` is
//! compared with, launch by launch.

use half::bf16;

use super::decode::Data;
use super::weights::{DOWN, W};
use super::{MoeCombineCall, MoeGroupedCall, sort};
use crate::device::{DevPtr, Device, Stream};
use crate::op::OpError;
use crate::op::call::Call;
use crate::op::spec::{Answer, Bound, PLAIN, Problem, Tensor};
use crate::ops::silu_mul::SiluMulCall;

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
        sort::on(tensors, ids.len(), self.0.experts)?.launch(device, stream, PLAIN)?;
        let gate_up = MoeGroupedCall {
            x: tensors.at("x")?,
            w: self.0.gate_up.on(tensors, W)?,
            offsets: tensors.at("offsets")?,
            sorted: tensors.at("sorted")?,
            y: tensors.at("gu")?,
            pairs,
            experts,
            top_k,
            n: 2 * n,
            k,
            gather: true,
        };
        gate_up.launch(device, stream, PLAIN)?;
        SiluMulCall::of_product(tensors.at("gu")?, tensors.at("h")?, pairs, n).launch(device, stream, PLAIN)?;
        let down = MoeGroupedCall {
            x: tensors.at("h")?,
            w: self.0.down.on(tensors, DOWN)?,
            y: tensors.at("rows")?,
            n: k,
            k: n,
            gather: false,
            ..gate_up
        };
        down.launch(device, stream, PLAIN)?;
        let (gate, shared) = self.0.shared(tensors)?;
        let combine = MoeCombineCall {
            x: tensors.at("rows")?,
            weights: tensors.at("weights")?,
            gate,
            shared,
            residual: DevPtr::NULL,
            y: tensors.at("y")?,
            n_tok: n_tok as u32,
            top_k,
            n: k,
        };
        combine.launch(device, stream, PLAIN)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        self.0.reference()
    }
}
