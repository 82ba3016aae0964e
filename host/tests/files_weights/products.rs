//! Products.

use crate::made::*;
use crate::on_simulator;
use half::f16;
use host::device::DevPtr;
use host::model::files::Source;
use host::model::layout::Rows;
use host::model::memory::Memory;
use host::model::weights::files::FileOrigin;
use host::model::weights::{Format, Linear, Origin};
use host::ops::nvfp4::Convention;
use safetensors::Dtype;

/// bf16 of all rows of a matrix.
pub fn halves(format: Format, count: usize) -> Vec<u16> {
    match format {
        Format::Bf16(at) => read(at, count),
        other => panic!("{other:?}"),
    }
}

/// Every kind of rows, of every type of numbers, in one matrix and in memory that is only counted.
#[test]
fn numbers_become_bf16_rows_in_the_order_of_the_layout() {
    let mut made = Made::default();
    made.floats("a.weight", Dtype::BF16, &[12, 24]);
    made.floats("b.weight", Dtype::F32, &[10, 24]);
    made.floats("c.weight", Dtype::F16, &[2, 6, 24]);
    made.floats("stack", Dtype::BF16, &[3, 4, 24]);
    let strided = Rows::Strided {
        first: 1,
        len: 2,
        stride: 4,
        count: 3,
    };
    let layout = linear(
        24,
        vec![
            ("q", 8, vec![piece("a", strided), piece("b", Rows::Range(3..5))]),
            ("k", 12, vec![piece("c", Rows::Deinterleaved { head: 6, rot: 4 })]),
            ("v", 4, vec![piece("stack", Rows::Range(4..8))]),
        ],
    );
    let wanted = [
        rows("a", [1, 2, 5, 6, 9, 10]),
        rows("b", [3, 4]),
        rows("c", [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]),
        rows("stack", 4..8),
    ]
    .concat();
    let check = |source: &dyn Source| {
        on_simulator(source, |origin, memory| {
            for bf16 in [false, true] {
                let linear = if bf16 {
                    origin.linear_bf16(memory, &layout)?
                } else {
                    origin.linear(memory, &layout)?
                };
                assert_eq!((linear.n(), linear.k, linear.is_fused()), (24, 24, true));
                let got = halves(linear.matrices[0].format, 24 * 24);
                if got != expected(&made, &wanted) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    };
    assert!(check(&made.safetensors()).unwrap());
    assert!(check(&made.gguf()).unwrap());
    // One bit of one element elsewhere.
    let mut wrong = Made {
        tensors: made.tensors.clone(),
        ..Made::default()
    };
    wrong.tensors.get_mut("b.weight").unwrap().2[24 * 4 * 4 + 3] ^= 0x80;
    assert!(!check(&wrong.safetensors()).unwrap());
}

fn nvfp4_bytes(linear: &Linear, matrix: usize) -> (Vec<u8>, Vec<u8>, f32, Convention) {
    let matrix = linear.matrices[matrix];
    let Format::Nvfp4 {
        codes,
        scales,
        tensor,
        convention,
    } = matrix.format
    else {
        panic!("{:?}", matrix.format)
    };
    let (n, k) = (matrix.n as usize, matrix.k as usize);
    let tensor: Vec<f32> = read(tensor, 1);
    (read(codes, n * k / 2), read(scales, n * k / 16), tensor[0], convention)
}

#[test]
fn nvfp4_stays_as_it_is_and_is_one_matrix_where_tensor_scales_agree() {
    for convention in Convention::ALL {
        let mut made = Made::default();
        made.nvfp4("q", convention, [8, 64], 0.03125);
        made.nvfp4("k", convention, [4, 64], 0.03125);
        made.nvfp4("v", convention, [4, 64], 0.03126);
        let source = made.safetensors();
        let [codes, scales, _] = convention.names();
        let bytes = |base: &str, name: &str, rows: std::ops::Range<usize>, row: usize| {
            made.tensors[&format!("{base}.{name}")].2[rows.start * row..rows.end * row].to_vec()
        };
        let done = on_simulator(&source, |origin, memory| {
            let q = piece("q", Rows::Range(2..8));
            let fused = linear(64, vec![("q", 6, vec![q.clone()]), ("k", 4, vec![all("k")])]);
            let fused = origin.linear(memory, &fused)?;
            assert!(fused.is_fused());
            let got = nvfp4_bytes(&fused, 0);
            let wanted_codes = [bytes("q", codes, 2..8, 32), bytes("k", codes, 0..4, 32)].concat();
            let wanted_scales = [bytes("q", scales, 2..8, 4), bytes("k", scales, 0..4, 4)].concat();
            assert_eq!(got, (wanted_codes, wanted_scales, 0.03125, convention));

            let apart = linear(64, vec![("q", 6, vec![q.clone()]), ("v", 4, vec![all("v")])]);
            let apart_loaded = origin.linear(memory, &apart)?;
            assert_eq!(apart_loaded.matrices.len(), 2);
            let got = nvfp4_bytes(&apart_loaded, 1);
            assert_eq!(
                got,
                (
                    bytes("v", codes, 0..4, 32),
                    bytes("v", scales, 0..4, 4),
                    0.03126,
                    convention
                )
            );
            assert_eq!(apart_loaded.matrices[0].n, 6);

            // Dequantised, all is one matrix: the exact value, rounded once.
            let dequantised = origin.linear_bf16(memory, &apart)?;
            let wanted = [rows("q", 2..8), rows("v", 0..4)].concat();
            assert_eq!(
                halves(dequantised.matrices[0].format, 10 * 64),
                expected(&made, &wanted)
            );
            // With another scale it is another matrix.
            let mut other = Made::default();
            other.nvfp4("v", convention, [4, 64], 0.04);
            other.nvfp4("q", convention, [8, 64], 0.03125);
            assert_ne!(
                halves(dequantised.matrices[0].format, 10 * 64),
                expected(&other, &wanted)
            );

            let one_part = linear(64, vec![("qv", 12, vec![all("q"), all("v")])]);
            let error = origin.linear(memory, &one_part).unwrap_err().to_string();
            let scale = convention.names()[2];
            assert!(
                error.contains(&format!("tensor `v.{codes}`"))
                    && error.contains(&format!("`q.{codes}`"))
                    && error.contains(&format!("NVFP4 with the {scale} 3.126e-2")),
                "{error}"
            );
            Ok(true)
        });
        assert!(done.unwrap());
    }
}

/// The quad layout read backwards: which row, block and value each byte is of.
fn planes_hold(made: &Made, name: &str, rows: &[usize], format: Format, k: usize) -> bool {
    let Format::Q8 { qs, ws } = format else {
        panic!("{format:?}")
    };
    let blocks = &made.blocks[name].1;
    let (n, nb) = (rows.len(), k / 32);
    let (tiles, quads) = (n.div_ceil(16), nb.div_ceil(4));
    let (qs, ws): (Vec<u8>, Vec<u16>) = (read(qs, tiles * quads * 2048), read(ws, tiles * quads * 64));
    let block =
        |row: usize, block: usize| (row < n && block < nb).then(|| &blocks[(rows[row] * nb + block) * 34..][..34]);
    let integers = qs.iter().enumerate().all(|(at, &byte)| {
        let (low, i, t, g, blk) = (at % 4, at / 4 % 4, at / 16 % 4, at / 64 % 8, at / 512 % 4);
        let (quad, tile) = (at / 2048 % quads, at / 2048 / quads);
        let found = block(tile * 16 + g + 8 * (i % 2), quad * 4 + blk);
        byte == found.map_or(0, |block| block[2 + 8 * t + 4 * (i / 2) + low])
    });
    let scales = ws.iter().enumerate().all(|(at, &bits)| {
        let (p, blk, g, rest) = (at % 2, at / 2 % 4, at / 8 % 8, at / 64);
        let found = block(rest / quads * 16 + g + 8 * p, rest % quads * 4 + blk);
        bits == found.map_or(0, |block| u16::from_le_bytes([block[0], block[1]]))
    });
    integers && scales
}

#[test]
fn q8_is_repacked_and_dequantised_where_it_must_be() {
    let mut made = Made::default();
    made.q8("blk.q.weight", &[40, 160]);
    made.floats("blk.b.weight", Dtype::F32, &[3, 160]);
    let file = made.gguf();
    let done = on_simulator(&file, |origin, memory| {
        let permuted = piece("blk.q", Rows::Deinterleaved { head: 20, rot: 20 });
        let order: Vec<usize> = (0..2)
            .flat_map(|head| (0..20).map(move |i| 20 * head + if i < 10 { 2 * i } else { 2 * i - 19 }))
            .collect();
        let two = linear(160, vec![("q", 40, vec![permuted]), ("b", 3, vec![all("blk.b")])]);
        let loaded = origin.linear(memory, &two)?;
        assert_eq!(loaded.matrices.len(), 2);
        assert!(planes_hold(
            &made,
            "blk.q.weight",
            &order,
            loaded.matrices[0].format,
            160
        ));
        let mut wrong = order.clone();
        wrong.swap(3, 4);
        assert!(!planes_hold(
            &made,
            "blk.q.weight",
            &wrong,
            loaded.matrices[0].format,
            160
        ));
        assert_eq!(
            halves(loaded.matrices[1].format, 3 * 160),
            expected(&made, &rows("blk.b", 0..3))
        );

        let dequantised = origin.linear_bf16(memory, &two)?;
        let wanted = [rows("blk.q", order), rows("blk.b", 0..3)].concat();
        assert_eq!(
            halves(dequantised.matrices[0].format, 43 * 160),
            expected(&made, &wanted)
        );

        let mixed = linear(160, vec![("x", 43, vec![all("blk.q"), all("blk.b")])]);
        let error = origin.linear(memory, &mixed).unwrap_err().to_string();
        assert!(
            error.contains("made.gguf: tensor `blk.b.weight`: is plain numbers, and `blk.q.weight` is Q8_0"),
            "{error}"
        );
        Ok(true)
    });
    assert!(done.unwrap());
}

/// The repacking and the dequantisation of matrices that are uploaded in several pieces: as the parts of the same.
#[test]
fn large_matrices_are_uploaded_in_pieces() {
    let (n, k) = (9000, 4096);
    let mut made = Made::default();
    // Rows that name themselves: the scale is the row, the integers follow from place and row.
    let row = |row: usize| {
        (0..k / 32).flat_map(move |block| {
            let scale = f16::from_f32((row % 1000) as f32).to_le_bytes();
            scale
                .into_iter()
                .chain((0..32).map(move |j| (row * 31 + block * 7 + j) as u8))
        })
    };
    let bytes: Vec<u8> = (0..n).flat_map(row).collect();
    assert!(bytes.len() > 32 << 20);
    made.blocks.insert("w.weight".into(), (vec![n, k], bytes));
    let file = made.gguf();
    let done = on_simulator(&file, |origin, memory| {
        let layout = linear(k as u32, vec![("w", n as u32, vec![all("w")])]);
        let loaded = origin.linear(memory, &layout)?;
        let Format::Q8 { qs, ws } = loaded.matrices[0].format else {
            panic!()
        };
        let tile = k / 128;
        // A row tile of the first piece, the last of the second, and the ragged last one.
        for first in [0, 7696, 8992] {
            let some: Vec<usize> = (first..n.min(first + 16)).collect();
            let [qs, ws] = [
                qs.add(first / 16 * tile * 2048),
                DevPtr::<u8>::cast(ws.add(first / 16 * tile * 64).cast::<u8>()),
            ];
            let format = Format::Q8 { qs, ws: ws.cast() };
            assert!(planes_hold(&made, "w.weight", &some, format, k), "rows from {first}");
        }
        Ok(true)
    });
    assert!(done.unwrap());
}

/// Memory that is only counted gets the same matrices.
#[test]
fn counting_reads_no_weights_and_finds_the_same_sizes() {
    let mut made = Made::default();
    made.nvfp4("q", Convention::ModelOpt, [8, 64], 0.5);
    made.nvfp4("k", Convention::ModelOpt, [8, 64], 0.25);
    made.floats("o.weight", Dtype::F32, &[16, 64]);
    let source = made.safetensors();
    let layouts = [
        linear(64, vec![("q", 8, vec![all("q")]), ("k", 8, vec![all("k")])]),
        linear(64, vec![("o", 16, vec![all("o")])]),
    ];
    let load = |origin: &mut FileOrigin, memory: &mut Memory| {
        let loaded = layouts
            .iter()
            .map(|layout| Ok(origin.linear(memory, layout)?.matrices.len()));
        let counts: Result<Vec<usize>, host::model::ModelError> = loaded.collect();
        counts.map(|counts| (counts, memory.parts().clone()))
    };
    let mut counted = Memory::counted();
    let counted = load(&mut FileOrigin::new(&source), &mut counted).unwrap();
    assert_eq!(counted.0, [2, 1]);
    assert_eq!(counted.1["weights"], 2 * (8 * 32 + 8 * 4 + 4) + 2 * 16 * 64);
    assert_eq!(on_simulator(&source, load).unwrap(), counted);
}
