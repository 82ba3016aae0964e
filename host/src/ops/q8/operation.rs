//! The `q8_matmul` entry of the list of operations.

use std::sync::OnceLock;

use kernels_gpu::q8_matmul::{self, Entry, TileConfig};
use kernels_gpu::{q8, q8_dp4a};

use super::Q8Shape;
use super::prepared::Q8Case;
use crate::cost::{self, Work};
use crate::device::Device;
use crate::op::random::Random;
use crate::op::spec::Axis;
use crate::op::{Case, ConfigInfo, OpError, Operation, Order, Prepared, Values};
use crate::shapes::ShapeSet;

pub(super) const NAME: &str = "q8_matmul";

/// Q8_0 matmul for any number of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Q8MatmulOp;

/// Every config by its id. The ids are made once: a launch looks its config up without allocating.
pub(super) fn entries() -> &'static [(String, &'static Entry)] {
    static ENTRIES: OnceLock<Vec<(String, &'static Entry)>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let all = q8_matmul::CONFIGS.iter().chain(q8_dp4a::CONFIGS);
        all.map(|entry| (entry.config.id(), entry)).collect()
    })
}

pub(super) fn entry(config: &str) -> Result<&'static Entry, OpError> {
    let unknown = || OpError::UnknownConfig {
        op: NAME,
        config: config.to_string(),
    };
    entries()
        .iter()
        .find(|(id, _)| id == config)
        .map(|(_, entry)| *entry)
        .ok_or_else(unknown)
}

pub(super) fn order(config: &TileConfig) -> Order {
    if config.order == q8_matmul::Order::Canonical {
        Order::Canonical
    } else {
        Order::Fast
    }
}

/// The sizes and `n_tok` of a case.
pub(super) fn sizes(case: &Case) -> Result<(Q8Shape, u32), OpError> {
    let dim = |axis: &str, default: Option<u64>| {
        let size = case.dim(axis).or(default);
        let size =
            size.ok_or_else(|| OpError::Shape(format!("{NAME} needs {axis}=...; given: {}", case.dims_text())))?;
        u32::try_from(size).map_err(|_| OpError::Shape(format!("{NAME}: {axis} = {size} is beyond 32 bits")))
    };
    let shape = Q8Shape::new(dim("n", None)?, dim("k", None)?, dim("groups", Some(1))?)?;
    let n_tok = dim("n_tok", Some(1))?;
    if n_tok == 0 || u64::from(n_tok) * u64::from(shape.groups) * u64::from(shape.n.max(shape.k)) >= 1 << 32 {
        return Err(OpError::Shape(format!(
            "{NAME}: n_tok = {n_tok} of {} is out of range",
            case.dims_text()
        )));
    }
    Ok((shape, n_tok))
}

pub(super) fn case(model: &str, name: &str, [n, k, groups, n_tok]: [u64; 4]) -> Case {
    Case::new(
        NAME,
        model,
        name,
        &[("n", n), ("k", k), ("groups", groups), ("n_tok", n_tok)],
    )
}

