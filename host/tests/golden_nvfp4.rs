//! NVFP4 of `host::reference` against the two checkpoint writers, NVIDIA ModelOpt and compressed-tensors (scripts/golden/nvfp4.py): what
//! they make of the same bf16 weights to the byte, and what their bytes mean.

mod golden;

use golden::near::{Near, exact, exactly, mma};
use golden::{Golden, U, caught, wide, wide32, within};
use half::bf16;
use host::op::random::Random;
use host::reference::gemm::Operands;
use host::reference::nvfp4::{Convention, Product, Weights, quantise};

struct Written {
    convention: Convention,
    codes: Vec<u8>,
    scales: Vec<u8>,
    tensor_scale: f32,
    dequantised: Vec<f64>,
}

/// What each writer made of the file's weights. compressed-tensors computes in the dtype it is given: `bf16` is what
/// checkpoints are made from.
fn written(file: &Golden, writer: &str) -> Written {
    let (convention, packed, tensor_scale) = match writer {
        "modelopt" => (Convention::ModelOpt, "weight", "weight_scale_2"),
        _ => (Convention::CompressedTensors, "weight_packed", "weight_global_scale"),
    };
    let part = |name: &str| format!("{writer}.{name}");
    Written {
        convention,
        codes: file.u8(&part(packed)),
        scales: file.u8(&part("weight_scale")),
        tensor_scale: file.f32(&part(tensor_scale))[0],
        dequantised: file.f64(&part("dequantised")),
    }
}

fn halves(bits: &[u16]) -> Vec<bf16> {
    bits.iter().map(|&b| bf16::from_bits(b)).collect()
}

#[test]
fn quantised_to_the_byte() {
    let file = Golden::open("nvfp4");
    let shape = file.shape("weight");
    let weights = halves(&file.bf16("weight"));
    for writer in ["modelopt", "ct_bf16"] {
        let want = written(&file, writer);
        let made = quantise(&weights, shape[0], shape[1], want.convention).unwrap();
        assert_eq!(made.tensor_scale.to_bits(), want.tensor_scale.to_bits(), "{writer}");
        assert_eq!(made.scales, want.scales, "{writer}: block scales");
        assert_eq!(made.codes, want.codes, "{writer}: codes");
        // The edges that the file is made for are there: the smallest scale, the largest, and every code.
        assert!(made.scales.contains(&0x7E), "{writer}");
        let smallest = if writer == "modelopt" { 0x01 } else { 0x20 };
        assert!(made.scales.contains(&smallest), "{writer}");
        let has = |code: u8| made.codes.iter().any(|&b| b & 15 == code) && made.codes.iter().any(|&b| b >> 4 == code);
        assert!((0..16).all(has), "{writer}");
    }
    // The conventions are not each other's: neither makes the other's bytes, and the dtype matters to compressed-tensors.
    let quantised = |convention| quantise(&weights, shape[0], shape[1], convention).unwrap();
    let (a, b) = (
        quantised(Convention::ModelOpt),
        quantised(Convention::CompressedTensors),
    );
    let wide = written(&file, "ct_f32");
    assert!(a.scales != b.scales && a.codes != b.codes);
    assert!(wide.tensor_scale != b.tensor_scale || wide.scales != b.scales);
}

/// (code * scale) * s and code * (scale * s), or the same with a division: code * scale is exact, so ours has one rounding and
/// theirs two (the second exact unless the code has two bits): 1.5 ulp, 3 U.
#[test]
fn bytes_mean_what_the_writers_say() {
    let file = Golden::open("nvfp4");
    let shape = file.shape("weight");
    for writer in ["modelopt", "ct_bf16", "ct_f32"] {
        let found = written(&file, writer);
        let value = |convention: Convention, codes: &[u8], s: f32| -> Vec<f64> {
            let weights = Weights {
                codes,
                scales: &found.scales,
                n: shape[0],
                k: shape[1],
            };
            let scaled = |w: &bf16| match convention {
                Convention::ModelOpt => f64::from(w.to_f32() * s),
                Convention::CompressedTensors => f64::from(w.to_f32() / s),
            };
            weights.dequantised::<bf16>().unwrap().iter().map(scaled).collect()
        };
        let want = &found.dequantised;
        let bound = |i: usize| 3.0 * U * want[i].abs() + f64::MIN_POSITIVE;
        let (codes, s) = (&found.codes, found.tensor_scale);
        within(writer, &value(found.convention, codes, s), want, bound);
        let other = match found.convention {
            Convention::ModelOpt => Convention::CompressedTensors,
            Convention::CompressedTensors => Convention::ModelOpt,
        };
        caught(
            "the reciprocal of the tensor scale",
            &value(other, codes, s),
            want,
            bound,
        );
        let swapped: Vec<u8> = codes.iter().map(|b| b.rotate_left(4)).collect();
        caught("high nibble first", &value(found.convention, &swapped, s), want, bound);
    }
}

/// A product with the writers' weights: a tensor-core chain over exact weights, the tensor scale once, one rounding. The
/// witness's weights are f32 (2 roundings of theirs: 2 U of each product), multiplied in f64.
#[test]
fn products_with_their_weights() {
    let file = Golden::open("nvfp4");
    let shape = file.shape("weight");
    let (m, n, k) = (3, shape[0], shape[1]);
    let random = Random::new(7, "golden nvfp4 activations");
    let a: Vec<bf16> = (0..(m * k) as u64).map(|i| bf16::from_f32(random.normal(i))).collect();
    let bits: Vec<u16> = a.iter().map(|a| a.to_bits()).collect();
    let activations = exactly(&wide(&bits));
    for writer in ["modelopt", "ct_bf16"] {
        let found = written(&file, writer);
        let weights = Weights {
            codes: &found.codes,
            scales: &found.scales,
            n,
            k,
        };
        let w = weights.dequantised::<bf16>().unwrap();
        let operands = Operands {
            a: &a,
            w: &w,
            bias: None,
            residual: None,
            m,
            n,
            k,
        };
        let product = |convention, tensor_scale| {
            let product = Product {
                operands,
                tensor_scale,
                convention,
                bias: None,
            };
            wide32(&product.f32_at(&operands.everywhere()).unwrap())
        };
        let s = f64::from(found.tensor_scale);
        let s = if found.convention == Convention::ModelOpt {
            s
        } else {
            1.0 / s
        };
        let mut want = Vec::new();
        let mut bounds = Vec::new();
        for (row, column) in operands.everywhere() {
            let x = &activations[row * k..][..k];
            let their = &found.dequantised[column * k..][..k];
            want.push(x.iter().zip(their).map(|(x, w)| x.value * w).sum::<f64>());
            let own: f64 = x.iter().zip(their).map(|(x, w)| 2.0 * U * (x.value * w).abs()).sum();
            let ours: Vec<Near> = w[column * k..][..k].iter().map(|w| exact(w.to_f64())).collect();
            bounds.push((mma(x, &ours, exact(0.0)) * exact(s)).f32().bound() + own);
        }
        let bound = |i: usize| bounds[i];
        let other = match found.convention {
            Convention::ModelOpt => Convention::CompressedTensors,
            Convention::CompressedTensors => Convention::ModelOpt,
        };
        within(writer, &product(found.convention, found.tensor_scale), &want, bound);
        caught(
            "the reciprocal scale",
            &product(other, found.tensor_scale),
            &want,
            bound,
        );
        let next = f32::from_bits(found.tensor_scale.to_bits() + 1024);
        caught("a scale 1024 ulp off", &product(found.convention, next), &want, bound);
    }
}
