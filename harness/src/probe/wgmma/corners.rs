//! The corners of `wgmma`: those of `mma.sync` again, and what it alone has, one question each, with A from shared memory and from
//! registers.

use std::path::Path;

use anyhow::Result;
use half::f16;
use host::device::Device;
use kernels_gpu::wgmma_probe::{Group, Layout, Place};
use serde::Serialize;
use serde_json::json;
use simt::tensor::TensorCore;

use super::device::Runner;
use super::group::{Batch, Type};
use super::model::{referred, simulated};
use super::questions::{Question, questions};
use crate::exit::Exit;
use crate::probe::report::output;
use crate::provenance::provenance;
use crate::table::{Format, Table};

/// One question and its answers.
#[derive(Debug, Serialize)]
pub struct Corner {
    topic: String,
    case: String,
    #[serde(rename = "type")]
    ty: Type,
    /// The device's answer, A from shared memory.
    shared: String,
    /// The same with A from registers.
    registers: String,
    /// The device's `mma.sync`; none for f16 accumulators.
    mma_sync: Option<String>,
    simulator: String,
    reference: String,
}

impl Corner {
    /// Whether all answers are the same.
    pub fn agrees(&self) -> bool {
        let others = [
            Some(&self.registers),
            self.mma_sync.as_ref(),
            Some(&self.simulator),
            Some(&self.reference),
        ];
        others.into_iter().flatten().all(|other| *other == self.shared)
    }
}

/// Everything in row 0 of A, row 0 of B and the first element of C, of groups of 8 columns.
fn batch(questions: &[&Question], registers: bool) -> Batch {
    let place = Place {
        layout: Layout::B128,
        first: 0,
    };
    let mut batch = Batch::of(questions.iter().map(|question| Group {
        columns: 8,
        steps: question.steps.len() as u32,
        accumulate: question.accumulate,
        registers,
        a: place,
        b: place,
        first_a: 0,
        first_b: 0,
        first_tile: 0,
    }));
    for (question, group) in questions.iter().zip(batch.groups.clone()) {
        for (step, pairs) in question.steps.iter().enumerate() {
            for (k, (x, y)) in pairs.iter().enumerate() {
                batch.a[group.first_a as usize + 64 * step][k] = *x;
                batch.b[group.first_b as usize + 8 * step][k] = *y;
            }
        }
        batch.c[group.first_tile as usize][0] = question.c;
    }
    batch
}

fn shown(ty: Type, bits: u32) -> String {
    let value = match ty {
        Type::S8 => return (bits as i32).to_string(),
        Type::F16F16 => f16::from_bits(bits as u16).to_f32(),
        Type::Bf16 | Type::F16 => f32::from_bits(bits),
    };
    let digits = if ty == Type::F16F16 { 4 } else { 8 };
    if value.is_nan() {
        format!("{bits:0digits$x} NaN")
    } else {
        format!("{bits:0digits$x} {value:e}")
    }
}

/// Asks the device.
///
/// # Errors
/// The device's.
pub fn ask(device: &Device) -> Result<Vec<Corner>> {
    let mut runner = Runner::new(device)?;
    let all = questions();
    let mut corners = Vec::new();
    for ty in [Type::Bf16, Type::F16, Type::F16F16, Type::S8] {
        let of_type: Vec<&Question> = all.iter().filter(|q| q.ty == ty).collect();
        let asked = batch(&of_type, false);
        let shared = runner.run(ty, &asked)?;
        let registers = runner.run(ty, &batch(&of_type, true))?;
        for (i, question) in of_type.iter().enumerate() {
            let view = asked.view(i);
            let at = view.group.first_tile as usize;
            let text = |bits: u32| shown(ty, bits);
            corners.push(Corner {
                topic: question.topic.to_string(),
                case: question.text.clone(),
                ty,
                shared: text(shared.d[at][0]),
                registers: text(registers.d[at][0]),
                mma_sync: shared.sync.as_ref().map(|sync| text(sync[at][0])),
                simulator: text(simulated(TensorCore::HOPPER, ty, &view)[0][0]),
                reference: text(referred(ty, &view)[0][0]),
            });
        }
    }
    Ok(corners)
}

/// Prints the corners; the exit code says whether anything differs anywhere.
///
/// # Errors
/// Stdout or the file.
pub fn report(device: &str, corners: &[Corner], json_path: Option<&Path>) -> Result<Exit> {
    let mut table = Table::new(&[
        "topic",
        "type",
        "case",
        "wgmma",
        "a_from_registers",
        "mma.sync",
        "simulator",
        "reference",
        "agree",
    ]);
    for c in corners {
        let sync = c.mma_sync.as_deref().unwrap_or("-");
        let agree = if c.agrees() { "yes" } else { "NO" };
        let (topic, case) = (c.topic.as_str(), c.case.as_str());
        table.row([
            topic,
            c.ty.name(),
            case,
            &c.shared,
            &c.registers,
            sync,
            &c.simulator,
            &c.reference,
            agree,
        ]);
    }
    let differ = corners.iter().filter(|c| !c.agrees()).count();
    let text =
        table.render(Format::Markdown) + &format!("{} corners of wgmma on {device}: {differ} differ\n", corners.len());
    let json = json!({
        "what": "wgmma", "device": device, "commit": provenance().commit, "dirty": provenance().dirty, "corners": corners,
    });
    output(&text, &json, json_path)?;
    Ok(if differ == 0 { Exit::Good } else { Exit::Mismatch })
}
