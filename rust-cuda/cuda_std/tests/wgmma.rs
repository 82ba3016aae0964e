//! Products of a warpgroup, one at a time: every number of columns and type, every layout of the operands, A from registers, against
//! `mma.sync`'s model and plain loops; and the mistakes the simulator finds.

mod common;

use common::{Buffer, Random, SCHEDULES, run_body};
use cuda_std::shared::Shared;
use cuda_std::wgmma::{self, Accumulator, Bf16, Descriptor, F16, Land, Multiply, S8, Swizzle};
use cuda_std::{mem, proxy, thread};
use simt::tensor::{self, TensorCore};
use simt::{ErrorKind, Schedule, SimError};

/// How operands lie in shared memory: rows of 32 bytes of k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Matrices of 8 rows of 16 bytes: so far to the next 16 bytes of k, and to the next 8 rows.
    Matrices(u32, u32),
    /// Rows of 32, 64 or 128 bytes, of which the k begins so far on.
    Rows(Swizzle, u32),
}

const LAYOUTS: [Layout; 7] = [
    Layout::Matrices(128, 256),
    Layout::Matrices(4096, 128),
    Layout::Rows(Swizzle::B32, 0),
    Layout::Rows(Swizzle::B64, 0),
    Layout::Rows(Swizzle::B64, 32),
    Layout::Rows(Swizzle::B128, 0),
    Layout::Rows(Swizzle::B128, 96),
];

impl Layout {
    /// Where byte `k` of a row lies, from the start of the tile: from the pictures in the programming guide.
    fn place(self, row: u32, k: u32) -> u32 {
        match self {
            Layout::Matrices(next_k, next_rows) => row / 8 * next_rows + row % 8 * 16 + k / 16 * next_k + k % 16,
            Layout::Rows(swizzle, from) => {
                let (pitch, moved) = match swizzle {
                    Swizzle::B128 => (128, row % 8),
                    Swizzle::B64 => (64, row / 2 % 4),
                    Swizzle::B32 => (32, row / 4 % 2),
                };
                let k = k + from;
                row * pitch + ((k / 16) ^ moved) * 16 + k % 16
            }
        }
    }

    fn descriptor(self, at: Shared<u8>) -> Descriptor {
        match self {
            Layout::Matrices(next_k, next_rows) => Descriptor::matrices(at, next_k, next_rows),
            Layout::Rows(swizzle, from) => Descriptor::k_major(at, swizzle).advance(from),
        }
    }
}

/// Where A and B lie.
const A_AT: u32 = 0;
const B_AT: u32 = 16 << 10;
const SHARED: u32 = 64 << 10;

/// One product.
struct Product {
    layout: Layout,
    from_registers: bool,
    accumulate: bool,
    /// Rows of 32 bytes: 64 of A, N of B.
    a: Vec<u8>,
    b: Vec<u8>,
    /// The registers of D before it: `[thread][register]`.
    c: Vec<u32>,
}

