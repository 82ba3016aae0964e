//! The data of a case of `gemm`.

use super::common::{answer, places, rows_alone};
use super::family::{self, Sizes};
use super::{GemmCall, Kernels};
use crate::device::{DevPtr, Device, Stream};
use crate::op::call::Call;
use crate::op::data::Draw;
use crate::op::random::Random;
use crate::op::spec::{Alone, Answer, Bound, Dims, Problem, Same, Tensor};
use crate::op::{OpError, Values};
use crate::reference::gemm::Operands;

/// The data of a case.
#[derive(Clone)]
pub(super) struct Data<T> {
    m: usize,
    n: usize,
    k: usize,
    out_f32: bool,
    a: Vec<T>,
    w: Vec<T>,
    bias: Option<Vec<T>>,
    residual: Option<Vec<T>>,
}

impl<T: Kernels> Data<T> {
    pub(super) fn draw(dims: &Dims, values: Values, seed: u64) -> Self {
        let (m, n, k) = (dims.usize("n_tok"), dims.usize("n"), dims.usize("k"));
        let draw = Draw { seed, values };
        let some = |name: &str, rows: usize| {
            let given = dims.u64(name) == 1;
            given.then(|| draw.floats(&format!("gemm {name}"), rows, n, 1.0))
        };
        Self {
            m,
            n,
            k,
            out_f32: dims.u64("out_f32") == 1,
            a: draw.floats("gemm a", m, k, 1.0),
            // Outputs of a standard deviation of about 1.
            w: draw.floats("gemm w", n, k, (1.0 / k as f32).sqrt()),
            bias: some("bias", 1),
            residual: some("residual", m),
        }
    }

    fn operands(&self) -> Operands<'_, T> {
        Operands {
            a: &self.a,
            w: &self.w,
            bias: self.bias.as_deref(),
            residual: self.residual.as_deref(),
            m: self.m,
            n: self.n,
            k: self.k,
        }
    }

    /// Rows `first` to `last` by themselves.
    fn part(&self, first: usize, last: usize) -> Self {
        Self {
            m: last - first,
            a: self.a[first * self.k..last * self.k].to_vec(),
            residual: self
                .residual
                .as_ref()
                .map(|r| r[first * self.n..last * self.n].to_vec()),
            ..self.clone()
        }
    }

    fn alone(&self, name: &'static str, first: usize, last: usize) -> Alone {
        let (at, count) = (first * self.n, (last - first) * self.n);
        let same = if self.out_f32 {
            Same::new::<f32>("y", at, 0, count)
        } else {
            Same::new::<T>("y", at, 0, count)
        };
        let problem = Box::new(self.part(first, last));
        Alone {
            name,
            problem,
            same: vec![same],
        }
    }
}

impl<T: Kernels> Problem for Data<T> {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let mut tensors = vec![
            Tensor::weight("w", &[("n", self.n), ("k", self.k)], &self.w),
            Tensor::input("a", &[("n_tok", self.m), ("k", self.k)], &self.a),
        ];
        if let Some(bias) = &self.bias {
            tensors.push(Tensor::input("bias", &[("n", self.n)], bias));
        }
        if let Some(residual) = &self.residual {
            tensors.push(Tensor::input("residual", &[("n_tok", self.m), ("n", self.n)], residual));
        }
        let y = [("n_tok", self.m), ("n", self.n)];
        tensors.push(if self.out_f32 {
            Tensor::output::<f32>("y", &y)
        } else {
            Tensor::output::<T>("y", &y)
        });
        tensors
    }

    fn launch(&self, device: &Device, stream: &Stream, config: &str, tensors: &Bound) -> Result<(), OpError> {
        let optional = |name: &str, given: bool| if given { tensors.at(name) } else { Ok(DevPtr::NULL) };
        let call = GemmCall::<T> {
            a: tensors.at("a")?,
            w: tensors.at("w")?,
            bias: optional("bias", self.bias.is_some())?,
            residual: optional("residual", self.residual.is_some())?,
            y: DevPtr::of(tensors.buffer("y")?),
            m: self.m as u32,
            n: self.n as u32,
            k: self.k as u32,
            out_f32: self.out_f32,
        };
        call.launch(device, stream, config)
    }

    fn admits(&self, config: &str) -> Result<(), String> {
        let sizes = Sizes {
            m: self.m as u32,
            n: self.n as u32,
            k: self.k as u32,
        };
        family::find(config).map_err(|error| error.to_string())?.admits(sizes)
    }

    fn reference(&self) -> Result<Answer, OpError> {
        let operands = self.operands();
        let places = places(self.m, self.n, self.k);
        let at = places.clone().unwrap_or_else(|| operands.everywhere());
        Ok(if self.out_f32 {
            answer(self.n, places, &operands.f32_at(&at)?)
        } else {
            answer(self.n, places, &operands.at(&at)?)
        })
    }

    /// The plain kernel gives a row alone the thin tile whatever the batch takes, and every config's rows are compared with those of
    /// another one that takes them: decode against prefill (L3).
    fn alone(&self, pick: Random) -> Vec<Alone> {
        rows_alone(pick, self.m, |name, first, end| self.alone(name, first, end))
    }
}
