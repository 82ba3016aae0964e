//! What the layer under every operation must catch: a wrong byte in an output, in a tensor updated in place and in a sampled
//! piece; an output nobody wrote; a row that depends on its neighbours; descriptions that do not fit together.

use cuda_std::{kernel, mem, thread};
use host::cost::Work;
use host::device::{Device, LaunchDims, SimtOptions, Stream};
use host::op::data::Draw;
use host::op::random::Random;
use host::op::spec::{Alone, Answer, Axis, Bound, Config, Described, Dims, Piece, Problem, Same, Spec, Tensor, bytes};
use host::op::{Case, CheckError, Expected, OpError, Operation, Prepared, Values, check};

/// y = 2 x, s += x; with faults.
///
/// # Safety
/// x, y and s are `[n_tok][n]` on the device.
#[kernel(threads = 64)]
pub unsafe fn toy(x: *const f32, y: *mut f32, s: *mut f32, n: u32, n_tok: u32, fault: u32) {
    let i = thread::index_1d();
    if i >= n * n_tok || (fault == UNWRITTEN && i == 1) {
        return;
    }
    let wrong = |which: u32| if fault == which && i + 1 == n * n_tok { 1.0 } else { 0.0 };
    let neighbours = if fault == BATCH { n_tok as f32 } else { 0.0 };
    let i = i as usize;
    // SAFETY: i is inside all three.
    unsafe {
        let x = mem::load(x.add(i));
        mem::store(y.add(i), 2.0 * x + wrong(OUTPUT) + neighbours);
        mem::store(s.add(i), mem::load(s.add(i)) + x + wrong(IN_OUT));
    }
}

const OUTPUT: u32 = 1;
const IN_OUT: u32 = 2;
const UNWRITTEN: u32 = 3;
const BATCH: u32 = 4;
/// Of the description, not the kernel.
const NO_PIECES: u32 = 5;
const WRONG_NAME: u32 = 6;
const WRONG_TYPE: u32 = 7;
const WRONG_LENGTH: u32 = 8;

struct Toy;

impl Spec for Toy {
    const NAME: &'static str = "toy";
    const SUMMARY: &'static str = "a toy";
    const AXES: &'static [Axis] = &[
        Axis::required("n"),
        Axis::tokens(),
        Axis::optional("fault", 0).at_least(0),
        Axis::optional("sampled", 0).at_least(0),
    ];
    const DTYPES: &'static [&'static str] = &["f32"];
    const VALUES: &'static [Values] = &[Values::Normal];
    fn configs() -> Vec<Config> {
        vec![Config::plain(toy::KERNEL.meta, 64, 0)]
    }
    fn check(dims: &Dims) -> Result<(), String> {
        if dims.u64("n") == 13 {
            Err("n = 13 is unlucky".into())
        } else {
            Ok(())
        }
    }
    fn edge_cases() -> Vec<Case> {
        vec![case(3, 2, 0, false)]
    }
    fn random_case(_: Random, i: u64) -> Case {
        case(1 + i, 1, 0, false)
    }
    fn work(_: &Dims, _: &str, _: u32) -> Work {
        Work::default()
    }
    fn problem(dims: &Dims, values: Values, _: &str, seed: u64) -> Result<Box<dyn Problem>, OpError> {
        let (n, n_tok) = (dims.usize("n"), dims.usize("n_tok"));
        let draw = Draw { seed, values };
        Ok(Box::new(Data {
            n,
            n_tok,
            fault: dims.u32("fault"),
            sampled: dims.u64("sampled") == 1,
            x: draw.floats("x", n_tok, n, 1.0),
            s: draw.floats("s", n_tok, n, 1.0),
        }))
    }
}

struct Data {
    n: usize,
    n_tok: usize,
    fault: u32,
    sampled: bool,
    x: Vec<f32>,
    s: Vec<f32>,
}

