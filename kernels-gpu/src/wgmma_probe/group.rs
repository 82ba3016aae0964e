//! What a block of the probe does, as data: the host makes it, the kernel reads it.

/// Words of a packed group.
pub const GROUP_WORDS: usize = 8;

/// How an operand lies in shared memory, in rows of 16-byte pieces of k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Rows of 128 bytes, swizzled.
    B128,
    /// Rows of 64 bytes, swizzled.
    B64,
    /// Rows of 32 bytes, swizzled.
    B32,
    /// Matrices of 8 rows of 16 bytes, those of the same rows side by side.
    RowsFirst,
    /// Matrices of 8 rows of 16 bytes, those of the same k side by side.
    KFirst,
}

impl Layout {
    /// All of them.
    pub const ALL: [Layout; 5] = [
        Layout::B128,
        Layout::B64,
        Layout::B32,
        Layout::RowsFirst,
        Layout::KFirst,
    ];

    /// Pieces of a row: a swizzled row is as long as it is, the others have no more than `steps` need.
    pub const fn pieces(self, steps: u32) -> u32 {
        match self {
            Layout::B128 => 8,
            Layout::B64 => 4,
            Layout::B32 => 2,
            Layout::RowsFirst | Layout::KFirst => 2 * steps,
        }
    }

    /// Where piece `piece` of row `row` of `rows` begins, in bytes.
    #[inline(always)]
    pub const fn place(self, rows: u32, steps: u32, row: u32, piece: u32) -> u32 {
        match self {
            Layout::B128 => row * 128 + 16 * (piece ^ (row % 8)),
            Layout::B64 => row * 64 + 16 * (piece ^ (row / 2 % 4)),
            Layout::B32 => row * 32 + 16 * (piece ^ (row / 4 % 2)),
            Layout::RowsFirst => row / 8 * (256 * steps) + piece * 128 + row % 8 * 16,
            Layout::KFirst => piece * (16 * rows) + row * 16,
        }
    }

    #[inline(always)]
    const fn of(code: u32) -> Layout {
        match code & 7 {
            0 => Layout::B128,
            1 => Layout::B64,
            2 => Layout::B32,
            3 => Layout::RowsFirst,
            _ => Layout::KFirst,
        }
    }
}

/// Where an operand's pieces lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How.
    pub layout: Layout,
    /// The step's place in a row at which they begin: 0 to `layout.pieces(steps) / 2 - steps`.
    pub first: u32,
}

/// One group of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// N: 8 to 256, a multiple of 8; of bytes 8, 16, 24 or a multiple of 16.
    pub columns: u32,
    /// Products, one over the next 32 bytes of k each: 1 to 4.
    pub steps: u32,
    /// `scale-d` of the first: whether C is added. Without it C is in the registers all the same.
    pub accumulate: bool,
    /// A from registers: the kernel's choice, not the group's.
    pub registers: bool,
    /// A in shared memory.
    pub a: Place,
    /// B in shared memory.
    pub b: Place,
    /// Its first rows of A and B, and its first tile.
    pub first_a: u32,
    /// See `first_a`.
    pub first_b: u32,
    /// See `first_a`.
    pub first_tile: u32,
}

impl Group {
    /// 16 x 8 tiles of D.
    pub const fn tiles(&self) -> u32 {
        self.columns / 2
    }

    /// As the kernels take it.
    pub const fn pack(&self) -> [u32; GROUP_WORDS] {
        let form = self.accumulate as u32
            | (self.registers as u32) << 1
            | (self.a.layout as u32) << 4
            | self.a.first << 8
            | (self.b.layout as u32) << 12
            | self.b.first << 16;
        [
            self.columns,
            self.steps,
            form,
            self.first_a,
            self.first_b,
            self.first_tile,
            0,
            0,
        ]
    }

    /// What [`Group::pack`] packed.
    #[inline(always)]
    pub const fn unpack(words: [u32; GROUP_WORDS]) -> Group {
        let [columns, steps, form, first_a, first_b, first_tile, _, _] = words;
        Group {
            columns,
            steps,
            accumulate: form & 1 != 0,
            registers: form & 2 != 0,
            a: Place {
                layout: Layout::of(form >> 4),
                first: form >> 8 & 3,
            },
            b: Place {
                layout: Layout::of(form >> 12),
                first: form >> 16 & 3,
            },
            first_a,
            first_b,
            first_tile,
        }
    }
}
