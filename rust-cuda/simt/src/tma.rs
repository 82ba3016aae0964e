//! Tensor maps: how a tile of a tensor in device memory lies in shared memory, for the copies of [`crate::ctx::tma_load`] and
//! [`crate::ctx::tma_store`].
//!
//! A GPU's tensor map is 128 opaque bytes that `cuTensorMapEncodeTiled` makes. The simulator's, [`Map::encode`], has the same size
//! and goes the same ways (a kernel's parameter, by pointer), so that the kernel and its launch are the same for both.

use std::fmt;

/// The first word of every encoded map: "simtmap1" as bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"simtmap1");
/// The most dimensions of a map here; the hardware has up to 5.
pub const MOST_DIMENSIONS: u32 = 3;
/// The largest tile in each dimension, in elements.
pub const LARGEST_TILE: u32 = 256;

/// Where the 16-byte chunks of a tile go, so that a column of them is spread over all banks.
///
/// The hardware permutes addresses, not tiles: of a byte's shared address some bits from 7 on are xored into those from 4 on
/// (`CU_TENSOR_MAP_SWIZZLE_*`; CUTLASS's `Swizzle<B, 4, 3>` on byte addresses). A tile that starts at a multiple of
/// [`Swizzle::atom`] is permuted the same way wherever it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Every byte in its place.
    #[default]
    None,
    /// Within 32 bytes: bit 7 goes to bit 4.
    B32,
    /// Within 64 bytes: bits 7 and 8 go to bits 4 and 5.
    B64,
    /// Within 128 bytes: bits 7 to 9 go to bits 4 to 6, so chunk c of row r (of 128 bytes) lies at c ^ (r & 7).
    B128,
}

impl Swizzle {
    /// All of them, in the order of their codes.
    pub const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

    /// Bits that are xored.
    const fn bits(self) -> u32 {
        self as u32
    }

    /// The mark of bytes that a copy laid out so; 0 is that of all others.
    pub(crate) const fn layout(self) -> u8 {
        self as u8 + 1
    }

    /// Where the byte at an address really lies. Its own inverse.
    #[inline(always)]
    pub const fn apply(self, addr: u32) -> u32 {
        let mask = (1 << self.bits()) - 1;
        addr ^ (addr >> 7 & mask) << 4
    }

    /// Bytes within which chunks change places, which is also the length of a tile's innermost row; `None` without a swizzle.
    pub const fn span(self) -> Option<u32> {
        match self {
            Swizzle::None => None,
            _ => Some(16 << self.bits()),
        }
    }

    /// Bytes after which the permutation repeats: a tile has to start at a multiple of it. 128 (what every copy asks for) without
    /// a swizzle.
    pub const fn atom(self) -> u32 {
        128 << self.bits()
    }
}

impl fmt::Display for Swizzle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span() {
            None => f.write_str("no swizzle"),
            Some(bytes) => write!(f, "the {bytes}-byte swizzle"),
        }
    }
}

/// A tensor of 1 to 3 dimensions in device memory and the tile of it that one copy moves. Dimension 0 is the innermost, whose
/// elements lie side by side. Entries past the rank are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Address of the first element: a multiple of 16.
    pub base: u64,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub element_bytes: u32,
    /// Dimensions: 1 to 3.
    pub rank: u32,
    /// Elements in each dimension: 1 to 2^32. What a tile has outside of them loads as zero and is not stored.
    pub sizes: [u64; 3],
    /// Bytes from one element to the next in dimensions 1 and 2: multiples of 16 below 2^40. (PTX has no rule that they exceed the
    /// row: a stride of 0 repeats it.)
    pub strides: [u64; 2],
    /// Elements of the tile in each dimension: 1 to 256; the innermost row is a multiple of 16 bytes, and with a swizzle exactly
    /// as long as its [`Swizzle::span`] (shorter rows exist on GPUs, but how they lie is not written down).
    pub tile: [u32; 3],
    /// How the tile lies in shared memory.
    pub swizzle: Swizzle,
}

