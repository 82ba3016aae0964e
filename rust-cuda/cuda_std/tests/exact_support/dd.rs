//! Numbers of about 100 bits as the sum of two f64, for the few inputs whose result lies too near to the middle
//! between two f32 for f64. Slow and plain on purpose; shares nothing with the functions under check.

/// high + low, |low| at most half an ulp of high.
#[derive(Clone, Copy, Debug)]
pub struct Dd(pub f64, pub f64);

/// ln 2.
const LN2: Dd = Dd(std::f64::consts::LN_2, 2.319_046_813_846_299_6e-17);

fn two_sum(a: f64, b: f64) -> Dd {
    let s = a + b;
    let b_part = s - a;
    Dd(s, (a - (s - b_part)) + (b - b_part))
}

impl Dd {
    pub fn of(x: f64) -> Dd {
        Dd(x, 0.0)
    }

    pub fn add(self, o: Dd) -> Dd {
        let s = two_sum(self.0, o.0);
        let t = two_sum(self.1, o.1);
        let u = two_sum(s.0, s.1 + t.0);
        two_sum(u.0, u.1 + t.1)
    }

    pub fn neg(self) -> Dd {
        Dd(-self.0, -self.1)
    }

    pub fn mul(self, o: Dd) -> Dd {
        let p = self.0 * o.0;
        let low = self.0.mul_add(o.0, -p) + (self.0 * o.1 + self.1 * o.0);
        two_sum(p, low)
    }

    pub fn div(self, o: Dd) -> Dd {
        let q0 = self.0 / o.0;
        let r = self.add(o.mul(Dd::of(-q0)));
        let q1 = r.0 / o.0;
        let r = r.add(o.mul(Dd::of(-q1)));
        two_sum(q0, q1).add(Dd::of(r.0 / o.0))
    }

    /// Times 2^n, exactly.
    fn scaled(self, n: i32) -> Dd {
        let s = 2f64.powi(n);
        Dd(self.0 * s, self.1 * s)
    }

    /// The nearest f32: the low part goes into the high part's last bit first (rounding to odd), after which one
    /// rounding from 53 to 24 bits or fewer is the right one.
    pub fn to_f32(self) -> f32 {
        let bits = self.0.to_bits();
        let odd = match self.1 {
            low if low == 0.0 || bits & 1 == 1 => bits,
            low if (low > 0.0) == (self.0 > 0.0) => bits + 1,
            _ => bits - 1,
        };
        f64::from_bits(odd) as f32
    }
}

/// e^x as (k, e) with e^x = 2^k * (1 + e): x = k ln 2 + r, Taylor's series for r / 512, then nine squarings.
fn exp_reduced(x: f64) -> (i32, Dd) {
    let k = (x / std::f64::consts::LN_2).round();
    let r = Dd::of(x).add(LN2.mul(Dd::of(-k))).scaled(-9);
    let mut series = Dd::of(1.0);
    for i in (2..=12).rev() {
        series = Dd::of(1.0).add(series.mul(r).div(Dd::of(f64::from(i))));
    }
    let mut e = series.mul(r);
    for _ in 0..9 {
        e = e.scaled(1).add(e.mul(e)); // (1 + e)^2 - 1
    }
    (k as i32, e)
}

/// e^x.
pub fn exp(x: f64) -> Dd {
    let (k, e) = exp_reduced(x);
    Dd::of(1.0).add(e).scaled(k)
}

/// e^x - 1, with a small relative error for small x too.
pub fn exp_m1(x: f64) -> Dd {
    match exp_reduced(x) {
        (0, e) => e,
        (k, e) => Dd::of(1.0).add(e).scaled(k).add(Dd::of(-1.0)),
    }
}

/// log(1 + t) for t > 0: Newton's step from the f64 value y, as log(1 + t) - y = log(1 + d),
/// d = (t - (e^y - 1)) * e^-y.
pub fn ln_1p(t: Dd) -> Dd {
    let y = t.0.ln_1p();
    let d = t.add(exp_m1(y).neg()).mul(exp(-y));
    Dd::of(y).add(d).add(d.mul(d).scaled(-1).neg())
}
