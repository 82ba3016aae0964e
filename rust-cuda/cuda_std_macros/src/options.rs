//! The options of `#[kernel(..)]`.

use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitInt, LitStr, Result, Token};

/// What `#[kernel(..)]` was told; 0 stands for "not told".
#[derive(Default)]
pub struct Options {
    pub threads: u32,
    pub min_blocks: u32,
    /// The architectures the kernel is built for, as `sm_90a`; empty for all.
    pub archs: Vec<String>,
    pub allow_local: Option<String>,
}

/// A literal, also one that a `macro_rules` passed on as `$x:literal` (which arrives in an invisible group).
fn literal<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    if let syn::Expr::Group(group) = input.fork().parse::<syn::Expr>()? {
        let _: syn::Expr = input.parse()?;
        let inner = group.expr;
        return syn::parse2(quote::quote!(#inner));
    }
    input.parse()
}

fn number(input: ParseStream<'_>, name: &Ident, max: u32) -> Result<u32> {
    let lit: LitInt = literal(input)?;
    let value: u32 = lit.base10_parse()?;
    if value == 0 || value > max {
        return Err(Error::new(
            lit.span(),
            format!("`{name}` must be 1 to {max}, not {value}"),
        ));
    }
    Ok(value)
}

/// `"sm_90a,sm_100a"`. Whether the names exist is for the builder to say; here they only have to look like it.
fn archs(lit: &LitStr) -> Result<Vec<String>> {
    let looks_right = |name: &str| {
        let number = name.strip_prefix("sm_").unwrap_or_default();
        let digits = number.strip_suffix('a').unwrap_or(number);
        digits.len() >= 2 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut names: Vec<String> = Vec::new();
    for name in lit.value().split(',').map(str::trim) {
        if !looks_right(name) || names.iter().any(|other| other == name) {
            let message =
                format!("`archs` names architectures like \"sm_90a\" or \"sm_90a,sm_100a\", each once, not `{name}`");
            return Err(Error::new(lit.span(), message));
        }
        names.push(name.to_string());
    }
    Ok(names)
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            input.parse::<Token![=]>()?;
            match name.to_string().as_str() {
                "threads" => options.threads = number(input, &name, 1024)?,
                "min_blocks" => options.min_blocks = number(input, &name, 32)?,
                "archs" => options.archs = archs(&literal(input)?)?,
                "allow_local" => {
                    let reason: LitStr = literal(input)?;
                    let text = reason.value();
                    if text.trim().is_empty() || text.contains(['\n', '\r', '"', '\\']) {
                        let message = "`allow_local` needs a reason: one line without quotes and backslashes";
                        return Err(Error::new(reason.span(), message));
                    }
                    options.allow_local = Some(text);
                }
                _ => {
                    let message = format!(
                        "unknown option `{name}`: there are `threads`, `min_blocks`, `archs` and `allow_local`"
                    );
                    return Err(Error::new(name.span(), message));
                }
            }
            seen.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        if options.min_blocks != 0 && options.threads == 0 {
            return Err(Error::new(
                proc_macro2::Span::call_site(),
                "`min_blocks` needs `threads` beside it",
            ));
        }
        Ok(options)
    }
}
