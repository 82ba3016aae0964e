//! Streams, events and graphs.

use super::cuda::CudaGraph;
use super::simulator::{Queue, Stamp, Work};
use super::{Backend, Buffer, Device, DeviceError, Result};
use std::sync::PoisonError;
use std::time::Instant;

/// A queue of work of one device, run in order.
pub struct Stream {
    handle: StreamHandle,
    device: Device,
}

pub(super) enum StreamHandle {
    Cuda(cust::stream::Stream),
    Simt(Queue),
}

impl Stream {
    pub(super) fn new(device: &Device) -> Result<Stream> {
        let handle = match device.backend() {
            Backend::Cuda(cuda) => StreamHandle::Cuda(cuda.stream()?),
            Backend::Simt(_) => StreamHandle::Simt(Queue::default()),
        };
        Ok(Stream {
            handle,
            device: device.clone(),
        })
    }

    pub(super) fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    /// The device it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The `CUstream` of it, for libraries that launch on it themselves; none on the simulator. The device's context is made
    /// the calling thread's, which such libraries go by.
    pub(crate) fn cuda(&self) -> Result<Option<*mut std::ffi::c_void>> {
        match (self.device.backend(), &self.handle) {
            (Backend::Cuda(cuda), StreamHandle::Cuda(stream)) => {
                cuda.make_current()?;
                Ok(Some(stream.as_inner().cast()))
            }
            _ => Ok(None),
        }
    }

    /// Waits for all work of this stream.
    ///
    /// # Errors
    /// That of a kernel launched earlier; a capture in progress.
    pub fn synchronize(&self) -> Result<()> {
        match (self.device.backend(), &self.handle) {
            (Backend::Cuda(cuda), StreamHandle::Cuda(stream)) => cuda.synchronize_stream(stream),
            (Backend::Simt(simulator), _) => simulator.not_capturing("Stream::synchronize"),
            _ => unreachable!("a stream is of its device's back end"),
        }
    }

    pub(super) fn must_be_of(&self, device: &Device) -> Result<()> {
        if self.device.is(device) {
            return Ok(());
        }
        Err(DeviceError::Misuse(
            "a stream was used with another device than the one that made it".to_string(),
        ))
    }

    pub(super) fn copy(&self, dst: &Buffer, src: &Buffer, bytes: usize) -> Result<()> {
        self.must_be_of(dst.device())?;
        self.must_be_of(src.device())?;
        let (to, from) = (dst.range("copy to", 0, bytes)?, src.range("copy from", 0, bytes)?);
        match (self.device.backend(), &self.handle) {
            (Backend::Cuda(cuda), StreamHandle::Cuda(stream)) => cuda.copy_async(stream, to, from, bytes, dst.name()),
            (_, StreamHandle::Simt(queue)) => {
                let (to, from) = (to as usize, from as usize);
                queue.submit(Box::new(move || {
                    // SAFETY: both ranges were checked; as on CUDA, a graph's buffers have to outlive it.
                    unsafe { simt::memory::copy(to as *mut u8, from as *const u8, bytes) };
                    Ok(())
                }))
            }
            _ => unreachable!("a stream is of its device's back end"),
        }
    }

    pub(super) fn fill(&self, dst: &Buffer, byte: u8) -> Result<()> {
        self.must_be_of(dst.device())?;
        let (to, bytes) = (dst.ptr(), dst.len_bytes());
        match (self.device.backend(), &self.handle) {
            (Backend::Cuda(cuda), StreamHandle::Cuda(stream)) => cuda.fill_async(stream, to, byte, bytes, dst.name()),
            (_, StreamHandle::Simt(queue)) => {
                let to = to as usize;
                queue.submit(Box::new(move || {
                    // SAFETY: the whole of the buffer; as on CUDA, a graph's buffers have to outlive it.
                    unsafe { simt::memory::fill(to as *mut u8, byte, bytes) };
                    Ok(())
                }))
            }
            _ => unreachable!("a stream is of its device's back end"),
        }
    }
}

/// A point in a stream's work whose time can be asked for.
pub struct Event {
    handle: EventHandle,
    device: Device,
}

enum EventHandle {
    Cuda(cust::event::Event),
    Simt(Stamp),
}

impl Event {
    pub(super) fn new(device: &Device) -> Result<Event> {
        let handle = match device.backend() {
            Backend::Cuda(cuda) => EventHandle::Cuda(cuda.event()?),
            Backend::Simt(_) => EventHandle::Simt(Stamp::default()),
        };
        Ok(Event {
            handle,
            device: device.clone(),
        })
    }

