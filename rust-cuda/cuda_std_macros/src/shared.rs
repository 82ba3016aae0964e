//! Names for the static arrays of shared memory. PTX names are global to the module, and rustc gives a macro no way to make
//! a name of its own, so it is made of the place in the source.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Result, Token, Type};

struct Input {
    element: Type,
    count: Expr,
}

impl Parse for Input {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let element = input.parse()?;
        input.parse::<Token![;]>()?;
        Ok(Self {
            element,
            count: input.parse()?,
        })
    }
}

/// `__shared_symbol!(T; N)`: an expression of type `Shared<T>`. Each expansion declares one array.
pub fn expand(input: TokenStream) -> Result<TokenStream> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Input { element, count } = syn::parse2(input)?;
    // Two expansions at one place (a macro that is called twice, a file in two modules) differ by the count; two crates by
    // their names.
    let span = Span::call_site().unwrap();
    let mut hash = DefaultHasher::new();
    (
        std::env::var("CARGO_PKG_NAME").unwrap_or_default(),
        span.file(),
        span.line(),
        span.column(),
    )
        .hash(&mut hash);
    let name = format!(
        "lockstep_shared_{:016x}_{}",
        hash.finish(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let declaration = format!(".shared .align 16 .b8 {name}[{{}}];");
    let address = format!("mov.u32 {{}}, {name};");
    Ok(quote! {{
        // `global_asm!` is an item of a module only.
        mod declaration {
            #[allow(unused_imports)]
            use super::*;
            ::core::arch::global_asm!(#declaration, const ::core::mem::size_of::<#element>() * (#count));
        }
        let addr: u32;
        // SAFETY: makes an address.
        unsafe {
            ::core::arch::asm!(#address, out(reg32) addr, options(pure, nomem, nostack, preserves_flags));
        }
        ::cuda_std::shared::Shared::<#element>::at(addr)
    }})
}
