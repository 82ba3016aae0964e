//! Dispatch for one device: its tuned table, and the record of what was chosen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{ANY_ADDRESS, Choice, NoConfig, Takes, Target, TunedLookup, Untuned, choose};
use crate::device::{DeviceInfo, image};
use crate::op::{Case, Operation};
use crate::ops;
use crate::results::{Mode, TunedError, TunedTable};

/// Chooses configs for one device in one mode. Each shape is decided once; the decisions are kept with their reasons.
pub struct Dispatcher {
    mode: Mode,
    arch: String,
    sm_count: u32,
    table: Box<dyn TunedLookup + Send + Sync>,
    chosen: Mutex<BTreeMap<Key, Arc<Choice>>>,
}

/// What a choice depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// The operation, with its dtype where that is not the usual one.
    op: String,
    dims: String,
    /// Configs that the addresses do not suit.
    unsuited: Vec<String>,
}

impl Dispatcher {
    /// With the table of the device that this binary was built with (`results/tuned/<device>.toml`). Without one every choice
    /// is by the operation's rule of thumb.
    ///
    /// # Errors
    /// A table that is not this build's schema.
    pub fn new(device: &DeviceInfo, mode: Mode) -> Result<Self, TunedError> {
        Ok(match TunedTable::embedded(&device.name)? {
            Some(table) => Self::with_table(device, mode, table),
            None => Self::with_table(device, mode, Untuned),
        })
    }

    /// With a table given by hand: read from a folder ([`TunedTable::load`]), or [`Untuned`].
    pub fn with_table(device: &DeviceInfo, mode: Mode, table: impl TunedLookup + Send + Sync + 'static) -> Self {
        Self {
            mode,
            arch: device.arch(),
            sm_count: device.sms,
            table: Box::new(table),
            chosen: Mutex::default(),
        }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The config for a case, decided when its dimensions are first seen and logged then.
    ///
    /// # Errors
    /// [`NoConfig`] when no config takes the case in this mode.
    pub fn choose(&self, op: &dyn Operation, case: &Case) -> Result<Arc<Choice>, NoConfig> {
        self.choose_at(op, case, ANY_ADDRESS)
    }

    /// The config for a case whose tensors have addresses: configs that those do not suit are refused, and it is decided anew
    /// where other configs are refused than before.
    ///
    /// # Errors
    /// As [`Dispatcher::choose`].
    pub fn choose_at(&self, op: &dyn Operation, case: &Case, takes: Takes) -> Result<Arc<Choice>, NoConfig> {
        let unsuited = op.configs().into_iter().map(|config| config.id);
        let unsuited = unsuited.filter(|id| takes(id).is_err()).collect();
        let key = Key {
            op: ops::record_name(case),
            dims: case.dims_text(),
            unsuited,
        };
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(choice) = chosen.get(&key) {
            return Ok(choice.clone());
        }
        let target = Target {
            arch: &self.arch,
            table_arch: self.table_arch(op),
            sm_count: self.sm_count,
        };
        let choice = Arc::new(choose(op, case, takes, self.mode, target, self.table.as_ref())?);
        tracing::info!("{choice}");
        chosen.insert(key, choice.clone());
        Ok(choice)
    }

    /// Tables go by the image that ran, `sm_90a` where the device is an sm_90. The first config is the plain one, which is built for
    /// all architectures of this build, so that its image is of the device's own where any config's is.
    fn table_arch(&self, op: &dyn Operation) -> &str {
        let family = op.configs().first().map_or("", |config| config.family);
        image::serving(&self.arch, family).map_or(self.arch.as_str(), |image| image.arch)
    }

    /// Every choice made so far, by operation and dimensions.
    pub fn choices(&self) -> Vec<Arc<Choice>> {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.values().cloned().collect()
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            mode, arch, sm_count, ..
        } = self;
        write!(
            f,
            "Dispatcher({mode:?}, {arch}, {sm_count} SMs, {} choices)",
            self.choices().len()
        )
    }
}