impl Problem for Data {
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let dims = [("n_tok", self.n_tok), ("n", self.n)];
        vec![
            Tensor::input("x", &dims, &self.x),
            Tensor::output::<f32>("y", &dims),
            Tensor::in_out("s", &dims, &self.s),
            Tensor::scratch::<u32>("unused", &[("n", 0)]),
        ]
    }
    fn launch(&self, device: &Device, stream: &Stream, _: &str, t: &Bound) -> Result<(), OpError> {
        match self.fault {
            WRONG_NAME => return t.ptr::<f32>("z").map(|_| ()),
            WRONG_TYPE => return t.ptr::<u8>("x").map(|_| ()),
            _ if self.n_tok == 0 => return Ok(()),
            _ => {}
        }
        let dims = LaunchDims::new((self.n * self.n_tok).div_ceil(64) as u32, 64);
        let (x, y, s) = (t.ptr("x")?, t.ptr_mut("y")?, t.ptr_mut("s")?);
        let args = (x, y, s, self.n as u32, self.n_tok as u32, self.fault);
        Ok(device.launch(stream, &toy::KERNEL, dims, args)?)
    }
    fn reference(&self) -> Result<Answer, OpError> {
        let y: Vec<f32> = self.x.iter().map(|x| 2.0 * x).collect();
        let s: Vec<f32> = self.s.iter().zip(&self.x).map(|(s, x)| s + x).collect();
        let last = self.x.len().saturating_sub(2);
        Ok(match (self.fault, self.sampled) {
            (NO_PIECES, _) => Answer::Pieces(vec![Piece::new("y", 0, &y[..1])]),
            (WRONG_LENGTH, _) => Answer::Whole(vec![bytes(&y), bytes(&s[1..])]),
            (_, false) => Answer::Whole(vec![bytes(&y), bytes(&s)]),
            // The first and the last two of each.
            (_, true) => Answer::Pieces(vec![
                Piece::new("s", last, &s[last..]),
                Piece::new("y", 0, &y[..1]),
                Piece::new("s", 0, &s[..1]),
                Piece::new("y", last, &y[last..]),
            ]),
        })
    }
    fn alone(&self, _: Random) -> Vec<Alone> {
        let row = |token: usize| {
            let at = token * self.n..(token + 1) * self.n;
            Alone {
                name: "row alone",
                problem: Box::new(Data {
                    n_tok: 1,
                    x: self.x[at.clone()].to_vec(),
                    s: self.s[at.clone()].to_vec(),
                    ..*self
                }),
                same: vec![
                    Same::new::<f32>("y", at.start, 0, self.n),
                    Same::new::<f32>("s", at.start, 0, self.n),
                ],
            }
        };
        (0..self.n_tok).map(row).collect()
    }
}

fn case(n: u64, n_tok: u64, fault: u32, sampled: bool) -> Case {
    let dims = [
        ("n", n),
        ("n_tok", n_tok),
        ("fault", fault.into()),
        ("sampled", sampled.into()),
    ];
    Case::of::<Toy>("test", "test", &dims, Values::Normal)
}

const OP: Described<Toy> = Described::OP;

struct Setup {
    device: Device,
    stream: Stream,
    prepared: Box<dyn Prepared>,
}

fn setup(case: &Case) -> Setup {
    let device = Device::simt_with(SimtOptions::default());
    let stream = device.stream().unwrap();
    let prepared = OP.prepare(&device, case, 1, 2).unwrap();
    Setup {
        device,
        stream,
        prepared,
    }
}

fn checked(case: &Case) -> Result<Expected, CheckError> {
    let Setup {
        device,
        stream,
        mut prepared,
    } = setup(case);
    check(&device, prepared.as_mut(), &OP.configs()[0], &stream)
}

fn wrong(case: &Case) -> String {
    match checked(case) {
        Err(CheckError::Mismatch { mismatch, .. }) => mismatch.to_string(),
        other => panic!("{case}: {other:?}"),
    }
}

