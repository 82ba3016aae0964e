//! Groups of `wgmma` and the answers of an H200, from files.

use half::{bf16, f16};
use host::device::{Buffer, Device, LaunchDims, SimtOptions};
use host::reference::mma::{self, Arch, Element, Factor};
use kernels_gpu::wgmma_probe::{self as probe, GROUP_WORDS, Group, Layout};
use simt::tensor::wgmma::{m64k16, m64k16_f16, m64k32_s8};
use simt::tensor::{Format, TensorCore};

/// 16-bit words of a row of A or B.
type Row = [u16; 16];

/// A group of a file: its form, its operands, and what an H200 answered, as tiles of 16 x 8 words.
struct Saved {
    group: Group,
    a: Vec<Row>,
    b: Vec<Row>,
    c: Vec<u32>,
    d: Vec<u32>,
}

/// A little-endian number of up to four bytes.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The next `bytes` bytes of a file.
fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> &'a [u8] {
    assert!(rest.len() >= bytes, "the file ends within a group");
    let (taken, left) = rest.split_at(bytes);
    *rest = left;
    taken
}

fn take_rows(rest: &mut &[u8], rows: usize) -> Vec<Row> {
    let row = |bytes: &[u8]| std::array::from_fn(|k| word(&bytes[2 * k..][..2]) as u16);
    take(rest, 32 * rows).chunks_exact(32).map(row).collect()
}

