//! GGUF's 34-byte blocks to the quad layout of [`kernels_gpu::q8`].

use super::Q8Shape;
use crate::op::OpError;
use crate::op::random::parallel;

const BLOCK: usize = kernels_gpu::q8::GGUF_BLOCK_BYTES as usize;
const QUAD: usize = kernels_gpu::q8::QUAD_BYTES as usize;
const SCALES: usize = kernels_gpu::q8::QUAD_WEIGHT_SCALES as usize;
const ROWS: usize = kernels_gpu::q8::TILE as usize;

/// Weights in the quad layout, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Q8Packed {
    /// The sizes.
    pub shape: Q8Shape,
    /// Integers: [groups][row tiles][quads][2 h][8 g][4 t][16].
    pub qs: Vec<u8>,
    /// f16 scales as bits: [groups][row tiles][quads][4 t][4 blocks][2 p].
    pub ws: Vec<u16>,
}

impl Q8Packed {
    /// Repacks blocks [groups][n][ceil(k / 32)][34] on all cores. Rows and blocks of padding are zero.
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
        // Row `g` of tile `tile`: its blocks, none for a row of padding.
        let row = |tile: usize, g: usize| {
            let (group, row) = (tile / tiles, tile % tiles * ROWS + g);
            let first = (group * n + row) * nb * BLOCK;
            if row < n {
                &blocks[first..first + nb * BLOCK]
            } else {
                &[][..]
            }
        };
        parallel(&mut qs, quads * QUAD, |first, part| {
            for (i, tile) in part.chunks_exact_mut(quads * QUAD).enumerate() {
                for g in 0..ROWS {
                    pack_row(row(first / (quads * QUAD) + i, g), g, tile);
                }
            }
        });
        parallel(&mut ws, quads * SCALES, |first, part| {
            for (i, tile) in part.chunks_exact_mut(quads * SCALES).enumerate() {
                for g in 0..ROWS {
                    for (b, block) in row(first / (quads * SCALES) + i, g).chunks_exact(BLOCK).enumerate() {
                        tile[b / 4 * SCALES + (g / 2) * 8 + (b % 4) * 2 + g % 2] =
                            u16::from_le_bytes([block[0], block[1]]);
                    }
                }
            }
        });
        Ok(Self { shape, qs, ws })
    }
}

/// Puts the integers of row `g` into its row tile.
fn pack_row(blocks: &[u8], g: usize, tile: &mut [u8]) {
    for (b, block) in blocks.chunks_exact(BLOCK).enumerate() {
        let at = b / 4 * QUAD + (b % 4) / 2 * 512 + g * 64 + (b % 2) * 8;
        for (t, eight) in block[2..].chunks_exact(8).enumerate() {
            tile[at + 16 * t..at + 16 * t + 8].copy_from_slice(eight);
        }
    }
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
        // Two groups of 11 rows and 5 blocks: rows and blocks of padding in each.
        let (n, nb, groups) = (11, 5, 2);
        let blocks = named(groups * n, nb);
        let packed = Q8Packed::from_blocks(&blocks, Q8Shape::new(11, 160, 2).unwrap()).unwrap();
        let (tiles, quads) = (2, 2);
        assert_eq!(
            (packed.qs.len(), packed.ws.len()),
            (groups * tiles * quads * 1024, groups * tiles * quads * 32)
        );
        // The layout read backwards: for each byte, which row, block and value it is.
        for (i, &byte) in packed.qs.iter().enumerate() {
            let (rest, low) = (i / 16, i % 16);
            let (t, g, h) = (rest % 4, rest / 4 % 8, rest / 32 % 2);
            let (quad, tile, group) = (rest / 64 % quads, rest / 64 / quads % tiles, rest / 64 / quads / tiles);
            let (row, block, j) = (tile * 8 + g, quad * 4 + 2 * h + low / 8, t * 8 + low % 8);
            let expected = if row < n && block < nb {
                blocks[((group * n + row) * nb + block) * 34 + 2 + j]
            } else {
                0
            };
            assert_eq!(byte, expected, "byte {i}");
        }
        for (i, &scale) in packed.ws.iter().enumerate() {
            let (p, blk, t, rest) = (i % 2, i / 2 % 4, i / 8 % 4, i / 32);
            let (quad, tile, group) = (rest % quads, rest / quads % tiles, rest / quads / tiles);
            let (row, block) = (tile * 8 + 2 * t + p, quad * 4 + blk);
            let expected = if row < n && block < nb {
                (group * n + row) * 100 + block
            } else {
                0
            };
            assert_eq!(scale as usize, expected, "scale {i}");
        }
    }

    #[test]
    fn large_weights_repacked_on_all_cores_equal_their_parts() {
        let (n, nb) = (2048, 8);
        let blocks = named(n, nb);
        let whole = Q8Packed::from_blocks(&blocks, Q8Shape::new(2048, 256, 1).unwrap()).unwrap();
        let part = Q8Packed::from_blocks(
            &blocks[1024 * nb * 34..1032 * nb * 34],
            Q8Shape::new(8, 256, 1).unwrap(),
        );
        assert_eq!(whole.qs[128 * 2048..129 * 2048], part.unwrap().qs[..]);
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
