//! One shadow byte for each byte of device memory. A check of 1 to 16 bytes is one wide comparison.

/// The byte belongs to an allocation; clear in red zones and freed memory.
pub(crate) const ALLOCATED: u8 = 1;
/// The byte was written since it was allocated (or marked unwritten).
pub(crate) const WRITTEN: u8 = 3;

macro_rules! wide {
    ($shadow:expr, $len:expr, $bits:expr, $ty:ty) => {{
        let want = <$ty>::from_ne_bytes([$bits; size_of::<$ty>()]);
        // SAFETY: the caller of `all` vouches for `len` readable bytes, and this arm runs only for that length.
        unsafe { $shadow.cast::<$ty>().read_unaligned() & want == want }
    }};
}

/// Whether each of the `len` shadow bytes has all of `bits` set.
///
/// # Safety
/// `shadow..shadow + len` must be readable.
#[inline(always)]
pub(crate) unsafe fn all(shadow: *const u8, len: usize, bits: u8) -> bool {
    match len {
        1 => wide!(shadow, len, bits, u8),
        2 => wide!(shadow, len, bits, u16),
        4 => wide!(shadow, len, bits, u32),
        8 => wide!(shadow, len, bits, u64),
        16 => wide!(shadow, len, bits, u128),
        // SAFETY: the caller vouches for the range.
        _ => unsafe { first_without(shadow, len, bits) }.is_none(),
    }
}

/// The position of the first of `len` shadow bytes that lacks one of `bits`.
///
/// # Safety
/// `shadow..shadow + len` must be readable.
pub(crate) unsafe fn first_without(shadow: *const u8, len: usize, bits: u8) -> Option<usize> {
    // SAFETY: the caller vouches for the range; volatile-like staleness does not matter, see `memory`'s notes on races.
    (0..len).find(|&i| unsafe { shadow.add(i).read() } & bits != bits)
}
