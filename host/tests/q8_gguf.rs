//! Weights of a GGUF file that the Python package wrote, through the whole path: map, repack, quantise, multiply.

use std::path::Path;

use host::device::Device;
use host::gguf::Gguf;
use host::op::{Operation, Order};
use host::ops::q8::{Q8Activations, Q8Input, Q8Matmul, Q8MatmulOp, Q8Weights};
use host::reference::q8 as reference;

fn fixture() -> Gguf {
    Gguf::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/every-type.gguf")).unwrap()
}

#[test]
fn a_files_weights_give_the_product_of_its_dequantised_values() {
    const N_TOK: u32 = 3;
    let (device, file) = (Device::simt_with(Default::default()), fixture());
    let stream = device.stream().unwrap();
    for name in ["q8.31_blocks", "q8.33_blocks", "q8.1_block"] {
        let tensor = file.tensor(name).unwrap();
        let weights = Q8Weights::from_gguf(&device, &tensor).unwrap();
        let (n, k) = (weights.shape().n as usize, weights.shape().k as usize);
        assert_eq!((n as u64, k as u64), (tensor.rows(), tensor.row_len()));
        let x: Vec<f32> = (0..N_TOK as usize * k)
            .map(|i| ((i * 48_271) % 8191) as f32 / 1024.0 - 4.0)
            .collect();
        let buffer = device.alloc(x.len() * 4, "x").unwrap();
        buffer.upload(&x).unwrap();
        let activations = Q8Activations::new(&device, weights.shape(), N_TOK).unwrap();
        activations
            .quantize(&device, &stream, Q8Input::F32(&buffer), N_TOK)
            .unwrap();
        let y = device.alloc(4 * N_TOK as usize * n, "y").unwrap();

        // The file's values as its reader gives them (which is compared with the Python package's), in f64.
        let mut w = vec![0.0f32; n * k];
        tensor.to_f32(&mut w).unwrap();
        let quantised = reference::quantise(reference::Input::F32(&x), N_TOK as usize, k).unwrap();
        let value =
            |t: usize, i: usize| f64::from(quantised.d[t * k / 32 + i / 32]) * f64::from(quantised.q[t * k + i]);
        let expected = |t: usize, row: usize| -> (f64, f64) {
            let terms = (0..k).map(|i| f64::from(w[row * k + i]) * value(t, i));
            terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
        };
        let bits = reference::matmul_quantised(tensor.bytes().unwrap(), &quantised, n, k, N_TOK as usize).unwrap();
        let mut ran = 0;
        for config in Q8MatmulOp.configs().into_iter().filter(|c| c.order == Order::Canonical) {
            let matmul = Q8Matmul::new(&config.id).unwrap();
            if matmul
                .config()
                .admits(n as u32, weights.shape().quads(), N_TOK)
                .is_err()
            {
                continue;
            }
            y.poison().unwrap();
            matmul
                .launch(&device, &stream, &weights, &activations, &y, N_TOK)
                .unwrap();
            let got: Vec<f32> = y.download_vec(N_TOK as usize * n).unwrap();
            for (i, (got, want)) in got.iter().zip(&bits).enumerate() {
                let (sum, size) = expected(i / n, i % n);
                assert_eq!(got.to_bits(), want.to_bits(), "{name} {} {i}", config.id);
                let near = (f64::from(*got) - sum).abs() <= 1e-5 * size;
                assert!(near, "{name} {} {i}: {got}, the file's values give {sum}", config.id);
            }
            ran += 1;
        }
        assert!(ran >= 2, "{name}: {ran} configs");
    }
}

#[test]
fn a_tensor_that_is_not_q8_0_is_refused_by_name_and_type() {
    let (device, file) = (Device::simt_with(Default::default()), fixture());
    let other = file.tensors().find(|t| t.ty() != host::gguf::GgmlType::Q8_0).unwrap();
    let error = Q8Weights::from_gguf(&device, &other).unwrap_err().to_string();
    assert!(
        error.contains(other.name()) && error.contains(&other.ty().to_string()),
        "{error}"
    );
}
