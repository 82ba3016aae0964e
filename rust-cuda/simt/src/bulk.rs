//! The copy engine (PTX `cp.async.bulk` and `cp.async.bulk.tensor`): tiles of tensors, and plain bytes, between device and shared
//! memory.
//!
//! A load reads its source at issue, and lands on its barrier ([`crate::flight`]). A store reads its source at issue too, as an agent
//! of its warp does, and counts as reading it until the wait for its group; device memory has the bytes at once (races on device
//! memory are not looked for).

use crate::agent::Reader;
use crate::block::Block;
use crate::error::{ErrorKind, Fault};
use crate::flight::{Flight, Load};
use crate::memory;
use crate::race::Touch;
use crate::tma::{Map, Swizzle};
use std::panic::Location;

type At = &'static Location<'static>;

/// A thread's stores, in groups.
#[derive(Default)]
pub(crate) struct Stores {
    /// Groups closed so far, which is also the number of the one that stores issued now belong to.
    group: u64,
    /// Stores whose source may still be read: the group, the stamp of the read, where.
    reading: Vec<(u64, u32, At)>,
}

impl Stores {
    pub(crate) fn commit(&mut self) {
        self.group += 1;
    }

    /// Waits for all groups but the newest `left`; the stamp of the newest read that is over now.
    fn wait(&mut self, left: u32) -> Option<u32> {
        let end = self.group.saturating_sub(left.into());
        let over = self.reading.partition_point(|(group, ..)| *group < end);
        self.reading.drain(..over).next_back().map(|(_, stamp, _)| stamp)
    }
}

fn misaligned(what: &str, addr: u64, align: u32) -> Result<(), Box<Fault>> {
    if addr.is_multiple_of(align.into()) {
        return Ok(());
    }
    let m = format!("{what} {addr:#x} is no multiple of {align}");
    Err(Fault::new(ErrorKind::Misaligned, m))
}

fn bad<T>(message: String) -> Result<T, Box<Fault>> {
    Err(Fault::new(ErrorKind::BadArgument, message))
}

/// The rows of a tile, one after the other in shared memory: where the part inside the tensor lies in device memory, how many of the
/// row's bytes are skipped before it, and how many it has.
struct Row {
    address: u64,
    skipped: usize,
    bytes: usize,
}

/// The tile at elements `at`, row by row.
fn rows(map: &Map, at: &[i32]) -> impl Iterator<Item = Row> {
    let origin: [i64; 3] = std::array::from_fn(|i| at.get(i).map_or(0, |&x| i64::from(x)));
    let map = *map;
    let element = i64::from(map.element_bytes);
    let from = origin[0].max(0);
    let to = (origin[0] + i64::from(map.tile[0])).min(map.sizes[0] as i64);
    (0..map.tile[2])
        .flat_map(move |z| (0..map.tile[1]).map(move |y| (y, z)))
        .map(move |(y, z)| {
            let (y, z) = (origin[1] + i64::from(y), origin[2] + i64::from(z));
            let within = |x: i64, i: usize| x >= 0 && x < map.sizes[i] as i64;
            let elements = if within(y, 1) && within(z, 2) {
                (to - from).max(0)
            } else {
                0
            };
            let offset = from * element + y * map.strides[0] as i64 + z * map.strides[1] as i64;
            Row {
                address: map.base.wrapping_add(offset as u64),
                skipped: ((from - origin[0]) * element) as usize,
                bytes: (elements * element) as usize,
            }
        })
}

/// A map for a tile at these coordinates.
fn decode(words: &[u64; 16], at: &[i32], op: &str) -> Result<Map, Box<Fault>> {
    let map = Map::decode(words).or_else(|m| bad(format!("{op}: {m}")))?;
    if at.len() != map.rank as usize {
        let (given, rank) = (at.len(), map.rank);
        return bad(format!(
            "{op}: {given} coordinates for a tensor map of {rank} dimensions"
        ));
    }
    Ok(map)
}

