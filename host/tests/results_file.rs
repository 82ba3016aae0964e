//! Results files under what happens to them: a kill at any byte, several writers at once, foreign lines.

use host::results::*;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn record(seed: u64) -> Record {
    Record {
        schema: SCHEMA,
        time: timestamp(),
        commit: "0123abc".into(),
        dirty: true,
        command: "harness sweep \"q8*\"\n--seed 1".into(),
        op: "q8_matmul".into(),
        shape: CaseShape {
            model: "qwen3-8b".into(),
            name: "ffn_down".into(),
            dims: [("n".to_string(), 4096), ("k".into(), 12288)].into(),
            n_tok: 4,
        },
        config: "r8_w4".into(),
        order: CANONICAL.into(),
        mode: Mode::Fast,
        device: DeviceRecord {
            name: "NVIDIA H200".into(),
            arch: "sm_90a".into(),
            driver: Some("580.159".into()),
            sm_count: 132,
        },
        kind: Kind::Measured,
        status: Status::Incorrect,
        reason: Some("ä reason with \u{1F980} and \"quotes\"".into()),
        bytes_check: Some(BytesCheck {
            against: vec!["cpu".into(), "plain".into()],
            equal: false,
            within_tolerance: false,
            compared: 10,
            elements: 10,
            first_bad: Some(FirstBad {
                against: "cpu".into(),
                index: 7,
                got: "0x3f800000".into(),
                want: "0x3f800001".into(),
            }),
        }),
        times: None,
        cold: None,
        ratio_to_peer: None,
        cold_ratio_to_peer: None,
        place: None,
        peer: None,
        model_cost: None,
        roof: Some(Roof {
            bytes: 1 << 40,
            gb_s: 3.25e3,
            share_of_copy: Some(0.1),
            floor_us: Some(2.5),
            share: Some(0.625),
        }),
        clocks_before: None,
        rounds_repeated: 0,
        clocks: Some(Clocks {
            sm_mhz: Some(1980),
            temp_c: None,
            power_w: Some(0.3),
            throttle: vec!["power".into()],
        }),
        ptx_sha256: Some("00ff".into()),
        source_hash: None,
        toolchain: Toolchain {
            rustc: "rustc 1.96.0".into(),
            llvm: "22.1.8".into(),
            ptxas: None,
        },
        seed,
    }
}

fn append(path: &Path, seed: u64) {
    RecordFile::open(path).unwrap().append(&record(seed)).unwrap();
}

fn seeds(read: &ReadRecords) -> Vec<u64> {
    read.records.iter().map(|r| r.seed).collect()
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = RecordFile::for_device(&dir.path().join("new/folder"), "NVIDIA H200").unwrap();
    assert!(file.path().ends_with("new/folder/nvidia-h200.jsonl"));
    let want: Vec<Record> = [0, u64::MAX].map(record).into();
    for r in &want {
        file.append(r).unwrap();
    }
    file.sync().unwrap();
    let read = read_records(file.path()).unwrap();
    assert_eq!((read.records, read.skipped), (want, vec![]));
    assert_eq!(
        read_records(&dir.path().join("none.jsonl")).unwrap(),
        ReadRecords::default()
    );
}

#[test]
fn a_contradiction_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut bad = record(1);
    bad.status = Status::Passed;
    let error = RecordFile::open(&path).unwrap().append(&bad).unwrap_err().to_string();
    assert!(error.contains("a.jsonl") && error.contains("passed without"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

/// A kill within the write of the last record, at each of its bytes: the records before it stay, the torn one is reported,
/// and the next append is read back.
#[test]
fn a_write_torn_at_any_byte_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    append(&path, 1);
    append(&path, 2);
    let before = std::fs::read(&path).unwrap();
    append(&path, 3);
    let whole = std::fs::read(&path).unwrap();
    let mut file = RecordFile::open(&path).unwrap();
    for end in before.len()..=whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        // All but the line's end is the whole record: nothing is lost then.
        let complete = end >= whole.len() - 1;
        let read = read_records(&path).unwrap();
        assert_eq!(
            seeds(&read),
            if complete { vec![1, 2, 3] } else { vec![1, 2] },
            "cut at {end}"
        );
        let torn = !complete && end > before.len();
        assert_eq!(read.skipped.len(), usize::from(torn), "cut at {end}");
        if torn {
            let s = &read.skipped[0];
            assert_eq!((s.line, s.offset), (3, before.len()));
            assert!(s.reason.starts_with("torn"), "{}", s.reason);
        }
        // One file all along: closing it each time would wait for the disk each time.
        file.append(&record(4)).unwrap();
        let read = read_records(&path).unwrap();
        assert_eq!(
            seeds(&read),
            if complete { vec![1, 2, 3, 4] } else { vec![1, 2, 4] },
            "cut at {end}, then appended"
        );
        assert_eq!(read.skipped.len(), usize::from(torn), "cut at {end}, then appended");
    }
}