    /// Puts the event into the stream, after the work issued so far.
    ///
    /// # Errors
    /// A stream of another device; the driver's.
    pub fn record(&self, stream: &Stream) -> Result<()> {
        stream.must_be_of(&self.device)?;
        match (self.device.backend(), &self.handle, &stream.handle) {
            (Backend::Cuda(cuda), EventHandle::Cuda(event), StreamHandle::Cuda(stream)) => cuda.record(event, stream),
            (_, EventHandle::Simt(stamp), StreamHandle::Simt(queue)) => {
                let stamp = stamp.clone();
                queue.submit(Box::new(move || {
                    *stamp.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                    Ok(())
                }))
            }
            _ => unreachable!("stream and event are of one device"),
        }
    }

    /// Waits until the work before the event is done.
    ///
    /// # Errors
    /// That of a kernel launched earlier.
    pub fn synchronize(&self) -> Result<()> {
        match (self.device.backend(), &self.handle) {
            (Backend::Cuda(cuda), EventHandle::Cuda(event)) => cuda.synchronize_event(event),
            _ => Ok(()),
        }
    }

    /// Whether this event's times are the host's clock (on the simulator), and say nothing of a GPU.
    pub fn is_host_time(&self) -> bool {
        matches!(self.handle, EventHandle::Simt(_))
    }

    /// Microseconds from `start` to `end`, waiting for `end`. On CUDA the device's own clock, with a resolution of about
    /// half a microsecond; on the simulator **the host's clock** ([`Event::is_host_time`]).
    ///
    /// # Errors
    /// Events of two devices, or never recorded; the driver's.
    pub fn elapsed_us(start: &Event, end: &Event) -> Result<f64> {
        if !start.device.is(&end.device) {
            return Err(DeviceError::Misuse(
                "the time between events of two devices was asked for".to_string(),
            ));
        }
        match (end.device.backend(), &start.handle, &end.handle) {
            (Backend::Cuda(cuda), EventHandle::Cuda(first), EventHandle::Cuda(last)) => {
                Ok(f64::from(cuda.elapsed_ms(first, last)?) * 1e3)
            }
            (_, EventHandle::Simt(first), EventHandle::Simt(last)) => {
                let at = |stamp: &Stamp| {
                    stamp.lock().unwrap_or_else(PoisonError::into_inner).ok_or_else(|| {
                        DeviceError::Misuse("the time of an event that was never recorded was asked for".to_string())
                    })
                };
                let (first, last) = (at(first)?, at(last)?);
                // CUDA gives a negative time when the two are swapped; so does this.
                let forward = last.saturating_duration_since(first).as_secs_f64();
                let backward = first.saturating_duration_since(last).as_secs_f64();
                Ok((forward - backward) * 1e6)
            }
            _ => unreachable!("both events are of one device"),
        }
    }
}

/// Work recorded from a stream, to be launched as one. It keeps no buffer alive: the buffers its launches use have to
/// outlive it.
pub struct Graph {
    handle: GraphHandle,
    device: Device,
}

enum GraphHandle {
    Cuda(CudaGraph),
    Simt(Vec<Work>),
}

impl Graph {
    pub(super) fn capture(device: &Device, stream: &Stream, f: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let handle = match (device.backend(), &stream.handle) {
            (Backend::Cuda(cuda), StreamHandle::Cuda(stream)) => GraphHandle::Cuda(cuda.capture(stream, f)?),
            (Backend::Simt(simulator), StreamHandle::Simt(queue)) => GraphHandle::Simt(simulator.capture(queue, f)?),
            _ => unreachable!("a stream is of its device's back end"),
        };
        Ok(Graph {
            handle,
            device: device.clone(),
        })
    }

    /// Number of launches, copies, fills (and, on the simulator, event records) in the graph.
    pub fn nodes(&self) -> usize {
        match &self.handle {
            GraphHandle::Cuda(graph) => graph.nodes(),
            GraphHandle::Simt(work) => work.len(),
        }
    }

    /// Queues the whole graph on a stream.
    ///
    /// # Errors
    /// A stream of another device; the driver's; on the simulator whatever a kernel did wrong.
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        stream.must_be_of(&self.device)?;
        match (self.device.backend(), &self.handle, &stream.handle) {
            (Backend::Cuda(cuda), GraphHandle::Cuda(graph), StreamHandle::Cuda(stream)) => {
                cuda.launch_graph(graph, stream)
            }
            (Backend::Simt(simulator), GraphHandle::Simt(work), _) => {
                simulator.not_capturing("Graph::launch")?;
                work.iter().try_for_each(|work| work())
            }
            _ => unreachable!("graph and stream are of one device"),
        }
    }
}