impl Map {
    /// The 128 bytes that a kernel gets. [`Map::check`] belongs before it: encoding itself refuses nothing.
    pub fn encode(self) -> [u64; 16] {
        let mut words = [0; 16];
        words[0] = MAGIC;
        words[1] = self.base;
        words[2] = u64::from(self.element_bytes) | u64::from(self.rank) << 8 | u64::from(self.swizzle.bits()) << 16;
        let rank = self.rank.min(MOST_DIMENSIONS) as usize;
        words[3..3 + rank].copy_from_slice(&self.sizes[..rank]);
        let strides = rank.saturating_sub(1);
        words[6..6 + strides].copy_from_slice(&self.strides[..strides]);
        for (word, tile) in words[8..].iter_mut().zip(&self.tile[..rank]) {
            *word = u64::from(*tile);
        }
        words
    }

    /// What [`Map::encode`] made; entries past the rank come back as 1 (strides as 0).
    ///
    /// # Errors
    /// For words that no `encode` made, and for a map that [`Map::check`] refuses: what is wrong.
    pub fn decode(words: &[u64; 16]) -> Result<Map, String> {
        if words[0] != MAGIC {
            return Err(format!(
                "not a tensor map of the simulator: it starts with {:#018x}, not {MAGIC:#018x} (a map made for a GPU, or memory \
                 that holds none)",
                words[0]
            ));
        }
        let field = |shift: u32| (words[2] >> shift & 0xff) as u32;
        let rank = field(8);
        let Some(&swizzle) = Swizzle::ALL.get(field(16) as usize) else {
            return Err(format!(
                "a tensor map with swizzle code {}: there are 0 to 3",
                field(16)
            ));
        };
        let mut map = Map {
            base: words[1],
            element_bytes: field(0),
            rank,
            sizes: [1; 3],
            strides: [0; 2],
            tile: [1; 3],
            swizzle,
        };
        for i in 0..rank.min(MOST_DIMENSIONS) as usize {
            map.sizes[i] = words[3 + i];
            map.tile[i] = u32::try_from(words[8 + i]).unwrap_or(u32::MAX);
            if i > 0 {
                map.strides[i - 1] = words[5 + i];
            }
        }
        map.check()?;
        Ok(map)
    }

    /// The rules of `cuTensorMapEncodeTiled` (CUDA driver API, tensor map object management) for maps without interleave and with
    /// element strides of 1.
    ///
    /// # Errors
    /// The first rule that is broken, with the value.
    pub fn check(&self) -> Result<(), String> {
        let Map {
            base,
            element_bytes,
            rank,
            ..
        } = *self;
        if !matches!(element_bytes, 1 | 2 | 4 | 8) {
            return Err(format!(
                "elements of {element_bytes} bytes: they must have 1, 2, 4 or 8"
            ));
        }
        if rank == 0 || rank > MOST_DIMENSIONS {
            return Err(format!("{rank} dimensions: there can be 1 to {MOST_DIMENSIONS}"));
        }
        if !base.is_multiple_of(16) {
            return Err(format!("a tensor at {base:#x}: it must start at a multiple of 16"));
        }
        for (i, (&size, &tile)) in self.sizes.iter().zip(&self.tile).take(rank as usize).enumerate() {
            if size == 0 || size > 1 << 32 {
                return Err(format!("{size} elements in dimension {i}: there can be 1 to 2^32"));
            }
            if tile == 0 || tile > LARGEST_TILE {
                return Err(format!(
                    "a tile of {tile} elements in dimension {i}: there can be 1 to {LARGEST_TILE}"
                ));
            }
        }
        for (i, &stride) in self.strides.iter().take(rank as usize - 1).enumerate() {
            if !stride.is_multiple_of(16) || stride >= 1 << 40 {
                return Err(format!(
                    "a stride of {stride} bytes in dimension {}: it must be a multiple of 16 below 2^40",
                    i + 1
                ));
            }
        }
        let row = self.row_bytes();
        if !row.is_multiple_of(16) {
            return Err(format!(
                "a tile with {row} bytes in dimension 0: they must be a multiple of 16"
            ));
        }
        match self.swizzle.span() {
            Some(span) if row != span => Err(format!(
                "a tile with {row} bytes in dimension 0: with {} they must be {span}",
                self.swizzle
            )),
            _ => Ok(()),
        }
    }

    /// Bytes of a tile in dimension 0.
    pub fn row_bytes(&self) -> u32 {
        self.tile[0] * self.element_bytes
    }

    /// Bytes of a tile: what a load adds to its barrier's transaction count, elements outside the tensor included.
    pub fn tile_bytes(&self) -> u32 {
        self.tile[..self.rank as usize].iter().product::<u32>() * self.element_bytes
    }
}

#[cfg(test)]
#[path = "tma_tests.rs"]
mod tests;
