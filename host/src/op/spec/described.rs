//! The [`Operation`] of a [`Spec`].

use std::marker::PhantomData;

use super::prepared::{Known, OnDevice};
use super::{Axis, Config, Dims, PLAIN, Spec};
use crate::cost::{self, Work};
use crate::device::Device;
use crate::op::random::Random;
use crate::op::{Case, ConfigInfo, OpError, Operation, Order, Prepared, Values};
use crate::shapes::ShapeSet;

/// An [`Operation`] made of a [`Spec`].
#[derive(Clone, Copy, Debug)]
pub struct Described<S>(PhantomData<fn() -> S>);

impl<S> Described<S> {
    /// The operation, for [`crate::ops::all`].
    pub const OP: Self = Self(PhantomData);
}

impl Case {
    /// A case of an operation, under a workload's and an entry's name, with its axes' defaults where `dims` leaves them out and
    /// the operation's first dtype. Sizes the operation does not take are found when the case is used.
    pub fn of<S: Spec>(model: &str, name: &str, dims: &[(&str, u64)], values: Values) -> Case {
        let size = |axis: &Axis| {
            let given = dims.iter().find(|(name, _)| *name == axis.name).map(|(_, size)| *size);
            let size = given.or(axis.default)?;
            Some((axis.name.to_string(), size))
        };
        let unknown = dims
            .iter()
            .filter(|(name, _)| !S::AXES.iter().any(|axis| axis.name == *name));
        let known = S::AXES.iter().filter_map(size);
        Case {
            op: S::NAME.into(),
            model: model.into(),
            name: name.into(),
            dims: known
                .chain(unknown.map(|(name, size)| (name.to_string(), *size)))
                .collect(),
            dtype: S::DTYPES[0].into(),
            values,
        }
    }

    /// The same case with another dtype of activations.
    pub fn with_dtype(self, dtype: &str) -> Case {
        let dtype = dtype.into();
        Case { dtype, ..self }
    }
}

impl<S: Spec> Described<S> {
    fn dims(case: &Case) -> Result<Dims, String> {
        let dims = Dims::of(S::AXES, case)?;
        S::check(&dims)?;
        if !S::DTYPES.contains(&case.dtype.as_str()) {
            let known = S::DTYPES.join(", ");
            return Err(format!("dtype '{}'; the dtypes are {known}", case.dtype));
        }
        Ok(dims)
    }

    /// [`Described::dims`] as operations fail.
    fn sizes(case: &Case) -> Result<Dims, OpError> {
        Self::dims(case).map_err(|why| OpError::Shape(format!("{}: {why}", S::NAME)))
    }

    fn config(id: &str) -> Result<Config, OpError> {
        S::configs()
            .into_iter()
            .find(|c| c.id == id)
            .ok_or(OpError::UnknownConfig {
                op: S::NAME,
                config: id.to_string(),
            })
    }
}

impl<S: Spec> Operation for Described<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn summary(&self) -> &'static str {
        S::SUMMARY
    }

    fn axes(&self) -> &'static [Axis] {
        S::AXES
    }

    fn dtypes(&self) -> &'static [&'static str] {
        S::DTYPES
    }

    fn configs(&self) -> Vec<ConfigInfo> {
        let info = |c: Config| ConfigInfo {
            plain: c.id == PLAIN,
            id: c.id,
            family: c.kernel.family,
            kernel: c.kernel.name,
            order: c.order,
            threads: c.threads,
            shared_bytes: c.shared_bytes,
            min_blocks: c.kernel.min_blocks,
            archs: c.kernel.archs,
        };
        S::configs().into_iter().map(info).collect()
    }

    fn cases(&self, shapes: &ShapeSet) -> Vec<Case> {
        let mut cases = Vec::new();
        for row in shapes.ops().filter(|row| row.op == S::NAME) {
            for &n_tok in &row.n_tok {
                let given: Vec<(&str, u64)> = S::AXES
                    .iter()
                    .filter_map(|axis| match axis.name {
                        "n_tok" => Some(("n_tok", u64::from(n_tok))),
                        name => Some((name, row.dim(name)?)),
                    })
                    .collect();
                cases.push(Case::of::<S>(&row.model, &row.name, &given, S::VALUES[0]));
            }
        }
        cases
    }

    fn custom_case(&self, dims: &[(String, u64)]) -> Result<Case, OpError> {
        let case = Case {
            dims: dims.to_vec(),
            ..Case::of::<S>("custom", "custom", &[], S::VALUES[0])
        };
        let dims = Self::sizes(&case)?.pairs();
        Ok(Case { dims, ..case })
    }

    fn random_cases(&self, seed: u64, count: usize) -> Vec<Case> {
        let random = Random::new(seed, S::NAME);
        let edges = S::edge_cases();
        let drawn = (edges.len()..count).map(|i| S::random_case(random, i as u64));
        edges.iter().take(count).cloned().chain(drawn).collect()
    }

    fn admits(&self, case: &Case, config: &str) -> Result<(), String> {
        Self::config(config).map_err(|error| error.to_string())?;
        S::admits(&Self::dims(case)?, config)
    }

    /// By the cost model of an H200 of `sm_count` SMs; the plain config last, whatever the model says of it. What is within about a percent goes
    /// by the length of a block's chain: where memory is the limit, smaller tiles have less to do beside it.
    fn heuristic(&self, case: &Case, sm_count: u32) -> Vec<String> {
        let sms = sm_count.max(1);
        let target = cost::Target { sms, ..cost::H200 };
        let mut ranked: Vec<(bool, f64, f64, String)> = self
            .configs()
            .into_iter()
            .filter(|c| self.admits(case, &c.id).is_ok())
            .filter_map(|c| {
                let work = self.work(case, &c.id, sms).ok()?;
                let us = cost::estimate(&work, &target, cost::registers("sm_90a", c.kernel)).us;
                let turns = work.units.max(work.blocks).div_ceil(work.blocks.max(1));
                let chain = (turns * work.chain) as f64 * work.chain_cycles;
                Some((c.plain, (100.0 * us.ln()).round(), chain, c.id))
            })
            .collect();
        ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2)));
        ranked.into_iter().map(|(_, _, _, id)| id).collect()
    }

    fn work(&self, case: &Case, config: &str, sm_count: u32) -> Result<Work, OpError> {
        Self::config(config)?;
        Ok(S::work(&Self::sizes(case)?, config, sm_count.max(1)))
    }

    fn prepare(&self, device: &Device, case: &Case, seed: u64, copies: usize) -> Result<Box<dyn Prepared>, OpError> {
        let dims = Self::sizes(case)?;
        let problem = S::problem(&dims, case.values, &case.dtype, seed)?;
        let arch = device.info().arch();
        let known = |c: ConfigInfo| Known {
            equal: c.order == Order::Canonical && c.runs_on(&arch).is_ok(),
            id: c.id,
        };
        let configs = self.configs().into_iter().map(known).collect();
        Ok(Box::new(OnDevice::new(
            device,
            S::NAME,
            case,
            seed,
            problem,
            configs,
            copies,
        )?))
    }
}
