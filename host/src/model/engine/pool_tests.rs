use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;

use super::*;
use crate::device::{Buffer, DevPtr};
use crate::model::plan::{Head, Kind, Net, Node};
use crate::op::call::Call;
use crate::op::{Case, OpError};
use crate::ops::silu_mul::SiluMulCall;

/// Waits for the device, which no capture allows, and counts.
#[derive(Debug)]
struct Waits(Arc<AtomicUsize>);

impl Call for Waits {
    fn case(&self) -> Case {
        Case::new("waits", "forward", "waits", &[])
    }

    fn launch(&self, device: &Device, _: &Stream, _: &str) -> Result<(), OpError> {
        device.synchronize()?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn entry(calls: Vec<Box<dyn Call>>) -> Entry {
    let shape = StepShape {
        net: Net::Main,
        kind: Kind::Decode,
        n_tok: 1,
        n_seq: 1,
        n_out: 1,
        head: Head::Greedy,
    };
    let node = |call: Box<dyn Call>| Node {
        layer: None,
        role: "test",
        op: call.case().op.clone(),
        dims: String::new(),
        config: "plain".into(),
        choice: None,
        call,
    };
    Entry::new(Plan {
        shape,
        nodes: calls.into_iter().map(node).collect(),
        work_bytes: 0,
    })
}

/// silu(1) * 2 from gate and up of one element each.
fn silu(buffer: &Buffer) -> SiluMulCall {
    let gate = DevPtr::<bf16>::of(buffer);
    SiluMulCall {
        gate,
        up: gate.add(8),
        gate_stride: 16,
        up_stride: 16,
        y: gate.add(16),
        n_tok: 1,
        n: 8,
    }
}

#[test]
fn a_step_is_captured_when_it_runs_again_and_replayed_from_then_on() {
    let device = Device::simt_with(Default::default());
    let stream = device.stream().unwrap();
    let buffer = device.alloc(48, "tensors").unwrap();
    let mut entry = entry(vec![Box::new(silu(&buffer))]);
    for (round, state) in [GraphState::None, GraphState::Captured(1), GraphState::Captured(1)]
        .into_iter()
        .enumerate()
    {
        // The inputs lie where they were; the replay reads what is there now.
        let up = bf16::from_f32(round as f32 + 2.0);
        buffer
            .upload(&[[bf16::ONE; 8], [up; 8], [bf16::ZERO; 8]].concat())
            .unwrap();
        entry.run(&device, &stream, true).unwrap();
        assert_eq!(entry.state(), state, "round {round}");
        let y = buffer.download_vec::<bf16>(24).unwrap()[16];
        assert_eq!(y, bf16::from_f32(0.731_058_6 * up.to_f32()), "round {round}");
    }
}

#[test]
fn a_failed_capture_leaves_the_step_eager_and_says_why() {
    let device = Device::simt_with(Default::default());
    let stream = device.stream().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let mut entry = entry(vec![Box::new(Waits(count.clone()))]);
    for round in 1..=3 {
        entry.run(&device, &stream, true).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), round);
    }
    match entry.state() {
        GraphState::Failed(why) => assert!(why.contains("synchronize") && why.contains("capture"), "{why}"),
        other => panic!("{other:?}"),
    }
}
