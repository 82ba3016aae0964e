//! A norm whose row sum is in another order is caught: its bytes differ from the reference's, although its values are near.

use cuda_std::{float, kernel, mem, thread};
use half::f16;
use host::device::{Device, LaunchDims, SimtOptions};
use host::op::Values;
use host::op::data::Draw;
use host::reference::norms::rms_norm;
use host::reference::rows::Half;

/// RMSNorm with the squares of a row in one chain, a row a thread.
///
/// # Safety
/// x and y `[rows][n]`, w `[n]`, on the device.
#[kernel]
pub unsafe fn chained(x: *const f16, w: *const f16, y: *mut f16, n: u32, rows: u32, eps: f32) {
    let row = thread::index_1d();
    if row >= rows {
        return;
    }
    // SAFETY: row < rows and i < n.
    let value = |i: u32| unsafe { float::f16_to_f32(mem::load(x.add((row * n + i) as usize))) };
    let mut sum = 0.0f32;
    for i in 0..n {
        sum = float::fma(value(i), value(i), sum);
    }
    let rstd = float::exact::rsqrt(sum / n as f32 + eps);
    for i in 0..n {
        // SAFETY: as above.
        unsafe {
            let w = float::f16_to_f32(mem::load(w.add(i as usize)));
            mem::store(y.add((row * n + i) as usize), float::f32_to_f16((value(i) * rstd) * w));
        }
    }
}

#[test]
fn a_norm_in_another_order_is_caught() {
    let (rows, n, eps) = (64usize, 2048usize, 1e-6f32);
    let draw = Draw {
        seed: 1,
        values: Values::Normal,
    };
    let (x, w): (Vec<f16>, Vec<f16>) = (draw.floats("x", rows, n, 1.0), draw.floats("w", 1, n, 1.0));
    let device = Device::simt_with(SimtOptions::default());
    let upload = |data: &[f16], name: &str| {
        let buffer = device.alloc(2 * data.len(), name).unwrap();
        buffer.upload(data).unwrap();
        buffer
    };
    let (on_x, on_w) = (upload(&x, "x"), upload(&w, "w"));
    let y = device.alloc(2 * rows * n, "y").unwrap();
    let args = (
        on_x.ptr_as::<f16>().cast_const(),
        on_w.ptr_as::<f16>().cast_const(),
        y.ptr_as::<f16>(),
        n as u32,
        rows as u32,
        eps,
    );
    let stream = device.stream().unwrap();
    device
        .launch(&stream, &chained::KERNEL, LaunchDims::new(1, 64), args)
        .unwrap();
    let got: Vec<u16> = y.download_vec(rows * n).unwrap();

    let bits = |row: &[f16]| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let w = bits(&w);
    let expected: Vec<u16> = x
        .chunks(n)
        .flat_map(|row| rms_norm(Half::F16, &bits(row), &w, eps, false).unwrap())
        .collect();
    let differ = expected.iter().zip(&got).filter(|(e, g)| e != g).count();
    assert!(differ > 0, "another order gives the same bytes: no check could find it");
    // It is the order alone that is wrong: nothing is further off than one unit of f16.
    assert!(expected.iter().zip(&got).all(|(e, g)| e.abs_diff(*g) <= 1));
    assert!(differ < rows * n / 100, "{differ} of {}", rows * n);
}
