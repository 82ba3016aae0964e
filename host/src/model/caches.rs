//! What sequences leave on the device: keys and values by page, states of gated delta nets by slot; and the tables of frequencies.

use half::bf16;

use super::ModelError;
use super::config::{Mixer, ModelConfig};
use super::limits::Limits;
use super::memory::Memory;
use crate::device::DevPtr;
use crate::rope;

/// Keys and values of one layer, each `[n_pages][kv_heads][page][head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct KvCache {
    /// Keys.
    pub k: DevPtr<bf16>,
    /// Values.
    pub v: DevPtr<bf16>,
}

/// States of one gated delta net.
#[derive(Clone, Copy, Debug)]
pub struct GdnCache {
    /// `[slots][v_heads][128][128]`.
    pub state: DevPtr<f32>,
    /// `[slots][channels][3]`.
    pub conv: DevPtr<bf16>,
}

/// A layer's cache.
#[derive(Clone, Copy, Debug)]
pub enum LayerCache {
    /// Of attention.
    Kv(KvCache),
    /// Of a gated delta net.
    Gdn(GdnCache),
}

/// The caches of all layers.
#[derive(Clone, Debug)]
pub struct Caches {
    /// By layer.
    pub layers: Vec<LayerCache>,
    /// Of the MTP head's layer.
    pub mtp: Option<KvCache>,
    /// `[rot / 2]` radians a position.
    pub inv_freq: DevPtr<f32>,
}

impl Caches {
    /// Takes the memory; everything is zero at first, so that nothing reads what was never written.
    ///
    /// # Errors
    /// The memory's; frequencies that cannot be.
    pub fn new(memory: &mut Memory, config: &ModelConfig, limits: &Limits) -> Result<Self, ModelError> {
        let a = &config.attention;
        let kv = |memory: &mut Memory, name: String| -> Result<KvCache, ModelError> {
            let bytes = 2 * limits.n_pages as usize * (a.kv_heads * limits.page * a.head_dim) as usize;
            let mut one = |what: &str| -> Result<DevPtr<bf16>, ModelError> {
                let region = memory.alloc("kv cache", &format!("{name} {what}"), bytes)?;
                memory.zero(&region)?;
                Ok(region.ptr())
            };
            Ok(KvCache {
                k: one("keys")?,
                v: one("values")?,
            })
        };
        let mut layers = Vec::with_capacity(config.layers.len());
        for (i, layer) in config.layers.iter().enumerate() {
            let name = format!("layer {i}");
            layers.push(match (layer.mixer, config.gdn) {
                (Mixer::Gdn, Some(gdn)) => {
                    let slots = limits.slots() as usize;
                    let state = memory.alloc("states", &format!("{name} state"), 4 * slots * gdn.state_len())?;
                    let conv = memory.alloc("states", &format!("{name} conv state"), 2 * slots * gdn.conv_len())?;
                    memory.zero(&state)?;
                    memory.zero(&conv)?;
                    LayerCache::Gdn(GdnCache {
                        state: state.ptr(),
                        conv: conv.ptr(),
                    })
                }
                _ => LayerCache::Kv(kv(memory, name)?),
            });
        }
        let mut inv_freq = rope::frequencies(a.theta, a.rot as usize, &a.scaling)
            .map_err(|e| config.error("rope_parameters", e.to_string()))?;
        for (f, factor) in inv_freq.iter_mut().zip(a.freq_factors.iter().flatten()) {
            // The frequency is made in f64 and rounded once; a factor of a file is an f32 division, as llama.cpp has it.
            *f /= factor;
        }
        Ok(Self {
            layers,
            mtp: if config.mtp {
                Some(kv(memory, "mtp".into())?)
            } else {
                None
            },
            inv_freq: memory.put("weights", "inv_freq", &inv_freq)?.ptr(),
        })
    }
}
