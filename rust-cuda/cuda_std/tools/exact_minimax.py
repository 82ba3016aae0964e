#!/usr/bin/env python3
"""Derives the polynomial coefficients of cuda_std::float::exact.

Run: python3 exact_minimax.py   (needs mpmath; prints one Rust constant array per polynomial and its error)

Method: Lawson's algorithm (least squares whose weights are multiplied by the error until the largest error is
smallest) in 50-digit arithmetic on g(x) = sum c_i x^i over [a, b], for the weighted error
w(x) * (g(x) - target(x)), where w >= 0 makes it the relative error of the whole function. Remez's exchange is not
used: the weight vanishes inside the interval and low coefficients are fixed, which breaks its alternation. The
coefficients are then rounded to the working format one at a time, lowest power first; after each rounding the
remaining ones are fitted again, so that they take up the rounding's error.
"""
import struct
from mpmath import mp, mpf, matrix, lu_solve, sqrt, log, exp, sin, cos, cosh, pi, cos as mcos, atanh

mp.dps = 50


def to_f32(c):
    """The f32 nearest to c (through the f64 nearest to it: good enough, the refit absorbs a wrong last bit)."""
    return mpf(struct.unpack("f", struct.pack("f", float(c)))[0])


def to_f64(c):
    """The f64 nearest to c."""
    return mpf(float(c))


def fit(target, weight, a, b, fixed, count):
    """Minimax fit of `count` coefficients, the lowest powers being given in `fixed`; (coefficients, error)."""
    free, low = count - len(fixed), len(fixed)
    n = 25 * count
    grid = [(a + b) / 2 - (b - a) / 2 * mcos(pi * (k + mpf("0.5")) / n) for k in range(n)]
    wanted = [target(x) - sum(c * x**i for i, c in enumerate(fixed)) for x in grid]
    powers = [[weight(x) * x ** (low + i) for i in range(free)] for x in grid]
    scaled = [weight(x) * y for x, y in zip(grid, wanted)]
    lawson = [mpf(1)] * n
    best, best_worst = [], None
    for _ in range(120 if free else 1):
        m, rhs = matrix(free, free), matrix(free, 1)
        for q, p, y in zip(lawson, powers, scaled):
            for i in range(free):
                qp = q * p[i]
                rhs[i] += qp * y
                for j in range(i, free):
                    m[i, j] += qp * p[j]
        for i in range(free):
            for j in range(i):
                m[i, j] = m[j, i]
        found = list(lu_solve(m, rhs)) if free else []
        errors = [abs(sum(c * pi_ for c, pi_ in zip(found, p)) - y) for p, y in zip(powers, scaled)]
        worst = max(errors)
        if best_worst is None or worst < best_worst:
            best, best_worst = found, worst
        if worst == 0:
            break
        lawson = [q * e / worst for q, e in zip(lawson, errors)]
        total = sum(lawson)
        lawson = [q / total for q in lawson]
    return list(fixed) + best, best_worst


def derive(name, rust_type, target, weight, a, b, count, given=()):
    """Fits, rounds coefficient by coefficient, and prints the constants; `given` are exact low coefficients."""
    rounder = to_f32 if rust_type == "f32" else to_f64
    fixed = [mpf(c) for c in given]
    while len(fixed) < count:
        coeffs, _ = fit(target, weight, a, b, fixed, count)
        fixed.append(rounder(coeffs[len(fixed)]))
    _, worst = fit(target, weight, a, b, fixed, count)
    print(f"// relative error 2^{float(log(worst, 2)):.2f}")
    print(f"const {name}: [{rust_type}; {count - len(given)}] = [")
    for c in fixed[len(given):]:
        if rust_type == "f32":
            bits = struct.unpack("I", struct.pack("f", float(c)))[0]
            print(f"    f32::from_bits(0x{bits >> 16:04x}_{bits & 0xffff:04x}), // {float(c):.9g}")
        else:
            bits = struct.unpack("Q", struct.pack("d", float(c)))[0]
            digits = f"{bits:016x}"
            print(f"    f64::from_bits(0x{'_'.join(digits[i:i + 4] for i in range(0, 16, 4))}), // {float(c):.17g}")
    print("];")


