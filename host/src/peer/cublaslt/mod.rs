//! cuBLASLt: `gemm`'s peer.
//!
//! cuBLAS stores matrices by columns, this project by rows, so y = a w^T is asked for transposed, without moving a byte:
//! ```text
//! y [M][N] by rows = y^T [N][M] by columns, leading dimension N
//! y^T = op(w) op(a):  w [N][K] by rows = [K][N] by columns, transposed;  a [M][K] by rows = [K][M] by columns, as it is
//! ```
//! f32 accumulation and scale; the bias is an epilogue over y^T's rows; the residual is C with beta = 1.
//! Constants and layouts are those of `cublasLt.h` (CUDA 12 and 13, which agree in all that is used here).

mod api;
mod status;

use std::ffi::c_void;

use super::{Peer, PeerError, PeerRun, find};
use crate::device::{Buffer, Device, Stream};
use crate::op::{Case, Prepared};
use api::{Algorithm, Api, Descriptor, Layout, Operation, Type};

/// The name in records.
pub const NAME: &str = "cublasLt";
/// The environment variable that names the library's file.
pub const VARIABLE: &str = "LOCKSTEP_CUBLASLT";
/// Names of the library, the best first.
const FILES: [&str; 3] = ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"];
/// Work memory that algorithms may use: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// What it is a peer of.
const OPERATIONS: [&str; 1] = ["gemm"];
/// Algorithms asked for.
const ALGORITHMS: usize = 8;

/// The library, open on a device.
pub struct CublasLt {
    api: Api,
    workspace: Buffer,
    version: String,
    file: String,
}

impl CublasLt {
    /// Opens the library on a device.
    ///
    /// # Errors
    /// [`PeerError::Missing`]: it is not on this machine. It does not start; the device has no room for its work memory.
    pub fn open(device: &Device) -> Result<CublasLt, PeerError> {
        let missing = |why| PeerError::Missing { name: NAME, why };
        let found = find::find(&FILES, VARIABLE).map_err(missing)?;
        // The stream makes the device's context current, in which the library starts.
        let stream = device.stream()?;
        if stream.cuda()?.is_none() {
            return Err(missing("the simulator has no streams of CUDA".into()));
        }
        let api = Api::new(found.library).map_err(|name| missing(format!("{} has no {name}", found.file)))??;
        let v = api.version();
        Ok(CublasLt {
            api,
            workspace: device.alloc(WORKSPACE, "work memory of cuBLASLt")?,
            version: format!("{}.{}.{}", v / 10_000, v / 100 % 100, v % 100),
            file: found.file,
        })
    }
}

/// The sizes of a product, and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Product {
    m: u64,
    n: u64,
    k: u64,
    operands: Type,
    output: Type,
    bias: bool,
    residual: bool,
}

impl Product {
    fn of(case: &Case) -> Result<Product, String> {
        if !OPERATIONS.contains(&case.op.as_str()) {
            return Err(format!("{} is no product of two 16-bit matrices", case.op));
        }
        let size = |axis: &str| case.dim(axis).unwrap_or(0);
        let operands = match case.dtype.as_str() {
            "bf16" => Type::Bf16,
            "f16" => Type::F16,
            other => return Err(format!("operands of {other}")),
        };
        let product = Product {
            m: size("n_tok"),
            n: size("n"),
            k: size("k"),
            operands,
            output: if size("out_f32") == 1 { Type::F32 } else { operands },
            bias: size("bias") == 1,
            residual: size("residual") == 1,
        };
        if product.m * product.n * product.k == 0 {
            return Err("an empty product".into());
        }
        if product.bias && product.output == Type::F32 {
            return Err("its bias is of the output's type: no 16-bit bias with an f32 output".into());
        }
        Ok(product)
    }
}

