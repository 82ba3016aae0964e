//! Calls of products: on tensors that lie at odd places of one buffer, next to others, they give the CPU reference's bytes and
//! write nothing else; what their kernels do not take is refused.

mod arena;

use arena::{Arena, bits, draw, halves};
use half::bf16;
use host::device::DevPtr;
use host::op::call::Call;
use host::op::spec::PLAIN;
use host::ops::gemm::GemmCall;
use host::ops::nvfp4::{Convention, Nvfp4MatmulCall};
use host::ops::q8::{Q8MatmulCall, Q8Packed, Q8QuantizeCall, Q8Shape, Q8Source, activation_bytes, weight_bytes};
use host::reference::gemm::Operands;
use host::reference::nvfp4::{self, Product, Weights};
use host::reference::q8::{self, Input};

#[test]
fn gemm_with_its_residual_in_place() {
    let (m, n, k) = (19, 40, 72);
    let (a, w) = (halves(1, "a", m, k), halves(1, "w", n, k));
    let (bias, residual) = (halves(1, "bias", 1, n), halves(1, "residual", m, n));
    let mut arena = Arena::new();
    let y = arena.put(&residual, 2);
    let call = GemmCall::<bf16> {
        a: arena.put(&a, 2),
        w: arena.put(&w, 4),
        bias: arena.put(&bias, 2),
        residual: y,
        y: y.cast(),
        m: m as u32,
        n: n as u32,
        k: k as u32,
        out_f32: false,
    };
    arena.launch(&call, PLAIN).unwrap();
    let operands = Operands {
        a: &a,
        w: &w,
        bias: Some(&bias),
        residual: Some(&residual),
        m,
        n,
        k,
    };
    let expected = operands.at(&operands.everywhere()).unwrap();
    assert_eq!(arena.get(y), expected);
    let wide: DevPtr<f32> = arena.room(m * n, 4);
    let wrong = GemmCall {
        bias: DevPtr::NULL,
        residual: DevPtr::NULL,
        y: wide.cast(),
        out_f32: true,
        ..call
    };
    arena.launch(&wrong, PLAIN).unwrap();
    let plain = Operands {
        bias: None,
        residual: None,
        ..operands
    };
    assert_eq!(
        bits(&arena.get(wide)),
        bits(&plain.f32_at(&plain.everywhere()).unwrap())
    );
    // Weights a row further on go not unseen.
    let shifted = GemmCall {
        w: call.w.add(k),
        n: call.n - 1,
        ..wrong
    };
    arena.launch(&shifted, PLAIN).unwrap();
    assert_ne!(
        bits(&arena.get(wide)[..n - 1]),
        bits(&plain.f32_at(&plain.everywhere()).unwrap()[..n - 1])
    );
    arena.gaps_are_untouched();

    let refused = |call: GemmCall<bf16>, config: &str| arena.refusal(&call, config);
    assert!(refused(call, "bm128").contains("gemm has no config 'bm128'"));
    assert!(refused(GemmCall { k: 0, ..call }, PLAIN).contains("n and k are at least 1"));
    assert!(refused(GemmCall { out_f32: true, ..call }, PLAIN).contains("16-bit output"));
    let nothing = GemmCall { m: 0, ..call };
    nothing.launch(&arena.device, &arena.stream, PLAIN).unwrap();
}

