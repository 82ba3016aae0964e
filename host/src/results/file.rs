//! Results files: append-only JSON lines that survive a kill, and several writers.

use super::record::{Record, SCHEMA, slug};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two writes to the disk itself. A kill of the process loses nothing that was appended, a loss of power at most
/// this much.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Why a record was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system refused.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The record contradicts itself; see [`Record::contradiction`].
    #[error("{}: record refused: {message}", path.display())]
    Contradiction {
        /// The file it was not written to.
        path: PathBuf,
        /// The contradiction.
        message: String,
    },
}

/// A results file open for appending. Any number of processes may append to one file at once.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    file: File,
    synced: Instant,
    unsynced: bool,
}

impl RecordFile {
    /// Opens `path`, creating it and its folder where they are not there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> Result<RecordFile, RecordError> {
        let io = |action| {
            move |source| RecordError::Io {
                path: path.to_path_buf(),
                action,
                source,
            }
        };
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(io("cannot create its folder"))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(io("cannot be opened"))?;
        Ok(RecordFile {
            path: path.to_path_buf(),
            file,
            synced: Instant::now(),
            unsynced: false,
        })
    }

    /// Opens the file of a device, `dir/<slug of its name>.jsonl`.
    ///
    /// # Errors
    /// As [`RecordFile::open`].
    pub fn for_device(dir: &Path, device: &str) -> Result<RecordFile, RecordError> {
        Self::open(&dir.join(format!("{}.jsonl", slug(device))))
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one record as one line, in one write, under the file's lock. Where the file ends in a torn line (a writer
    /// was killed in its write), the record starts a line of its own.
    ///
    /// # Errors
    /// A record that contradicts itself; the system's.
    pub fn append(&mut self, record: &Record) -> Result<(), RecordError> {
        if let Some(message) = record.contradiction() {
            return Err(RecordError::Contradiction {
                path: self.path.clone(),
                message,
            });
        }
        self.append_json(record)
    }

    /// Appends any record as one line, as [`RecordFile::append`] does: for files of other kinds than [`Record`]'s.
    ///
    /// # Errors
    /// The system's; a record that cannot be JSON.
    pub fn append_json(&mut self, record: &impl serde::Serialize) -> Result<(), RecordError> {
        let path = self.path.clone();
        let io = |action| move |source| RecordError::Io { path, action, source };
        let text = serde_json::to_string(record).map_err(io::Error::from);
        let line = text.map_err(io.clone()("cannot encode the record"))? + "\n";
        self.file.lock().map_err(io.clone()("cannot be locked"))?;
        let written = self.append_locked(line);
        let unlocked = self.file.unlock();
        written.map_err(io.clone()("cannot be written"))?;
        unlocked.map_err(io.clone()("cannot be unlocked"))?;
        self.unsynced = true;
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn append_locked(&mut self, mut line: String) -> io::Result<()> {
        if self.ends_torn()? {
            line.insert(0, '\n');
        }
        self.file.write_all(line.as_bytes())
    }

    fn ends_torn(&mut self) -> io::Result<bool> {
        if self.file.seek(SeekFrom::End(0))? == 0 {
            return Ok(false);
        }
        self.file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        self.file.read_exact(&mut last)?;
        Ok(last != *b"\n")
    }

    /// Waits until everything appended is on the disk itself. Appending does so once a second, closing does so too.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&mut self) -> Result<(), RecordError> {
        let path = &self.path;
        let io = |source| RecordError::Io {
            path: path.clone(),
            action: "cannot be brought to the disk",
            source,
        };
        self.file.sync_data().map_err(io)?;
        self.synced = Instant::now();
        self.unsynced = false;
        Ok(())
    }
}

impl Drop for RecordFile {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure here; whoever needs to know calls `sync` first.
        if self.unsynced {
            let _ = self.sync();
        }
    }
}

/// A line that is no record of this schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedLine {
    /// The line's number, from 1.
    pub line: usize,
    /// The byte in the file it starts at.
    pub offset: usize,
    /// Why it was skipped.
    pub reason: String,
}

/// What a results file holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadRecords {
    /// The records, in the file's order.
    pub records: Vec<Record>,
    /// Lines that were passed over, to be reported.
    pub skipped: Vec<SkippedLine>,
}

/// Reads a results file. A file that is not there holds no records.
///
/// # Errors
/// The system's. A torn or foreign line is no error; it is in [`ReadRecords::skipped`].
pub fn read_records(path: &Path) -> Result<ReadRecords, RecordError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse_records(&bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(ReadRecords::default()),
        Err(source) => Err(RecordError::Io {
            path: path.to_path_buf(),
            action: "cannot be read",
            source,
        }),
    }
}

/// Reads a results file's bytes. Lines are found by their ends alone, so a torn line costs itself and no other.
pub fn parse_records(bytes: &[u8]) -> ReadRecords {
    let mut out = ReadRecords::default();
    let mut offset = 0;
    for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let text = line.trim_ascii();
        if !text.is_empty() {
            let torn = if line.ends_with(b"\n") {
                ""
            } else {
                "torn at the end of the file: "
            };
            match parse_line(text) {
                Ok(record) => out.records.push(record),
                Err(reason) => out.skipped.push(SkippedLine {
                    line: i + 1,
                    offset,
                    reason: format!("{torn}{reason}"),
                }),
            }
        }
        offset += line.len();
    }
    out
}

fn parse_line(text: &[u8]) -> Result<Record, String> {
    /// The one field that every version of the schema has.
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    let version: Version = serde_json::from_slice(text).map_err(|e| format!("no record: {e}"))?;
    if version.schema != SCHEMA {
        return Err(format!(
            "a record of schema {}; this build reads schema {SCHEMA}",
            version.schema
        ));
    }
    let record: Record = serde_json::from_slice(text).map_err(|e| format!("no record: {e}"))?;
    match record.contradiction() {
        Some(what) => Err(what),
        None => Ok(record),
    }
}
