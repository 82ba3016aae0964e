//! Groups of `wgmma`: which forms are asked, and their operands. Group i of a seed is the same on every machine.

use host::op::random::Random;
use kernels_gpu::wgmma_probe::{Group, Layout, MOST_STEPS, Place, REGISTERS_N, ROWS};
use serde::Serialize;

use crate::probe::category::{Category, category};
use crate::probe::problem::{Accumulators, Kind, Operands, draw};

/// Types of factors and accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Type {
    /// bf16, accumulated in f32
    #[serde(rename = "bf16")]
    Bf16,
    /// f16, accumulated in f32
    #[serde(rename = "f16")]
    F16,
    /// int8, accumulated in int32
    #[serde(rename = "s8")]
    S8,
    /// f16, accumulated in f16
    #[serde(rename = "f16_f16")]
    F16F16,
}

impl Type {
    /// As the command line, the files and the kernels have it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Bf16 => "bf16",
            Type::F16 => "f16",
            Type::S8 => "s8",
            Type::F16F16 => "f16_f16",
        }
    }

    /// The type of the factors.
    pub fn kind(self) -> Kind {
        match self {
            Type::Bf16 => Kind::Bf16,
            Type::F16 | Type::F16F16 => Kind::F16,
            Type::S8 => Kind::S8,
        }
    }

    /// The type of the accumulators.
    pub fn accumulators(self) -> Accumulators {
        match self {
            Type::F16F16 => Accumulators::Halves,
            _ => Accumulators::Words,
        }
    }

    /// Whether the kernel asks `mma.sync` as well.
    pub fn has_sync(self) -> bool {
        self != Type::F16F16
    }

    /// Whether the instruction has so many columns, with A from registers or not (where the probe has fewer).
    fn has(self, columns: u32, registers: bool) -> bool {
        let is_one = self != Type::S8 || columns <= 24 || columns.is_multiple_of(16);
        is_one && (!registers || REGISTERS_N.contains(&columns))
    }
}

/// The category of group `index`: those of `probe mma`. Four groups in a row have the same N, so that exactly half of the
/// problems are of random bits.
pub fn category_of(ty: Type, index: u64) -> Category {
    category(ty.kind(), index)
}

/// The form of group `index` of a seed; it begins at row and tile 0. N is drawn with a weight of 1/N, so that each N has about as
/// many problems as any other.
pub fn form(ty: Type, seed: u64, index: u64) -> Group {
    let of_four = Random::new(Random::new(seed, ty.name()).at(index / 4), "wgmma columns");
    let own = Random::new(Random::new(seed, ty.name()).at(index), "wgmma form");
    let registers = of_four.below(0, 4) == 0;
    let columns = columns(ty, registers, of_four.at(1));
    let steps = match own.below(0, 4) {
        0 => 2 + own.below(1, u64::from(MOST_STEPS) - 1) as u32,
        _ => 1,
    };
    let place = |at: u64| {
        let fits = |layout: &&Layout| layout.pieces(steps) >= 2 * steps;
        let fitting: Vec<&Layout> = Layout::ALL.iter().filter(fits).collect();
        let layout = *fitting[own.below(at, fitting.len() as u64) as usize];
        let first = own.below(at + 1, u64::from(layout.pieces(steps) / 2 - steps) + 1) as u32;
        Place { layout, first }
    };
    Group {
        columns,
        steps,
        accumulate: own.below(2, 8) != 0,
        registers,
        a: place(3),
        b: place(5),
        first_a: 0,
        first_b: 0,
        first_tile: 0,
    }
}

/// A number of columns by 64 random bits.
fn columns(ty: Type, registers: bool, bits: u64) -> u32 {
    let all: Vec<u32> = (8..=256).step_by(8).filter(|n| ty.has(*n, registers)).collect();
    let sum: f64 = all.iter().map(|n| 1.0 / f64::from(*n)).sum();
    let mut left = (bits >> 11) as f64 / 2f64.powi(53) * sum;
    for n in &all {
        left -= 1.0 / f64::from(*n);
        if left < 0.0 {
            return *n;
        }
    }
    8
}

/// A row of a step: 16 floats, or 32 bytes.
pub type Row = [u16; 16];
/// A 16 x 8 tile of C or D; an f16 is in the lower half of its word.
pub type Tile = [u32; 128];

/// Groups one after the other, with their operands.
#[derive(Default)]
pub struct Batch {
    /// The groups, with their first rows and tiles.
    pub groups: Vec<Group>,
    /// Rows of A: of each group its steps of 64.
    pub a: Vec<Row>,
    /// Rows of B: of each group its steps of N.
    pub b: Vec<Row>,
    /// Tiles of C.
    pub c: Vec<Tile>,
}

/// One group of a batch.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its form.
    pub group: Group,
    /// Its rows of A.
    pub a: &'a [Row],
    /// Its rows of B.
    pub b: &'a [Row],
    /// Its tiles of C.
    pub c: &'a [Tile],
}