/// A file as `harness probe wgmma --save` writes it: of each group the packed form, A, B, C and D.
fn saved(ty: &str) -> Vec<Saved> {
    let path = format!("{}/tests/data/wgmma-h200/wgmma_{ty}.bin", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{path}: {e}; `harness probe wgmma --device cuda --save 16` writes it"));
    let mut rest = &file[..];
    let mut groups = Vec::new();
    let size = if ty == "f16_f16" { 2 } else { 4 };
    while !rest.is_empty() {
        let head = take(&mut rest, 4 * GROUP_WORDS);
        let group = Group::unpack(std::array::from_fn(|i| word(&head[4 * i..][..4])));
        let (columns, steps) = (group.columns as usize, group.steps as usize);
        let (a, b) = (take_rows(&mut rest, 64 * steps), take_rows(&mut rest, columns * steps));
        let mut tiles = || -> Vec<u32> {
            let bytes = take(&mut rest, 64 * columns * size);
            bytes.chunks_exact(size).map(word).collect()
        };
        let (c, d) = (tiles(), tiles());
        groups.push(Saved { group, a, b, c, d });
    }
    assert!(!groups.is_empty(), "{path} is empty");
    groups
}

/// Row and column of element `i` of D.
fn at(i: usize) -> (usize, usize) {
    let (tile, i) = (i / 128, i % 128);
    (tile % 4 * 16 + i / 8, tile / 4 * 8 + i % 8)
}

/// D by the probe's kernel on the simulator: the instruction as kernels have it, descriptors, registers and all.
fn by_kernel(ty: &str, saved: &Saved) -> Vec<u32> {
    let device = Device::simt_with(SimtOptions::default());
    let stream = device.stream().unwrap();
    let upload = |name: &str, bytes: Vec<u8>| -> Buffer {
        let buffer = device.alloc(bytes.len(), name).unwrap();
        buffer.upload(&bytes).unwrap();
        buffer
    };
    let halves = |words: &[Row]| words.as_flattened().iter().flat_map(|x| x.to_le_bytes()).collect();
    let size = if ty == "f16_f16" { 2 } else { 4 };
    let first = Group {
        first_a: 0,
        first_b: 0,
        first_tile: 0,
        ..saved.group
    };
    let groups = upload("group", first.pack().iter().flat_map(|x| x.to_le_bytes()).collect());
    let (a, b) = (upload("a", halves(&saved.a)), upload("b", halves(&saved.b)));
    let c = upload(
        "c",
        saved.c.iter().flat_map(|x| x.to_le_bytes()[..size].to_vec()).collect(),
    );
    let bytes = saved.d.len() * size;
    let (d, sync) = (device.alloc(bytes, "d").unwrap(), device.alloc(bytes, "sync").unwrap());
    d.poison().unwrap();
    let dims = LaunchDims::new(1, probe::THREADS).shared(probe::SHARED_BYTES);
    macro_rules! launch {
        ($t:ty, $shared:ident, $registers:ident) => {{
            let kernel = if saved.group.registers {
                &probe::$registers::KERNEL
            } else {
                &probe::$shared::KERNEL
            };
            let words = |buffer: &Buffer| buffer.ptr_as::<u32>().cast_const();
            let (from, to) = (c.ptr_as::<$t>().cast_const(), d.ptr_as::<$t>());
            let parameters = (words(&groups), words(&a), words(&b), from, to, sync.ptr_as::<$t>());
            device.launch(&stream, kernel, dims, parameters)
        }};
    }
    match ty {
        "bf16" => launch!(f32, wgmma_probe_bf16, wgmma_probe_bf16_registers),
        "f16" => launch!(f32, wgmma_probe_f16, wgmma_probe_f16_registers),
        "s8" => launch!(i32, wgmma_probe_s8, wgmma_probe_s8_registers),
        _ => launch!(u32, wgmma_probe_f16_f16, wgmma_probe_f16_f16_registers),
    }
    .unwrap();
    device.synchronize().unwrap();
    match size {
        2 => d
            .download_vec::<u16>(saved.d.len())
            .unwrap()
            .into_iter()
            .map(u32::from)
            .collect(),
        _ => d.download_vec(saved.d.len()).unwrap(),
    }
}

fn bytes(row: &Row) -> [i8; 32] {
    std::array::from_fn(|k| (row[k / 2] >> (8 * (k % 2))) as i8)
}

/// D by the simulator's model.
fn by_model(ty: &str, saved: &Saved) -> Vec<u32> {
    let columns = saved.group.columns as usize;
    let place = |i: usize| at(i).0 * columns + at(i).1;
    let mut c = vec![0; 64 * columns];
    if saved.group.accumulate {
        (0..c.len()).for_each(|i| c[place(i)] = saved.c[i]);
    }
    let (a, _) = saved.a.as_chunks::<64>();
    let steps = a.iter().zip(saved.b.chunks_exact(columns));
    let d: Vec<u32> = match ty {
        "s8" => {
            let mut d: Vec<i32> = c.into_iter().map(|c| c as i32).collect();
            for (a, b) in steps {
                m64k32_s8(
                    &a.each_ref().map(bytes),
                    &b.iter().map(bytes).collect::<Vec<_>>(),
                    &mut d,
                );
            }
            d.into_iter().map(|d| d as u32).collect()
        }
        "f16_f16" => {
            let mut d: Vec<u16> = c.into_iter().map(|c| c as u16).collect();
            steps.for_each(|(a, b)| m64k16_f16(TensorCore::HOPPER, a, b, &mut d));
            d.into_iter().map(u32::from).collect()
        }
        _ => {
            let format = if ty == "f16" { Format::F16 } else { Format::Bf16 };
            let mut d: Vec<f32> = c.into_iter().map(f32::from_bits).collect();
            steps.for_each(|(a, b)| m64k16(TensorCore::HOPPER, format, a, b, &mut d));
            d.into_iter().map(f32::to_bits).collect()
        }
    };
    (0..d.len()).map(|i| d[place(i)]).collect()
}

/// D by the reference; that of bytes is integers.
fn by_reference(ty: &str, saved: &Saved) -> Vec<u32> {
    let (columns, steps) = (saved.group.columns as usize, saved.group.steps as usize);
    let factor = |x: &u16| match ty {
        "bf16" => bf16::from_bits(*x).factor(),
        _ => f16::from_bits(*x).factor(),
    };
    let factors = |row: &Row| row.iter().map(factor).collect::<Vec<Factor>>();
    let one = |i: usize| {
        let (m, n) = at(i);
        let c = if saved.group.accumulate { saved.c[i] } else { 0 };
        let rows = (0..steps).map(|s| (&saved.a[64 * s + m], &saved.b[columns * s + n]));
        match ty {
            "s8" => rows.fold(c as i32, |c, (a, b)| {
                let products = bytes(a)
                    .into_iter()
                    .zip(bytes(b))
                    .map(|(a, b)| i32::from(a) * i32::from(b));
                c.wrapping_add(products.sum())
            }) as u32,
            "f16_f16" => rows
                .fold(f16::from_bits(c as u16), |c, (a, b)| {
                    mma::step_f16(Arch::Hopper, &factors(a), &factors(b), c)
                })
                .to_bits()
                .into(),
            _ => rows
                .fold(f32::from_bits(c), |c, (a, b)| {
                    mma::step(Arch::Hopper, &factors(a), &factors(b), c)
                })
                .to_bits(),
        }
    };
    (0..saved.d.len()).map(one).collect()
}

/// Who gives another answer than the file, and to which group.
fn differing(ty: &str, groups: &[Saved]) -> Vec<(usize, &'static str)> {
    let mut all = Vec::new();
    for (i, saved) in groups.iter().enumerate() {
        let answers = [
            ("kernel", by_kernel(ty, saved)),
            ("model", by_model(ty, saved)),
            ("reference", by_reference(ty, saved)),
        ];
        all.extend(answers.iter().filter(|(_, d)| *d != saved.d).map(|(who, _)| (i, *who)));
    }
    all
}

const TYPES: [&str; 4] = ["bf16", "f16", "s8", "f16_f16"];

#[test]
fn saved_warpgroup_answers_of_an_h200() {
    let mut all = Vec::new();
    for ty in TYPES {
        let groups = saved(ty);
        assert_eq!(differing(ty, &groups), [], "{ty}");
        let some = |of: &dyn Fn(&Group) -> bool| groups.iter().any(|saved| of(&saved.group));
        assert!(
            some(&|g| g.steps > 1) && some(&|g| !g.accumulate),
            "{ty}: chains, and no accumulator"
        );
        all.extend(groups);
    }
    let some = |of: &dyn Fn(&Group) -> bool| all.iter().any(|saved| of(&saved.group));
    assert!(some(&|g| g.registers) && some(&|g| !g.registers), "A from both places");
    for layout in Layout::ALL {
        assert!(
            some(&|g| g.a.layout == layout) && some(&|g| g.b.layout == layout),
            "{layout:?}"
        );
    }
}

/// One bit of one answer: all three say so.
#[test]
fn a_wrong_bit_among_saved_warpgroup_answers_is_found() {
    for ty in TYPES {
        let mut groups = saved(ty);
        let last = groups.len() - 1;
        groups[last].d[77] ^= 1;
        let expected = ["kernel", "model", "reference"].map(|who| (last, who));
        assert_eq!(differing(ty, &groups), expected, "{ty}");
    }
}

/// A question, factors from k = 0 on, c, and what an H200 answered.
type Corner = (&'static str, Vec<(f64, f64)>, u16, u16);

/// Corners of accumulators of f16.
#[test]
fn corners_of_f16_accumulators() {
    let p = |n: i32| 2f64.powi(n);
    // A product that is this power of two, of one sign or the other.
    let power = |n: i32| (p(n / 2), p(n - n / 2));
    let minus = |n: i32| (-p(n / 2), p(n - n / 2));
    let (one, most) = ((1.0, 1.0), (65504.0, 1.0));
    let corners: [Corner; 19] = [
        ("1 + 2^-11, a tie", vec![one, power(-11)], 0, 0x3C00),
        ("1 + 2^-10 + 2^-11, a tie", vec![one, power(-10), power(-11)], 0, 0x3C02),
        (
            "above the tie, below f32's last bit",
            vec![one, power(-11), power(-25)],
            0,
            0x3C01,
        ),
        ("above the tie, cut off", vec![one, power(-11), power(-26)], 0, 0x3C00),
        ("65504 + 15", vec![most, (15.0, 1.0)], 0, 0x7BFF),
        ("65504 + 16", vec![most, (16.0, 1.0)], 0, 0x7C00),
        ("-65504 - 16", vec![(-65504.0, 1.0), (-16.0, 1.0)], 0, 0xFC00),
        ("2^16 - 2^15", vec![power(16), minus(15)], 0, 0x7800),
        ("2^-25, a tie", vec![power(-25)], 0, 0),
        ("-2^-25", vec![minus(-25)], 0, 0),
        ("1.5 * 2^-24, a tie", vec![(1.5 * p(-12), p(-12))], 0, 2),
        ("2^-25 + 2^-46, no c", vec![power(-25), power(-46)], 0, 1),
        (
            "2^-25 + 2^-47, cut off by the floor of E",
            vec![power(-25), power(-47)],
            0,
            0,
        ),
        ("c = 2^-24 counts with -14", vec![minus(-25), power(-39)], 1, 1),
        ("and cuts this off", vec![minus(-25), power(-40)], 1, 0),
        ("c = -2^-24", vec![], 0x8001, 0x8001),
        ("c = -0", vec![(-0.0, 1.0); 16], 0x8000, 0),
        ("c = NaN", vec![], 0xFC01, 0x7FFF),
        ("c = -infinity", vec![one], 0xFC00, 0xFC00),
    ];
    for (text, pairs, c, answer) in corners {
        let (mut a, mut b) = ([[0; 16]; 64], [[0; 16]; 8]);
        for (k, (x, y)) in pairs.iter().enumerate() {
            (a[0][k], b[0][k]) = (f16::from_f64(*x).to_bits(), f16::from_f64(*y).to_bits());
        }
        let mut d = [0; 512];
        d[0] = c;
        m64k16_f16(TensorCore::HOPPER, &a, &b, &mut d);
        let factors = |row: &Row| row.map(|x| f16::from_bits(x).factor());
        let reference = mma::step_f16(Arch::Hopper, &factors(&a[0]), &factors(&b[0]), f16::from_bits(c));
        assert_eq!((d[0], reference.to_bits()), (answer, answer), "{text}");
    }
}
