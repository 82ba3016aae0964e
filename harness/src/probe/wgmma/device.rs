//! Groups on the device: two launches a batch, of those with A from shared memory and of those with A from registers.

use anyhow::Result;
use host::device::{Buffer, Device, LaunchDims, Stream};
use kernels_gpu::wgmma_probe::{self as probe, GROUP_WORDS, Group};

use super::group::{Batch, Tile, Type};
use crate::probe::problem::Accumulators;

/// What the device said.
pub struct Answers {
    /// D of wgmma, tile by tile.
    pub d: Vec<Tile>,
    /// D of `mma.sync` over the same steps; none for f16 accumulators.
    pub sync: Option<Vec<Tile>>,
}

/// Buffers for batches, as large as the largest so far.
pub struct Runner {
    device: Device,
    stream: Stream,
    buffers: Option<Buffers>,
}

struct Buffers {
    groups: Buffer,
    a: Buffer,
    b: Buffer,
    c: Buffer,
    d: Buffer,
    sync: Buffer,
    /// Groups, rows of A and B, tiles.
    room: [usize; 4],
}

impl Runner {
    /// Without buffers yet.
    ///
    /// # Errors
    /// The device's.
    pub fn new(device: &Device) -> Result<Runner> {
        Ok(Runner {
            device: device.clone(),
            stream: device.stream()?,
            buffers: None,
        })
    }

    /// Makes buffers of at least this size, unless those there are will do.
    fn make_room(&mut self, sizes: [usize; 4]) -> Result<()> {
        let fits = |b: &Buffers| b.room.iter().zip(&sizes).all(|(room, size)| room >= size);
        if !self.buffers.as_ref().is_some_and(fits) {
            let before = self.buffers.take().map_or([0; 4], |b| b.room);
            // A quarter more: batches of as many groups differ a little.
            let room: [usize; 4] = std::array::from_fn(|i| before[i].max(sizes[i] + sizes[i] / 4));
            let alloc = |bytes: usize, name: &str| self.device.alloc(bytes, name);
            self.buffers = Some(Buffers {
                groups: alloc(room[0] * 4 * GROUP_WORDS, "probe groups")?,
                a: alloc(room[1] * 32, "probe a")?,
                b: alloc(room[2] * 32, "probe b")?,
                c: alloc(room[3] * 512, "probe c")?,
                d: alloc(room[3] * 512, "probe d")?,
                sync: alloc(room[3] * 512, "probe mma.sync")?,
                room,
            });
        }
        Ok(())
    }

    /// The device's answers.
    ///
    /// # Errors
    /// The device's.
    pub fn run(&mut self, ty: Type, batch: &Batch) -> Result<Answers> {
        let sizes = [batch.groups.len(), batch.a.len(), batch.b.len(), batch.c.len()];
        let tiles = batch.c.len();
        self.make_room(sizes)?;
        let Some(buffers) = &self.buffers else {
            unreachable!("made above")
        };
        let (registers, shared): (Vec<Group>, Vec<Group>) = batch.groups.iter().copied().partition(|g| g.registers);
        let packed: Vec<u32> = shared.iter().chain(&registers).flat_map(Group::pack).collect();
        buffers.groups.upload(&packed)?;
        buffers.a.upload(batch.a.as_flattened())?;
        buffers.b.upload(batch.b.as_flattened())?;
        match ty.accumulators() {
            Accumulators::Words => buffers.c.upload(batch.c.as_flattened())?,
            Accumulators::Halves => {
                let halves: Vec<u16> = batch.c.as_flattened().iter().map(|c| *c as u16).collect();
                buffers.c.upload(&halves)?;
            }
        }
        buffers.d.poison()?;
        buffers.sync.poison()?;
        for (first, count, registers) in [(0, shared.len(), false), (shared.len(), registers.len(), true)] {
            if count > 0 {
                launch(&self.device, &self.stream, ty, buffers, (first, count), registers)?;
            }
        }
        let tiles_of = |buffer: &Buffer| -> Result<Vec<Tile>> {
            let words = match ty.accumulators() {
                Accumulators::Words => buffer.download_vec::<u32>(tiles * 128)?,
                Accumulators::Halves => {
                    let halves = buffer.download_vec::<u16>(tiles * 128)?;
                    halves.into_iter().map(u32::from).collect()
                }
            };
            Ok(words.as_chunks::<128>().0.to_vec())
        };
        Ok(Answers {
            d: tiles_of(&buffers.d)?,
            sync: ty.has_sync().then(|| tiles_of(&buffers.sync)).transpose()?,
        })
    }
}

/// Launches `count` groups from `first` on.
fn launch(
    device: &Device,
    stream: &Stream,
    ty: Type,
    buffers: &Buffers,
    (first, count): (usize, usize),
    registers: bool,
) -> Result<()> {
    let dims = LaunchDims::new(count as u32, probe::THREADS).shared(probe::SHARED_BYTES);
    let groups = buffers
        .groups
        .ptr_as::<u32>()
        .cast_const()
        .wrapping_add(first * GROUP_WORDS);
    let (a, b) = (
        buffers.a.ptr_as::<u32>().cast_const(),
        buffers.b.ptr_as::<u32>().cast_const(),
    );
    macro_rules! launch {
        ($shared:ident $registers:ident $t:ty) => {{
            let kernel = if registers {
                &probe::$registers::KERNEL
            } else {
                &probe::$shared::KERNEL
            };
            let (d, sync) = (buffers.d.ptr_as::<$t>(), buffers.sync.ptr_as::<$t>());
            let c = buffers.c.ptr_as::<$t>().cast_const();
            device.launch(stream, kernel, dims, (groups, a, b, c, d, sync))?
        }};
    }
    match ty {
        Type::Bf16 => launch!(wgmma_probe_bf16 wgmma_probe_bf16_registers f32),
        Type::F16 => launch!(wgmma_probe_f16 wgmma_probe_f16_registers f32),
        Type::S8 => launch!(wgmma_probe_s8 wgmma_probe_s8_registers i32),
        Type::F16F16 => launch!(wgmma_probe_f16_f16 wgmma_probe_f16_f16_registers u32),
    }
    Ok(())
}
