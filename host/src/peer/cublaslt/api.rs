//! The functions of `cublasLt.h` that are used, looked up in the open library, and its objects, destroyed when dropped.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr;

use libcuda::Library;

use super::super::PeerError;
use super::status::{Status, check};

/// Any of the library's opaque pointers.
type Handle = *mut c_void;

/// `CUBLAS_COMPUTE_32F`.
const COMPUTE_F32: c_int = 68;
/// `CUBLAS_OP_T`.
const TRANSPOSE: c_int = 1;
/// `CUBLASLT_EPILOGUE_BIAS`.
const EPILOGUE_BIAS: c_int = 4;
/// `cublasLtMatmulDescAttributes_t`.
const DESC_TRANSA: c_int = 3;
const DESC_EPILOGUE: c_int = 7;
const DESC_BIAS_POINTER: c_int = 8;
/// `CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES`.
const PREF_WORKSPACE: c_int = 1;
/// `cublasLtMatmulAlgoConfigAttributes_t` from 0 on, by the names that [`Api::describe`] gives them. The last two are of 16
/// bits, the others of 32.
const CONFIG: [(&str, usize); 9] = [
    ("id", 4),
    ("tile", 4),
    ("splitk", 4),
    ("reduction", 4),
    ("swizzle", 4),
    ("custom", 4),
    ("stages", 4),
    ("inner", 2),
    ("cluster", 2),
];

/// `cudaDataType_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Type {
    F32 = 0,
    F16 = 2,
    Bf16 = 14,
}

/// `cublasLtMatmulAlgo_t`: opaque, to be copied as it is.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Algorithm {
    data: [u64; 8],
}

/// `cublasLtMatmulHeuristicResult_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Heuristic {
    algorithm: Algorithm,
    workspace: usize,
    state: Status,
    waves: f32,
    reserved: [c_int; 4],
}

type Create = unsafe extern "C" fn(*mut Handle) -> Status;
type Destroy = unsafe extern "C" fn(Handle) -> Status;
type SetAttribute = unsafe extern "C" fn(Handle, c_int, *const c_void, usize) -> Status;
type GetHeuristic = unsafe extern "C" fn(
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    c_int,
    *mut Heuristic,
    *mut c_int,
) -> Status;
type GetConfig = unsafe extern "C" fn(*const Algorithm, c_int, *mut c_void, usize, *mut usize) -> Status;
type Multiply = unsafe extern "C" fn(
    Handle,
    Handle,
    *const c_void,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    *const c_void,
    Handle,
    *mut c_void,
    Handle,
    *const Algorithm,
    *mut c_void,
    usize,
    *mut c_void,
) -> Status;

/// The functions, and the library's context.
pub struct Api {
    handle: Handle,
    version: unsafe extern "C" fn() -> usize,
    destroy: Destroy,
    desc_create: unsafe extern "C" fn(*mut Handle, c_int, c_int) -> Status,
    desc_destroy: Destroy,
    desc_set: SetAttribute,
    layout_create: unsafe extern "C" fn(*mut Handle, c_int, u64, u64, i64) -> Status,
    layout_destroy: Destroy,
    preference_create: Create,
    preference_destroy: Destroy,
    preference_set: SetAttribute,
    heuristic: GetHeuristic,
    config: GetConfig,
    multiply: Multiply,
    /// Never closed; kept so that it is plain whose the functions are.
    _library: Library,
}

