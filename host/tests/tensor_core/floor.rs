//! The least E: steps of tiny products whose answer by an H200 tells -133 from its neighbours. Found by `harness probe mma` with
//! random problems; of a million of them 805 outputs differed without a floor, 166 with -132, 494 with -134 and none with -133.

use half::bf16;
use host::reference::mma::{self, Arch};
use simt::tensor::{self, Format, TensorCore};

type Step = ([u16; 16], [u16; 16], u32);

/// Row, column and the H200's answer; c is 0 of either sign.
const ANSWERS: [Step; 3] = [
    (
        [
            0x313e, 0x30d3, 0xb0ad, 0xb08b, 0x31cb, 0xaf84, 0xb2b6, 0xb2cd, 0x323e, 0x301f, 0xb233, 0x3131, 0xb245,
            0x325f, 0x3296, 0x327c,
        ],
        [
            0x85a3, 0x85e7, 0x0524, 0x03f6, 0x04b5, 0x861d, 0x856c, 0x834c, 0x064e, 0x8320, 0x83cd, 0x04bc, 0x0486,
            0x8520, 0x04ae, 0x863b,
        ],
        0x0000_0030,
    ),
    (
        [
            0x26ab, 0x2747, 0xa4b1, 0xa746, 0xa60f, 0x2671, 0xa50f, 0x2558, 0x251d, 0x253b, 0xa4c3, 0x257c, 0xa46e,
            0x26c7, 0xa5c9, 0x275a,
        ],
        [
            0x8c07, 0x8c9c, 0x8c03, 0x0e6d, 0x8d41, 0x0de0, 0x0e35, 0x0e68, 0x8e89, 0x0d4a, 0x8c12, 0x8d16, 0x8ce8,
            0x0e43, 0x0e38, 0x8d57,
        ],
        0x8000_0005,
    ),
    (
        [
            0x002a, 0x808b, 0x017d, 0x8075, 0x807c, 0x803d, 0x0063, 0x800e, 0x8000, 0x00c9, 0x0078, 0x0053, 0x0176,
            0x8137, 0x8183, 0x00c8,
        ],
        [
            0x32c3, 0xb11f, 0xb115, 0x325d, 0x319b, 0x315d, 0xb2a3, 0x3362, 0x3127, 0xb1aa, 0x315a, 0xb321, 0xb020,
            0x3217, 0x31cf, 0xb095,
        ],
        0x0000_0000,
    ),
];

fn wrong(core: TensorCore) -> usize {
    let differs = |(a, b, answer): &&Step| tensor::k16(core, Format::Bf16, a, b, 0.0).to_bits() != *answer;
    ANSWERS.iter().filter(differs).count()
}

#[test]
fn e_is_at_least_minus_133() {
    assert_eq!(wrong(TensorCore::HOPPER), 0);
    for exponent_floor in [-126, -132, -134, -140] {
        let other = TensorCore {
            exponent_floor,
            ..TensorCore::HOPPER
        };
        assert!(wrong(other) > 0, "{exponent_floor}");
    }
    for (a, b, answer) in ANSWERS {
        let (a, b) = (a.map(bf16::from_bits), b.map(bf16::from_bits));
        let d = mma::chain(Arch::Hopper, &mma::factors(&a), &mma::factors(&b), 0.0);
        assert_eq!(d.to_bits(), answer);
    }
}