impl Operation for Q8MatmulOp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "y = W x, W in Q8_0, 1 to 8 tokens share one read of W; activations quantised to int8 blocks"
    }

    fn axes(&self) -> &'static [Axis] {
        const AXES: &[Axis] = &[
            Axis::required("n").in_rows(true),
            Axis::required("k"),
            Axis::optional("groups", 1),
            Axis::tokens().at_least(1).in_rows(false),
        ];
        AXES
    }

    fn dtypes(&self) -> &'static [&'static str] {
        &["f32", "bf16"]
    }

    fn configs(&self) -> Vec<ConfigInfo> {
        let info = |(id, entry): &(String, &'static Entry)| ConfigInfo {
            id: id.clone(),
            family: entry.kernel.meta.family,
            kernel: entry.kernel.meta.name,
            order: order(&entry.config),
            threads: entry.config.threads(),
            shared_bytes: entry.config.shared_bytes(entry.config.quads),
            min_blocks: entry.kernel.meta.min_blocks,
            archs: entry.kernel.meta.archs,
            plain: false,
        };
        entries().iter().map(info).collect()
    }

    fn cases(&self, shapes: &ShapeSet) -> Vec<Case> {
        let mut cases = Vec::new();
        for row in shapes.ops().filter(|row| row.op == NAME) {
            let dim = |axis| row.dim(axis).unwrap_or(1);
            for &n_tok in &row.n_tok {
                cases.push(case(
                    &row.model,
                    &row.name,
                    [dim("n"), dim("k"), dim("groups"), u64::from(n_tok)],
                ));
            }
        }
        cases
    }

    fn custom_case(&self, dims: &[(String, u64)]) -> Result<Case, OpError> {
        const AXES: [&str; 4] = ["n", "k", "groups", "n_tok"];
        for (i, (axis, _)) in dims.iter().enumerate() {
            if !AXES.contains(&axis.as_str()) {
                return Err(OpError::Shape(format!(
                    "{NAME} has no dimension '{axis}'; it has {}",
                    AXES.join(", ")
                )));
            }
            if dims[..i].iter().any(|(other, _)| other == axis) {
                return Err(OpError::Shape(format!("{NAME}: {axis} is given twice")));
            }
        }
        let dim = |axis: &str, default: u64| dims.iter().find(|(name, _)| name == axis).map_or(default, |(_, v)| *v);
        let case = case(
            "custom",
            "custom",
            [dim("n", 0), dim("k", 0), dim("groups", 1), dim("n_tok", 1)],
        );
        sizes(&case).map(|_| case)
    }

    fn random_cases(&self, seed: u64, count: usize) -> Vec<Case> {
        let random = Random::new(seed, "q8_matmul cases");
        let edges = edge_cases();
        let drawn = (edges.len()..count).map(|i| random_case(random, i as u64));
        edges.iter().take(count).cloned().chain(drawn).collect()
    }

    fn admits(&self, case: &Case, config: &str) -> Result<(), String> {
        let entry = entry(config).map_err(|error| error.to_string())?;
        let (shape, n_tok) = sizes(case).map_err(|error| error.to_string())?;
        entry.config.admits(shape.n, shape.quads(), n_tok)
    }

    /// By the cost model of an H200 of `sm_count` SMs.
    fn heuristic(&self, case: &Case, sm_count: u32) -> Vec<String> {
        let target = cost::Target {
            sms: sm_count.max(1),
            ..cost::H200
        };
        let mut ranked: Vec<(f64, &str)> = entries()
            .iter()
            .filter(|(id, _)| self.admits(case, id).is_ok())
            .filter_map(|(id, entry)| {
                let work = self.work(case, id, sm_count).ok()?;
                let registers = cost::registers("sm_90a", entry.kernel.meta.name);
                Some((cost::estimate(&work, &target, registers).us, id.as_str()))
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked.into_iter().map(|(_, id)| id.to_string()).collect()
    }

    fn work(&self, case: &Case, config: &str, sm_count: u32) -> Result<Work, OpError> {
        let entry = entry(config)?;
        let (shape, n_tok) = sizes(case)?;
        Ok(work(&entry.config, shape, n_tok, sm_count.max(1)))
    }

    /// The int8 tensor core's tile has eight tokens, and all of them are paid for.
    fn simulated_work(&self, case: &Case) -> u64 {
        const TOKEN_TILE: u64 = q8::TOKEN_TILE as u64;
        let dim = |axis| case.dim(axis).unwrap_or(1);
        dim("n") * dim("k") * dim("groups") * dim("n_tok").next_multiple_of(TOKEN_TILE)
    }

    fn prepare(&self, device: &Device, case: &Case, seed: u64, copies: usize) -> Result<Box<dyn Prepared>, OpError> {
        Ok(Box::new(Q8Case::new(device, case, seed, copies)?))
    }
}

/// Cycles of a dependent fma.
const FMA_CYCLES: f64 = 4.0;

fn work(config: &TileConfig, shape: Q8Shape, n_tok: u32, sm_count: u32) -> Work {
    let (groups, quads) = (u64::from(shape.groups), u64::from(shape.quads()));
    let tiles = u64::from(q8::row_tiles(shape.n));
    let quad_bytes = u64::from(q8::QUAD_BYTES + 2 * q8::QUAD_WEIGHT_SCALES);
    let token_bytes = u64::from((q8::QUAD_TOKEN_BYTES + 4 * q8::QUAD_TOKEN_SCALES) / q8::TOKEN_TILE);
    let (x, y, z) = config.grid(shape.n, shape.groups, n_tok, sm_count);
    let blocks_of_k = quads * u64::from(q8::QUAD_BLOCKS);
    let row_groups = tiles.div_ceil(u64::from(config.tiles));
    Work {
        read_bytes: groups * tiles * quads * quad_bytes,
        passes: y,
        reread_bytes: groups * row_groups * quads * token_bytes * u64::from(n_tok),
        write_bytes: groups * u64::from(shape.n) * u64::from(n_tok) * 4,
        multiply_adds: groups * u64::from(shape.n) * u64::from(shape.k) * u64::from(n_tok),
        math: cost::Math::Int8,
        launches: 1,
        blocks: u64::from(x) * u64::from(y) * u64::from(z),
        threads: config.threads(),
        shared_bytes: config.shared_bytes(shape.quads()),
        units: groups * row_groups * u64::from(y),
        bytes_in_flight: u64::from(config.k_warps * config.tiles * config.quads * config.stages) * quad_bytes,
        chain: blocks_of_k.div_ceil(u64::from(config.k_warps)),
        chain_cycles: FMA_CYCLES,
    }
}

/// The listed edge cases: every edge of blocks, rows and tokens, each with several of the others, and every kind of
/// values.
fn edge_cases() -> Vec<Case> {
    const BLOCKS: [u64; 8] = [1, 31, 32, 33, 255, 256, 257, 448];
    const ROWS: [u64; 8] = [1, 7, 8, 9, 15, 16, 17, 33];
    const TOKENS: [u64; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16];
    let mut cases = Vec::new();
    let mut add = |blocks: u64, n, n_tok, ragged: u64, values, dtype: &str| {
        let base = case("random", "edge", [n, blocks * 32 - ragged, 1, n_tok]);
        cases.push(Case {
            values,
            dtype: dtype.into(),
            ..base
        });
    };
    // A Latin square: every number of blocks with every number of rows, every number of tokens up to 8 with each of both.
    // Raggedness, values and dtype take turns at other paces.
    for (b, blocks) in BLOCKS.into_iter().enumerate() {
        for (r, n) in ROWS.into_iter().enumerate() {
            let i = b * ROWS.len() + r;
            let ragged = [0, 1, 0, 15, 0, 31, 0][(3 * b + i) % 7];
            let dtype = if i % 5 == 3 { "bf16" } else { "f32" };
            let n_tok = TOKENS[(b + r) % 8];
            add(blocks, n, n_tok, ragged, Values::ALL[i % Values::ALL.len()], dtype);
        }
    }
    // Every number of tokens, and every kind of values, where no kernel has only whole tiles.
    for (i, n_tok) in TOKENS.into_iter().enumerate() {
        add(33, 9, n_tok, (i % 2) as u64 * 5, Values::WideRange, "f32");
    }
    // One token at every number of blocks: configs for one token alone see each, too.
    for blocks in BLOCKS {
        add(blocks, 17, 1, 0, Values::WideRange, "f32");
    }
    for values in Values::ALL {
        add(12, 33, 5, 7, values, "f32");
    }
    cases
}

/// The i-th random case: sizes near the edges more often than not. A quarter have 5 to 16 segments of K, the last one whole
/// or not, because a config of many k-warps takes nothing shorter; they have few rows and tokens, to be quick.
fn random_case(random: Random, i: u64) -> Case {
    const SEGMENT: u64 = (q8::SEGMENT_QUADS * q8::QUAD_BLOCKS) as u64;
    let draw = |what: u64, end: u64| random.below(i * 16 + what, end);
    let long = draw(13, 4) == 0;
    let n = match draw(0, 3) {
        _ if long => 1 + draw(1, 18),
        0 => 8 * (1 + draw(1, 5)) + draw(2, 3) - 1,
        _ => 1 + draw(1, 40),
    };
    let blocks = match draw(3, 8) {
        // Short by nothing, by 1, 2 or 3 quads, or by any blocks of the last segment.
        what if long => SEGMENT * (5 + draw(4, 12)) - [0, 0, 0, 4, 8, 12, draw(14, SEGMENT), 0][what as usize],
        0 => [1, 31, 32, 33, 255, 256, 257, 448][draw(4, 8) as usize],
        1..=3 => 4 * (1 + draw(4, 16)),
        _ => 1 + draw(4, 40),
    };
    let ragged = if draw(5, 3) == 0 { draw(6, 32) } else { 0 };
    // One token more often: some configs take no more.
    let n_tok = match draw(7, 8) {
        0 => 1,
        1 if long => 1,
        1 => 9 + draw(8, 9),
        _ => 1 + draw(8, 8),
    };
    let groups = if draw(9, 10) == 0 { 2 + draw(10, 2) } else { 1 };
    let base = case("random", &format!("case{i}"), [n, blocks * 32 - ragged, groups, n_tok]);
    Case {
        values: Values::ALL[draw(11, Values::ALL.len() as u64) as usize],
        dtype: if draw(12, 4) == 0 { "bf16" } else { "f32" }.into(),
        ..base
    }
}

#[cfg(test)]
mod tests;