def split(name, value, *parts):
    """Prints value as a sum of floats: `parts` are rounding functions, each taking what the ones before left."""
    rest = value
    for i, (rounder, kind) in enumerate(parts):
        part = rounder(rest)
        code, size = ("f", "I") if kind == "f32" else ("d", "Q")
        bits = struct.unpack(size, struct.pack(code, float(part)))[0]
        print(f"{name}[{i}]: {kind} = 0x{bits:0{8 if kind == 'f32' else 16}x} // {float(part):.17g}")
        rest -= part


def series(f, limit):
    """f with its removable singularity at 0 replaced by `limit`."""
    return lambda x: mpf(limit) if abs(x) < mpf(10) ** -25 else f(x)


def main():
    ln2 = log(2)
    half = ln2 / 2
    tiny = mpf(2) ** -20  # a reduced argument may pass the interval's end by a rounding
    # 2^f = 1 + f * q(f) on |f| <= 1/2
    derive("EXP2", "f32", series(lambda f: (2**f - 1) / f, ln2), lambda f: abs(f) / 2**f, mpf(-1) / 2, mpf(1) / 2, 6)
    # 2^f = 1 + f * q(f) to 13 bits, for attention's softmax
    derive("EXP2A", "f32", series(lambda f: (2**f - 1) / f, ln2), lambda f: abs(f) / 2**f, mpf(-1) / 2, mpf(1) / 2, 3)
    # e^r = 1 + r + r^2 * q(r) on |r| <= ln2/2
    derive("EXP", "f32", series(lambda r: (exp(r) - 1 - r) / r**2, 0.5), lambda r: r**2 / exp(r),
           -half - tiny, half + tiny, 5)
    derive("EXP_F64", "f64", series(lambda r: (exp(r) - 1 - r) / r**2, 0.5), lambda r: r**2 / exp(r),
           -half - tiny, half + tiny, 10)
    # log((1 + s) / (1 - s)) = 2 s + s * z * p(z), z = s^2, |s| <= (sqrt2 - 1) / (sqrt2 + 1)
    s_max = (sqrt(2) - 1) / (sqrt(2) + 1) + tiny
    log_target = series(lambda z: (2 * atanh(sqrt(z)) / sqrt(z) - 2) / z, mpf(2) / 3)
    derive("LOG", "f64", log_target, lambda z: z / (2 + z * log_target(z)), mpf(0), s_max**2, 7)
    # sin r = r + r * z * p(z), cos r = 1 - z / 2 + z^2 * q(z), z = r^2, |r| <= pi / 4
    z_max = (pi / 4 + tiny) ** 2
    sinc = lambda z: sin(sqrt(z)) / sqrt(z)
    derive("SIN", "f64", series(lambda z: (sinc(z) - 1) / z, mpf(-1) / 6), lambda z: z / (sinc(z) if z else 1),
           mpf(0), z_max, 6)
    derive("COS", "f64", series(lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, mpf(1) / 24),
           lambda z: z**2 / cos(sqrt(z)), mpf(0), z_max, 6)
    split("LN2 (f32)", ln2, (to_f32, "f32"), (to_f32, "f32"))
    split("1/LN2 (f32)", 1 / ln2, (to_f32, "f32"))
    split("LN2 (f64)", ln2, (to_f64, "f64"), (to_f64, "f64"))
    split("1/LN2 (f64)", 1 / ln2, (to_f64, "f64"))
    split("PI/2", pi / 2, (to_f64, "f64"), (to_f64, "f64"))
    split("2/PI", 2 / pi, (to_f64, "f64"))
    mp.dps = 120
    bits = int(mp.floor(2 / pi * mpf(2) ** 256))
    words = [f"0x{(bits >> (256 - 32 * (i + 1))) & 0xffffffff:08x}" for i in range(8)]
    print("TWO_OVER_PI:", ", ".join(words))


if __name__ == "__main__":
    main()
