//! What cuBLASLt's functions return.

use super::super::PeerError;

/// `cublasStatus_t`.
pub(super) type Status = std::ffi::c_int;

/// The error of a call, unless it went well.
pub(super) fn check(call: &'static str, status: Status) -> Result<(), PeerError> {
    let words = match status {
        0 => return Ok(()),
        1 => "CUBLAS_STATUS_NOT_INITIALIZED",
        3 => "CUBLAS_STATUS_ALLOC_FAILED",
        7 => "CUBLAS_STATUS_INVALID_VALUE",
        8 => "CUBLAS_STATUS_ARCH_MISMATCH",
        13 => "CUBLAS_STATUS_EXECUTION_FAILED",
        14 => "CUBLAS_STATUS_INTERNAL_ERROR",
        15 => "CUBLAS_STATUS_NOT_SUPPORTED",
        _ => "an unknown status",
    };
    let status = format!("{words} ({status})");
    Err(PeerError::Call { call, status })
}
