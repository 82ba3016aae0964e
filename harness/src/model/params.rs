//! How many parameters a model has, and short forms of counts.

use host::model::config::ModelConfig;
use host::model::layout::{DenseLayout, ExpertsLayout, LayerLayout, LinearLayout, MixerLayout, MlpLayout, ModelLayout};

fn linear(layout: &LinearLayout) -> u64 {
    u64::from(layout.k) * layout.parts.iter().map(|part| u64::from(part.n)).sum::<u64>()
}

fn experts(layout: &ExpertsLayout) -> u64 {
    layout.experts.len() as u64 * u64::from(layout.n) * u64::from(layout.k)
}

fn dense(layout: &DenseLayout) -> u64 {
    linear(&layout.gate_up) + linear(&layout.down)
}

fn layer(layout: &LayerLayout) -> u64 {
    let mixer = match &layout.mixer {
        MixerLayout::Attention(a) => linear(&a.qkv) + linear(&a.o),
        MixerLayout::Gdn(g) => linear(&g.input) + linear(&g.out) + g.conv.len,
    };
    let mlp = match &layout.mlp {
        MlpLayout::Dense(d) => dense(d),
        MlpLayout::Moe(m) => {
            let shared = m.shared.as_ref().map_or(0, |(d, gate)| dense(d) + linear(gate));
            linear(&m.router) + experts(&m.gate_up) + experts(&m.down) + shared
        }
    };
    mixer + mlp + layout.input_norm.len + layout.post_norm.len
}

/// The model's parameters: all matrices, convolutions and the layers' norms; a tied head counts once, an MTP head does not.
pub fn parameters(config: &ModelConfig, layout: &ModelLayout) -> u64 {
    let table = u64::from(config.vocab) * u64::from(config.hidden);
    let head = if config.tied_embeddings {
        0
    } else {
        linear(&layout.lm_head)
    };
    table + head + layout.final_norm.len + layout.layers.iter().map(layer).sum::<u64>()
}

/// A count as tables have it: `34.66 B`, `120.5 M`.
pub fn short_count(count: u64) -> String {
    match count as f64 {
        n if n >= 1e9 => format!("{:.2} B", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        _ => count.to_string(),
    }
}

/// Bytes as tables have them: `19.80 GiB`, `1.20 MiB`.
pub fn short_bytes(bytes: u64) -> String {
    let n = bytes as f64;
    match n {
        _ if n >= f64::from(1 << 30) => format!("{:.2} GiB", n / f64::from(1 << 30)),
        _ if n >= f64::from(1 << 20) => format!("{:.2} MiB", n / f64::from(1 << 20)),
        _ => format!("{:.2} KiB", n / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        assert_eq!(short_count(34_660_610_688), "34.66 B");
        assert_eq!(
            (short_count(1_500_000), short_count(999)),
            ("1.50 M".into(), "999".into())
        );
        assert_eq!(
            (short_bytes(3 << 29), short_bytes(1 << 20), short_bytes(512)),
            ("1.50 GiB".into(), "1.00 MiB".into(), "0.50 KiB".into())
        );
    }
}
