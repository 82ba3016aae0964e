//! Tables of rotary frequencies: what `inv_freq` of the operation `rope` is for a model, with the scaling rules of its
//! `config.json`. Made in f64 and rounded once, so that the kernel knows no rule.

use std::f64::consts::PI;

/// How a model stretches its positions (`rope_scaling` or `rope_parameters` in its `config.json`).
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all (`default`).
    None,
    /// Every frequency divided by the factor (`linear`).
    Linear {
        /// `factor`.
        factor: f64,
    },
    /// Long waves divided by the factor, short ones kept, a blend between them (`llama3`).
    Llama3 {
        /// `factor`.
        factor: f64,
        /// `low_freq_factor`: waves longer than original_positions / this are divided.
        low_freq_factor: f64,
        /// `high_freq_factor`: waves shorter than original_positions / this are kept.
        high_freq_factor: f64,
        /// `original_max_position_embeddings`.
        original_positions: u64,
    },
    /// A ramp over the frequencies' indices from kept to divided, and a factor on attention's scores (`yarn`).
    Yarn {
        /// `factor`.
        factor: f64,
        /// `beta_fast`, 32 unless given: turns over the original positions from which on a frequency is kept.
        beta_fast: f64,
        /// `beta_slow`, 1 unless given: turns below which it is divided.
        beta_slow: f64,
        /// `original_max_position_embeddings`.
        original_positions: u64,
    },
}

impl Scaling {
    /// YaRN with its usual ramp.
    pub fn yarn(factor: f64, original_positions: u64) -> Self {
        Scaling::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_positions,
        }
    }

    /// The factor that the model puts on cosines and sines of both q and k, 1 for all but YaRN (`0.1 ln factor + 1`). `rope` does
    /// not apply it: where whole heads are turned, its square belongs into the softmax's scale.
    pub fn attention_factor(&self) -> f64 {
        match self {
            Scaling::Yarn { factor, .. } if *factor > 1.0 => 0.1 * factor.ln() + 1.0,
            _ => 1.0,
        }
    }
}

/// A table that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("rope: {what} is {value}; {wanted}")]
pub struct RopeError {
    /// The parameter.
    pub what: &'static str,
    /// What was given.
    pub value: f64,
    /// What would do.
    pub wanted: &'static str,
}

fn positive(what: &'static str, value: f64) -> Result<f64, RopeError> {
    let wanted = "it must be above 0";
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(RopeError { what, value, wanted })
}

/// `inv_freq` `[rot / 2]`, in radians a position: theta^(-2 i / rot), scaled.
///
/// # Errors
/// An odd or zero `rot`, a theta or factor that is not above 0, bounds of a blend that are equal.
pub fn frequencies(theta: f64, rot: usize, scaling: &Scaling) -> Result<Vec<f32>, RopeError> {
    let theta = positive("theta", theta)?;
    if rot == 0 || !rot.is_multiple_of(2) {
        let (what, wanted) = ("rot", "it must be even and above 0");
        let value = rot as f64;
        return Err(RopeError { what, value, wanted });
    }
    let plain = move |i: usize| theta.powf(-((2 * i) as f64) / rot as f64);
    let scaled: Box<dyn Fn(usize) -> f64> = match *scaling {
        Scaling::None => Box::new(plain),
        Scaling::Linear { factor } => {
            let factor = positive("factor", factor)?;
            Box::new(move |i| plain(i) / factor)
        }
        Scaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_positions,
        } => {
            let (factor, span) = (positive("factor", factor)?, positive("high - low", high - low)?);
            Box::new(move |i| {
                let f = plain(i);
                // Turns over the original positions: below `low` divided, above `high` kept.
                let turns = original_positions as f64 * f / (2.0 * PI);
                let kept = ((turns - low) / span).clamp(0.0, 1.0);
                (1.0 - kept) * f / factor + kept * f
            })
        }
        Scaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_positions,
        } => {
            let factor = positive("factor", factor)?;
            let turns = |name, beta| positive(name, beta).map(|b| original_positions as f64 / (b * 2.0 * PI));
            let (fast, slow) = (turns("beta_fast", beta_fast)?, turns("beta_slow", beta_slow)?);
            // The index whose wave turns so often, as a real number.
            let index = |turns: f64| rot as f64 * turns.ln() / (2.0 * theta.ln());
            let first = index(fast).floor().max(0.0);
            let last = index(slow).ceil().min(rot as f64 - 1.0);
            let width = if last == first { 0.001 } else { last - first };
            Box::new(move |i| {
                let divided = ((i as f64 - first) / width).clamp(0.0, 1.0);
                plain(i) * ((1.0 - divided) + divided / factor)
            })
        }
    };
    Ok((0..rot / 2).map(|i| scaled(i) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_keeps_fast_waves_and_divides_slow_ones() {
        let table = |scaling| frequencies(5e5, 128, &scaling).unwrap();
        let plain = table(Scaling::None);
        assert_eq!((plain.len(), plain[0]), (64, 1.0));
        let llama3 = Scaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_positions: 8192,
        };
        for scaled in [table(llama3), table(Scaling::yarn(8.0, 8192))] {
            assert_eq!(scaled[..8], plain[..8]);
            assert_eq!(scaled[63], plain[63] / 8.0);
            assert!(scaled.iter().zip(&plain).all(|(s, p)| *s <= *p && *s >= p / 8.0));
        }
        assert_eq!(table(Scaling::Linear { factor: 2.0 })[5], plain[5] / 2.0);
        assert_eq!(Scaling::yarn(1.0, 8192).attention_factor(), 1.0);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = |theta, rot, scaling: Scaling| frequencies(theta, rot, &scaling).unwrap_err().to_string();
        assert_eq!(
            error(1e4, 63, Scaling::None),
            "rope: rot is 63; it must be even and above 0"
        );
        assert_eq!(error(0.0, 64, Scaling::None), "rope: theta is 0; it must be above 0");
        assert!(error(1e4, 64, Scaling::Linear { factor: f64::NAN }).contains("factor is NaN"));
        assert!(error(1e4, 64, Scaling::yarn(-1.0, 8)).contains("factor is -1"));
    }
}
