//! Compares the functions of `cuda_std::float::exact` with the nearest f32 over all 2^32 inputs.
//!
//! `cargo run --release -p cuda_std --example exact_exhaustive -- [FUNCTION..] [-j THREADS]`
//!
//! Without a name all functions are run; without `-j`, on every core, at the lowest priority. One JSON line a function
//! goes to stdout, ready to be appended to `results/math/exact.jsonl`; progress goes to stderr. The exit code is 1 if
//! a function is worse than its doc says. `RUSTFLAGS="-C target-cpu=native"` makes it several times as fast (fma
//! becomes an instruction in place of a call), and changes no result.

#[path = "../tests/exact_support/mod.rs"]
mod exact_support;

use exact_support::{CASES, Case, Outcome, check, check_strided};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The 2^32 inputs are done in 256 parts of 2^24; a part is what a thread takes, and what one partial hash covers.
const PARTS: u32 = 256;
const PART_BITS: u32 = 24;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (cases, threads) = parse(&arguments).unwrap_or_else(|message| {
        eprintln!("exact_exhaustive: {message}");
        std::process::exit(2);
    });
    // SAFETY: nice() takes a number and touches no memory of ours.
    unsafe { libc::nice(19) };
    let mut good = true;
    for case in cases {
        let start = Instant::now();
        let outcome = run(case, threads);
        eprintln!("{}: {:?} in {:.0} s", case.name, outcome, start.elapsed().as_secs_f64());
        println!("{}", record(case, &outcome));
        good &= outcome.max_ulp <= case.max_ulp;
    }
    std::process::exit(if good { 0 } else { 1 });
}

fn parse(arguments: &[String]) -> Result<(Vec<&'static Case>, usize), String> {
    let mut threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut cases = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "-j" {
            let value = rest.next().ok_or("-j wants a number of threads")?;
            threads = value
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or(format!("-j {value}: not a number of threads"))?;
        } else {
            let known = CASES.iter().find(|case| case.name == argument);
            cases.push(known.ok_or_else(|| {
                let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
                format!("no function {argument}; there are {}", names.join(", "))
            })?);
        }
    }
    Ok((
        if cases.is_empty() {
            CASES.iter().collect()
        } else {
            cases
        },
        threads,
    ))
}

/// All 2^32 inputs of one function, the parts joined in order whichever thread did them.
fn run(case: &Case, threads: usize) -> Outcome {
    let next = AtomicU32::new(0);
    let mut parts: Vec<(u32, Outcome)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| worker(case, &next))).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker panicked"))
            .collect()
    });
    parts.sort_by_key(|(part, _)| *part);
    parts.iter().fold(Outcome::NONE, |sum, (_, outcome)| sum.join(outcome))
}

fn worker(case: &Case, next: &AtomicU32) -> Vec<(u32, Outcome)> {
    let mut done = Vec::new();
    loop {
        let part = next.fetch_add(1, Ordering::Relaxed);
        if part >= PARTS {
            return done;
        }
        done.push((part, check(case, part << PART_BITS, 1, 1 << PART_BITS)));
        if part % 32 == 31 {
            eprintln!("{}: {} of {PARTS} parts", case.name, part + 1);
        }
    }
}

fn record(case: &Case, outcome: &Outcome) -> String {
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    let rustc = rustc
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_string())
        .unwrap_or_default();
    let worst = if outcome.misrounded == 0 {
        "null".into()
    } else {
        format!("\"0x{:08x}\"", outcome.worst)
    };
    serde_json::json!({
        "function": case.name,
        "inputs": outcome.inputs,
        "max_ulp": (outcome.max_ulp * 1e6).ceil() / 1e6,
        "misrounded": outcome.misrounded,
        "worst_input": serde_json::from_str::<serde_json::Value>(&worst).unwrap_or_default(),
        "output_hash": format!("{:016x}", outcome.hash),
        "strided_hash": format!("{:016x}", check_strided(case).hash),
        "hash": "FNV-1a 64 over 32-bit words: the results of 2^24 inputs a part, then the 256 parts' hashes, low word first",
        "command": format!("cargo run --release -p cuda_std --example exact_exhaustive -- {}", case.name),
        "hardware_fma": cfg!(target_feature = "fma"),
        "rustc": rustc,
        "date": date(),
    })
    .to_string()
}

/// Today in UTC as year-month-day (Hinnant's days-to-civil, from 1 March of the year 0).
fn date() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + carry)
}
