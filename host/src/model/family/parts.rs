//! What a family finds out itself, wherever it reads it.

use crate::model::config::{Attention, Gdn, Layer, Mixer, Mlp, Moe};

/// Layers of a model at most; [`ModelConfig::check`](crate::model::config::ModelConfig::check) has the same bound, this one keeps a list from
/// being made before it is checked.
pub const MAX_LAYERS: u32 = 4096;

/// What a family reads itself.
pub struct Parts {
    /// What mixes positions in each layer.
    pub mixers: Vec<Mixer>,
    /// Each layer's feed-forward.
    pub mlps: Vec<Mlp>,
    /// Attention.
    pub attention: Attention,
    /// The gated delta net.
    pub gdn: Option<Gdn>,
    /// The experts.
    pub moe: Option<Moe>,
    /// Whether norm weights are stored less 1.
    pub zero_centered: bool,
    /// Whether there may be an MTP head.
    pub mtp: bool,
}

impl Parts {
    /// Layers of their two halves.
    pub fn layers(&self) -> Vec<Layer> {
        let pairs = self.mixers.iter().zip(&self.mlps);
        pairs.map(|(&mixer, &mlp)| Layer { mixer, mlp }).collect()
    }

    /// The gated delta net, where a layer has one.
    pub fn used_gdn(&self) -> Option<Gdn> {
        self.gdn.filter(|_| self.mixers.contains(&Mixer::Gdn))
    }

    /// The experts, where a layer has them.
    pub fn used_moe(&self) -> Option<Moe> {
        self.moe.filter(|_| self.mlps.contains(&Mlp::Moe))
    }
}

/// Attention in every `interval`-th layer, a gated delta net in the others. `interval` is not 0.
pub fn every(n: u32, interval: u32) -> Vec<Mixer> {
    let mixer = |i: u32| match (i + 1).is_multiple_of(interval) {
        true => Mixer::Attention,
        false => Mixer::Gdn,
    };
    (0..n).map(mixer).collect()
}
