//! The simulated device memory: one arena of reserved address space for the process, with a parallel shadow.
//!
//! Pointers are real host addresses, so a kernel's pointer arithmetic needs no translation. Between two allocations lie
//! red zones of at least [`RED_ZONE`] bytes; freed addresses are handed out again only when the whole arena was used
//! once. An access is checked against the shadow (allocated? written?), byte by byte, so it is exact to the byte.
//!
//! Not detected: an access that jumps over a red zone into another live allocation, and data races between blocks on
//! device memory (threads of different blocks communicate through atomics, or through separate launches).

use crate::ErrorKind;
use crate::error::Fault;
use crate::shadow::{self, ALLOCATED, WRITTEN};
use crate::vm::Reservation;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Unallocated bytes kept before and after every allocation.
pub const RED_ZONE: usize = 1 << 20;
/// What fresh device memory holds.
pub const FRESH_BYTE: u8 = 0xA5;

const PAGE: usize = 4096;
/// The arena's sizes to try, largest first; a limit on address space (`ulimit -v`) can rule the larger ones out.
const SIZES: [usize; 4] = [1 << 40, 1 << 37, 1 << 34, 1 << 32];
/// Freed allocations remembered by name for the sake of good error messages.
const REMEMBERED: usize = 4096;

static BASE: AtomicUsize = AtomicUsize::new(0);
static SIZE: AtomicUsize = AtomicUsize::new(0);
static ARENA: OnceLock<Result<Arena, MemoryError>> = OnceLock::new();

/// Why device memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryError(String);

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MemoryError {}

struct Record {
    len: usize,
    name: String,
    live: bool,
}

impl Record {
    fn span(&self) -> usize {
        self.len.max(1).next_multiple_of(PAGE)
    }
}

struct Book {
    records: BTreeMap<usize, Record>,
    next: usize,
    dead: usize,
}

struct Arena {
    range: Reservation,
    size: usize,
    book: Mutex<Book>,
}

fn arena() -> Result<&'static Arena, MemoryError> {
    let made = ARENA.get_or_init(|| {
        let mut last = String::new();
        for size in SIZES {
            match Reservation::new(2 * size) {
                Ok(range) => {
                    SIZE.store(size, Ordering::Relaxed);
                    BASE.store(range.base() as usize, Ordering::Release);
                    let book = Mutex::new(Book {
                        records: BTreeMap::new(),
                        next: RED_ZONE,
                        dead: 0,
                    });
                    return Ok(Arena { range, size, book });
                }
                Err(e) => last = e.to_string(),
            }
        }
        let least = 2 * SIZES[SIZES.len() - 1];
        Err(MemoryError(format!(
            "cannot reserve {least} bytes of address space for device memory: {last}"
        )))
    });
    made.as_ref().map_err(Clone::clone)
}

