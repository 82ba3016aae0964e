//! The forms of PTX's `wgmma`: one instruction for each number of columns, with as many operands as a thread has registers.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::LitInt;

/// A type of factors and accumulators.
struct Kind {
    /// `cuda_std::wgmma`'s name of the factors.
    format: &'static str,
    /// The accumulator's registers.
    register: &'static str,
    /// `k16.f32.bf16.bf16`.
    suffix: &'static str,
    /// Columns for one register of a thread.
    columns_a_register: u32,
    /// Behind `scale-d`, A from shared memory: signs of A and B, and which are transposed.
    shared_tail: &'static str,
    /// The same with A from registers.
    register_tail: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        format: "Bf16",
        register: "f32",
        suffix: "k16.f32.bf16.bf16",
        columns_a_register: 2,
        shared_tail: ", 1, 1, 0, 0",
        register_tail: ", 1, 1, 0",
    },
    Kind {
        format: "F16",
        register: "f32",
        suffix: "k16.f32.f16.f16",
        columns_a_register: 2,
        shared_tail: ", 1, 1, 0, 0",
        register_tail: ", 1, 1, 0",
    },
    Kind {
        format: "F16",
        register: "u32",
        suffix: "k16.f16.f16.f16",
        columns_a_register: 4,
        shared_tail: ", 1, 1, 0, 0",
        register_tail: ", 1, 1, 0",
    },
    Kind {
        format: "S8",
        register: "i32",
        suffix: "k32.s32.s8.s8",
        columns_a_register: 2,
        shared_tail: "",
        register_tail: "",
    },
];

/// All implementations of `Multiply` and `Land`.
pub fn expand() -> TokenStream {
    let widths = (1..=32).map(|i| 8 * i);
    let products = KINDS
        .iter()
        .flat_map(|kind| widths.clone().filter(|&n| has(kind, n)).map(move |n| product(kind, n)));
    let waits = ["f32", "i32", "u32"].into_iter().flat_map(|register| {
        let step = if register == "u32" { 2 } else { 4 };
        (1..=32).map(move |i| wait(register, step * i))
    });
    quote!(#(#products)* #(#waits)*)
}

/// Whether the instruction has this many columns: integers have 8, 16, 24 and multiples of 16.
fn has(kind: &Kind, n: u32) -> bool {
    kind.register != "i32" || n <= 24 || n.is_multiple_of(16)
}

fn places(registers: u32) -> String {
    (0..registers)
        .map(|i| format!("{{{i}}}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn number(n: u32) -> LitInt {
    LitInt::new(&n.to_string(), proc_macro2::Span::call_site())
}

fn product(kind: &Kind, n: u32) -> TokenStream {
    let registers = n / kind.columns_a_register;
    let (format, register) = (format_ident!("{}", kind.format), format_ident!("{}", kind.register));
    let head = format!("wgmma.mma_async.sync.aligned.m64n{n}{}", kind.suffix);
    let places = places(registers);
    let tied: Vec<_> = (0..registers as usize)
        .map(|i| quote!(inout(reg32) self.registers[#i],))
        .collect();
    let text = |a: &str, tail: &str| {
        format!(
            "{{{{ .reg .pred p; setp.ne.b32 p, {{accumulate}}, 0; {head} {{{{{places}}}}}, {a}, {{b}}, p{tail}; }}}}"
        )
    };
    let shared = text("{a}", kind.shared_tail);
    let fragment = text("{{{a0}, {a1}, {a2}, {a3}}}", kind.register_tail);
    let (n, registers) = (number(n), number(registers));
    quote! {
        impl Multiply<#format> for Accumulator<#register, #registers> {
            const N: u32 = #n;

            #[inline(always)]
            #[track_caller]
            fn issue(&mut self, a: Descriptor, b: Descriptor, accumulate: bool) {
                #[cfg(target_arch = "nvptx64")]
                // SAFETY: the descriptors' tiles are the caller's matter, as for every address of shared memory; the registers are
                // tied to the instruction, and `values` comes after a wait.
                unsafe {
                    ::core::arch::asm!(#shared, #(#tied)* a = in(reg64) a.bits, b = in(reg64) b.bits,
                        accumulate = in(reg32) u32::from(accumulate), options(nostack, preserves_flags));
                }
                #[cfg(not(target_arch = "nvptx64"))]
                self.simulate::<#format>(#n, simt::ctx::WgmmaA::Shared(a.bits), b, accumulate);
            }

            #[inline(always)]
            #[track_caller]
            fn issue_registers(&mut self, a: [u32; 4], b: Descriptor, accumulate: bool) {
                #[cfg(target_arch = "nvptx64")]
                // SAFETY: as in `issue`.
                unsafe {
                    ::core::arch::asm!(#fragment, #(#tied)* a0 = in(reg32) a[0], a1 = in(reg32) a[1], a2 = in(reg32) a[2],
                        a3 = in(reg32) a[3], b = in(reg64) b.bits, accumulate = in(reg32) u32::from(accumulate),
                        options(nostack, preserves_flags));
                }
                #[cfg(not(target_arch = "nvptx64"))]
                self.simulate::<#format>(#n, simt::ctx::WgmmaA::Registers(a), b, accumulate);
            }
        }
    }
}

/// The wait after which registers may be read: tied to them, so that no read moves before it.
fn wait(register: &str, registers: u32) -> TokenStream {
    let register = format_ident!("{}", register);
    let tied: Vec<_> = (0..registers as usize)
        .map(|i| quote!(inout(reg32) self.registers[#i],))
        .collect();
    // An operand that no text names is an error; a comment names them.
    let text = format!("wgmma.wait_group.sync.aligned {{left}}; // {}", places(registers));
    let registers = number(registers);
    quote! {
        impl Land for Accumulator<#register, #registers> {
            #[inline(always)]
            #[track_caller]
            fn wait<const LEFT: u32>(&mut self) {
                #[cfg(target_arch = "nvptx64")]
                // SAFETY: waits; the whole warpgroup is here (the module's rule).
                unsafe {
                    ::core::arch::asm!(#text, #(#tied)* left = const LEFT, options(nostack, preserves_flags));
                }
                #[cfg(not(target_arch = "nvptx64"))]
                simt::ctx::wgmma_wait(LEFT);
            }
        }
    }
}
