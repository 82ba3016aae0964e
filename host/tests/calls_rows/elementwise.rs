//! silu_mul and to_bf16; and what every launch refuses or leaves out.

use half::bf16;
use host::device::DevPtr;
use host::op::OpError;
use host::op::call::Call;
use host::op::spec::PLAIN;
use host::ops::rope::RopeCall;
use host::ops::silu_mul::SiluMulCall;
use host::ops::to_bf16::ToBf16Call;
use host::reference::to_bf16;

use crate::rows::{Rows, draw, draw_f32, holds, simulator};

#[test]
fn silu_mul_of_separate_gate_and_up() {
    let device = simulator();
    // Whole vectors everywhere, in one of the three, and nowhere.
    for (n, [gate_at, up_at, y_at], [gate_stride, up_stride]) in [
        (64, [8, 16, 24], [72, 200]),
        (64, [8, 3, 1], [72, 67]),
        (61, [1, 2, 3], [61, 70]),
    ] {
        let tokens = 5;
        let [gate, up] = ["gate", "up"].map(|name| draw(name, tokens, n));
        let both: Vec<bf16> = gate
            .chunks(n)
            .zip(up.chunks(n))
            .flat_map(|(g, u)| [g, u].concat())
            .collect();
        let y = host::reference::silu_mul::silu_mul(&both, tokens, n).unwrap();
        let gate = Rows::input(&device, &gate, n, gate_at, gate_stride);
        let up = Rows::input(&device, &up, n, up_at, up_stride);
        let out = Rows::output(&device, &vec![bf16::ZERO; y.len()], tokens * n, y_at, tokens * n);
        let call = SiluMulCall {
            gate: gate.ptr(),
            up: up.ptr(),
            gate_stride: gate_stride as u32,
            up_stride: up_stride as u32,
            y: out.ptr(),
            n_tok: tokens as u32,
            n: n as u32,
        };
        let wrong = [
            SiluMulCall {
                gate_stride: call.gate_stride + 1,
                ..call
            },
            SiluMulCall {
                up_stride: call.up_stride - 1,
                ..call
            },
            SiluMulCall {
                gate: call.up,
                up: call.gate,
                ..call
            },
        ];
        holds(&device, call, &wrong, &out, &y);
    }
}

#[test]
fn to_bf16_of_part_of_a_row() {
    let device = simulator();
    for (n, [x_at, y_at], [x_stride, y_stride]) in [(64, [4, 8], [68, 72]), (61, [1, 3], [63, 62])] {
        let x = draw_f32("x", 5, n);
        let y = to_bf16::to_bf16(&x);
        let x = Rows::input(&device, &x, n, x_at, x_stride);
        let out = Rows::output(&device, &vec![bf16::ZERO; y.len()], n, y_at, y_stride);
        let call = ToBf16Call {
            x: x.ptr(),
            y: out.ptr(),
            n_tok: 5,
            n: n as u32,
            x_stride: x_stride as u32,
            y_stride: y_stride as u32,
        };
        let wrong = [
            ToBf16Call {
                x_stride: call.x_stride + 1,
                ..call
            },
            ToBf16Call {
                y_stride: call.y_stride - 1,
                ..call
            },
            ToBf16Call { n: call.n - 1, ..call },
        ];
        holds(&device, call, &wrong, &out, &y);
    }
}

/// Without tokens no address is looked at, and sizes that the kernels cannot count are refused with the numbers.
#[test]
fn nothing_is_launched_for_no_tokens_and_too_many_are_refused() {
    let device = simulator();
    let stream = device.stream().expect("a stream");
    let null = SiluMulCall::of_product(DevPtr::NULL, DevPtr::NULL, 0, 8);
    null.launch(&device, &stream, PLAIN).unwrap();
    let rope = RopeCall {
        x: DevPtr::NULL,
        y: DevPtr::NULL,
        positions: DevPtr::NULL,
        inv_freq: DevPtr::NULL,
        n_tok: 0,
        heads: 2,
        head_dim: 64,
        rot: 64,
        interleaved: false,
        x_stride: 128,
        y_stride: 128,
    };
    rope.launch(&device, &stream, PLAIN).unwrap();
    let refused = |call: &dyn Call, text: &str| {
        let error = call.launch(&device, &stream, PLAIN).unwrap_err();
        assert!(
            matches!(error, OpError::Shape(_)) && error.to_string().contains(text),
            "{error}"
        );
    };
    let (n_tok, n) = (1 << 30, 1 << 20);
    refused(
        &SiluMulCall { n_tok, n, ..null },
        "silu_mul: n = 1048576, n_tok = 1073741824",
    );
    refused(&RopeCall { rot: 66, ..rope }, "rope: rot = 66");
    refused(&RopeCall { heads: 1 << 26, ..rope }, "rope: heads = 67108864");
    assert!(device.last_launch_stats().is_none(), "something was launched");
}