impl Product {
    /// The registers of D after it.
    fn run<F: wgmma::Format, T: mem::Word + Default, const R: usize>(
        &self,
        schedule: Schedule,
    ) -> Result<Vec<u32>, SimError>
    where
        Accumulator<T, R>: Multiply<F> + Land,
    {
        let n = <Accumulator<T, R> as Multiply<F>>::N;
        assert_eq!(
            (self.a.len(), self.b.len(), self.c.len()),
            (64 * 32, n as usize * 32, 128 * R)
        );
        let (a, b, c) = (Buffer::new(&self.a), Buffer::new(&self.b), Buffer::new(&self.c));
        let d = Buffer::<u32>::unwritten(self.c.len());
        let [pa, pb, pc, pd] = [a.ptr() as usize, b.ptr() as usize, c.ptr() as usize, d.ptr() as usize];
        run_body(1, 128, SHARED, schedule, || {
            let t = thread::thread_idx_x();
            // SAFETY: the buffers have as many elements as is asserted above.
            unsafe {
                let word = |p: usize, i: u32| mem::load((p as *const u32).add(i as usize));
                for (at, p, rows) in [(A_AT, pa, 64), (B_AT, pb, n)] {
                    for i in (t..rows * 8).step_by(128) {
                        let place = self.layout.place(i / 8, i % 8 * 4);
                        Shared::<u32>::at(at + place).store(word(p, i));
                    }
                }
                proxy::fence_async();
                thread::sync_threads();
                let registers = core::array::from_fn(|r| mem::load((pc as *const T).add(t as usize * R + r)));
                let mut acc = Accumulator::<T, R>::of(registers);
                let descriptor = |at: u32| self.layout.descriptor(Shared::at(at));
                wgmma::fence();
                if self.from_registers {
                    let (w, g, x) = (t / 32, t % 32 / 4, t % 4);
                    let row = |r: u32| 16 * w + g + 8 * (r % 2);
                    let a = core::array::from_fn(|r| word(pa, row(r as u32) * 8 + r as u32 / 2 * 4 + x));
                    acc.issue_registers(a, descriptor(B_AT), self.accumulate);
                } else {
                    acc.issue(descriptor(A_AT), descriptor(B_AT), self.accumulate);
                }
                wgmma::commit();
                acc.wait::<0>();
                for (r, value) in acc.values().iter().enumerate() {
                    mem::store((pd as *mut T).add(t as usize * R + r), *value);
                }
            }
        })?;
        Ok(d.read())
    }
}

/// D `[64][n]` as the registers have it: of one element each, or two of 16 bits.
fn registers(d: &[u32], n: usize, pairs: bool) -> Vec<u32> {
    let at = |t: usize, j: usize, half: usize, x: usize| {
        d[(t / 32 * 16 + t % 32 / 4 + 8 * half) * n + 8 * j + t % 4 * 2 + x]
    };
    let thread = |t: usize| {
        let columns = (0..n / 8).flat_map(move |j| [(j, 0), (j, 1)]);
        columns.flat_map(move |(j, half)| match pairs {
            true => vec![at(t, j, half, 0) | at(t, j, half, 1) << 16],
            false => vec![at(t, j, half, 0), at(t, j, half, 1)],
        })
    };
    (0..128).flat_map(thread).collect()
}

/// Rows of 16-bit elements.
fn halves(bytes: &[u8]) -> Vec<[u16; 16]> {
    let row = |row: &[u8]| core::array::from_fn(|k| u16::from_le_bytes([row[2 * k], row[2 * k + 1]]));
    bytes.chunks_exact(32).map(row).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Bf16,
    F16,
    F16Half,
    S8,
}

/// D `[64][n]` by `mma.sync`'s model, or a loop over k.
fn want(kind: Kind, a: &[u8], b: &[u8], c: &[u32]) -> Vec<u32> {
    let n = b.len() / 32;
    let (rows, columns) = (halves(a), halves(b));
    let core = TensorCore::HOPPER;
    let format = if kind == Kind::Bf16 {
        tensor::Format::Bf16
    } else {
        tensor::Format::F16
    };
    let mut d = vec![0; 64 * n];
    for (i, j) in (0..4).flat_map(|i| (0..n / 8).map(move |j| (i, j))) {
        let (a16, b8) = (
            rows[16 * i..][..16].try_into().unwrap(),
            columns[8 * j..][..8].try_into().unwrap(),
        );
        let place = |m: usize, x: usize| (16 * i + m) * n + 8 * j + x;
        let c = |m: usize, x: usize| match kind {
            Kind::F16Half => half::f16::from_bits(c[place(m, x)] as u16).to_f32(),
            _ => f32::from_bits(c[place(m, x)]),
        };
        let tile = core::array::from_fn(|m| core::array::from_fn(|x| c(m, x)));
        let product = tensor::m16n8k16(core, format, a16, b8, &tile);
        for (m, x) in (0..16).flat_map(|m| (0..8).map(move |x| (m, x))) {
            d[place(m, x)] = match kind {
                Kind::F16Half if product[m][x].is_nan() => 0x7fff,
                Kind::F16Half => half::f16::from_f32(product[m][x]).to_bits().into(),
                _ => product[m][x].to_bits(),
            };
        }
    }
    if kind == Kind::S8 {
        for (i, d) in d.iter_mut().enumerate() {
            let (row, column) = (&a[i / n * 32..][..32], &b[i % n * 32..][..32]);
            let products = row
                .iter()
                .zip(column)
                .map(|(a, b)| i32::from(*a as i8) * i32::from(*b as i8));
            *d = (c[i] as i32).wrapping_add(products.sum()) as u32;
        }
    }
    d
}

