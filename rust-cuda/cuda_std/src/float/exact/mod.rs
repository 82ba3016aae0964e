//! Elementary functions on f32 whose same source gives the same bytes on the GPU and on the CPU.

/// Every function of this module by name, for checks that run over all of them.
pub const FUNCTIONS: &[(&str, fn(f32) -> f32)] = &[
    ("exp", exp),
    ("exp2", exp2),
    ("log", log),
    ("log1p", log1p),
    ("rsqrt", rsqrt),
    ("sigmoid", sigmoid),
    ("softplus", softplus),
    ("silu", silu),
    ("sin", sin),
    ("cos", cos),
];

macro_rules! on_cpu_so_far {
    ($($(#[$doc:meta])* $name:ident = |$x:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn $name(x: f32) -> f32 {
            let $x = f64::from(x);
            $body as f32
        }
    )*};
}

on_cpu_so_far! {
    /// e^x.
    exp = |x| x.exp();
    /// 2^x.
    exp2 = |x| x.exp2();
    /// Natural logarithm.
    log = |x| x.ln();
    /// log(1 + x).
    log1p = |x| x.ln_1p();
    /// 1 / sqrt(x).
    rsqrt = |x| 1.0 / x.sqrt();
    /// 1 / (1 + e^-x).
    sigmoid = |x| 1.0 / (1.0 + (-x).exp());
    /// log(1 + e^x).
    softplus = |x| x.max(0.0) + (-x.abs()).exp().ln_1p();
    /// x * sigmoid(x).
    silu = |x| x / (1.0 + (-x).exp());
    /// Sine of x in radians.
    sin = |x| x.sin();
    /// Cosine of x in radians.
    cos = |x| x.cos();
}
