//! The parent's end of a worker process: requests out, events in, a limit on silence, and the last words of one that died.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};

use super::protocol::{Event, Request};

/// Bytes of a worker's stderr that are kept for its error record.
const TAIL_BYTES: usize = 4096;

/// What a worker did next.
#[derive(Debug)]
pub enum Heard {
    /// It sent this.
    Event(Box<Event>),
    /// It said nothing for the time given and was killed.
    Timeout {
        /// The end of its stderr.
        stderr: String,
    },
    /// It ended, or sent what is no event and was killed.
    Died {
        /// Exit status or signal, or what it sent, in words.
        how: String,
        /// The end of its stderr.
        stderr: String,
    },
}

/// A running worker process; killed when dropped.
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    stderr_end: Receiver<()>,
}

impl Worker {
    /// Starts this very binary as a worker on `device` (a device spec such as `cuda:0` or `simt`).
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn spawn(device: &str) -> Result<Worker> {
        let exe = std::env::current_exe().context("cannot find this program's own file to start a worker from it")?;
        let mut child = Command::new(exe)
            .args(["worker", "--device", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a worker process")?;
        let (stdin, stdout, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (send, lines) = channel();
        let stdout = stdout.context("the worker has no stdout")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let (ended, stderr_end) = channel();
        let mut errors = errors.context("the worker has no stderr")?;
        let tail = Arc::clone(&stderr);
        std::thread::spawn(move || {
            let mut buffer = [0u8; 1024];
            while let Ok(n) = errors.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                let Ok(mut tail) = tail.lock() else { break };
                tail.extend(&buffer[..n]);
                let excess = tail.len().saturating_sub(TAIL_BYTES);
                tail.drain(..excess);
            }
            // The receiver may be gone with its worker: nobody is waiting then.
            let _ = ended.send(());
        });
        Ok(Worker {
            child,
            stdin,
            lines,
            stderr,
            stderr_end,
        })
    }

    /// Sends a request. A worker that is gone is noticed by the next [`Worker::hear`], not here.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_string(request).context("cannot write a request")?;
        line.push('\n');
        if let Some(stdin) = &mut self.stdin {
            // A broken pipe means that the worker died: `hear` then has its status and last words.
            let _ = stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush());
        }
        Ok(())
    }

    /// The next event, or how the worker ended. Kills it after `limit` of silence.
    pub fn hear(&mut self, limit: Duration) -> Heard {
        match self.lines.recv_timeout(limit) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(event) => Heard::Event(Box::new(event)),
                Err(e) => {
                    self.kill();
                    let shown: String = line.chars().take(200).collect();
                    Heard::Died {
                        how: format!("sent `{shown}`, which is no event: {e}"),
                        stderr: self.tail(),
                    }
                }
            },
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Heard::Timeout { stderr: self.tail() }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let how = self
                    .child
                    .wait()
                    .map_or_else(|e| format!("ended: {e}"), |s| describe(&s));
                Heard::Died {
                    how,
                    stderr: self.tail(),
                }
            }
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself in between; either way it is gone after the wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn tail(&self) -> String {
        // The pipe closes when the process ends; the limit is for a grandchild that holds it open.
        let _ = self.stderr_end.recv_timeout(Duration::from_secs(1));
        let bytes: Vec<u8> = self
            .stderr
            .lock()
            .map(|t| t.iter().copied().collect())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_string()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A closed stdin ends a healthy worker; one that hangs is killed.
        self.stdin = None;
        self.kill();
    }
}

#[cfg(unix)]
fn describe(status: &ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (_, Some(code)) => format!("ended with exit code {code}"),
        _ => status.to_string(),
    }
}

#[cfg(not(unix))]
fn describe(status: &ExitStatus) -> String {
    status.to_string()
}
