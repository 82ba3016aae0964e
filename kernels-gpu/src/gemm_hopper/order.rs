//! Which tile a block works on, turn by turn.

use cuda_std::cluster;
use cuda_std::thread;

/// Clusters' tiles of P that are worked through together.
const GROUP: u32 = 8;

/// The first rows of a tile, of P and of Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Row of P.
    pub p: u32,
    /// Row of Q.
    pub q: u32,
}

/// The block's tiles. A cluster's tiles lie side by side along the side that it does not share; clusters' tiles are numbered in
/// groups of `GROUP` along P, down a group first, so that what runs at a time needs few rows of both sides and L2 has them.
#[derive(Clone, Copy)]
pub struct Order {
    /// Rows of a tile.
    tile: [u32; 2],
    /// Clusters' tiles along P and Q.
    counts: [u32; 2],
    /// Blocks of a cluster along P and Q.
    blocks: [u32; 2],
    /// The cluster's first tile, and how many clusters there are.
    first: u32,
    step: u32,
    rank: u32,
}

impl Order {
    /// For P and Q of `rows` rows, in tiles of `tile` rows.
    #[inline(always)]
    pub fn new<const CLUSTER: u32>(rows: [u32; 2], tile: [u32; 2], share_p: bool) -> Self {
        let blocks = if share_p { [1, CLUSTER] } else { [CLUSTER, 1] };
        let counts = [
            rows[0].div_ceil(tile[0] * blocks[0]),
            rows[1].div_ceil(tile[1] * blocks[1]),
        ];
        Self {
            tile,
            counts,
            blocks,
            first: thread::block_idx_x() / CLUSTER,
            step: thread::grid_dim_x() / CLUSTER,
            rank: if CLUSTER > 1 { cluster::rank() } else { 0 },
        }
    }

    /// Whether there is a tile for this turn.
    #[inline(always)]
    pub fn has(&self, turn: u32) -> bool {
        self.first + turn * self.step < self.counts[0] * self.counts[1]
    }

    /// The block's tile of this turn; none after the last. The same number of turns for all blocks of a cluster.
    #[inline(always)]
    pub fn place(&self, turn: u32) -> Option<Place> {
        let tile = self.first + turn * self.step;
        let [down, across] = self.counts;
        if !self.has(turn) {
            return None;
        }
        let of_group = GROUP * across;
        let (group, rest) = (tile / of_group, tile % of_group);
        let rows = (down - group * GROUP).min(GROUP);
        let (i, j) = (group * GROUP + rest % rows, rest / rows);
        let [along_p, along_q] = self.blocks;
        let (pi, qi) = if along_q > 1 { (0, self.rank) } else { (self.rank, 0) };
        Some(Place {
            p: (i * along_p + pi) * self.tile[0],
            q: (j * along_q + qi) * self.tile[1],
        })
    }
}
