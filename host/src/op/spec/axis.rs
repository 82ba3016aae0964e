//! Dimensions: what an operation has, and what a case gives.

use crate::op::Case;

/// Sizes beyond it do not fit the kernels' 32-bit counters.
const LARGEST: u64 = (1 << 31) - 1;

/// One dimension of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The name, as in shape files, ids and tables.
    pub name: &'static str,
    /// What it is where it is not given; none: it must be given.
    pub default: Option<u64>,
    /// The least it may be.
    pub min: u64,
    /// The first so many give the same bytes without the rest: the simulator may run those only of a case that is too
    /// large for it.
    pub rows: bool,
}

impl Axis {
    /// An axis that every case gives; at least 1.
    pub const fn required(name: &'static str) -> Self {
        Self {
            name,
            default: None,
            min: 1,
            rows: false,
        }
    }

    /// An axis that may be left out; at least 1.
    pub const fn optional(name: &'static str, default: u64) -> Self {
        let default = Some(default);
        Self {
            default,
            ..Self::required(name)
        }
    }

    /// The number of tokens, `n_tok`: 1 where it is left out, and none at all is allowed. Tokens are [`Axis::rows`].
    pub const fn tokens() -> Self {
        Self::optional("n_tok", 1).at_least(0).in_rows(true)
    }

    /// The same axis, its sizes independent rows or not.
    pub const fn in_rows(self, rows: bool) -> Self {
        Self { rows, ..self }
    }

    /// The same axis with another least size.
    pub const fn at_least(self, min: u64) -> Self {
        Self { min, ..self }
    }
}

/// The sizes of a case, checked against the axes of its operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dims {
    axes: &'static [Axis],
    sizes: Vec<u64>,
}

impl Dims {
    /// Takes the axes' sizes out of a list of names and sizes; defaults where they are not given.
    ///
    /// # Errors
    /// A size that is missing, unknown, given twice, too small or too large.
    pub fn new(axes: &'static [Axis], given: &[(String, u64)]) -> Result<Self, String> {
        let names = || axes.iter().map(|a| a.name).collect::<Vec<_>>().join(", ");
        for (i, (name, _)) in given.iter().enumerate() {
            if !axes.iter().any(|a| a.name == name) {
                return Err(format!(
                    "there is no dimension '{name}'; the dimensions are {}",
                    names()
                ));
            }
            if given[..i].iter().any(|(other, _)| other == name) {
                return Err(format!("{name} is given twice"));
            }
        }
        let size = |axis: &Axis| {
            let found = given.iter().find(|(name, _)| name == axis.name).map(|(_, size)| *size);
            let Some(size) = found.or(axis.default) else {
                return Err(format!("{}=... is missing; the dimensions are {}", axis.name, names()));
            };
            if size < axis.min || size > LARGEST {
                return Err(format!(
                    "{} = {size}: from {} to {LARGEST} are possible",
                    axis.name, axis.min
                ));
            }
            Ok(size)
        };
        let sizes = axes.iter().map(size).collect::<Result<_, _>>()?;
        Ok(Self { axes, sizes })
    }

    /// The sizes of a case.
    ///
    /// # Errors
    /// As [`Dims::new`].
    pub fn of(axes: &'static [Axis], case: &Case) -> Result<Self, String> {
        Self::new(axes, &case.dims)
    }

    /// A size as it is in the case.
    ///
    /// # Panics
    /// If the operation has no such axis: a slip of the pen in its [`super::Spec`], found by the first case.
    #[track_caller]
    pub fn u64(&self, axis: &str) -> u64 {
        let Some(at) = self.axes.iter().position(|a| a.name == axis) else {
            panic!("'{axis}' is none of the operation's axes {:?}", self.axes);
        };
        self.sizes[at]
    }

    /// A size as kernels take it; it is below 2^31.
    ///
    /// # Panics
    /// As [`Dims::u64`].
    #[track_caller]
    pub fn u32(&self, axis: &str) -> u32 {
        self.u64(axis) as u32
    }

    /// A size as slices take it.
    ///
    /// # Panics
    /// As [`Dims::u64`].
    #[track_caller]
    pub fn usize(&self, axis: &str) -> usize {
        self.u64(axis) as usize
    }

    /// Refuses sizes whose product times `each` reaches 2^56: no machine has that memory or time, and below it bytes and
    /// operations can be counted in 64 bits.
    ///
    /// # Errors
    /// The sizes.
    pub fn check_product(&self, axes: &[&str], each: u64) -> Result<(), String> {
        let mut sizes = axes.iter().map(|axis| self.u64(axis).max(1));
        let product = sizes.try_fold(each, u64::checked_mul);
        if product.is_some_and(|product| product < 1 << 56) {
            return Ok(());
        }
        let sizes: Vec<String> = axes.iter().map(|axis| format!("{axis} = {}", self.u64(axis))).collect();
        Err(format!("{}: together too large for any machine", sizes.join(", ")))
    }

    /// Names and sizes in the axes' order.
    pub fn pairs(&self) -> Vec<(String, u64)> {
        let sizes = self.sizes.iter().copied();
        self.axes.iter().map(|a| a.name.to_string()).zip(sizes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: &[Axis] = &[Axis::required("n"), Axis::optional("groups", 2), Axis::tokens()];

    fn dims(given: &[(&str, u64)]) -> Result<Dims, String> {
        let given: Vec<_> = given.iter().map(|(name, size)| (name.to_string(), *size)).collect();
        Dims::new(AXES, &given)
    }

    #[test]
    fn defaults_are_filled_in_and_the_order_is_the_axes() {
        let d = dims(&[("n_tok", 0), ("n", 7)]).unwrap();
        assert_eq!((d.u64("n"), d.u32("groups"), d.usize("n_tok")), (7, 2, 0));
        let names: Vec<_> = d.pairs().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["n", "groups", "n_tok"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |given: &[(&str, u64)], text: &str| {
            let error = dims(given).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        wrong(&[("n_tok", 1)], "n=... is missing");
        wrong(&[("n", 0)], "n = 0: from 1");
        wrong(&[("n", 1 << 31)], "n = 2147483648");
        wrong(
            &[("n", 1), ("m", 1)],
            "no dimension 'm'; the dimensions are n, groups, n_tok",
        );
        wrong(&[("n", 1), ("n", 1)], "given twice");
    }
}
