use super::*;
use host::device::{Buffer, SimtOptions};
use host::op::{Case, Expected, Reference, Want};

const RIGHT: [u8; 8] = [1, 0, 0, 0, 2, 0, 0, 0];
const WRONG: [u8; 8] = [1, 0, 0, 0, 3, 0, 0, 0];

/// Copies its answer into the output; `bad` gives a wrong one to the last copy, `idle` does nothing.
struct Copier {
    device: Device,
    case: Case,
    right: Buffer,
    wrong: Buffer,
    outputs: Vec<Buffer>,
}

impl Copier {
    fn new(copies: usize) -> Copier {
        let device = Device::simt_with(SimtOptions::default());
        let buffer = |name: &str| device.alloc(8, name).unwrap();
        let (right, wrong) = (buffer("right"), buffer("wrong"));
        right.upload(&RIGHT).unwrap();
        wrong.upload(&WRONG).unwrap();
        let outputs = (0..copies).map(|_| buffer("y")).collect();
        Copier {
            case: Case::new("copy", "test", "test", &[("n", 2)]),
            right,
            wrong,
            outputs,
            device,
        }
    }
}

impl Prepared for Copier {
    fn case(&self) -> &Case {
        &self.case
    }
    fn copies(&self) -> usize {
        self.outputs.len()
    }
    fn poison(&mut self) -> Result<(), OpError> {
        self.outputs.iter().try_for_each(|y| Ok(y.poison()?))
    }
    fn launch(&self, config: &str, stream: &Stream, copy: usize) -> Result<(), OpError> {
        let y = &self.outputs[copy];
        match config {
            "idle" => {}
            // Only the last copy is wrong.
            "bad" if copy + 1 == self.copies() => self.device.copy(stream, y, &self.wrong, 8)?,
            _ => self.device.copy(stream, y, &self.right, 8)?,
        }
        Ok(())
    }
    fn output(&self, copy: usize) -> Result<Vec<u8>, OpError> {
        Ok(self.outputs[copy].download_vec(8)?)
    }
    fn cpu_reference(&mut self) -> Result<Reference<'_>, OpError> {
        Ok(Reference::Bytes(&RIGHT))
    }
    fn plain(&mut self) -> Result<&[u8], OpError> {
        Ok(&RIGHT)
    }
    fn within_tolerance(&mut self, expected: &[u8], got: &[u8]) -> Result<(), OpError> {
        Ok(host::op::compare_bytes(expected, got)?)
    }
    fn coords(&self, byte: usize) -> String {
        format!("byte {byte}")
    }
}

/// What became of each config that was timed as if its check had held.
fn fates(configs: &[&str]) -> Vec<(String, Event)> {
    let infos: Vec<ConfigInfo> = configs
        .iter()
        .map(|id| ConfigInfo {
            id: id.to_string(),
            plain: false,
            ..host::ops::all()[0].configs().remove(0)
        })
        .collect();
    let mut copier = Copier::new(3);
    let device = copier.device.clone();
    let stream = device.stream().unwrap();
    let against = vec![(Expected::CpuReference, Want::Whole(RIGHT.to_vec()))];
    let mut fates = Vec::new();
    let mut emit = |event: Event| {
        if let Event::Timed { config, .. } | Event::Checked { config, .. } = &event {
            fates.push((config.clone(), event));
        }
        Ok(())
    };
    let infos: Vec<&ConfigInfo> = infos.iter().collect();
    time_all(&device, &mut copier, &stream, &infos, &against, &mut emit).unwrap();
    fates
}

#[test]
fn what_was_timed_is_checked_and_wrong_bytes_get_no_time() {
    for (config, event) in fates(&["good", "bad", "idle"]) {
        match (config.as_str(), event) {
            ("good", Event::Timed { .. }) => {}
            ("bad" | "idle", Event::Checked { outcome, .. }) => {
                let Outcome::Wrong { message, .. } = outcome else {
                    panic!("{config}: {outcome:?}");
                };
                // The output was poisoned before: what an earlier config left there passes for nothing.
                let found = if config == "bad" { "byte 4" } else { "byte 0" };
                assert!(message.contains(found), "{config}: {message}");
            }
            (config, event) => panic!("{config}: {event:?}"),
        }
    }
    assert_eq!(fates(&["good", "bad", "idle"]).len(), 3);
}

#[test]
fn a_replay_is_whole_turns_over_the_copies() {
    for copies in [1, 3, 7, 70, 256, 600] {
        for us in [0.5, 1.4, 2.0, 16.0, 3000.0] {
            let n = launches(us, copies);
            assert!(n > 0 && n.is_multiple_of(copies), "{n} launches over {copies} copies");
            assert!(n <= MAX_LAUNCHES.max(copies), "{n} launches");
        }
    }
    assert_eq!(launches(16.0, 3), 63);
    assert_eq!(launches(1.4, 70), 490);
}