#[test]
fn foreign_lines_are_reported_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    append(&path, 1);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"\n\0\0\0\0\n{\"schema\": 99, \"more\": 1}\n{\"schema\": 1}\n[1]\n\xff\xfe\n")
        .unwrap();
    append(&path, 2);
    let read = read_records(&path).unwrap();
    assert_eq!(seeds(&read), [1, 2]);
    assert_eq!(read.skipped.iter().map(|s| s.line).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    let reason = &read.skipped[1].reason;
    assert!(reason.contains("schema 99") && reason.contains("schema 1"), "{reason}");
    assert!(
        read.skipped[2].reason.contains("missing field"),
        "{}",
        read.skipped[2].reason
    );
}

const APPEND_TO: &str = "LOCKSTEP_TEST_APPEND_TO";
const APPEND_FROM: &str = "LOCKSTEP_TEST_APPEND_FROM";
const EACH: u64 = 200;

/// Not a test: the body of the processes that the two tests below start. It appends and says each seed when it is appended.
#[test]
#[ignore = "started as a process of its own by the tests below"]
fn appender() {
    let Some(path) = std::env::var_os(APPEND_TO).map(PathBuf::from) else {
        return;
    };
    let from: u64 = std::env::var(APPEND_FROM).unwrap().parse().unwrap();
    let mut file = RecordFile::open(&path).unwrap();
    for seed in from..from + EACH {
        file.append(&record(seed)).unwrap();
        println!("appended {seed}");
        std::io::stdout().flush().unwrap();
    }
}

fn start_appender(path: &Path, from: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "appender", "--ignored", "--nocapture"])
        .env(APPEND_TO, path)
        .env(APPEND_FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn processes_append_at_once_without_mixing_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let children: Vec<Child> = (0..3).map(|i| start_appender(&path, 1000 * i)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let read = read_records(&path).unwrap();
    assert_eq!(read.skipped, []);
    let mut got = seeds(&read);
    got.sort_unstable();
    let want: Vec<u64> = (0..3).flat_map(|i| 1000 * i..1000 * i + EACH).collect();
    assert_eq!(got, want);
}

/// A writer in the middle of its line, under the lock: another waits for it and does not take the line for a torn one.
#[test]
fn an_append_waits_for_the_writer_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let line = serde_json::to_string(&record(1)).unwrap() + "\n";
    let (first, rest) = line.as_bytes().split_at(line.len() / 2);
    let mut slow = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap();
    slow.lock().unwrap();
    slow.write_all(first).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| append(&path, 2));
        // Long enough for the other to get in between if nothing held it back; if it is slower still, the test passes.
        std::thread::sleep(std::time::Duration::from_millis(100));
        slow.write_all(rest).unwrap();
        slow.unlock().unwrap();
    });
    let read = read_records(&path).unwrap();
    assert_eq!((seeds(&read), read.skipped), (vec![1, 2], vec![]));
}

/// SIGKILL while it appends: every record it said was appended is there, and the file goes on.
#[test]
fn a_killed_process_loses_no_finished_record() {
    let dir = tempfile::tempdir().unwrap();
    for said in [1, 20, 60] {
        let path = dir.path().join(format!("{said}.jsonl"));
        let mut child = start_appender(&path, 0);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let last: u64 = lines
            .filter_map(|l| l.rsplit_once("appended ").and_then(|(_, n)| n.parse().ok()))
            .nth(said - 1)
            .expect("the appender says what it appends");
        child.kill().unwrap();
        child.wait().unwrap();
        append(&path, 9999);
        let read = read_records(&path).unwrap();
        let got = seeds(&read);
        let finished = got.len() as u64 - 1;
        assert!(finished > last, "said {last}, found {finished} records");
        assert_eq!(got[..got.len() - 1], (0..finished).collect::<Vec<_>>());
        assert_eq!(got.last(), Some(&9999));
    }
}
