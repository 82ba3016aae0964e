//! The tile configs of the family: data that says how the work is cut, the same on the device, on the host and in results.

/// One tile config: how the work is cut, never what is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its stable name: `t8_n16_k128_s14_w1`, after `tokens`, `outputs`, `16 * steps`, `stages` and the warps of a block.
    pub id: &'static str,
    /// Tokens of a block's tile.
    pub tokens: u32,
    /// Outputs of a block's tile.
    pub outputs: u32,
    /// k16 steps of a stage.
    pub steps: u32,
    /// Stages of the ring; all but two are on their way at any time.
    pub stages: u32,
    /// Threads of a block.
    pub threads: u32,
}

impl Config {
    /// Bytes of dynamic shared memory of a block.
    pub const fn shared_bytes(&self) -> u32 {
        self.stages * stage_bytes(self.tokens, self.outputs, self.steps)
    }

    /// Blocks of the launch for `m` tokens and `n` outputs: one a tile, in grid x.
    pub const fn grid(&self, m: u32, n: u32) -> u32 {
        m.div_ceil(self.tokens) * n.div_ceil(self.outputs)
    }

    /// Whether the config takes `m` tokens, `n` outputs and `k` inputs, with `a` and `w` at these addresses.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    #[cfg(not(target_arch = "nvptx64"))]
    pub fn admits(&self, m: u32, n: u32, k: u32) -> Result<(), String> {
        if m == 0 || n == 0 || k == 0 {
            return Err(format!("nothing to do: M = {m}, N = {n}, K = {k}"));
        }
        if !k.is_multiple_of(8) {
            return Err(format!(
                "K = {k} is no multiple of 8: rows are copied 16 bytes at a time"
            ));
        }
        if m > self.tokens && n > self.outputs {
            return Err(format!(
                "M = {m} is more than {} tokens and N = {n} more than {} outputs: neither operand would be read only once",
                self.tokens, self.outputs
            ));
        }
        if u64::from(m.div_ceil(self.tokens)) * u64::from(n.div_ceil(self.outputs)) >= 1 << 31 {
            return Err(format!("M = {m}, N = {n}: 2^31 tiles or more"));
        }
        Ok(())
    }

    /// Whether the config takes operands at these addresses.
    ///
    /// # Errors
    /// The reason why not, with the numbers.
    #[cfg(not(target_arch = "nvptx64"))]
    pub fn admits_addresses(&self, a: usize, w: usize) -> Result<(), String> {
        for (name, address) in [("a", a), ("w", w)] {
            if !address.is_multiple_of(16) {
                return Err(format!(
                    "{name} is at {address:#x}, no multiple of 16: rows are copied 16 bytes at a time"
                ));
            }
        }
        Ok(())
    }
}

/// Bytes from one row of a stage of `steps` k16 steps to the next: 16 more than the row, so that the eight rows of an `ldmatrix` lie
/// in different banks.
pub(super) const fn pitch(steps: u32) -> u32 {
    32 * steps + 16
}

/// Bytes of a stage.
pub(super) const fn stage_bytes(tokens: u32, outputs: u32, steps: u32) -> u32 {
    (tokens + outputs) * pitch(steps)
}
