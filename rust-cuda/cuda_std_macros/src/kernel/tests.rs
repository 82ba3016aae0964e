//! What `#[kernel]` refuses, and what it makes of a kernel, on token streams.

use super::expand;
use quote::quote;

/// The message of a refused kernel.
fn refused(options: proc_macro2::TokenStream, item: proc_macro2::TokenStream) -> String {
    expand(options, item).expect_err("must be refused").to_string()
}

#[test]
fn signatures_that_are_refused() {
    for (item, message) in [
        (
            quote!(
                pub async unsafe fn k() {}
            ),
            "async",
        ),
        (
            quote!(
                pub const unsafe fn k() {}
            ),
            "const",
        ),
        (
            quote!(
                unsafe fn k() {}
            ),
            "must be `pub`",
        ),
        (
            quote!(
                pub fn k() {}
            ),
            "must be `unsafe`",
        ),
        (
            quote!(
                pub unsafe extern "C" fn k() {}
            ),
            "ABI",
        ),
        (
            quote!(
                pub unsafe fn k<T>(x: *const T) {}
            ),
            "generic",
        ),
        (
            quote!(
                pub unsafe fn k<const N: u32>() {}
            ),
            "generic",
        ),
        (
            quote!(
                pub unsafe fn k<'a>(x: &'a [u32]) {}
            ),
            "generic",
        ),
        (
            quote!(
                pub unsafe fn k(x: impl Copy) {}
            ),
            "generic",
        ),
        (
            quote!(
                pub unsafe fn k() -> u32 {
                    1
                }
            ),
            "returns nothing",
        ),
        (
            quote!(
                pub unsafe fn k(self) {}
            ),
            "without `self`",
        ),
        (
            quote!(
                pub unsafe fn k((a, b): (u32, u32)) {}
            ),
            "plain name",
        ),
        (
            quote!(
                pub unsafe fn k(_: u32) {}
            ),
            "plain name",
        ),
        (
            quote!(
                pub unsafe fn k(ref a: u32) {}
            ),
            "plain name",
        ),
        (
            quote!(
                pub unsafe fn k(a: &u32) {}
            ),
            "cannot take a reference",
        ),
        (
            quote!(
                pub unsafe fn k(a: &'static [u32]) {}
            ),
            "no lifetime",
        ),
        (
            quote!(
                pub unsafe fn k(a: &mut TensorMap) {}
            ),
            "cannot take a reference",
        ),
        (
            quote!(
                pub unsafe fn k(a: &'static tma::TensorMap) {}
            ),
            "no lifetime",
        ),
    ] {
        let text = item.to_string();
        let got = refused(quote!(), item);
        assert!(got.contains(message), "{text}: {got}");
    }
}

#[test]
fn sixteen_parameters_are_the_most() {
    let names: Vec<_> = (0..9u32).map(|i| quote::format_ident!("x{}", i)).collect();
    let got = refused(quote!(), quote!(pub unsafe fn k(#(#names: &[u32]),*) {}));
    assert!(got.contains("at most 16") && got.contains("18"), "{got}");
    let eight = &names[..8];
    assert!(expand(quote!(), quote!(pub unsafe fn k(#(#eight: &[u32]),*) {})).is_ok());
}

#[test]
fn options_that_are_refused() {
    for (options, message) in [
        (quote!(threads = 0), "1 to 1024"),
        (quote!(threads = 1025), "1 to 1024"),
        (quote!(threads = "256"), "integer"),
        (quote!(threads = N), "integer"),
        (quote!(threads = 256, min_blocks = 33), "1 to 32"),
        (quote!(min_blocks = 2), "needs `threads`"),
        (quote!(threads = 32, threads = 64), "twice"),
        (quote!(archs = ""), "names architectures"),
        (quote!(archs = "sm_90a,"), "not ``"),
        (quote!(archs = "hopper"), "not `hopper`"),
        (quote!(archs = "sm_90a, sm_90a"), "each once"),
        (quote!(archs = "sm_9 a"), "not `sm_9 a`"),
        (quote!(archs = 90), "string"),
        (quote!(thread = 32), "unknown option `thread`"),
        (quote!(allow_local = " "), "needs a reason"),
        (quote!(allow_local = "a \" b"), "without quotes"),
        (quote!(threads = 32 min_blocks = 1), "`,`"),
    ] {
        let text = options.to_string();
        let got = refused(
            options,
            quote!(
                pub unsafe fn k() {}
            ),
        );
        assert!(got.contains(message), "{text}: {got}");
    }
}

#[test]
fn the_device_side_has_the_entry_and_its_marker() {
    let item = quote!(
        pub unsafe fn add(n: u32, x: &[f32], y: &mut [f32]) {
            body()
        }
    );
    let text = expand(quote!(threads = 256, allow_local = "a {} b"), item)
        .unwrap()
        .to_string();
    let squeezed: String = text.split_whitespace().collect();
    for part in [
        "#[unsafe(no_mangle)]",
        "pubunsafeextern\"ptx-kernel\"fnadd(n:u32,x_ptr:*constf32,x_len:usize,y_ptr:*mutf32,y_len:usize)",
        "lety:&mut[f32]=unsafe{::core::slice::from_raw_parts_mut(y_ptr,y_len)};",
        "\"//lockstep.kernelname=addfamily=\",::core::module_path!(),",
        "threads=256min_blocks=0allow_local=\\\"a{{}}b\\\"",
        "Kernel<(u32,*constf32,usize,*mutf32,usize,)>",
    ] {
        assert!(squeezed.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_tensor_map_is_a_place_of_128_bytes_on_the_device_and_the_map_itself_on_the_host() {
    let item = quote!(
        pub unsafe fn tiles(x: &[f32], a: &TensorMap, n: u32, b: &cuda_std::tma::TensorMap) {
            body()
        }
    );
    let text = expand(quote!(threads = 384, archs = "sm_90a, sm_100a"), item)
        .unwrap()
        .to_string();
    let squeezed: String = text.split_whitespace().collect();
    for part in [
        "fntiles(x_ptr:*constf32,x_len:usize,_a_place:::cuda_std::tma::MapPlace,n:u32,_b_place:::cuda_std::tma::MapPlace)",
        "leta:&TensorMap=::cuda_std::__tensor_map_param!(\"tiles_param_2\");",
        "letb:&cuda_std::tma::TensorMap=::cuda_std::__tensor_map_param!(\"tiles_param_4\");",
        "threads=384min_blocks=0archs=sm_90a,sm_100amaps=2,4\"",
        "archs:&[\"sm_90a\",\"sm_100a\"],",
        "Kernel<(*constf32,usize,TensorMap,u32,cuda_std::tma::TensorMap,)>",
        "super::tiles(::core::slice::from_raw_parts(p0,p1),&p2,p3,&p4)",
        "const_:fn(TensorMap)->::cuda_std::tma::TensorMap=|map|map;",
    ] {
        assert!(squeezed.contains(part), "{part} is missing in {text}");
    }
}