fn check<F: wgmma::Format, T: mem::Word + Default, const R: usize>(kind: Kind)
where
    Accumulator<T, R>: Multiply<F> + Land,
{
    let n = <Accumulator<T, R> as Multiply<F>>::N as usize;
    let mut random = Random(n as u64 ^ (kind as u64) << 32);
    let layout = LAYOUTS[n / 8 % LAYOUTS.len()];
    for (from_registers, accumulate) in [(false, true), (true, true), (n.is_multiple_of(16), false)] {
        let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| random.next() as u8).collect() };
        let (a, b) = (bytes(64 * 32), bytes(n * 32));
        let pairs = kind == Kind::F16Half;
        let bits = if pairs { 16 } else { 32 };
        let c: Vec<u32> = (0..64 * n).map(|_| random.u32() >> (32 - bits)).collect();
        let zeros = vec![0; c.len()];
        let want = want(kind, &a, &b, if accumulate { &c } else { &zeros });
        let product = Product {
            layout,
            from_registers,
            accumulate,
            c: registers(&c, n, pairs),
            a,
            b,
        };
        let schedule = SCHEDULES[n / 8 % SCHEDULES.len()];
        let got = product.run::<F, T, R>(schedule).unwrap();
        assert!(
            got == registers(&want, n, pairs),
            "{kind:?}, n {n}, {layout:?}, A from registers: {from_registers}, accumulates: {accumulate}"
        );
    }
}

macro_rules! every_width {
    ($($test:ident: $format:ident $register:ident $kind:ident / $columns:literal: $($n:literal)*;)*) => {$(
        #[test]
        fn $test() {
            $(check::<$format, $register, { $n / $columns }>(Kind::$kind);)*
        }
    )*};
}
every_width! {
    every_width_of_bf16: Bf16 f32 Bf16 / 2: 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184 192 200 208
        216 224 232 240 248 256;
    every_width_of_f16: F16 f32 F16 / 2: 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184 192 200 208 216
        224 232 240 248 256;
    every_width_of_f16_into_f16: F16 u32 F16Half / 4: 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184 192
        200 208 216 224 232 240 248 256;
    every_width_of_bytes: S8 i32 S8 / 2: 8 16 24 32 48 64 80 96 112 128 144 160 176 192 208 224 240 256;
}

/// Whatever goes wrong, on an n8 product of zeros in the 128-byte layout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    PartOfAWarpgroup,
    AWarpThatEnds,
    OtherDescriptors,
    OtherPlaces,
    NoFence,
    NoFenceAfterARead,
    NoProxyFence,
    NoBarrier,
    NotWritten,
    OutOfBounds,
    Misaligned,
    ReadInFlight,
    ReadUncommitted,
    OtherShapeInFlight,
    OverwrittenInFlight,
    OverwrittenByAnother,
}

