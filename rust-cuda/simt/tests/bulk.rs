//! The copy engine: tiles of tensors and plain bytes, to shared memory and back,

mod common;

use common::{Mem, one_block};
use simt::tma::{Map, Swizzle};
use simt::{Schedule, ctx};

const SHARED: u32 = 64 << 10;
/// Where the tests keep a barrier.
const BARRIER: u32 = SHARED - 8;

/// Thread 0 loads and waits, all meet.
fn load(map: &[u64; 16], at: &[i32], to: u32, bytes: u32) {
    if ctx::thread_idx().x == 0 {
        ctx::mbarrier_init(BARRIER, 1);
        ctx::fence_mbarrier_init();
        ctx::mbarrier_arrive(BARRIER, bytes);
        // SAFETY: the tests' maps are of live memory, or the point is that they are not.
        unsafe { ctx::tma_load(to, map, at, BARRIER, None) };
        ctx::mbarrier_wait(BARRIER, 0);
    }
    ctx::sync_threads();
}

fn splitmix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A tensor of random bytes with its map.
struct Tensor {
    map: Map,
    bytes: Vec<u8>,
    memory: Mem<u8>,
}

impl Tensor {
    fn random(rank: u32, swizzle: Swizzle, seed: &mut u64) -> Tensor {
        let mut below = |n: u64| splitmix(seed) % n;
        let element_bytes = 1 << below(4);
        let row = swizzle.span().unwrap_or(16 * (1 + below(4) as u32));
        let tile = [row / element_bytes, 1 + below(12) as u32, 1 + below(3) as u32];
        let sizes = [1 + below(3 * u64::from(tile[0])), 1 + below(30), 1 + below(5)];
        let pitch = (sizes[0] * u64::from(element_bytes)).next_multiple_of(16) + 16 * below(3);
        let plane = pitch * sizes[1] + 16 * below(3);
        let bytes: Vec<u8> = (0..plane * sizes[2]).map(|_| below(256) as u8).collect();
        let memory = Mem::of(&bytes, "tensor");
        let map = Map {
            base: memory.0 as u64,
            element_bytes,
            rank,
            sizes,
            strides: [pitch, plane],
            tile,
            swizzle,
        };
        map.check().unwrap();
        Tensor { map, bytes, memory }
    }

    /// The offset of an element's first byte; none outside the tensor.
    fn offset(&self, place: [i64; 3]) -> Option<usize> {
        let rank = self.map.rank as usize;
        let inside = place
            .iter()
            .zip(self.map.sizes)
            .take(rank)
            .all(|(&x, size)| x >= 0 && x < size as i64);
        let strides = [
            u64::from(self.map.element_bytes),
            self.map.strides[0],
            self.map.strides[1],
        ];
        let offset = place
            .iter()
            .zip(strides)
            .take(rank)
            .map(|(&x, stride)| x * stride as i64)
            .sum::<i64>();
        inside.then_some(offset as usize)
    }

    /// The elements of the tile at `at`, with their place in the tile's rows (each of which is one line of shared memory).
    fn elements(&self, at: &[i32]) -> Vec<([i64; 3], u32)> {
        let extent = |i: usize| {
            if i < self.map.rank as usize {
                self.map.tile[i]
            } else {
                1
            }
        };
        let from = |i: usize| at.get(i).map_or(0, |&x| i64::from(x));
        let mut all = Vec::new();
        for (z, y, x) in
            (0..extent(2)).flat_map(|z| (0..extent(1)).flat_map(move |y| (0..extent(0)).map(move |x| (z, y, x))))
        {
            let place = [from(0) + i64::from(x), from(1) + i64::from(y), from(2) + i64::from(z)];
            all.push((place, all.len() as u32 * self.map.element_bytes));
        }
        all
    }
}

/// Where a byte of a tile lies, by CUDA's programming guide: 16-byte chunks of 128-byte lines change places by the line's number.
fn swizzled(swizzle: Swizzle, addr: u32) -> u32 {
    let (line, chunk) = (addr / 128, addr % 128 / 16);
    let moved = match swizzle {
        Swizzle::None => 0,
        Swizzle::B32 => line % 2,
        Swizzle::B64 => line % 4,
        Swizzle::B128 => line % 8,
    };
    line * 128 + (chunk ^ moved) * 16 + addr % 16
}

