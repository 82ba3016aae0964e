//! The order in which a warp walks through its work.

/// A place in a warp's sequence of turns: it takes every `k_warps`-th segment of this block's row tiles.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    pub(super) group: u32,
    pub(super) segment: u32,
    /// The turn in the segment.
    pub(super) turn: u32,
}

/// The extent of the work: what a cursor moves in.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) groups: u32,
    pub(super) segments: u32,
    /// Turns in a whole segment, and in all of K.
    pub(super) turns: u32,
    pub(super) total_turns: u32,
    pub(super) stride: u32,
}

impl Cursor {
    /// This turn, counted from the start of K.
    #[inline(always)]
    pub(super) fn k_turn(self, e: Extent) -> u32 {
        self.segment * e.turns + self.turn
    }

    /// Whether this is its segment's last turn; the last segment may be short.
    #[inline(always)]
    pub(super) fn ends_segment(self, e: Extent) -> bool {
        self.turn + 1 == e.turns || self.k_turn(e) + 1 == e.total_turns
    }

    /// The place `n` segments on, at its first turn.
    #[inline(always)]
    pub(super) fn skip(self, n: u32, e: Extent) -> Self {
        let (mut segment, mut group) = (self.segment + n, self.group);
        while segment >= e.segments {
            segment -= e.segments;
            group += e.stride;
        }
        Self {
            group,
            segment,
            turn: 0,
        }
    }

    /// The next turn of a warp that takes every `kw`-th segment.
    #[inline(always)]
    pub(super) fn next(self, kw: u32, e: Extent) -> Self {
        if self.ends_segment(e) {
            self.skip(kw, e)
        } else {
            Self {
                turn: self.turn + 1,
                ..self
            }
        }
    }
}
