//! Graphs, captured from a stream.

use super::{Cuda, check, ffi};
use crate::device::{DeviceError, Result};
use cust::stream::Stream;
use cust_raw::{CUgraph, CUgraphExec};
use std::ptr;

/// A graph ready to be launched.
pub(in crate::device) struct CudaGraph {
    exec: CUgraphExec,
    nodes: usize,
}

// SAFETY: a graph handle may be used from any thread; the driver orders the launches of one graph.
unsafe impl Send for CudaGraph {}
// SAFETY: likewise.
unsafe impl Sync for CudaGraph {}

impl CudaGraph {
    /// Number of its nodes.
    pub(in crate::device) fn nodes(&self) -> usize {
        self.nodes
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: instantiated by `capture`, destroyed once; the driver waits for launches in flight.
        unsafe { ffi::cuGraphExecDestroy(self.exec) };
    }
}

/// A capture in progress; ends it when dropped, so that neither an error nor a panic leaves the stream capturing.
struct Capture<'a> {
    stream: &'a Stream,
    open: bool,
}

impl Capture<'_> {
    /// Ends the capture: the graph, and the driver's status.
    fn end(&mut self) -> (CUgraph, u32) {
        self.open = false;
        let mut graph = ptr::null_mut();
        // SAFETY: the stream is alive and `graph` is valid for the write.
        let code = unsafe { ffi::cuStreamEndCapture(self.stream.as_inner(), &mut graph) };
        (graph, code)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.open {
            destroy(self.end().0);
        }
    }
}

fn destroy(graph: CUgraph) {
    if !graph.is_null() {
        // SAFETY: a graph from a capture, destroyed once.
        unsafe { ffi::cuGraphDestroy(graph) };
    }
}

impl Cuda {
    /// Records what `f` puts on the stream.
    pub(in crate::device) fn capture(&self, stream: &Stream, f: impl FnOnce() -> Result<()>) -> Result<CudaGraph> {
        self.make_current()?;
        // SAFETY: the stream is alive.
        let code = unsafe { ffi::cuStreamBeginCapture_v2(stream.as_inner(), ffi::CAPTURE_MODE_RELAXED) };
        check(
            "cuStreamBeginCapture",
            "a capture (is the stream being captured already?)",
            code,
        )?;
        let mut capture = Capture { stream, open: true };
        f()?;
        let (graph, code) = capture.end();
        if code != 0 || graph.is_null() {
            destroy(graph);
            return Err(DeviceError::Capture(format!(
                "cuStreamEndCapture: {}",
                libcuda::describe(code)
            )));
        }
        let result = instantiate(graph);
        destroy(graph);
        result
    }

    /// Queues a graph.
    pub(in crate::device) fn launch_graph(&self, graph: &CudaGraph, stream: &Stream) -> Result<()> {
        self.make_current()?;
        // SAFETY: both are alive.
        let code = unsafe { ffi::cuGraphLaunch(graph.exec, stream.as_inner()) };
        check("cuGraphLaunch", "a graph", code)
    }
}

fn instantiate(graph: CUgraph) -> Result<CudaGraph> {
    let mut nodes = 0;
    // SAFETY: with a null array the driver writes the count alone.
    let code = unsafe { ffi::cuGraphGetNodes(graph, ptr::null_mut(), &mut nodes) };
    check("cuGraphGetNodes", "a captured graph", code)?;
    let mut exec = ptr::null_mut();
    // SAFETY: the graph is alive and `exec` is valid for the write.
    let code = unsafe { ffi::cuGraphInstantiateWithFlags(&mut exec, graph, 0) };
    check(
        "cuGraphInstantiateWithFlags",
        &format!("a captured graph of {nodes} nodes"),
        code,
    )?;
    Ok(CudaGraph { exec, nodes })
}