/// Copies bytes of a tile between their places in shared memory (which begins at `base` there) and their order in the tile, in chunks
/// that the swizzle leaves together. `f` gets the place from `base` on and that in the tile.
fn chunks(swizzle: Swizzle, base: u32, bytes: usize, mut f: impl FnMut(usize, usize)) {
    for i in (0..bytes).step_by(16) {
        // A base of 128-byte lines, within which chunks change places.
        f((swizzle.apply(base + i as u32) - base) as usize, i);
    }
}

impl Block {
    /// Thread `t` starts the load of a tile to `dst`, in its own block or those of `blocks`.
    pub(crate) fn load_tile(
        &mut self,
        t: usize,
        (words, at): (&[u64; 16], &[i32]),
        (dst, barrier, blocks): (u32, u32, Option<u16>),
        loc: At,
    ) -> Result<(), Box<Fault>> {
        const OP: &str = "a tensor copy";
        let map = decode(words, at, OP)?;
        misaligned("a tensor copy to shared address", dst.into(), 128)?;
        let mut tile = vec![0; map.tile_bytes() as usize];
        for (row, into) in rows(&map, at).zip(tile.chunks_exact_mut(map.row_bytes() as usize)) {
            if row.bytes != 0 {
                self.fetch(row.address, &mut into[row.skipped..][..row.bytes], OP)?;
            }
        }
        let mut laid_out = vec![0; tile.len()];
        let local = dst & 0xff_ffff;
        chunks(map.swizzle, local, tile.len(), |place, i| {
            laid_out[place..place + 16].copy_from_slice(&tile[i..i + 16]);
        });
        self.send((t, loc), (dst, barrier, blocks), laid_out, map.swizzle.layout(), OP)
    }

    /// Thread `t` starts the load of `bytes` bytes to `dst`.
    pub(crate) fn load_bytes(
        &mut self,
        t: usize,
        (src, bytes): (*const u8, u32),
        (dst, barrier): (u32, u32),
        loc: At,
    ) -> Result<(), Box<Fault>> {
        const OP: &str = "a bulk copy";
        misaligned("a bulk copy to shared address", dst.into(), 16)?;
        misaligned("a bulk copy from address", src as u64, 16)?;
        if bytes == 0 || !bytes.is_multiple_of(16) {
            return bad(format!("{OP} of {bytes} bytes: they must be a multiple of 16"));
        }
        self.placed(dst & 0xff_ffff, bytes, 16, Touch::Issue)?;
        let mut all = vec![0; bytes as usize];
        self.fetch(src as u64, &mut all, OP)?;
        self.send((t, loc), (dst, barrier, None), all, 0, OP)
    }