impl Peer for CublasLt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn file(&self) -> &str {
        &self.file
    }

    fn operations(&self) -> &'static [&'static str] {
        &OPERATIONS
    }

    fn supports(&self, case: &Case) -> Result<(), String> {
        Product::of(case).map(|_| ())
    }

    fn prepare(&self, case: &Case) -> Result<Box<dyn PeerRun + '_>, PeerError> {
        let refused = |why| PeerError::Refused { name: NAME, why };
        let p = Product::of(case).map_err(refused)?;
        let api = &self.api;
        let operation = Operation::new(api, p.bias)?;
        let w = Layout::new(api, p.operands, p.k, p.n)?;
        let a = Layout::new(api, p.operands, p.k, p.m)?;
        let y = Layout::new(api, p.output, p.n, p.m)?;
        let found = api.heuristic(&operation, [&w, &a, &y, &y], WORKSPACE, ALGORITHMS)?;
        if found.is_empty() {
            return Err(refused("its heuristic gives no algorithm".into()));
        }
        Ok(Box::new(Run {
            peer: self,
            product: p,
            names: found.iter().map(|algorithm| api.describe(algorithm)).collect(),
            algorithms: found,
            operation,
            layouts: [w, a, y],
        }))
    }
}

/// A product as the library knows it.
struct Run<'p> {
    peer: &'p CublasLt,
    product: Product,
    operation: Operation<'p>,
    /// w, a, y.
    layouts: [Layout<'p>; 3],
    algorithms: Vec<Algorithm>,
    names: Vec<String>,
}

impl PeerRun for Run<'_> {
    fn algorithms(&self) -> &[String] {
        &self.names
    }

    fn launch(&self, algorithm: usize, stream: &Stream, prepared: &dyn Prepared, copy: usize) -> Result<(), PeerError> {
        let refused = |why| PeerError::Refused { name: NAME, why };
        let tensor = |name: &str| -> Result<*mut c_void, PeerError> {
            let found = prepared.tensor(copy, name);
            let buffer = found.ok_or_else(|| refused(format!("copy {copy} has no tensor '{name}'")))?;
            Ok(buffer.ptr().cast())
        };
        let chosen = self
            .algorithms
            .get(algorithm)
            .ok_or_else(|| refused(format!("it has no algorithm {algorithm}")))?;
        let stream = stream.cuda()?;
        let stream = stream.ok_or_else(|| refused("the simulator has no streams of CUDA".into()))?;
        let y = tensor("y")?;
        if self.product.bias {
            self.operation.set_bias(tensor("bias")?)?;
        }
        let (beta, c) = if self.product.residual {
            (1.0, tensor("residual")?)
        } else {
            (0.0, y)
        };
        let [w_layout, a_layout, y_layout] = &self.layouts;
        let api = &self.peer.api;
        // SAFETY: the tensors have the sizes of the case, which the layouts were made of, and outlive the work (promised by
        // the caller); the stream is alive and its context current; the work memory is the peer's own and as large as said.
        unsafe {
            api.multiply(
                &self.operation,
                beta,
                [tensor("w")?, tensor("a")?, c, y],
                [w_layout, a_layout, y_layout, y_layout].map(Descriptor::handle),
                chosen,
                (self.peer.workspace.ptr().cast(), WORKSPACE),
                stream,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(op: &str, dtype: &str, dims: &[(&str, u64)]) -> Case {
        Case {
            dtype: dtype.into(),
            ..Case::new(op, "custom", "custom", dims)
        }
    }

    #[test]
    fn what_it_takes_and_why_not_the_rest() {
        let sizes = [("n", 5), ("k", 8), ("n_tok", 3)];
        let product = Product::of(&case("gemm", "bf16", &sizes)).expect("taken");
        assert_eq!((product.m, product.n, product.k), (3, 5, 8));
        assert_eq!((product.operands, product.output), (Type::Bf16, Type::Bf16));
        let with = |more: &[(&'static str, u64)]| [&sizes[..], more].concat();
        let f32 = Product::of(&case("gemm", "f16", &with(&[("out_f32", 1)]))).expect("taken");
        assert_eq!((f32.operands, f32.output), (Type::F16, Type::F32));
        let both = Product::of(&case("gemm", "f16", &with(&[("bias", 1), ("residual", 1)]))).expect("taken");
        assert!(both.bias && both.residual);
        for (case, why) in [
            (case("rms_norm", "bf16", &sizes), "rms_norm"),
            (case("gemm", "f32", &sizes), "operands of f32"),
            (case("gemm", "bf16", &sizes[..2]), "empty"),
            (
                case("gemm", "bf16", &with(&[("out_f32", 1), ("bias", 1)])),
                "16-bit bias",
            ),
        ] {
            let says = Product::of(&case).expect_err("refused");
            assert!(says.contains(why), "{says}");
        }
    }
}