#[test]
fn nvfp4_with_its_planes_anywhere() {
    let (m, n, k) = (5, 33, 96);
    let a = halves(2, "a", m, k);
    let codes = draw(2).bytes("codes", n * k / 2);
    let scales: Vec<u8> = draw(2)
        .bytes("scales", n * k / 16)
        .iter()
        .map(|b| 0x30 | b & 0x0F)
        .collect();
    for convention in Convention::ALL {
        let mut arena = Arena::new();
        let y: DevPtr<bf16> = arena.room(m * n, 2);
        // The second of two matrices that share a plane of tensor scales.
        let call = Nvfp4MatmulCall::<bf16> {
            a: arena.put(&a, 2),
            codes: arena.put(&codes, 8),
            scales: arena.put(&scales, 1),
            tensor_scale: arena.put(&[7.0, 0.3f32], 4).add(1),
            convention,
            bias: DevPtr::NULL,
            y: y.cast(),
            m: m as u32,
            n: n as u32,
            k: k as u32,
            out_f32: false,
        };
        arena.launch(&call, PLAIN).unwrap();
        let w: Vec<bf16> = Weights {
            codes: &codes,
            scales: &scales,
            n,
            k,
        }
        .dequantised()
        .unwrap();
        let operands = Operands {
            a: &a,
            w: &w,
            bias: None,
            residual: None,
            m,
            n,
            k,
        };
        let product = Product {
            operands,
            tensor_scale: 0.3,
            convention: match convention {
                Convention::ModelOpt => nvfp4::Convention::ModelOpt,
                Convention::CompressedTensors => nvfp4::Convention::CompressedTensors,
            },
            bias: None,
        };
        assert_eq!(arena.get(y), product.at(&operands.everywhere()).unwrap());
        arena.gaps_are_untouched();
        let odd = Nvfp4MatmulCall {
            codes: call.codes.add(4),
            ..call
        };
        assert!(arena.refusal(&odd, PLAIN).contains("codes at"));
        let short = Nvfp4MatmulCall { k: 8, ..call };
        assert!(arena.refusal(&short, PLAIN).contains("k a multiple of 16"));
    }
}

#[test]
fn q8_of_rows_with_a_stride() {
    let (n, k, n_tok, stride) = (37, 160, 3, 171);
    let blocks: Vec<u8> = draw(3)
        .bytes("blocks", n * k / 32 * 34)
        .chunks(34)
        .flat_map(|block| [&[block[0], 0x24 | block[1] & 3], &block[2..]].concat())
        .collect();
    let packed = Q8Packed::from_blocks(&blocks, Q8Shape::new(n as u32, k as u32, 1).unwrap()).unwrap();
    assert_eq!(weight_bytes(n as u32, k as u32), [packed.qs.len(), 2 * packed.ws.len()]);
    let wide: Vec<f32> = draw(3).floats("x", n_tok, stride, 1.0);
    let narrow: Vec<bf16> = wide.iter().map(|x| bf16::from_f32(*x)).collect();
    let mut arena = Arena::new();
    let y: DevPtr<f32> = arena.room(n_tok * n, 4);
    let [integers, scales] = activation_bytes(n_tok as u32, k as u32);
    let sources = [
        Q8Source::F32(arena.put(&wide, 4)),
        Q8Source::Bf16(arena.put(&narrow, 2)),
    ];
    let quantise = |x, arena: &mut Arena| Q8QuantizeCall {
        x,
        xq: arena.room(integers, 16),
        dx: arena.room(scales / 4, 16),
        n_tok: n_tok as u32,
        k: k as u32,
        x_stride: stride as u32,
    };
    let (qs, ws) = (arena.put(&packed.qs, 16), arena.put(&packed.ws, 16));
    for x in sources {
        let first = quantise(x, &mut arena);
        let call = Q8MatmulCall {
            qs,
            ws,
            xq: first.xq,
            dx: first.dx,
            y,
            n: n as u32,
            k: k as u32,
            n_tok: n_tok as u32,
        };
        let of_rows = |stride: usize| -> Vec<f32> {
            let x = |t: usize, j: usize| match x {
                Q8Source::F32(_) => wide[t * stride + j],
                Q8Source::Bf16(_) => narrow[t * stride + j].to_f32(),
            };
            let x: Vec<f32> = (0..n_tok * k).map(|i| x(i / k, i % k)).collect();
            q8::matmul(&blocks, Input::F32(&x), n, k, n_tok).unwrap()
        };
        assert_eq!(first.only().unwrap().config, PLAIN);
        arena.launch(&first, PLAIN).unwrap();
        let configs = call.operation().unwrap().heuristic(&call.case(), 132);
        for config in [&configs[0], configs.last().unwrap()] {
            arena.launch(&call, config).unwrap();
            assert_eq!(bits(&arena.get(y)), bits(&of_rows(stride)), "{config}");
        }
        assert_ne!(bits(&arena.get(y)), bits(&of_rows(k)), "another stride goes unseen");
        assert!(arena.refusal(&call, PLAIN).contains("q8_matmul has no config"));
        let odd = Q8MatmulCall { qs: qs.add(8), ..call };
        assert!(arena.refusal(&odd, &configs[0]).contains("qs at"));
        let overlapping = Q8QuantizeCall { x_stride: 159, ..first };
        assert!(arena.refusal(&overlapping, PLAIN).contains("159 apart"));
    }
    arena.gaps_are_untouched();
}