    /// Bytes of device memory.
    fn fetch(&mut self, from: u64, into: &mut [u8], op: &'static str) -> Result<(), Box<Fault>> {
        if self.checks {
            memory::check(from as usize, into.len(), 1, false, op)?;
            self.stats.global_load_bytes += into.len() as u64;
        }
        // SAFETY: checked, or the caller of the operation vouches for the source.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Bytes set off to one block, or to the same place in several.
    fn send(
        &mut self,
        (t, loc): (usize, At),
        (dst, barrier, blocks): (u32, u32, Option<u16>),
        bytes: Vec<u8>,
        layout: u8,
        op: &str,
    ) -> Result<(), Box<Fault>> {
        let ctas = match blocks {
            None => {
                let (cta, to) = self.place_of(t, dst, op)?;
                let (of, barrier) = self.place_of(t, barrier, op)?;
                if cta != of {
                    return bad(format!(
                        "{op} to block {cta} of the cluster on a barrier of block {of}: it must be the same"
                    ));
                }
                vec![(cta, to, barrier)]
            }
            Some(0) => return bad(format!("{op} to no block: the mask is 0")),
            Some(mask) => {
                let size = self.blocks;
                if u32::from(mask) >> size != 0 {
                    return bad(format!("{op} to the blocks {mask:#06b} of a cluster of {size}"));
                }
                self.own_block_only(t, dst, op)?;
                self.own_block_only(t, barrier, op)?;
                let ranks = (0..16).filter(|i| mask >> i & 1 != 0);
                ranks.map(|i| (i, dst, barrier)).collect()
            }
        };
        for (cta, to, barrier) in ctas {
            let load = Load::Bytes {
                to,
                bytes: bytes.clone(),
                layout,
            };
            let flight = Flight {
                cta,
                barrier,
                owner: t,
                loc,
                load,
            };
            self.set_off(flight)?;
        }
        Ok(())
    }

    /// Thread `t` starts the store of a tile.
    pub(crate) fn store_tile(
        &mut self,
        t: usize,
        (words, at): (&[u64; 16], &[i32]),
        src: u32,
        loc: At,
    ) -> Result<(), Box<Fault>> {
        const OP: &str = "a tensor store";
        let map = decode(words, at, OP)?;
        misaligned("a tensor store from shared address", src.into(), 128)?;
        let cta = self.own_block_only(t, src, OP)?;
        self.placed(src, map.tile_bytes(), 128, Touch::Read)?;
        let reader = self.begin_store(t, loc);
        let mut bytes = [0; 16];
        for (row, from) in rows(&map, at).zip((src..).step_by(map.row_bytes() as usize)) {
            // Of the row's chunks of 16 bytes, which stay together, the part inside the tensor; nothing else is looked at.
            let (mut i, end) = (row.skipped, row.skipped + row.bytes);
            while i < end {
                let n = (16 - i % 16).min(end - i);
                let place = map.swizzle.apply(from + i as u32);
                self.read_alone(&reader, cta, place, &mut bytes[..n], map.swizzle, &|| OP.to_owned())?;
                self.put(row.address + (i - row.skipped) as u64, &bytes[..n], OP)?;
                i += n;
            }
        }
        Ok(())
    }

    /// Thread `t` starts the store of `bytes` bytes.
    pub(crate) fn store_bytes(
        &mut self,
        t: usize,
        dst: *mut u8,
        (src, bytes): (u32, u32),
        loc: At,
    ) -> Result<(), Box<Fault>> {
        const OP: &str = "a bulk store";
        misaligned("a bulk store from shared address", src.into(), 16)?;
        misaligned("a bulk store to address", dst as u64, 16)?;
        if bytes == 0 || !bytes.is_multiple_of(16) {
            return bad(format!("{OP} of {bytes} bytes: they must be a multiple of 16"));
        }
        let cta = self.own_block_only(t, src, OP)?;
        self.placed(src, bytes, 16, Touch::Read)?;
        let reader = self.begin_store(t, loc);
        let mut all = vec![0; bytes as usize];
        self.read_alone(&reader, cta, src, &mut all, Swizzle::None, &|| OP.to_owned())?;
        self.put(dst as u64, &all, OP)
    }

    /// The unit that reads for a store of thread `t`, in its current group.
    fn begin_store(&mut self, t: usize, loc: At) -> Reader {
        let warp = t / 32;
        let reader = self.reader(|block| &mut block.warp[warp].store_agent, t..t + 1, loc);
        if self.checks {
            let stores = &mut self.aside(t).stores;
            stores.reading.push((stores.group, reader.stamp(), loc));
        }
        reader
    }

    fn put(&mut self, to: u64, bytes: &[u8], op: &'static str) -> Result<(), Box<Fault>> {
        if self.checks {
            memory::check(to as usize, bytes.len(), 1, true, op)?;
            self.stats.global_store_bytes += bytes.len() as u64;
        }
        // SAFETY: checked, or the caller of the operation vouches for the destination.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    /// Thread `t` waits until all its groups of stores but the newest `left` have read their source.
    pub(crate) fn wait_stores(&mut self, t: usize, left: u32) {
        let over = self.aside(t).stores.wait(left);
        if let Some(stamp) = over
            && let Some(agent) = self.warp[t / 32].store_agent
        {
            self.clocks.waited_for(t, agent, stamp);
        }
    }

    /// Thread `t` ends: its stores have to have read their source, which may be gone afterwards.
    pub(crate) fn unread_stores(&self, t: usize) -> Option<(At, Fault)> {
        let (_, _, loc) = self.asides[t].stores.reading.first()?;
        let message = "the thread ended without waiting for this store (commit, then wait_read or wait): its shared memory may be \
                       gone before it is read"
            .to_owned();
        let kind = ErrorKind::AsyncNotWaited;
        Some((loc, Fault { kind, message }))
    }
}