fn broken(mistake: Mistake, schedule: Schedule) -> Result<(), SimError> {
    use Mistake as M;
    let threads = if mistake == M::PartOfAWarpgroup { 96 } else { 128 };
    run_body(1, threads, SHARED, schedule, || {
        let t = thread::thread_idx_x();
        let written = if mistake == M::NotWritten { 63 } else { 64 };
        for i in (t..written * 32).step_by(threads as usize) {
            Shared::<u32>::at(A_AT + 4 * i).store(0);
            Shared::<u32>::at(B_AT + 4 * i).store(0);
        }
        if mistake != M::NoProxyFence {
            proxy::fence_async();
        }
        if mistake != M::NoBarrier {
            thread::sync_threads();
        }
        if mistake == M::AWarpThatEnds && t / 32 == 2 {
            return;
        }
        let a = match mistake {
            M::OtherDescriptors if t == 77 => 32,
            M::Misaligned => 128,
            M::OutOfBounds => SHARED,
            _ => A_AT,
        };
        let a = Descriptor::k_major(Shared::at(a), Swizzle::B128);
        let b = Descriptor::k_major(Shared::at(B_AT), Swizzle::B128);
        let mut acc = Accumulator::<f32, 4>::zero();
        if mistake != M::NoFence {
            wgmma::fence();
        }
        // The same product at two places of the source.
        let elsewhere = || mistake == M::OtherPlaces && t >= 64;
        if elsewhere() {
            Multiply::<Bf16>::issue(&mut acc, a, b, false);
        }
        if !elsewhere() {
            Multiply::<Bf16>::issue(&mut acc, a, b, false);
        }
        match mistake {
            M::ReadUncommitted => drop(*acc.values()),
            M::OtherShapeInFlight => {
                wgmma::commit();
                // The same registers, as another type: what a union of accumulators would do.
                let registers = core::ptr::from_mut(&mut acc).cast::<Accumulator<u32, 4>>();
                // SAFETY: of the same size, and any bits are numbers.
                Multiply::<F16>::issue(unsafe { &mut *registers }, a, b, false);
            }
            M::OverwrittenInFlight if t == 5 => Shared::<u32>::at(A_AT + 4 * 5).store(1),
            _ => {}
        }
        wgmma::commit();
        if mistake == M::ReadInFlight {
            acc.values();
        }
        if mistake == M::OverwrittenByAnother {
            // A barrier comes after the product was issued, but nobody has waited for it.
            thread::sync_threads();
            if t == 9 {
                Shared::<u32>::at(B_AT + 128).store(1);
            }
        }
        acc.wait::<0>();
        assert_eq!(acc.values(), &[0.0; 4]);
        if mistake == M::NoFenceAfterARead {
            Multiply::<Bf16>::issue(&mut acc, a, b, true);
            wgmma::commit();
            acc.wait::<0>();
        }
        thread::sync_threads();
        // Now the tile is free again.
        Shared::<u32>::at(A_AT + 4 * t).store(1);
    })
}

#[test]
fn every_mistake_is_found() {
    let fails = |mistake: Mistake, kind: ErrorKind, message: &str| {
        for schedule in SCHEDULES {
            let error = broken(mistake, schedule).expect_err(message);
            assert!(error.kind == kind && error.message.contains(message), "{error}");
        }
    };
    for schedule in SCHEDULES {
        assert_eq!(broken(Mistake::None, schedule), Ok(()));
    }
    use ErrorKind as E;
    fails(Mistake::PartOfAWarpgroup, E::PartialWarp, "takes 128 threads");
    fails(Mistake::AWarpThatEnds, E::PartialWarp, "wgmma m64n8k16.f32.bf16");
    fails(Mistake::OtherDescriptors, E::BadArgument, "another descriptor");
    fails(
        Mistake::OtherPlaces,
        E::PartialWarp,
        "other threads of the warpgroup are at",
    );
    fails(Mistake::NoFence, E::BadArgument, "no wgmma fence");
    fails(
        Mistake::NoFenceAfterARead,
        E::BadArgument,
        "read since the last wgmma fence",
    );
    fails(Mistake::NoProxyFence, E::NotFenced, "has not passed fence_async");
    fails(
        Mistake::NoBarrier,
        E::SharedRace,
        "no barrier orders that before thread",
    );
    fails(Mistake::NotWritten, E::Uninitialized, "nobody wrote it");
    fails(Mistake::OutOfBounds, E::OutOfBounds, "the block has");
    fails(Mistake::Misaligned, E::BadArgument, "must start at a multiple of 1024");
    fails(Mistake::ReadInFlight, E::AsyncNotWaited, "has not been waited for");
    fails(Mistake::ReadUncommitted, E::AsyncNotWaited, "has not been committed");
    fails(
        Mistake::OtherShapeInFlight,
        E::AsyncNotWaited,
        "in a product of another shape",
    );
    fails(Mistake::OverwrittenInFlight, E::AsyncNotWaited, "reads it");
    fails(Mistake::OverwrittenByAnother, E::AsyncNotWaited, "reads it");
}