impl Api {
    /// Looks the functions up (the outer error names the one that is missing) and creates a context in the thread's current
    /// one of CUDA.
    pub fn new(library: Library) -> Result<Result<Api, PeerError>, &'static str> {
        macro_rules! function {
            ($name:literal as $signature:ty) => {{
                let address = library.symbol($name).ok_or($name)?;
                // SAFETY: the function of this name in cublasLt.h has this signature.
                unsafe { transmute::<*const c_void, $signature>(address) }
            }};
        }
        let create = function!("cublasLtCreate" as Create);
        let mut api = Api {
            handle: ptr::null_mut(),
            version: function!("cublasLtGetVersion" as unsafe extern "C" fn() -> usize),
            destroy: function!("cublasLtDestroy" as Destroy),
            desc_create: function!(
                "cublasLtMatmulDescCreate" as unsafe extern "C" fn(*mut Handle, c_int, c_int) -> Status
            ),
            desc_destroy: function!("cublasLtMatmulDescDestroy" as Destroy),
            desc_set: function!("cublasLtMatmulDescSetAttribute" as SetAttribute),
            layout_create: function!(
                "cublasLtMatrixLayoutCreate" as unsafe extern "C" fn(*mut Handle, c_int, u64, u64, i64) -> Status
            ),
            layout_destroy: function!("cublasLtMatrixLayoutDestroy" as Destroy),
            preference_create: function!("cublasLtMatmulPreferenceCreate" as Create),
            preference_destroy: function!("cublasLtMatmulPreferenceDestroy" as Destroy),
            preference_set: function!("cublasLtMatmulPreferenceSetAttribute" as SetAttribute),
            heuristic: function!("cublasLtMatmulAlgoGetHeuristic" as GetHeuristic),
            config: function!("cublasLtMatmulAlgoConfigGetAttribute" as GetConfig),
            multiply: function!("cublasLtMatmul" as Multiply),
            _library: library,
        };
        // SAFETY: the handle is valid for the write.
        let status = unsafe { create(&mut api.handle) };
        Ok(check("cublasLtCreate", status).map(|()| api))
    }

    /// As `CUBLAS_VERSION`: 10000 major + 100 minor + patch.
    pub fn version(&self) -> usize {
        // SAFETY: takes nothing and may be called at any time.
        unsafe { (self.version)() }
    }

    /// At most `count` algorithms that need at most `workspace` bytes, the most promising first. `layouts`: of A, B, C, D.
    pub fn heuristic(
        &self,
        operation: &Operation,
        layouts: [&Layout; 4],
        workspace: usize,
        count: usize,
    ) -> Result<Vec<Algorithm>, PeerError> {
        let mut preference = ptr::null_mut();
        // SAFETY: valid for the write.
        let status = unsafe { (self.preference_create)(&mut preference) };
        check("cublasLtMatmulPreferenceCreate", status)?;
        let preference = Object(preference, self.preference_destroy);
        let bytes = workspace as u64;
        set(
            "cublasLtMatmulPreferenceSetAttribute",
            self.preference_set,
            preference.0,
            PREF_WORKSPACE,
            &bytes,
        )?;
        let mut results = vec![Heuristic::default(); count];
        let mut found = 0;
        let [a, b, c, d] = layouts.map(Descriptor::handle);
        // SAFETY: all objects are alive; `results` has room for `count`, `found` for the write.
        let status = unsafe {
            (self.heuristic)(
                self.handle,
                operation.handle(),
                a,
                b,
                c,
                d,
                preference.0,
                count as c_int,
                results.as_mut_ptr(),
                &mut found,
            )
        };
        // "Not supported" says that there is none.
        if status == 15 {
            return Ok(Vec::new());
        }
        check("cublasLtMatmulAlgoGetHeuristic", status)?;
        let found = usize::try_from(found).unwrap_or(0).min(count);
        let good = results[..found]
            .iter()
            .filter(|r| r.state == 0 && r.workspace <= workspace);
        Ok(good.map(|r| r.algorithm).collect())
    }

    /// An algorithm in words: `id66 tile18 stages36 cluster2`, those of its settings that are not 0.
    pub fn describe(&self, algorithm: &Algorithm) -> String {
        let mut words = Vec::new();
        for (attribute, (name, bytes)) in CONFIG.iter().enumerate() {
            let mut value = 0u32;
            let mut written = 0;
            // SAFETY: the value is valid for a write of `bytes`, at most 4.
            let status = unsafe {
                (self.config)(
                    algorithm,
                    attribute as c_int,
                    (&raw mut value).cast(),
                    *bytes,
                    &mut written,
                )
            };
            if status == 0 && (value != 0 || attribute == 0) {
                words.push(format!("{name}{value}"));
            }
        }
        words.join(" ")
    }

    /// D = op(A) op(B) + `beta` C. `matrices` and `layouts` are those of A, B, C, D.
    ///
    /// # Safety
    /// The matrices are device memory of the layouts' sizes, as is the work memory of the size given, and outlive the work; the
    /// stream is of the thread's current context.
    #[allow(clippy::too_many_arguments, reason = "the library's own function takes sixteen")]
    pub unsafe fn multiply(
        &self,
        operation: &Operation,
        beta: f32,
        matrices: [*mut c_void; 4],
        layouts: [Handle; 4],
        algorithm: &Algorithm,
        (workspace, bytes): (*mut c_void, usize),
        stream: *mut c_void,
    ) -> Result<(), PeerError> {
        let alpha = 1.0f32;
        let [a, b, c, d] = matrices;
        let [la, lb, lc, ld] = layouts;
        // SAFETY: the caller's promises; the scalars are read before the call returns, as by default they are the host's.
        let status = unsafe {
            (self.multiply)(
                self.handle,
                operation.handle(),
                (&raw const alpha).cast(),
                a,
                la,
                b,
                lb,
                (&raw const beta).cast(),
                c,
                lc,
                d,
                ld,
                algorithm,
                workspace,
                bytes,
                stream,
            )
        };
        check("cublasLtMatmul", status)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. Null where creating failed, which the library takes as an error code.
        unsafe { (self.destroy)(self.handle) };
    }
}

