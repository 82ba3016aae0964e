//! A loop written out by the compiler's front end.

/// `unroll!(i < 8 => { .. })` is the block eight times, with `i: usize` from 0 to 7, each a constant. For loops that index an
/// array in registers and whose bodies are too large for LLVM to unroll them by itself: an index that is not a constant would
/// put the array into local memory, which the build refuses.
macro_rules! unroll {
    ($i:ident < 2 => $body:block) => { $crate::unroll::unroll!(@ $i $body 0 1) };
    ($i:ident < 3 => $body:block) => { $crate::unroll::unroll!(@ $i $body 0 1 2) };
    ($i:ident < 4 => $body:block) => { $crate::unroll::unroll!(@ $i $body 0 1 2 3) };
    ($i:ident < 8 => $body:block) => { $crate::unroll::unroll!(@ $i $body 0 1 2 3 4 5 6 7) };
    ($i:ident < 16 => $body:block) => {
        $crate::unroll::unroll!(@ $i $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($i:ident < 32 => $body:block) => {
        $crate::unroll::unroll!(@ $i $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    (@ $i:ident $body:block $($at:literal)+) => {
        #[cfg(target_arch = "nvptx64")]
        {
            $({
                let $i: usize = $at;
                $body
            })+
        }
        // On the host an ordinary loop: there are no registers to keep an array in, and much less to compile.
        #[cfg(not(target_arch = "nvptx64"))]
        for $i in [$($at),+] {
            let $i: usize = $i;
            $body
        }
    };
}
pub(crate) use unroll;
