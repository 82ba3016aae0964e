//! The norms.

use bytemuck::cast_slice;
use half::bf16;
use host::device::DevPtr;
use host::op::call::Call;
use host::ops::gated_rms_norm::GatedRmsNormCall;
use host::ops::rms_norm::RmsNormCall;
use host::reference::norms;
use host::reference::rows::Half;

use crate::rows::{Rows, draw, holds, makes, simulator};

const EPS: f32 = 1e-5;

#[test]
fn rms_norm_with_a_residual_and_per_head() {
    let device = simulator();
    // A row longer than a warp's, and heads of a packed tensor; strides that are and are not whole vectors.
    for (heads, n, strides, offset) in [(1, 520, [523, 528, 536], 3), (2, 96, [300, 200, 211], 8)] {
        let (tokens, width) = (3, heads * n);
        let [x, r] = ["x", "r"].map(|name| draw(name, tokens * heads, n));
        let w = draw("w", 1, n);
        let (mut y, mut h) = (Vec::new(), Vec::new());
        for (x, r) in x.chunks(n).zip(r.chunks(n)) {
            let sum = norms::add_residual(Half::Bf16, cast_slice(x), cast_slice(r)).unwrap();
            y.extend(norms::rms_norm(Half::Bf16, &sum, cast_slice(&w), EPS, true).unwrap());
            h.extend(sum);
        }
        let x = Rows::input(&device, &x, width, offset, strides[0]);
        let r = Rows::output(&device, &r, width, offset + 1, strides[1]);
        let w = Rows::input(&device, &w, n, 5, n);
        let out = Rows::output(&device, &vec![bf16::ZERO; y.len()], width, offset, strides[2]);
        let call = RmsNormCall {
            x: x.ptr(),
            residual: r.ptr(),
            w: w.ptr(),
            y: out.ptr(),
            n_tok: tokens as u32,
            heads: heads as u32,
            n: n as u32,
            x_stride: strides[0] as u32,
            r_stride: strides[1] as u32,
            y_stride: strides[2] as u32,
            eps: EPS,
            zero_centered: true,
        };
        let run = |call: RmsNormCall| {
            r.reset();
            makes(&device, &call, &out, cast_slice(&y)) && r.get().is_some_and(|r| cast_slice::<_, u16>(&r) == h)
        };
        assert!(run(call), "{call:?}");
        let wrong = [
            RmsNormCall {
                x_stride: call.x_stride - 1,
                ..call
            },
            RmsNormCall {
                r_stride: call.r_stride + 1,
                ..call
            },
            RmsNormCall {
                y_stride: call.y_stride - 1,
                ..call
            },
            RmsNormCall {
                residual: DevPtr::NULL,
                ..call
            },
            RmsNormCall {
                zero_centered: false,
                ..call
            },
            RmsNormCall { eps: 1e30, ..call },
        ];
        for wrong in wrong {
            assert!(!run(wrong), "a planted error went by: {wrong:?}");
        }
        assert!(run(call), "{call:?} after faults");
        assert_eq!(call.case().dim("residual"), Some(1));
    }
}

#[test]
fn rms_norm_without_a_residual() {
    let device = simulator();
    let (tokens, n) = (4, 264);
    let (x, w) = (draw("x", tokens, n), draw("w", 1, n));
    let row = |x: &[bf16]| norms::rms_norm(Half::Bf16, cast_slice(x), cast_slice(&w), EPS, false).unwrap();
    let y: Vec<u16> = x.chunks(n).flat_map(row).collect();
    let x = Rows::input(&device, &x, n, 7, 271);
    let w = Rows::input(&device, &w, n, 0, n);
    let out = Rows::output(&device, &vec![bf16::ZERO; y.len()], n, 1, 265);
    let call = RmsNormCall {
        x: x.ptr(),
        residual: DevPtr::NULL,
        w: w.ptr(),
        y: out.ptr(),
        n_tok: 4,
        heads: 1,
        n: 264,
        x_stride: 271,
        r_stride: 0,
        y_stride: 265,
        eps: EPS,
        zero_centered: false,
    };
    let wrong = [RmsNormCall { x_stride: 272, ..call }, RmsNormCall { n_tok: 3, ..call }];
    holds(&device, call, &wrong, &out, cast_slice(&y));
}

#[test]
fn gated_rms_norm_of_a_packed_gate() {
    let device = simulator();
    let (tokens, heads, n) = (3, 2, 128);
    let [x, z] = ["x", "z"].map(|name| draw(name, tokens * heads, n));
    let w = draw("w", 1, n);
    let row = |(x, z): (&[bf16], &[bf16])| {
        norms::gated_rms_norm(Half::Bf16, cast_slice(x), cast_slice(z), cast_slice(&w), EPS).unwrap()
    };
    let y: Vec<u16> = x.chunks(n).zip(z.chunks(n)).flat_map(row).collect();
    let x = Rows::input(&device, &x, heads * n, 8, 260);
    let z = Rows::input(&device, &z, heads * n, 3, 999);
    let w = Rows::input(&device, &w, n, 16, n);
    let out = Rows::output(&device, &vec![bf16::ZERO; y.len()], heads * n, 0, 257);
    let call = GatedRmsNormCall {
        x: x.ptr(),
        z: z.ptr(),
        w: w.ptr(),
        y: out.ptr(),
        n_tok: 3,
        heads: 2,
        n: 128,
        x_stride: 260,
        z_stride: 999,
        y_stride: 257,
        eps: EPS,
    };
    let wrong = [
        GatedRmsNormCall { z_stride: 998, ..call },
        GatedRmsNormCall { x_stride: 259, ..call },
        GatedRmsNormCall { y_stride: 256, ..call },
    ];
    holds(&device, call, &wrong, &out, cast_slice(&y));
}