/// How many rows of A and B and tiles a group has.
fn sizes(group: &Group) -> [usize; 3] {
    [ROWS * group.steps, group.columns * group.steps, group.tiles()].map(|n| n as usize)
}

impl Batch {
    /// Room for these groups, one after the other.
    pub fn of(forms: impl IntoIterator<Item = Group>) -> Batch {
        let mut batch = Batch::default();
        let mut at = [0; 3];
        for form in forms {
            let [first_a, first_b, first_tile] = at.map(|n| n as u32);
            batch.groups.push(Group {
                first_a,
                first_b,
                first_tile,
                ..form
            });
            sizes(&form).iter().zip(&mut at).for_each(|(n, at)| *at += n);
        }
        batch.a = vec![[0; 16]; at[0]];
        batch.b = vec![[0; 16]; at[1]];
        batch.c = vec![[0; 128]; at[2]];
        batch
    }

    /// Group `i`.
    pub fn view(&self, i: usize) -> View<'_> {
        let group = self.groups[i];
        let [a, b, c] = sizes(&group);
        View {
            group,
            a: &self.a[group.first_a as usize..][..a],
            b: &self.b[group.first_b as usize..][..b],
            c: &self.c[group.first_tile as usize..][..c],
        }
    }
}

/// Groups `first..first + count` of a seed, but of each four in a row none once there are `problems` tiles, over all cores.
pub fn generate(ty: Type, seed: u64, first: u64, count: u64, problems: u64) -> Batch {
    let mut tiles = 0;
    let forms = (first..first + count).map(|index| (index, form(ty, seed, index)));
    let taken = forms.take_while(|(index, group)| {
        let taken = !index.is_multiple_of(4) || tiles < problems;
        tiles += u64::from(group.tiles());
        taken
    });
    let mut batch = Batch::of(taken.map(|(_, group)| group));
    let mut rooms = Vec::new();
    let (mut a, mut b, mut c) = (&mut batch.a[..], &mut batch.b[..], &mut batch.c[..]);
    for (index, group) in (first..).zip(&batch.groups) {
        let [rows, columns, tiles] = sizes(group);
        let room = (
            index,
            a.split_off_mut(..rows).unwrap_or_default(),
            b.split_off_mut(..columns).unwrap_or_default(),
            c.split_off_mut(..tiles).unwrap_or_default(),
        );
        rooms.push(room);
    }
    let part = rooms.len().div_ceil(crate::probe::cores()).max(1);
    std::thread::scope(|scope| {
        for rooms in rooms.chunks_mut(part) {
            scope.spawn(move || {
                for (index, a, b, c) in rooms {
                    let operands = Operands {
                        a: a.as_flattened_mut(),
                        b: b.as_flattened_mut(),
                        c: c.as_flattened_mut(),
                    };
                    let random = Random::new(Random::new(seed, ty.name()).at(*index), "wgmma problem");
                    draw(ty.kind(), ty.accumulators(), category_of(ty, *index), random, operands);
                }
            });
        }
    });
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_problems_are_random_bits_and_every_form_appears() {
        for ty in [Type::Bf16, Type::F16, Type::S8, Type::F16F16] {
            let mut tiles = [0u64; 2];
            let mut seen = std::collections::BTreeMap::new();
            for i in 0..40_000 {
                let group = form(ty, 1, i);
                tiles[usize::from(category_of(ty, i) == Category::RandomBits)] += u64::from(group.tiles());
                *seen.entry((group.registers, group.columns)).or_insert(0u64) += u64::from(group.tiles());
                for place in [group.a, group.b] {
                    assert!(
                        2 * (place.first + group.steps) <= place.layout.pieces(group.steps),
                        "{group:?}"
                    );
                }
                assert_eq!(Group::unpack(group.pack()), group);
            }
            assert_eq!(tiles[0], tiles[1], "{ty:?}");
            let columns = (8..=256).step_by(8).filter(|n| ty.has(*n, false)).count();
            assert_eq!(seen.len(), columns + REGISTERS_N.len(), "{ty:?}: {seen:?}");
            let (least, most) = (seen.values().min(), seen.values().max());
            assert!(most < least.map(|n| 4 * n).as_ref(), "{ty:?}: {least:?} to {most:?}");
        }
    }

    #[test]
    fn groups_repeat_and_have_their_own_operands() {
        for ty in [Type::Bf16, Type::F16F16] {
            let (one, two) = (generate(ty, 7, 0, 16, 1 << 20), generate(ty, 7, 8, 8, 1 << 20));
            for i in 0..8 {
                let (x, y) = (one.view(8 + i), two.view(i));
                assert!(x.a == y.a && x.b == y.b && x.c == y.c, "{ty:?} {i}");
            }
            let of = |batch: &Batch| batch.a.iter().flatten().map(|x| u64::from(*x)).sum::<u64>();
            assert_ne!(of(&one), of(&generate(ty, 8, 0, 16, 1 << 20)));
            let few = generate(ty, 7, 0, 1 << 10, 100);
            assert!((100..400).contains(&few.c.len()), "{}", few.c.len());
        }
    }
}