impl Arena {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Allocates `bytes` of device memory, 256-byte aligned (in fact to a page), filled with [`FRESH_BYTE`] and marked as
/// never written. `name` appears in error messages.
///
/// # Errors
/// When the arena's address space or the machine's memory does not suffice; the message has the numbers.
pub fn alloc(bytes: usize, name: &str) -> Result<*mut u8, MemoryError> {
    let arena = arena()?;
    if let Some(free) = available_memory(bytes)
        && bytes.saturating_mul(2) > free
    {
        return Err(MemoryError(format!(
            "device memory `{name}`: {bytes} bytes (and as many for the shadow) do not fit into the {free} bytes this \
             machine has available"
        )));
    }
    let too_large = |used: usize| {
        let size = arena.size;
        MemoryError(format!(
            "device memory `{name}`: {bytes} bytes do not fit into the arena of {size} ({used} in use)"
        ))
    };
    if bytes > arena.size {
        return Err(too_large(0));
    }
    let mut book = arena.book();
    let span = bytes.max(1).next_multiple_of(PAGE);
    let offset = match book.place(span, arena.size) {
        Some(offset) => offset,
        None => return Err(too_large(book.records.values().filter(|r| r.live).map(|r| r.len).sum())),
    };
    book.records.insert(
        offset,
        Record {
            len: bytes,
            name: name.to_owned(),
            live: true,
        },
    );
    drop(book);
    // SAFETY: the range was free until now, so nobody else touches it or its shadow; both lie in the reservation.
    unsafe {
        let p = arena.range.base().add(offset);
        p.write_bytes(FRESH_BYTE, bytes);
        p.add(arena.size).write_bytes(ALLOCATED, bytes);
        Ok(p)
    }
}

impl Book {
    /// An offset for `span` bytes (whole pages): fresh addresses while there are any, then gaps between live ones.
    fn place(&mut self, span: usize, size: usize) -> Option<usize> {
        let end = self.next.checked_add(span)?.checked_add(RED_ZONE)?;
        if end <= size {
            let offset = self.next;
            self.next = end;
            return Some(offset);
        }
        let mut from = RED_ZONE;
        let mut found = None;
        for (&start, r) in self.records.iter().filter(|(_, r)| r.live) {
            if from + span + RED_ZONE <= start {
                found = Some(from);
                break;
            }
            from = start + r.span() + RED_ZONE;
        }
        let offset = found.or((from + span + RED_ZONE <= size).then_some(from))?;
        self.records
            .retain(|&s, r| r.live || s + r.span() <= offset || offset + span <= s);
        self.dead = self.records.values().filter(|r| !r.live).count();
        Some(offset)
    }
}

/// Frees what [`alloc`] returned; anything else is ignored. Later accesses are errors until the address is used again.
///
/// # Safety
/// No launch that uses the memory may be running.
pub unsafe fn free(p: *mut u8) {
    let Ok(arena) = arena() else { return };
    let mut book = arena.book();
    let offset = (p as usize).wrapping_sub(arena.range.base() as usize);
    let Some(record) = book.records.get_mut(&offset).filter(|r| r.live) else {
        return;
    };
    record.live = false;
    let span = record.span();
    book.dead += 1;
    if book.dead > REMEMBERED {
        let oldest = book.records.iter().find(|(_, r)| !r.live).map(|(&s, _)| s);
        oldest.map(|s| book.records.remove(&s));
        book.dead -= 1;
    }
    // SAFETY: the allocation is over and the caller vouches that nobody uses it. Zero shadow means "not allocated".
    unsafe {
        arena.range.discard(offset, span);
        arena.range.discard(arena.size + offset, span);
    }
}

/// The shadow of `p..p + len`, if that range lies in the arena.
#[inline(always)]
fn shadow_of(p: usize, len: usize) -> Option<*mut u8> {
    let (base, size) = (BASE.load(Ordering::Relaxed), SIZE.load(Ordering::Relaxed));
    let offset = p.wrapping_sub(base);
    // Before the first allocation `size` is 0 and nothing is inside.
    (offset < size && len <= size - offset).then(|| (p + size) as *mut u8)
}

/// Host-side upload: copies `src` to device memory and marks it written.
///
/// # Safety
/// `dst..dst + src.len()` must lie in a live allocation that no running launch touches.
pub unsafe fn write(dst: *mut u8, src: &[u8]) {
    // SAFETY: the caller vouches for the range.
    unsafe {
        std::ptr::copy_nonoverlapping(src.as_ptr(), dst, src.len());
        mark(dst, src.len(), WRITTEN);
    }
}

/// Host-side download. Bytes that nobody wrote come back as they are; see [`first_unwritten`].
///
/// # Safety
/// `src..src + dst.len()` must lie in a live allocation that no running launch writes.
pub unsafe fn read(src: *const u8, dst: &mut [u8]) {
    // SAFETY: the caller vouches for the range.
    unsafe { std::ptr::copy_nonoverlapping(src, dst.as_mut_ptr(), dst.len()) }
}

/// Host-side memset: fills `len` bytes and marks them written.
///
/// # Safety
/// As for [`fn@write`].
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) {
    // SAFETY: the caller vouches for the range.
    unsafe {
        dst.write_bytes(byte, len);
        mark(dst, len, WRITTEN);
    }
}

/// Device-to-device copy, which may overlap; unwritten bytes stay unwritten in the copy.
///
/// # Safety
/// Both ranges must lie in live allocations that no running launch touches.
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller vouches for both ranges; their shadows exist when they lie in the arena.
    unsafe {
        std::ptr::copy(src, dst, len);
        match (shadow_of(dst as usize, len), shadow_of(src as usize, len)) {
            (Some(to), Some(from)) => std::ptr::copy(from, to, len),
            _ => mark(dst, len, WRITTEN),
        }
    }
}

/// Marks `len` bytes as never written: a kernel's read before its write is an error again. The bytes themselves stay.
///
/// # Safety
/// As for [`fn@write`].
pub unsafe fn mark_unwritten(dst: *mut u8, len: usize) {
    // SAFETY: the caller vouches for the range.
    unsafe { mark(dst, len, ALLOCATED) }
}

