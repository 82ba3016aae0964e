//! Weights of files that the tests write: every format and every choice of rows, against plain indexing written apart.

mod experts;
mod faults;
mod made;
mod products;
mod vectors;

use host::device::{Device, SimtOptions};
use host::model::ModelError;
use host::model::files::Source;
use host::model::memory::Memory;
use host::model::weights::files::FileOrigin;

/// Loads onto a simulator's memory, which lives until `f` is done.
fn on_simulator<T>(
    source: &dyn Source,
    f: impl FnOnce(&mut FileOrigin, &mut Memory) -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    let mut memory = Memory::on(&Device::simt_with(SimtOptions::default()));
    f(&mut FileOrigin::new(source), &mut memory)
}
