//! Cases: one problem of one operation, with an id that is stable across runs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the data of a case is drawn. Everything but `Normal` is there to find errors that random data hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// Normally distributed activations, uniform weight bytes, scales of ordinary size. What is timed.
    Normal,
    /// All weights, scales and activations zero.
    Zeros,
    /// Weight scales are subnormal f16.
    SubnormalScales,
    /// Weight scales are +-65504, the largest f16.
    MaximalScales,
    /// Weight scales have random signs.
    NegativeScales,
    /// NaN and infinity among the activations.
    NonFinite,
    /// NaN and infinity among the weight scales.
    NonFiniteScales,
    /// Every weight byte is -128.
    AllMinimum,
    /// Every weight byte is -127 or 127.
    Extremes,
    /// Signs alternate so that the sum cancels.
    Cancelling,
    /// Activations near the largest f32.
    Huge,
    /// Activations near and below the smallest normal f32.
    Tiny,
    /// One activation is not zero.
    Single,
    /// Each block's activations and scale have their own magnitude: any change of order shows.
    WideRange,
}

impl Values {
    /// Every kind.
    pub const ALL: [Values; 14] = [
        Values::Normal,
        Values::Zeros,
        Values::SubnormalScales,
        Values::MaximalScales,
        Values::NegativeScales,
        Values::NonFinite,
        Values::NonFiniteScales,
        Values::AllMinimum,
        Values::Extremes,
        Values::Cancelling,
        Values::Huge,
        Values::Tiny,
        Values::Single,
        Values::WideRange,
    ];

    /// The name, as in case ids.
    pub fn name(self) -> &'static str {
        match self {
            Values::Normal => "normal",
            Values::Zeros => "zeros",
            Values::SubnormalScales => "subnormal_scales",
            Values::MaximalScales => "maximal_scales",
            Values::NegativeScales => "negative_scales",
            Values::NonFinite => "non_finite",
            Values::NonFiniteScales => "non_finite_scales",
            Values::AllMinimum => "all_minimum",
            Values::Extremes => "extremes",
            Values::Cancelling => "cancelling",
            Values::Huge => "huge",
            Values::Tiny => "tiny",
            Values::Single => "single",
            Values::WideRange => "wide_range",
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Values {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Values::ALL.into_iter().find(|v| v.name() == text).ok_or_else(|| {
            let names = Values::ALL.map(Values::name).join(", ");
            format!("unknown value kind '{text}'; the kinds are {names}")
        })
    }
}

/// An operation's name with a dtype: `gemm_bf16`.
pub fn typed(op: &str, dtype: &str) -> String {
    format!("{op}_{dtype}")
}

/// One problem of one operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// The operation's name.
    pub op: String,
    /// The model or workload the shape comes from; `custom` or `random` when from none.
    pub model: String,
    /// The tensor's name in it.
    pub name: String,
    /// The dimensions in the operation's own order, e.g. `n`, `k`, `n_tok`.
    pub dims: Vec<(String, u64)>,
    /// Dtype of the activations: `f32` or `bf16`.
    pub dtype: String,
    /// How its data is drawn.
    pub values: Values,
}

impl Case {
    /// A case of f32 activations and random values.
    pub fn new(op: &str, model: &str, name: &str, dims: &[(&str, u64)]) -> Self {
        Self {
            op: op.into(),
            model: model.into(),
            name: name.into(),
            dims: dims.iter().map(|(axis, size)| (axis.to_string(), *size)).collect(),
            dtype: "f32".into(),
            values: Values::Normal,
        }
    }

    /// The operation's name with the dtype: `gemm_bf16`, by which command lines mean the cases of one dtype.
    pub fn typed_op(&self) -> String {
        typed(&self.op, &self.dtype)
    }

    /// The size of a dimension; `None` when the case has no such axis.
    pub fn dim(&self, axis: &str) -> Option<u64> {
        self.dims.iter().find(|(name, _)| name == axis).map(|(_, size)| *size)
    }

    /// The shape as records and tuned tables have it: the dimensions without the tokens, and the tokens (1 when the
    /// operation has none).
    pub fn shape(&self) -> (BTreeMap<String, u64>, u32) {
        let dims = self.dims.iter().filter(|(axis, _)| axis != "n_tok").cloned().collect();
        (
            dims,
            self.dim("n_tok")
                .map_or(1, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
        )
    }

    /// The dimensions as text: `n=4096,k=4096,n_tok=1`.
    pub fn dims_text(&self) -> String {
        let parts: Vec<String> = self.dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
        parts.join(",")
    }

    /// The stable id: `q8_matmul/qwen3-8b/attn_q/n=4096,k=4096,n_tok=1`, followed by the dtype and the kind of values
    /// where they are not `f32` and `normal`. Records and `--resume` go by it.
    pub fn id(&self) -> String {
        let mut id = format!("{}/{}/{}/{}", self.op, self.model, self.name, self.dims_text());
        if self.dtype != "f32" {
            id.push('/');
            id.push_str(&self.dtype);
        }
        if self.values != Values::Normal {
            id.push('/');
            id.push_str(self.values.name());
        }
        id
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_cases_apart_and_is_short_for_ordinary_ones() {
        let case = Case::new(
            "q8_matmul",
            "qwen3-8b",
            "attn_q",
            &[("n", 4096), ("k", 2048), ("n_tok", 1)],
        );
        assert_eq!(case.id(), "q8_matmul/qwen3-8b/attn_q/n=4096,k=2048,n_tok=1");
        assert_eq!(case.typed_op(), "q8_matmul_f32");
        assert_eq!(case.dim("k"), Some(2048));
        assert_eq!(case.dim("m"), None);
        let (dims, n_tok) = case.shape();
        assert_eq!((dims.len(), dims["n"], n_tok), (2, 4096, 1));
        let other = Case {
            dtype: "bf16".into(),
            values: Values::Huge,
            ..case.clone()
        };
        assert_eq!(other.id(), "q8_matmul/qwen3-8b/attn_q/n=4096,k=2048,n_tok=1/bf16/huge");
    }

    #[test]
    fn value_kinds_are_read_back_from_their_names() {
        for kind in Values::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("sunny".parse::<Values>().unwrap_err().contains("wide_range"));
    }
}
