//! GGUF's 34-byte blocks to the quad layout of [`kernels_gpu::q8`].

use super::Q8Shape;
use crate::op::OpError;
use crate::op::random::parallel;

const BLOCK: usize = kernels_gpu::q8::GGUF_BLOCK_BYTES as usize;
const QUAD: usize = kernels_gpu::q8::QUAD_BYTES as usize;
const SCALES: usize = kernels_gpu::q8::QUAD_WEIGHT_SCALES as usize;
const ROWS: usize = kernels_gpu::q8::ROW_TILE as usize;

/// Weights in the quad layout, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Q8Packed {
    /// The sizes.
    pub shape: Q8Shape,
    /// Integers: `[groups][row tiles][quads][4 blk][8 g][4 t][4 i][4]`.
    pub qs: Vec<u8>,
    /// f16 scales as bits: `[groups][row tiles][quads][8 g][4 blk][2 p]`.
    pub ws: Vec<u16>,
}

impl Q8Packed {
    /// Repacks blocks `[groups][n][ceil(k / 32)][34]` on all cores. Rows and blocks of padding are zero.
    ///
    /// # Errors
    /// [`OpError::Shape`] when `blocks` has not that many bytes.
    pub fn from_blocks(blocks: &[u8], shape: Q8Shape) -> Result<Self, OpError> {
        if blocks.len() != shape.gguf_bytes() {
            let Q8Shape { n, k, groups } = shape;
            return Err(OpError::Shape(format!(
                "{} bytes of Q8_0 weights; n = {n}, k = {k}, groups = {groups} need {} (34 for each 32 values of a row)",
                blocks.len(),
                shape.gguf_bytes()
            )));
        }
        let (nb, quads, n) = (shape.blocks(), shape.quads() as usize, shape.n as usize);
        let tiles = n.div_ceil(ROWS);
        let all = shape.groups as usize * tiles;
        let mut qs = vec![0u8; all * quads * QUAD];
        let mut ws = vec![0u16; all * quads * SCALES];
        // Row `r` of tile `tile`: its blocks, none for a row of padding.
        let row = |tile: usize, r: usize| {
            let (group, row) = (tile / tiles, tile % tiles * ROWS + r);
            let first = (group * n + row) * nb * BLOCK;
            if row < n {
                &blocks[first..first + nb * BLOCK]
            } else {
                &[][..]
            }
        };
        parallel(&mut qs, quads * QUAD, |first, part| {
            for (i, tile) in part.chunks_exact_mut(quads * QUAD).enumerate() {
                for r in 0..ROWS {
                    pack_row(row(first / (quads * QUAD) + i, r), r, tile);
                }
            }
        });
        parallel(&mut ws, quads * SCALES, |first, part| {
            for (i, tile) in part.chunks_exact_mut(quads * SCALES).enumerate() {
                for r in 0..ROWS {
                    for (b, block) in row(first / (quads * SCALES) + i, r).chunks_exact(BLOCK).enumerate() {
                        tile[b / 4 * SCALES + r % 8 * 8 + b % 4 * 2 + r / 8] = u16::from_le_bytes([block[0], block[1]]);
                    }
                }
            }
        });
        Ok(Self { shape, qs, ws })
    }
}

/// Puts the integers of row `r` into its row tile.
fn pack_row(blocks: &[u8], r: usize, tile: &mut [u8]) {
    for (b, block) in blocks.chunks_exact(BLOCK).enumerate() {
        let at = b / 4 * QUAD + b % 4 * 512 + r % 8 * 64 + r / 8 * 4;
        for (t, eight) in block[2..].chunks_exact(8).enumerate() {
            tile[at + 16 * t..][..4].copy_from_slice(&eight[..4]);
            tile[at + 16 * t + 8..][..4].copy_from_slice(&eight[4..]);
        }
    }
}