#[test]
fn what_is_right_passes_whole_sampled_and_empty() {
    assert_eq!(checked(&case(50, 3, 0, false)).unwrap(), Expected::CpuReference);
    assert_eq!(checked(&case(50, 3, 0, true)).unwrap(), Expected::CpuSampled);
    assert_eq!(checked(&case(50, 0, 0, false)).unwrap(), Expected::CpuReference);
    // A tensor updated in place is set back before each check: the second copy and a second check are right too.
    let Setup {
        device,
        stream,
        mut prepared,
    } = setup(&case(50, 3, 0, false));
    assert!(!prepared.repeatable());
    for _ in 0..3 {
        check(&device, prepared.as_mut(), &OP.configs()[0], &stream).unwrap();
    }
}

#[test]
fn a_wrong_byte_is_caught_and_named() {
    let text = wrong(&case(50, 3, OUTPUT, false));
    assert!(
        text.contains("y[token 2][49]") && text.starts_with("1 of 300"),
        "{text}"
    );
    let text = wrong(&case(50, 3, IN_OUT, false));
    assert!(text.contains("s[token 2][49]"), "{text}");
    // By the sample too, and counted among what was sampled.
    let text = wrong(&case(50, 3, OUTPUT, true));
    assert!(text.contains("y[token 2][49]") && text.starts_with("1 of 6"), "{text}");
    let text = wrong(&case(50, 3, IN_OUT, true));
    assert!(text.contains("s[token 2][49]"), "{text}");
}

#[test]
fn an_output_nobody_wrote_is_caught() {
    let error = checked(&case(50, 3, UNWRITTEN, false)).unwrap_err().to_string();
    assert_eq!(error, "toy did not write y[token 0][1] byte 0");
}

#[test]
fn a_row_that_depends_on_its_neighbours_is_caught() {
    let alone = |fault| {
        let Setup {
            stream, mut prepared, ..
        } = setup(&case(5, 3, fault, false));
        prepared.alone("plain", &stream).unwrap()
    };
    for part in alone(0) {
        assert_eq!(
            (part.name, part.compared, part.outcome),
            ("row alone", 2 * 5 * 4, Ok(()))
        );
    }
    let parts = alone(BATCH);
    assert_eq!(parts.len(), 3);
    for (token, part) in parts.into_iter().enumerate() {
        let text = part.outcome.unwrap_err().to_string();
        assert!(text.contains(&format!("y[token {token}][0]")), "{text}");
    }
}

#[test]
fn a_description_that_does_not_fit_together_is_an_error() {
    let fails = |case: &Case, text: &str| {
        let error = checked(case).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    fails(&case(5, 3, NO_PIECES, false), "the CPU reference has no piece of s");
    fails(
        &case(5, 3, WRONG_LENGTH, false),
        "the CPU reference gave tensors of [60, 56] bytes",
    );
    fails(
        &case(5, 3, WRONG_NAME, false),
        "takes a tensor 'z'; the tensors are x, y, s, unused",
    );
    fails(
        &case(5, 3, WRONG_TYPE, false),
        "tensor 'x' is f32, and a launch takes it as u8",
    );
    let refused = OP.admits(&case(13, 1, 0, false), "plain").unwrap_err();
    assert_eq!(refused, "n = 13 is unlucky");
    assert!(
        OP.admits(&case(1, 1, 0, false), "fancy")
            .unwrap_err()
            .contains("no config 'fancy'")
    );
    let given = [("n".to_string(), 4), ("m".to_string(), 1)];
    assert!(
        OP.custom_case(&given)
            .unwrap_err()
            .to_string()
            .contains("no dimension 'm'")
    );
    assert_eq!(
        OP.custom_case(&given[..1]).unwrap().id(),
        "toy/custom/custom/n=4,n_tok=1,fault=0,sampled=0"
    );
}

/// The plain kernel is never its own reference.
#[test]
fn a_plain_config_without_a_cpu_answer_is_an_error() {
    let Setup {
        device,
        stream,
        mut prepared,
    } = setup(&case(5, 3, 0, false));
    let plain = prepared.plain().unwrap().to_vec();
    let against = [(Expected::PlainKernel, host::op::Want::Whole(plain))];
    let config = &OP.configs()[0];
    let error = host::op::check_bytes(&device, prepared.as_mut(), config, &stream, &against).unwrap_err();
    assert!(
        error.to_string().contains("a plain kernel is not compared with itself"),
        "{error}"
    );
}