/// The offset of the first of `len` bytes that nobody wrote since they were allocated or marked unwritten. Only
/// launches with checks on record what they write.
///
/// # Safety
/// As for [`read`].
pub unsafe fn first_unwritten(p: *const u8, len: usize) -> Option<usize> {
    let shadow = shadow_of(p as usize, len)?;
    // SAFETY: `shadow_of` gives a readable range of `len` bytes.
    unsafe { shadow::first_without(shadow, len, WRITTEN) }
}

/// # Safety
/// `dst..dst + len` must lie in a live allocation that no running launch touches.
unsafe fn mark(dst: *mut u8, len: usize, state: u8) {
    if let Some(shadow) = shadow_of(dst as usize, len) {
        // SAFETY: `shadow_of` gives a writable range of `len` bytes, and the caller vouches that nobody else uses it.
        unsafe { shadow.write_bytes(state, len) }
    }
}

/// Checks a kernel's access of `len` bytes at `p` and, for a write, marks them written.
#[inline(always)]
pub(crate) fn check(p: usize, len: usize, align: usize, writes: bool, verb: &'static str) -> Result<(), Box<Fault>> {
    if let Some(shadow) = shadow_of(p, len)
        && p.is_multiple_of(align)
    {
        let bits = if writes { ALLOCATED } else { WRITTEN };
        // SAFETY: `shadow_of` gives a range of `len` shadow bytes. Other threads may write the same shadow bytes at the
        // same time, always with the same value, as they may write the simulated memory itself.
        unsafe {
            if shadow::all(shadow, len, bits) {
                if writes {
                    shadow.write_bytes(WRITTEN, len);
                }
                return Ok(());
            }
        }
    }
    Err(diagnose(p, len, align, verb))
}

#[cold]
fn diagnose(p: usize, len: usize, align: usize, verb: &str) -> Box<Fault> {
    let place = |r: &Record, start: usize| format!("offset {} of `{}` ({} bytes)", p - start, r.name, r.len);
    let what = format!("{verb} of {len} bytes at {p:#x}");
    let (Some(_), Ok(arena)) = (shadow_of(p, len), arena()) else {
        return Fault::new(ErrorKind::OutOfBounds, format!("{what}: no device memory is there"));
    };
    let base = arena.range.base() as usize;
    let offset = p - base;
    let book = arena.book();
    let below = book.records.range(..=offset).next_back();
    if let Some((&start, r)) = below
        && offset < start + r.len
    {
        let at = place(r, base + start);
        if !r.live {
            return Fault::new(ErrorKind::UseAfterFree, format!("{what}: {at}, which has been freed"));
        }
        if offset + len <= start + r.len {
            if !p.is_multiple_of(align) {
                return Fault::new(
                    ErrorKind::Misaligned,
                    format!("{what}: {at} is no multiple of {align} bytes"),
                );
            }
            // SAFETY: the range lies in the arena.
            let first = unsafe { first_unwritten(p as *const u8, len) }.unwrap_or(0);
            let m = format!("{what}: {at}, of which byte {first} was never written");
            return Fault::new(ErrorKind::Uninitialized, m);
        }
    }
    // In a red zone: name the nearer of the two neighbours.
    let after = below.map(|(&s, r)| (offset.saturating_sub(s + r.len), s, r));
    let before = book
        .records
        .range(offset + 1..)
        .next()
        .map(|(&s, r)| (s - offset, s, r));
    let near = match (after, before) {
        (Some(a), Some(b)) if a.0 <= b.0 => Some(a),
        (a, None) => a,
        (_, b) => b,
    };
    let where_ = match near {
        None => "no device memory is allocated".to_owned(),
        Some((_, s, r)) if offset < s => {
            format!(
                "{} bytes before the start of `{}` ({} bytes)",
                s - offset,
                r.name,
                r.len
            )
        }
        Some((_, s, r)) => format!("{}, out of bounds", place(r, base + s)),
    };
    Fault::new(ErrorKind::OutOfBounds, format!("{what}: {where_}"))
}

/// Bytes the machine can still give, asked only for requests large enough to matter; `None` when it cannot be told.
fn available_memory(bytes: usize) -> Option<usize> {
    if bytes < 64 << 20 {
        return None;
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<usize>()
        .ok()?
        .checked_mul(1024)
}
