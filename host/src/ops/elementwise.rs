//! What the operations share whose threads have a vector of outputs each.

/// Refuses more outputs than a kernel counts, `vector` of them a thread.
pub(super) fn check_threads(vector: u32, n: u64, n_tok: u64) -> Result<(), String> {
    if n_tok * n.div_ceil(u64::from(vector)) >= 1 << 31 {
        return Err(format!(
            "n = {n}, n_tok = {n_tok}: {vector} outputs a thread are 2^31 threads or more"
        ));
    }
    Ok(())
}

/// Outputs of a row of a random case, near the edges of vectors and blocks more often than not. Takes numbers 0 to 2 of `draw`.
pub(super) fn random_n(draw: impl Fn(u64, u64) -> u64) -> u64 {
    match draw(0, 3) {
        0 => 1 + draw(1, 600),
        1 => 8 * (1 + draw(1, 300)),
        _ => (256 * (1 + draw(1, 8)) + draw(2, 3)) - 1,
    }
}
