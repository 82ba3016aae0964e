//! Reading bytes in order, never past their end.

use super::error::{Fault, GgufError};

/// A place in the file's bytes. Every read checks that what it reads is there, so nothing is ever allocated, skipped or
/// indexed on the word of a length in the file.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At byte `at` of the file, or at its end if that is before.
    pub fn new(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor {
            bytes,
            at: at.min(bytes.len()),
        }
    }

    /// The byte in the file the next read begins at.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes from here to the file's end.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `len` bytes; `what` names them in the error when they are not there.
    pub fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], GgufError> {
        match usize::try_from(len).ok().filter(|&len| len <= self.left()) {
            Some(len) => {
                let taken = &self.bytes[self.at..self.at + len];
                self.at += len;
                Ok(taken)
            }
            None => Err(self.truncated(format!(
                "{what} is {len} bytes long, {} are left in the file",
                self.left()
            ))),
        }
    }

    /// The error of something that is not there, found here.
    pub fn truncated(&self, message: String) -> GgufError {
        GgufError::at(self.at, Fault::Truncated, message)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    /// A little-endian u32.
    pub fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A little-endian u64.
    pub fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: a u64 length, then that many bytes, which need not be UTF-8. `what` names the string.
    pub fn string(&mut self, what: &str) -> Result<&'a [u8], GgufError> {
        let start = self.at;
        let len = self.u64(what)?;
        self.take(len, what).map_err(|e| GgufError {
            offset: start as u64,
            ..e
        })
    }

    /// A count of things that are at least `least` bytes long each. A count that the rest of the file cannot hold is an error.
    pub fn count(&mut self, least: usize, what: &str) -> Result<u64, GgufError> {
        let start = self.at;
        let count = self.u64(what)?;
        self.check_count(count, least, what).map_err(|e| GgufError {
            offset: start as u64,
            ..e
        })?;
        Ok(count)
    }

    /// Whether `count` things of at least `least` bytes can be in the rest of the file.
    pub fn check_count(&self, count: u64, least: usize, what: &str) -> Result<(), GgufError> {
        match count.checked_mul(least as u64) {
            Some(bytes) if bytes <= self.left() as u64 => Ok(()),
            _ => Err(self.truncated(format!(
                "{what} is {count}, of {least} bytes or more each; {} bytes are left in the file",
                self.left()
            ))),
        }
    }
}
