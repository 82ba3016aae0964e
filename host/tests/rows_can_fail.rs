//! The checks of norms and sampling can fail: a row sum in another order gives other bytes, although its values are near, and a
//! sampler with any one of its parameters wrong gives other tokens.

use cuda_std::{float, kernel, mem, thread};
use half::f16;
use host::device::{DevPtr, Device, LaunchDims, SimtOptions};
use host::op::Values;
use host::op::call::Call;
use host::op::data::Draw;
use host::op::spec::PLAIN;
use host::ops::sample::{self, SampleCall};
use host::reference::norms::rms_norm;
use host::reference::rows::Half;
use host::reference::sampling::{self, Sampling};

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

/// A parameter made wrong.
type Wrong = fn(Sampling) -> Sampling;

/// The sampling kernel's tokens of rows of one length, each with its own parameters.
fn tokens(logits: &[f32], with: &[Sampling]) -> Vec<usize> {
    let device = Device::simt_with(SimtOptions::default());
    let buffers = |bytes: &[u8], name: &str| {
        let buffer = device.alloc(bytes.len(), name).unwrap();
        buffer.upload(bytes).unwrap();
        buffer
    };
    fn column<const N: usize>(with: &[Sampling], part: impl Fn(&Sampling) -> [u8; N]) -> Vec<u8> {
        with.iter().flat_map(part).collect()
    }
    let all: Vec<u8> = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
    let on_device = [
        buffers(&all, "logits"),
        buffers(&column(with, |w| w.temperature.to_le_bytes()), "temperature"),
        buffers(&column(with, |w| w.top_k.to_le_bytes()), "top_k"),
        buffers(&column(with, |w| w.top_p.to_le_bytes()), "top_p"),
        buffers(&column(with, |w| w.seed.to_le_bytes()), "seed"),
        buffers(&column(with, |w| w.position.to_le_bytes()), "position"),
    ];
    let out = device.alloc(4 * with.len(), "tokens").unwrap();
    let (n_tok, vocab) = (with.len() as u32, (logits.len() / with.len()) as u32);
    let scratch = device.alloc(sample::scratch_bytes(n_tok, vocab), "scratch").unwrap();
    let [logits, temperature, top_k, top_p, seed, position] = &on_device;
    let call = SampleCall {
        logits: DevPtr::of(logits),
        temperature: DevPtr::of(temperature),
        top_k: DevPtr::of(top_k),
        top_p: DevPtr::of(top_p),
        seed: DevPtr::of(seed),
        position: DevPtr::of(position),
        scratch: DevPtr::of(&scratch),
        tokens: DevPtr::of(&out),
        n_tok,
        vocab,
    };
    call.launch(&device, &device.stream().unwrap(), PLAIN).unwrap();
    let got: Vec<i32> = out.download_vec(with.len()).unwrap();
    got.into_iter().map(|token| token as usize).collect()
}

#[test]
fn a_sampler_with_one_parameter_wrong_is_caught() {
    let (rows, vocab) = (40usize, 300usize);
    let draw = Draw {
        seed: 3,
        values: Values::Normal,
    };
    // Rounded to halves: ties at the ends of what top-k and top-p keep.
    let drawn: Vec<f32> = draw.floats("logits", rows, vocab, 2.0);
    let logits: Vec<f32> = drawn.iter().map(|v| (v * 2.0).round() / 2.0).collect();
    let with: Vec<Sampling> = (0..rows)
        .map(|row| Sampling {
            temperature: 1.5,
            top_k: 3 + row as u32 % 5,
            top_p: (1 << 23) + ((row as u32) << 17),
            seed: row as u64 * 0x0123_4567_89AB_CDEF,
            position: row as i32,
        })
        .collect();
    let expected: Vec<usize> = (0..rows)
        .map(|row| sampling::sample(&logits[row * vocab..][..vocab], with[row]))
        .collect();
    assert_eq!(tokens(&logits, &with), expected);
    let wrong: [(&str, Wrong); 7] = [
        ("no temperature", |w| Sampling { temperature: 0.0, ..w }),
        ("another temperature", |w| Sampling { temperature: 3.0, ..w }),
        ("one more of top-k", |w| Sampling {
            top_k: w.top_k + 1,
            ..w
        }),
        ("one less of top-k", |w| Sampling {
            top_k: w.top_k - 1,
            ..w
        }),
        ("all of top-p", |w| Sampling { top_p: 1 << 24, ..w }),
        ("the words of the seed swapped", |w| Sampling {
            seed: w.seed.rotate_left(32),
            ..w
        }),
        ("the next position", |w| Sampling {
            position: w.position + 1,
            ..w
        }),
    ];
    for (what, wrong) in wrong {
        let wrong: Vec<Sampling> = with.iter().copied().map(wrong).collect();
        assert_ne!(tokens(&logits, &wrong), expected, "{what} goes unseen");
    }
}
