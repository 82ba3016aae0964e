//! The expansion of `#[kernel]`.

use crate::options::Options;
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, ItemFn, Pat, Result, ReturnType, Type, TypePath, TypeReference, Visibility};

/// One parameter of the function as written.
struct Param {
    name: Ident,
    ty: Type,
    form: Form,
}

/// What a parameter is launched as.
enum Form {
    /// Itself.
    Value,
    /// The pointer and length of a slice of this element type; whether it is `&mut`.
    Slice(Type, bool),
    /// The tensor map of this type (as written) that the parameter refers to.
    Map(Type),
}

impl Param {
    /// The types as launched: a slice is its pointer and its length, a tensor map itself.
    fn launched(&self) -> Vec<TokenStream> {
        let ty = &self.ty;
        match &self.form {
            Form::Value => vec![quote!(#ty)],
            Form::Slice(element, true) => vec![quote!(*mut #element), quote!(usize)],
            Form::Slice(element, false) => vec![quote!(*const #element), quote!(usize)],
            Form::Map(map) => vec![quote!(#map)],
        }
    }

    /// The slice made of its two halves.
    fn rebuild(&self, pointer: &Ident, length: &Ident) -> TokenStream {
        match self.form {
            Form::Slice(_, true) => quote!(::core::slice::from_raw_parts_mut(#pointer, #length)),
            _ => quote!(::core::slice::from_raw_parts(#pointer, #length)),
        }
    }
}

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let options: Options = syn::parse2(options)?;
    let function: ItemFn = syn::parse2(item)?;
    check_signature(&function)?;
    let params = function.sig.inputs.iter().map(param).collect::<Result<Vec<_>>>()?;
    let launched = params.iter().map(|p| p.launched().len()).sum::<usize>();
    if launched > 16 {
        let message = format!("a kernel takes at most 16 parameters (a slice counts as two), this one has {launched}");
        return Err(Error::new(function.sig.inputs.span(), message));
    }
    let checks = params.iter().flat_map(|p| {
        let span = p.ty.span();
        p.launched()
            .into_iter()
            .map(move |ty| quote_spanned!(span=> const _: () = ::cuda_std::launch::assert_kernel_arg::<#ty>();))
    });
    let maps = params.iter().filter_map(|p| match &p.form {
        // A type of the user's own that is also named so would be read wrongly.
        Form::Map(ty) => Some(quote_spanned!(ty.span()=> const _: fn(#ty) -> ::cuda_std::tma::TensorMap = |map| map;)),
        _ => None,
    });
    let checks = checks.chain(maps);
    let (device, host) = (device(&function, &params, &options), host(&function, &params, &options));
    Ok(quote! { #(#checks)* #device #host })
}

fn check_signature(function: &ItemFn) -> Result<()> {
    let sig = &function.sig;
    let refuse = |span: Span, message: &str| Err(Error::new(span, message));
    if let Some(token) = &sig.asyncness {
        return refuse(token.span(), "a kernel cannot be async");
    }
    if let Some(token) = &sig.constness {
        return refuse(token.span(), "a kernel cannot be const");
    }
    if !matches!(function.vis, Visibility::Public(_)) {
        return refuse(
            sig.fn_token.span(),
            "a kernel must be `pub`: the host launches it by name",
        );
    }
    if sig.unsafety.is_none() {
        let message = "a kernel must be `unsafe`: nothing checks what it is launched with";
        return refuse(sig.fn_token.span(), message);
    }
    if let Some(abi) = &sig.abi {
        return refuse(abi.span(), "`#[kernel]` chooses the ABI itself: remove this one");
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        let message =
            "a kernel cannot be generic: write one kernel per type or constant, with a macro if they are many";
        return refuse(sig.generics.span(), message);
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        let unit = matches!(&**ty, Type::Tuple(t) if t.elems.is_empty());
        if !unit {
            return refuse(ty.span(), "a kernel returns nothing: write results through a pointer");
        }
    }
    if let Some(variadic) = &sig.variadic {
        return refuse(variadic.span(), "a kernel's parameters are fixed in number");
    }
    Ok(())
}

fn param(arg: &FnArg) -> Result<Param> {
    let FnArg::Typed(arg) = arg else {
        return Err(Error::new(arg.span(), "a kernel is a free function, without `self`"));
    };
    let Pat::Ident(pat) = &*arg.pat else {
        let message = "a kernel's parameter is a plain name: take it apart in the body";
        return Err(Error::new(arg.pat.span(), message));
    };
    if pat.by_ref.is_some() || pat.subpat.is_some() {
        return Err(Error::new(
            pat.span(),
            "a kernel's parameter is a plain name: take it apart in the body",
        ));
    }
    let form = match &*arg.ty {
        Type::Reference(TypeReference {
            elem,
            mutability,
            lifetime: None,
            ..
        }) => match &**elem {
            Type::Slice(slice) => Form::Slice((*slice.elem).clone(), mutability.is_some()),
            Type::Path(path) if mutability.is_none() && is_tensor_map(path) => Form::Map((**elem).clone()),
            _ => {
                let message = "a kernel cannot take a reference: take a slice, a raw pointer, or `&TensorMap`";
                return Err(Error::new(arg.ty.span(), message));
            }
        },
        Type::Reference(_) => {
            return Err(Error::new(
                arg.ty.span(),
                "a kernel's slice has no lifetime name: write `&[T]`",
            ));
        }
        Type::ImplTrait(_) => return Err(Error::new(arg.ty.span(), "a kernel cannot be generic")),
        _ => Form::Value,
    };
    Ok(Param {
        name: pat.ident.clone(),
        ty: (*arg.ty).clone(),
        form,
    })
}

/// Whether a path's last segment is `TensorMap`.
fn is_tensor_map(path: &TypePath) -> bool {
    path.qself.is_none() && path.path.segments.last().is_some_and(|last| last.ident == "TensorMap")
}

/// The entry in the PTX, and the line in the module's assembly that tells the builder of it.
fn device(function: &ItemFn, params: &[Param], options: &Options) -> TokenStream {
    let ItemFn { attrs, sig, block, .. } = function;
    let name = &sig.ident;
    let mut inputs = Vec::new();
    let mut rebuilt = Vec::new();
    let mut maps: Vec<usize> = Vec::new();
    for (param, arg) in params.iter().zip(&sig.inputs) {
        let FnArg::Typed(typed) = arg else { continue };
        let (pat, ty) = (&typed.pat, &typed.ty);
        match &param.form {
            Form::Value => inputs.push(quote!(#arg)),
            Form::Slice(..) => {
                let (pointer, length) = (format_ident!("{}_ptr", param.name), format_ident!("{}_len", param.name));
                let types = param.launched();
                let (pointer_ty, length_ty) = (&types[0], &types[1]);
                inputs.push(quote!(#pointer: #pointer_ty));
                inputs.push(quote!(#length: #length_ty));
                let slice = param.rebuild(&pointer, &length);
                rebuilt.push(quote! {
                    // SAFETY: the launch passes a slice's pointer and length.
                    let #pat: #ty = unsafe { #slice };
                });
            }
            Form::Map(_) => {
                // The parameter itself is never read: TMA wants the address of the launch's own copy of the map.
                let (place, index) = (format_ident!("_{}_place", param.name), inputs.len());
                let symbol = format!("{name}_param_{index}");
                maps.push(index);
                inputs.push(quote!(#place: ::cuda_std::tma::MapPlace));
                rebuilt.push(quote! {
                    let #pat: #ty = ::cuda_std::__tensor_map_param!(#symbol);
                });
            }
        }
    }
    let marker = marker(&name.to_string(), &maps, options);
    quote! {
        #[cfg(target_arch = "nvptx64")]
        #(#attrs)*
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments)]
        pub unsafe extern "ptx-kernel" fn #name(#(#inputs),*) {
            #(#rebuilt)*
            #block
        }

        #[cfg(target_arch = "nvptx64")]
        ::core::arch::global_asm!(#marker);
    }
}

/// `concat!(..)` of the marker line; `maps` are the places of tensor maps among the parameters as launched.
fn marker(name: &str, maps: &[usize], options: &Options) -> TokenStream {
    let head = format!("// lockstep.kernel name={name} family=");
    let mut tail = format!(" threads={} min_blocks={}", options.threads, options.min_blocks);
    if !options.archs.is_empty() {
        tail += &format!(" archs={}", options.archs.join(","));
    }
    if !maps.is_empty() {
        let places: Vec<String> = maps.iter().map(usize::to_string).collect();
        tail += &format!(" maps={}", places.join(","));
    }
    if let Some(why) = &options.allow_local {
        tail += &format!(" allow_local=\"{}\"", why.replace('{', "{{").replace('}', "}}"));
    }
    quote!(::core::concat!(#head, ::core::module_path!(), #tail))
}

/// The function itself, and its handle in a module of the same name.
fn host(function: &ItemFn, params: &[Param], options: &Options) -> TokenStream {
    let name = &function.sig.ident;
    let name_text = name.to_string();
    let (threads, min_blocks, archs) = (options.threads, options.min_blocks, &options.archs);
    let types: Vec<_> = params.iter().flat_map(Param::launched).collect();
    let values: Vec<_> = (0..types.len()).map(|i| format_ident!("p{}", i)).collect();
    let mut rest = values.iter();
    let arguments = params.iter().map(|param| {
        let first = rest.next().expect("one value a launched parameter");
        match param.form {
            Form::Value => quote!(#first),
            Form::Map(_) => quote!(&#first),
            Form::Slice(..) => param.rebuild(first, rest.next().expect("a slice is launched as two")),
        }
    });
    let index = 0..types.len();
    let doc = format!("The launch side of the kernel [`{name}`](fn@{name}).");
    quote! {
        #[cfg(not(target_arch = "nvptx64"))]
        #[allow(clippy::too_many_arguments)]
        #function

        #[cfg(not(target_arch = "nvptx64"))]
        #[doc = #doc]
        pub mod #name {
            #[allow(unused_imports)]
            use super::*;

            /// The kernel's name, bounds and parameter types.
            pub const KERNEL: ::cuda_std::launch::Kernel<(#(#types,)*)> =
                ::cuda_std::launch::Kernel::new(::cuda_std::launch::KernelMeta {
                    name: #name_text,
                    family: ::cuda_std::launch::family(::core::module_path!()),
                    max_threads: #threads,
                    min_blocks: #min_blocks,
                    archs: &[#(#archs),*],
                    entry,
                });

            /// Runs one simulated thread: `params` has one pointer a parameter.
            unsafe fn entry(params: *const *const ::core::ffi::c_void) {
                let _ = params;
                // SAFETY: the launcher passes one pointer to each of the types of `KERNEL`.
                unsafe {
                    #(let #values = (*params.add(#index)).cast::<#types>().read();)*
                    super::#name(#(#arguments),*)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
