//! Matrix products beyond one case at a time: that checks can fail, that NVFP4 is gemm on dequantised weights, every weight there is,
//! pointers of any alignment, and the names of checkpoints.

use half::{bf16, f16};
use host::device::{Buffer, Device, LaunchDims, Pod, SimtOptions};
use host::op::Values;
use host::op::data::Draw;
use host::ops::gemm::{Buffers, Kernels, multiply};
use host::ops::nvfp4::{Convention, Matmul, Nvfp4Matrix, Nvfp4Tensors};
use host::reference::gemm::Operands;
use host::reference::mma::{Arch, chain, factors, step};
use host::reference::nvfp4::{Weights, e2m1, e4m3};
use kernels_gpu::gemm as kernels;

fn simulator() -> Device {
    Device::simt_with(SimtOptions::default())
}

fn upload<T: Pod>(device: &Device, name: &str, data: &[T]) -> Buffer {
    let buffer = device.alloc(size_of_val(data), name).unwrap();
    buffer.upload(data).unwrap();
    buffer
}

/// The f32 output of the gemm kernel.
fn gemm_f32<T: Kernels>(device: &Device, a: &[T], w: &[T], k: usize) -> Vec<f32> {
    let (m, n) = (a.len() / k, w.len() / k);
    let y = device.alloc(4 * m * n, "y").unwrap();
    let (a, w) = (upload(device, "a", a), upload(device, "w", w));
    let buffers = Buffers {
        a: &a,
        w: &w,
        bias: None,
        residual: None,
        y: &y,
        out_f32: true,
    };
    multiply::<T>(
        device,
        &device.stream().unwrap(),
        buffers,
        [m as u32, n as u32, k as u32],
    )
    .unwrap();
    y.download_vec(m * n).unwrap()
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

#[test]
fn other_orders_of_the_same_sum_give_other_bytes() {
    let (m, n, k) = (20, 12, 256);
    let draw = Draw {
        seed: 4,
        values: Values::WideRange,
    };
    let (a, w): (Vec<bf16>, Vec<bf16>) = (draw.floats("a", m, k, 1.0), draw.floats("w", n, k, 1.0));
    let got = gemm_f32(&simulator(), &a, &w, k);
    let all = |f: &dyn Fn(&[_], &[_]) -> f32| -> Vec<f32> {
        let (a, w) = (factors(&a), factors(&w));
        (0..m * n)
            .map(|i| f(&a[i / n * k..][..k], &w[i % n * k..][..k]))
            .collect()
    };
    let ascending = all(&|a, w| chain(Arch::Hopper, a, w, 0.0));
    assert_eq!(bits(&got), bits(&ascending));
    // K in two halves that are added, steps in descending order, steps of 8: each is caught.
    let split =
        all(&|a, w| chain(Arch::Hopper, &a[..128], &w[..128], 0.0) + chain(Arch::Hopper, &a[128..], &w[128..], 0.0));
    let descending = all(&|a, w| {
        a.chunks(16)
            .zip(w.chunks(16))
            .rev()
            .fold(0.0, |c, (a, w)| step(Arch::Hopper, a, w, c))
    });
    let eights = all(&|a, w| {
        a.chunks(8)
            .zip(w.chunks(8))
            .fold(0.0, |c, (a, w)| step(Arch::Hopper, a, w, c))
    });
    for (name, other) in [("split", split), ("descending", descending), ("steps of 8", eights)] {
        assert_ne!(bits(&got), bits(&other), "{name}");
    }
}

/// The kernel on NVFP4 weights against the gemm kernel on what the reference dequantises, scaled and rounded here.
fn equals_gemm<T: Kernels + Matmul>(m: usize, convention: Convention) {
    let (n, k) = (70, 208);
    let draw = Draw {
        seed: 6,
        values: Values::WideRange,
    };
    let a: Vec<T> = draw.floats("a", m, k, 1.0);
    // Any code, any scale: zeros, subnormals, negative ones and NaN among them.
    let (codes, scales) = (draw.bytes("codes", n * k / 2), draw.bytes("scales", n * k / 16));
    let tensor_scale = 0.0123f32;
    let tensors = Nvfp4Tensors {
        codes: &codes,
        scales: &scales,
        tensor_scale,
        convention,
    };
    let device = simulator();
    let matrix = Nvfp4Matrix::upload(&device, tensors, n as u32, k as u32, "w").unwrap();
    assert_eq!(matrix.convention(), convention);
    let stream = device.stream().unwrap();
    let x = upload(&device, "a", &a);
    let wide = device.alloc(4 * m * n, "wide").unwrap();
    let narrow = device.alloc(2 * m * n, "narrow").unwrap();
    matrix
        .multiply::<T>(&device, &stream, &x, None, (&wide, true), m as u32)
        .unwrap();
    matrix
        .multiply::<T>(&device, &stream, &x, None, (&narrow, false), m as u32)
        .unwrap();

    let w: Vec<T> = Weights {
        codes: &codes,
        scales: &scales,
        n,
        k,
    }
    .dequantised()
    .unwrap();
    let acc = gemm_f32(&device, &a, &w, k);
    let scaled: Vec<f32> = acc
        .iter()
        .map(|acc| match convention {
            Convention::ModelOpt => acc * tensor_scale,
            Convention::CompressedTensors => acc / tensor_scale,
        })
        .map(|v| if v.is_nan() { f32::from_bits(0x7FFF_FFFF) } else { v })
        .collect();
    assert_eq!(bits(&wide.download_vec(m * n).unwrap()), bits(&scaled));
    let rounded: Vec<T> = scaled.iter().map(|v| T::rounded(*v)).collect();
    assert_eq!(
        narrow.download_vec::<u16>(m * n).unwrap(),
        bytemuck::cast_slice::<T, u16>(&rounded)
    );
    let numbers = scaled.iter().filter(|v| v.is_finite() && **v != 0.0).count();
    assert!(numbers > m * n / 3, "{numbers} of {} outputs say something", m * n);
}

#[test]
fn nvfp4_is_gemm_of_the_dequantised_weights() {
    for convention in Convention::ALL {
        equals_gemm::<bf16>(5, convention);
        equals_gemm::<bf16>(67, convention);
        equals_gemm::<f16>(17, convention);
    }
}

/// Row r of the weights has block scale r and each code once; the identity as activations takes them out one by one.
fn every_weight<T: Kernels + Matmul>() {
    let codes: Vec<u8> = (0..256)
        .flat_map(|_| (0..8u8).map(|i| (2 * i) | ((2 * i + 1) << 4)))
        .collect();
    let scales: Vec<u8> = (0..=255).collect();
    let tensors = Nvfp4Tensors {
        codes: &codes,
        scales: &scales,
        tensor_scale: 1.0,
        convention: Convention::ModelOpt,
    };
    let device = simulator();
    let matrix = Nvfp4Matrix::upload(&device, tensors, 256, 16, "w").unwrap();
    let identity: Vec<T> = (0..256)
        .map(|i| T::rounded(f32::from(u8::from(i / 16 == i % 16))))
        .collect();
    let (a, y) = (
        upload(&device, "a", &identity),
        device.alloc(4 * 16 * 256, "y").unwrap(),
    );
    matrix
        .multiply::<T>(&device, &device.stream().unwrap(), &a, None, (&y, true), 16)
        .unwrap();
    let y: Vec<f32> = y.download_vec(16 * 256).unwrap();
    for (i, y) in y.iter().enumerate() {
        let (code, scale) = ((i / 256) as u8, (i % 256) as u8);
        let wanted = f64::from(e2m1(code)) * f64::from(e4m3(scale));
        // A NaN scale makes the whole row NaN; a weight of -0 comes out of a sum as +0, which compares equal.
        let same = if e4m3(scale).is_nan() {
            y.is_nan()
        } else {
            f64::from(*y) == wanted
        };
        assert!(same, "code {code}, scale {scale:#04x}: {y}, not {wanted}");
    }
}

#[test]
fn every_code_with_every_scale_is_unpacked_exactly() {
    every_weight::<bf16>();
    every_weight::<f16>();
}

#[test]
fn pointers_need_no_alignment_but_their_elements() {
    // Rows of 16 bytes, but the tensors begin 2 bytes after a multiple of 16; and an output that begins at an odd element.
    let (m, n, k) = (70usize, 36usize, 72usize);
    let draw = Draw {
        seed: 8,
        values: Values::WideRange,
    };
    let shifted = |name: &str, rows: usize, width: usize| -> (Vec<bf16>, Vec<bf16>) {
        let data: Vec<bf16> = draw.floats(name, rows, width, 1.0);
        let mut with_gap = vec![bf16::ZERO];
        with_gap.extend_from_slice(&data);
        (data, with_gap)
    };
    let ((a, a_gap), (w, w_gap)) = (shifted("a", m, k), shifted("w", n, k));
    let ((bias, bias_gap), (residual, residual_gap)) = (shifted("bias", 1, n), shifted("residual", m, n));
    let device = simulator();
    let stream = device.stream().unwrap();
    let buffers = [
        ("a", &a_gap),
        ("w", &w_gap),
        ("bias", &bias_gap),
        ("residual", &residual_gap),
    ];
    let buffers = buffers.map(|(name, data)| upload(&device, name, data));
    let y = device.alloc(2 * m * n + 2, "y").unwrap();
    let [a_at, w_at, bias_at, residual_at] =
        [0, 1, 2, 3].map(|i: usize| buffers[i].ptr_as::<u16>().cast_const().wrapping_add(1));
    let y_at = y.ptr().wrapping_add(2);
    let choice = kernels::choose(m as u32, n as u32);
    assert_eq!(choice, kernels::Choice::Middle);
    let (rows, columns) = kernels::size(choice);
    let blocks = (m as u32).div_ceil(rows) * (n as u32).div_ceil(columns);
    let dims = LaunchDims::new(blocks, kernels::threads(choice)).shared(kernels::shared(choice));
    let args = (
        a_at,
        w_at,
        bias_at,
        residual_at,
        y_at,
        m as u32,
        n as u32,
        k as u32,
        0u32,
    );
    device
        .launch(&stream, &kernels::gemm_bf16_middle::KERNEL, dims, args)
        .unwrap();
    let operands = Operands {
        a: &a,
        w: &w,
        bias: Some(&bias),
        residual: Some(&residual),
        m,
        n,
        k,
    };
    let wanted = operands.at(&operands.everywhere()).unwrap();
    let got: Vec<u16> = y.download_vec(m * n + 1).unwrap();
    assert_eq!(got[1..], wanted.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
}

#[test]
fn a_residual_may_be_the_output_itself() {
    let (m, n, k) = (33usize, 40usize, 64usize);
    let draw = Draw {
        seed: 8,
        values: Values::Normal,
    };
    let (a, w): (Vec<bf16>, Vec<bf16>) = (draw.floats("a", m, k, 1.0), draw.floats("w", n, k, 1.0));
    let residual: Vec<bf16> = draw.floats("residual", m, n, 1.0);
    let device = simulator();
    let [a_on, w_on, y] = [("a", &a), ("w", &w), ("y", &residual)].map(|(name, data)| upload(&device, name, data));
    let buffers = Buffers {
        a: &a_on,
        w: &w_on,
        bias: None,
        residual: Some(&y),
        y: &y,
        out_f32: false,
    };
    multiply::<bf16>(
        &device,
        &device.stream().unwrap(),
        buffers,
        [m as u32, n as u32, k as u32],
    )
    .unwrap();
    let operands = Operands {
        a: &a,
        w: &w,
        bias: None,
        residual: Some(&residual),
        m,
        n,
        k,
    };
    assert_eq!(
        y.download_vec::<bf16>(m * n).unwrap(),
        operands.at(&operands.everywhere()).unwrap()
    );
}

#[test]
fn weights_are_found_by_the_names_of_either_convention() {
    let (codes, scales, scale) = ([0u8; 8], [0x38u8], 2.0f32.to_le_bytes());
    let modelopt = |name: &str| match name {
        "l.weight" => Some(&codes[..]),
        "l.weight_scale" => Some(&scales[..]),
        "l.weight_scale_2" => Some(&scale[..]),
        _ => None,
    };
    let found = Nvfp4Tensors::find("l", modelopt).unwrap();
    assert_eq!((found.convention, found.tensor_scale), (Convention::ModelOpt, 2.0));
    let compressed = |name: &str| match name {
        "l.weight_packed" => Some(&codes[..]),
        "l.weight_scale" => Some(&scales[..]),
        "l.weight_global_scale" => Some(&scale[..]),
        _ => None,
    };
    assert_eq!(
        Nvfp4Tensors::find("l", compressed).unwrap().convention,
        Convention::CompressedTensors
    );
    let missing = Nvfp4Tensors::find("l", |name| modelopt(name).filter(|_| name != "l.weight_scale")).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("neither weight, weight_scale, weight_scale_2 nor weight_packed")
    );
    let long = Nvfp4Tensors::find("l", |name| {
        modelopt(name).map(|b| if name.ends_with('2') { &codes[..] } else { b })
    });
    assert!(long.unwrap_err().to_string().contains("l.weight_scale_2 has 8 bytes"));
}

#[test]
fn what_does_not_fit_is_refused_with_its_name() {
    let device = simulator();
    let (codes, scales) = ([0u8; 16], [0u8; 2]);
    let (tensor_scale, convention) = (1.0, Convention::CompressedTensors);
    let tensors = Nvfp4Tensors {
        codes: &codes,
        scales: &scales,
        tensor_scale,
        convention,
    };
    let refused = |n, k| {
        Nvfp4Matrix::upload(&device, tensors, n, k, "gate")
            .unwrap_err()
            .to_string()
    };
    assert!(refused(2, 24).contains("multiple of 16"));
    assert!(refused(3, 16).contains("gate.weight_packed has 16 bytes"));
    let matrix = Nvfp4Matrix::upload(&device, tensors, 2, 16, "gate").unwrap();
    let (a, y) = (device.alloc(32, "a").unwrap(), device.alloc(4, "y").unwrap());
    let stream = device.stream().unwrap();
    let short = matrix
        .multiply::<bf16>(&device, &stream, &a, None, (&y, true), 1)
        .unwrap_err();
    assert!(short.to_string().contains("y has 4 bytes"), "{short}");
    // No tokens: nothing to launch, nothing to refuse.
    matrix
        .multiply::<bf16>(&device, &stream, &a, None, (&y, false), 0)
        .unwrap();
    let buffers = Buffers {
        a: &a,
        w: &a,
        bias: None,
        residual: Some(&a),
        y: &y,
        out_f32: true,
    };
    let both = multiply::<bf16>(&device, &stream, buffers, [1, 1, 16]).unwrap_err();
    assert!(both.to_string().contains("residual"), "{both}");
    let long = multiply::<bf16>(
        &device,
        &stream,
        Buffers {
            residual: None,
            ..buffers
        },
        [1, 2, 16],
    )
    .unwrap_err();
    assert!(long.to_string().contains("a has 32 bytes"), "{long}");
}
