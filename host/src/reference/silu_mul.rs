//! y = bf16(silu(g) * u), one element after another.

use half::bf16;

use super::{ReferenceError, expect, to_bf16};

/// `gu` is `[n_tok][2][n]`, gate first; gives `[n_tok][n]`.
///
/// # Errors
/// [`ReferenceError`] where `gu` has not that many elements.
pub fn silu_mul(gu: &[bf16], n_tok: usize, n: usize) -> Result<Vec<bf16>, ReferenceError> {
    expect("gu", gu.len(), &[("n_tok", n_tok), ("gate and up", 2), ("n", n)])?;
    let mut y = vec![bf16::ZERO; n_tok * n];
    crate::op::data::rows(&mut y, n, |token, row| {
        for (j, out) in row.iter_mut().enumerate() {
            let gate = gu[token * 2 * n + j].to_f32();
            let up = gu[token * 2 * n + n + j].to_f32();
            // The elementary functions are defined by their source (docs/numerics.md).
            *out = to_bf16(cuda_std::float::exact::silu(gate) * up);
        }
    });
    Ok(y)
}