/// Quantised activations from xq `[groups][token tiles][quads][2 h][8 g][4 t][2 p][8]` and dx [groups][token
/// tiles]`[quads][8 g][4 blk]` to integers `[groups][n_tok][nb * 32]` and scales `[groups][n_tok][nb]`.
pub(super) fn unpack_activations(xq: &[u8], dx: &[f32], groups: usize, n_tok: usize, nb: usize) -> (Vec<i8>, Vec<f32>) {
    let quads = nb.div_ceil(4);
    let (mut q, mut d) = (Vec::new(), Vec::new());
    for token in (0..groups).flat_map(|group| (0..n_tok).map(move |token| group * n_tok.next_multiple_of(8) + token)) {
        for b in 0..nb {
            let (quad, g) = (token / 8 * quads + b / 4, token % 8);
            d.push(dx[quad * 32 + g * 4 + b % 4]);
            let at = quad * 1024 + b % 4 / 2 * 512 + g * 64 + b % 2 * 8;
            q.extend((0..32).map(|j| xq[at + j / 8 * 16 + j % 8] as i8));
        }
    }
    (q, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks whose bytes name themselves: scale = row and block, integers = a hash of (row, block, j).
    fn named(n: usize, nb: usize) -> Vec<u8> {
        let block = |i: usize| {
            let scale = ((i / nb) * 100 + i % nb) as u16;
            scale
                .to_le_bytes()
                .into_iter()
                .chain((0..32).map(move |j| (i * 13 + j * 7 + 1) as u8))
        };
        (0..n * nb).flat_map(block).collect()
    }

    #[test]
    fn every_byte_is_where_the_layout_says_and_padding_is_zero() {
        // Two groups of 19 rows and 5 blocks: rows and blocks of padding in each.
        let (n, nb, groups) = (19, 5, 2);
        let blocks = named(groups * n, nb);
        let packed = Q8Packed::from_blocks(&blocks, Q8Shape::new(19, 160, 2).unwrap()).unwrap();
        let (tiles, quads) = (2, 2);
        assert_eq!(
            (packed.qs.len(), packed.ws.len()),
            (groups * tiles * quads * 2048, groups * tiles * quads * 64)
        );
        // The layout read backwards: for each byte, which row, block and value it is.
        for (at, &byte) in packed.qs.iter().enumerate() {
            let (low, i, t, g, blk) = (at % 4, at / 4 % 4, at / 16 % 4, at / 64 % 8, at / 512 % 4);
            let (quad, tile, group) = (at / 2048 % quads, at / 2048 / quads % tiles, at / 2048 / quads / tiles);
            let (row, block, j) = (tile * 16 + g + 8 * (i % 2), quad * 4 + blk, 8 * t + 4 * (i / 2) + low);
            let expected = if row < n && block < nb {
                blocks[((group * n + row) * nb + block) * 34 + 2 + j]
            } else {
                0
            };
            assert_eq!(byte, expected, "byte {at}");
        }
        for (at, &scale) in packed.ws.iter().enumerate() {
            let (p, blk, g, rest) = (at % 2, at / 2 % 4, at / 8 % 8, at / 64);
            let (quad, tile, group) = (rest % quads, rest / quads % tiles, rest / quads / tiles);
            let (row, block) = (tile * 16 + g + 8 * p, quad * 4 + blk);
            let expected = if row < n && block < nb {
                (group * n + row) * 100 + block
            } else {
                0
            };
            assert_eq!(scale as usize, expected, "scale {at}");
        }
    }

    #[test]
    fn large_weights_repacked_on_all_cores_equal_their_parts() {
        let (n, nb) = (2048, 8);
        let blocks = named(n, nb);
        let whole = Q8Packed::from_blocks(&blocks, Q8Shape::new(2048, 256, 1).unwrap()).unwrap();
        let part = Q8Packed::from_blocks(
            &blocks[1024 * nb * 34..1040 * nb * 34],
            Q8Shape::new(16, 256, 1).unwrap(),
        );
        assert!(whole.qs[64 * 4096..65 * 4096] == part.unwrap().qs[..]);
    }

    #[test]
    fn a_wrong_size_is_refused_with_the_right_one() {
        let wrong = Q8Packed::from_blocks(&[0; 33], Q8Shape::new(1, 32, 1).unwrap())
            .unwrap_err()
            .to_string();
        assert!(wrong.contains("33 bytes") && wrong.contains("need 34"), "{wrong}");
        assert!(Q8Shape::new(0, 32, 1).is_err());
        assert!(Q8Shape::new(1 << 30, 32, 2).is_err());
    }
}
