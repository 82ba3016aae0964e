use std::cell::RefCell;

use super::*;
use crate::worker::protocol::PeerTimed;
use host::device::{Buffer, Device, DeviceError, SimtOptions, Stream};
use host::op::{Case, Expected, OpError, Reference, Want};
use host::peer::{PeerError, PeerRun};

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
    fn tensor(&self, copy: usize, name: &str) -> Option<&Buffer> {
        self.outputs.get(copy).filter(|_| name == "y")
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

/// A peer that copies its answer as the operation does, with three algorithms: one fails, one is slow, one is as it should be.
struct Friend {
    device: Device,
    answer: Buffer,
    launched: RefCell<Vec<usize>>,
}

impl Friend {
    fn boxed(device: &Device, answer: &[u8; 8]) -> Box<dyn Peer> {
        let buffer = device.alloc(8, "the peer's answer").unwrap();
        buffer.upload(answer).unwrap();
        Box::new(Friend {
            device: device.clone(),
            answer: buffer,
            launched: RefCell::default(),
        })
    }
}

impl Peer for Friend {
    fn name(&self) -> &'static str {
        "friend"
    }
    fn version(&self) -> &str {
        "1.2"
    }
    fn file(&self) -> &str {
        "friend.so"
    }
    fn operations(&self) -> &'static [&'static str] {
        &["copy"]
    }
    fn supports(&self, _: &Case) -> Result<(), String> {
        Ok(())
    }
    fn prepare(&self, _: &Case) -> Result<Box<dyn PeerRun + '_>, PeerError> {
        let names = ["broken", "slow", "good"].map(String::from);
        Ok(Box::new(FriendRun { friend: self, names }))
    }
}

struct FriendRun<'p> {
    friend: &'p Friend,
    names: [String; 3],
}

impl PeerRun for FriendRun<'_> {
    fn algorithms(&self) -> &[String] {
        &self.names
    }
    fn launch(&self, algorithm: usize, stream: &Stream, prepared: &dyn Prepared, copy: usize) -> Result<(), PeerError> {
        let Friend {
            device,
            answer,
            launched,
        } = self.friend;
        launched.borrow_mut().push(algorithm);
        let y = prepared.tensor(copy, "y").expect("the output");
        match algorithm {
            0 => return Err(DeviceError::Misuse("planted".into()).into()),
            // Work that a queue has to run through each time.
            1 => (0..2000).try_for_each(|_| device.copy(stream, y, answer, 8))?,
            _ => {}
        }
        Ok(device.copy(stream, y, answer, 8)?)
    }
}

/// All that is heard of a job of these configs, each timed as if its check had held.
fn heard(configs: &[&str], peer: Option<&[u8; 8]>, cold: bool) -> Vec<Event> {
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
    let peers: Vec<Box<dyn Peer>> = peer.iter().map(|answer| Friend::boxed(&device, answer)).collect();
    let stream = device.stream().unwrap();
    let against = vec![(Expected::CpuReference, Want::Whole(RIGHT.to_vec()))];
    let mut events = Vec::new();
    let mut emit = |event: Event| {
        events.push(event);
        Ok(())
    };
    let infos: Vec<&ConfigInfo> = infos.iter().collect();
    let mut patience = Patience::default();
    let mut bench = Bench::new(&device, &stream, Budget::of(true), copier.copies(), &mut patience).unwrap();
    time_all(&mut bench, &mut copier, &infos, &peers, cold, &against, &mut emit).unwrap();
    events
}

/// What became of each config.
fn fates(events: &[Event]) -> Vec<(&str, &Event)> {
    let mut fates = Vec::new();
    for event in events {
        if let Event::Timed { config, .. } | Event::Checked { config, .. } = event {
            fates.push((config.as_str(), event));
        }
    }
    fates
}

fn peer(events: &[Event]) -> &PeerTimed {
    let peers: Vec<&PeerTimed> = events
        .iter()
        .filter_map(|e| match e {
            Event::Peer(timed) => Some(timed.as_ref()),
            _ => None,
        })
        .collect();
    assert_eq!(peers.len(), 1, "{peers:?}");
    peers[0]
}

#[test]
fn what_was_timed_is_checked_and_wrong_bytes_get_no_time() {
    let events = heard(&["good", "bad", "idle"], None, false);
    let fates = fates(&events);
    assert_eq!(fates.len(), 3);
    for (config, event) in fates {
        match (config, event) {
            ("good", Event::Timed { timed, .. }) => {
                assert_eq!((timed.ratio_to_peer, timed.measured.cold), (None, None));
            }
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
}

#[test]
fn a_peer_is_timed_by_its_fastest_algorithm_beside_the_configs() {
    let events = heard(&["good", "other"], Some(&RIGHT), true);
    let timed = peer(&events);
    assert_eq!((timed.run.name.as_str(), timed.run.version.as_str()), ("friend", "1.2"));
    assert_eq!((timed.run.algorithm.as_str(), timed.run.tried), ("good", 3));
    assert_eq!(timed.run.bytes_equal, Some(true));
    let measured = timed.outcome.as_ref().expect("times");
    assert_eq!(measured.cold.expect("cold times").samples, 21);
    let fates = fates(&events);
    assert_eq!(fates.len(), 2);
    for (config, event) in fates {
        let Event::Timed { timed, .. } = event else {
            panic!("{config}: {event:?}");
        };
        let ratio = timed.ratio_to_peer.expect("a ratio");
        if timed.finalist {
            // Of one round: both medians are of it.
            let want = measured.times.median_us / timed.measured.times.median_us;
            assert!((ratio - want).abs() < 1e-9, "{config}: {ratio} {want}");
            let cold = timed.measured.cold.expect("cold times").median_us;
            let want = measured.cold.expect("cold times").median_us / cold;
            assert!(
                (timed.cold_ratio_to_peer.expect("a ratio") - want).abs() < 1e-9,
                "{config}"
            );
        }
    }
    // The parent knows whom to blame.
    let blamed = |e: &Event| matches!(e, Event::Start { config, phase: Phase::Peer } if config == "friend");
    assert!(events.iter().any(blamed));
}

#[test]
fn a_peer_s_wrong_bytes_are_reported_and_cost_nothing() {
    let events = heard(&["good"], Some(&WRONG), false);
    let timed = peer(&events);
    assert_eq!(timed.run.bytes_equal, Some(false));
    assert_eq!(timed.run.first_bad.as_ref().expect("where").index, 1);
    assert!(timed.outcome.is_ok());
    let fates = fates(&events);
    let Event::Timed { timed, .. } = fates[0].1 else {
        panic!("{:?}", fates[0]);
    };
    assert_eq!(timed.place, Place::Winner);
    assert!(
        timed.finalist && timed.ratio_to_peer.is_some(),
        "alone, it is timed again beside the peer"
    );
}
