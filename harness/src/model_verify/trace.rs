//! What a sequence's logits were, and where another run's differ.

use serde::Serialize;

use crate::model::Fnv128;
use crate::worker::plant::planted;

/// A generated sequence.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// The logits each was chosen by.
    pub rows: Vec<Vec<f32>>,
}

impl Trace {
    /// Adds a token.
    pub fn push(&mut self, token: u32, row: &[f32]) {
        self.tokens.push(token);
        self.rows.push(row.to_vec());
    }

    /// The hash of all rows.
    pub fn hash(&self) -> Fnv128 {
        let mut hash = Fnv128::default();
        self.rows.iter().for_each(|row| hash.floats(row));
        hash
    }
}

/// The first place where two runs differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Which sequence: `subject`, `companion 2`.
    pub sequence: String,
    /// Which generated token, from 0.
    pub token: usize,
    /// Its row in the step.
    pub row: usize,
    /// The first byte of the row of logits that differs; none where the logits are equal and the tokens are not.
    pub byte: Option<usize>,
    /// What was expected: bits of the logit, or the token.
    pub want: String,
    /// What was there.
    pub got: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference {
            sequence,
            token,
            row,
            byte,
            want,
            got,
        } = self;
        write!(f, "{sequence}, token {token}, row {row} of its step: ")?;
        match byte {
            Some(byte) => write!(f, "byte {byte} of the logits (logit {}): {got}, not {want}", byte / 4),
            None => write!(f, "{got}, not {want}"),
        }
    }
}

/// Compares one run with the reference, row by row.
#[derive(Debug)]
pub struct Judge<'r> {
    reference: &'r Trace,
    /// The check's name, by which a fault can be planted.
    check: String,
    /// Rows of logits compared.
    pub rows: usize,
    /// Tokens compared.
    pub tokens: usize,
    /// The first difference.
    pub first: Option<Difference>,
}

impl<'r> Judge<'r> {
    /// Of a check.
    pub fn new(reference: &'r Trace, check: &str) -> Self {
        Self {
            reference,
            check: check.into(),
            rows: 0,
            tokens: 0,
            first: None,
        }
    }

    /// Whether nothing has differed so far.
    pub fn fine(&self) -> bool {
        self.first.is_none()
    }

    /// Compares a token's logits and the token; `row`: its row in the step.
    pub fn row(&mut self, token: usize, row: usize, logits: &[f32], chosen: u32) {
        let mut logits = logits.to_vec();
        if planted("logit", &self.check)
            && token == self.reference.tokens.len() / 2
            && let Some(last) = logits.last_mut()
        {
            *last = f32::from_bits(last.to_bits() ^ 1);
        }
        let Some(want) = self.reference.rows.get(token) else {
            return self.differ(token, row, None, "no token".into(), format!("token {chosen}"));
        };
        self.rows += 1;
        if let Some((at, want, got)) = first_difference(want, &logits) {
            return self.differ(token, row, Some(at), want, got);
        }
        self.token(token, row, chosen);
    }

    /// Compares a token.
    pub fn token(&mut self, token: usize, row: usize, chosen: u32) {
        self.tokens += 1;
        match self.reference.tokens.get(token) {
            Some(want) if *want == chosen => {}
            Some(want) => self.differ(token, row, None, format!("token {want}"), format!("token {chosen}")),
            None => self.differ(token, row, None, "no token".into(), format!("token {chosen}")),
        }
    }

    /// Compares how many tokens a step kept.
    pub fn kept(&mut self, token: usize, want: usize, got: usize) {
        if want != got {
            self.differ(
                token,
                0,
                None,
                format!("{want} tokens kept"),
                format!("{got} tokens kept"),
            );
        }
    }

    fn differ(&mut self, token: usize, row: usize, byte: Option<usize>, want: String, got: String) {
        self.found(Difference {
            sequence: "subject".into(),
            token,
            row,
            byte,
            want,
            got,
        });
    }

    /// Keeps the first difference.
    pub fn found(&mut self, difference: Difference) {
        self.first.get_or_insert(difference);
    }
}

/// The first byte in which two rows differ, with the bits of both logits.
pub fn first_difference(want: &[f32], got: &[f32]) -> Option<(usize, String, String)> {
    if want.len() != got.len() {
        let text = |row: &[f32]| format!("{} logits", row.len());
        return Some((4 * want.len().min(got.len()), text(want), text(got)));
    }
    let at = want.iter().zip(got).position(|(w, g)| w.to_bits() != g.to_bits())?;
    let (w, g) = (want[at], got[at]);
    let byte = w.to_le_bytes().iter().zip(g.to_le_bytes()).position(|(w, g)| *w != g);
    let text = |value: f32| format!("{:#010x} ({value})", value.to_bits());
    Some((4 * at + byte.unwrap_or(0), text(w), text(g)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let mut trace = Trace::default();
        for token in 0..4 {
            trace.push(token, &[token as f32, 0.5, -1.0]);
        }
        trace
    }

    #[test]
    fn equal_rows_are_counted() {
        let reference = trace();
        let mut judge = Judge::new(&reference, "a check");
        for token in 0..4 {
            judge.row(token, 0, &reference.rows[token], token as u32);
        }
        assert!(judge.fine() && judge.rows == 4 && judge.tokens == 4);
    }

    #[test]
    fn the_first_difference_is_named_to_the_byte() {
        let reference = trace();
        let mut judge = Judge::new(&reference, "a check");
        judge.row(1, 2, &[1.0, f32::from_bits(0.5_f32.to_bits() ^ 0x0100), -1.0], 1);
        judge.row(2, 0, &[9.0, 0.5, -1.0], 2);
        let first = judge.first.unwrap();
        assert_eq!((first.token, first.row, first.byte), (1, 2, Some(5)));
        assert!(
            first.to_string().contains("byte 5 of the logits (logit 1): 0x3f000100"),
            "{first}"
        );
    }

    #[test]
    fn signs_of_zeros_lengths_tokens_and_counts_differ() {
        assert_eq!(first_difference(&[0.0], &[-0.0]).unwrap().0, 3);
        assert_eq!(first_difference(&[0.0], &[]).unwrap().0, 0);
        assert!(first_difference(&[f32::NAN], &[f32::NAN]).is_none());
        let reference = trace();
        let mut judge = Judge::new(&reference, "a check");
        judge.row(1, 0, &reference.rows[1], 7);
        assert!(judge.first.as_ref().unwrap().got == "token 7");
        let mut judge = Judge::new(&reference, "a check");
        judge.kept(0, 3, 2);
        assert!(judge.first.unwrap().to_string().contains("2 tokens kept, not 3"));
        let mut judge = Judge::new(&reference, "a check");
        judge.token(4, 0, 1);
        assert!(!judge.fine());
    }
}