/// Tiles at random coordinates, many over the tensor's edges or wholly outside: every byte of shared memory, by the definition.
#[test]
fn loads_of_every_rank_and_swizzle() {
    let mut seed = 1;
    for (i, swizzle) in Swizzle::ALL.iter().cycle().take(96).enumerate() {
        let tensor = Tensor::random(1 + i as u32 / 4 % 3, *swizzle, &mut seed);
        let map = tensor.map;
        let at: Vec<i32> = (0..map.rank as usize)
            .map(|d| (splitmix(&mut seed) % (map.sizes[d] + 2 * u64::from(map.tile[d]))) as i32 - map.tile[d] as i32)
            .collect();
        // Copies ask for 128 bytes only, so the permutation need not begin at the tile's first row.
        let to = 1024 + 128 * (splitmix(&mut seed) % 9) as u32;
        let bytes = map.tile_bytes();
        let out = Mem::<u8>::raw(bytes as usize, "out");
        let words = map.encode();
        let launch = simt::Launch {
            schedule: Schedule::Seeded(i as u64),
            ..one_block(64, SHARED)
        };
        launch
            .run(&|| {
                load(&words, &at, to, bytes);
                for i in (ctx::thread_idx().x..bytes).step_by(64) {
                    // SAFETY: as many bytes.
                    unsafe { ctx::store(out.at(i as usize), ctx::shared_load::<u8>(to + i)) };
                }
            })
            .unwrap();
        let got = out.bytes();
        for (place, line) in tensor.elements(&at) {
            for b in 0..map.element_bytes {
                let want = tensor.offset(place).map_or(0, |o| tensor.bytes[o + b as usize]);
                let lies = swizzled(*swizzle, to + line + b) - to;
                assert_eq!(got[lies as usize], want, "{map:?} at {at:?}, element {place:?}");
            }
        }
    }
}

/// A tile that is loaded and stored elsewhere, through shared memory, in another tensor of the same shape: what lies inside is copied,
/// everything else stays.
#[test]
fn stores_write_what_is_inside() {
    let mut seed = 2;
    for (i, swizzle) in Swizzle::ALL.iter().cycle().take(48).enumerate() {
        let tensor = Tensor::random(1 + i as u32 / 4 % 3, *swizzle, &mut seed);
        let map = tensor.map;
        let at: Vec<i32> = (0..map.rank as usize)
            .map(|d| (splitmix(&mut seed) % (map.sizes[d] + u64::from(map.tile[d]))) as i32 - map.tile[d] as i32 / 2)
            .collect();
        let copy = Mem::of(&vec![0xEEu8; tensor.bytes.len()], "copy");
        let (from, to) = (
            map.encode(),
            Map {
                base: copy.0 as u64,
                ..map
            }
            .encode(),
        );
        one_block(32, SHARED)
            .run(&|| {
                load(&from, &at, 2048, map.tile_bytes());
                if ctx::thread_idx().x == 0 {
                    // SAFETY: the map is of live memory.
                    unsafe { ctx::tma_store(&to, &at, 2048) };
                    ctx::bulk_commit();
                    ctx::bulk_wait(0, true);
                }
            })
            .unwrap();
        let mut want = vec![0xEE; tensor.bytes.len()];
        for (place, _) in tensor.elements(&at) {
            if let Some(o) = tensor.offset(place) {
                let n = map.element_bytes as usize;
                want[o..o + n].copy_from_slice(&tensor.bytes[o..o + n]);
            }
        }
        assert!(copy.bytes() == want, "{map:?} at {at:?}");
        drop(tensor.memory);
    }
}

#[test]
fn plain_bytes_go_and_come() {
    let values: Vec<u32> = (0..256).collect();
    let (from, to) = (Mem::of(&values, "from"), Mem::<u32>::raw(256, "to"));
    for schedule in [Schedule::InOrder, Schedule::Seeded(4)] {
        let launch = simt::Launch {
            schedule,
            ..one_block(32, SHARED)
        };
        launch
            .run(&|| {
                if ctx::thread_idx().x == 3 {
                    ctx::mbarrier_init(BARRIER, 1);
                    ctx::fence_mbarrier_init();
                    // SAFETY: 1024 bytes each.
                    unsafe {
                        ctx::bulk_load(16, from.at(0).cast(), 512, BARRIER);
                        ctx::bulk_load(528, from.at(128).cast(), 512, BARRIER);
                        ctx::mbarrier_arrive(BARRIER, 1024);
                        ctx::mbarrier_wait(BARRIER, 0);
                        ctx::bulk_store(to.at(0).cast(), 16, 1024);
                        ctx::bulk_commit();
                        ctx::bulk_wait(0, false);
                    }
                }
            })
            .unwrap();
        assert_eq!(to.get(), values);
    }
}