/// An object and what destroys it.
struct Object(Handle, Destroy);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once.
        unsafe { (self.1)(self.0) };
    }
}

/// An object that calls take.
pub trait Descriptor {
    /// Its pointer.
    fn handle(&self) -> Handle;
}

/// `cublasLtMatmulDesc_t`: the first operand transposed, f32 throughout.
pub struct Operation<'a> {
    api: &'a Api,
    object: Object,
}

impl<'a> Operation<'a> {
    /// With a bias over D's rows, or without one.
    pub fn new(api: &'a Api, bias: bool) -> Result<Self, PeerError> {
        let mut handle = ptr::null_mut();
        // SAFETY: valid for the write.
        let status = unsafe { (api.desc_create)(&mut handle, COMPUTE_F32, Type::F32 as c_int) };
        check("cublasLtMatmulDescCreate", status)?;
        let object = Object(handle, api.desc_destroy);
        let operation = Operation { api, object };
        operation.set(DESC_TRANSA, &TRANSPOSE)?;
        if bias {
            operation.set(DESC_EPILOGUE, &EPILOGUE_BIAS)?;
        }
        Ok(operation)
    }

    /// Where the bias is. Launches take it when they are made.
    pub fn set_bias(&self, bias: *mut c_void) -> Result<(), PeerError> {
        self.set(DESC_BIAS_POINTER, &bias)
    }

    fn set<T>(&self, attribute: c_int, value: &T) -> Result<(), PeerError> {
        set(
            "cublasLtMatmulDescSetAttribute",
            self.api.desc_set,
            self.object.0,
            attribute,
            value,
        )
    }
}

impl Descriptor for Operation<'_> {
    fn handle(&self) -> Handle {
        self.object.0
    }
}

/// `cublasLtMatrixLayout_t` of a matrix that is stored by columns without gaps.
pub struct Layout<'a> {
    object: Object,
    _api: &'a Api,
}

impl<'a> Layout<'a> {
    /// Of `rows` by `columns`.
    pub fn new(api: &'a Api, elements: Type, rows: u64, columns: u64) -> Result<Self, PeerError> {
        let mut handle = ptr::null_mut();
        // SAFETY: valid for the write.
        let status = unsafe { (api.layout_create)(&mut handle, elements as c_int, rows, columns, rows as i64) };
        check("cublasLtMatrixLayoutCreate", status)?;
        let object = Object(handle, api.layout_destroy);
        Ok(Layout { object, _api: api })
    }
}

impl Descriptor for Layout<'_> {
    fn handle(&self) -> Handle {
        self.object.0
    }
}

impl Descriptor for &Layout<'_> {
    fn handle(&self) -> Handle {
        self.object.0
    }
}

fn set<T>(
    call: &'static str,
    function: SetAttribute,
    object: Handle,
    attribute: c_int,
    value: &T,
) -> Result<(), PeerError> {
    // SAFETY: the object is alive; the value is valid for a read of its size, which is the attribute's.
    check(call, unsafe {
        function(object, attribute, ptr::from_ref(value).cast(), size_of::<T>())
    })
}
