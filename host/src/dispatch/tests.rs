//! Dispatch over a made-up operation: what is chosen, what is refused, and that the record says why.

use super::*;
use crate::cost::Work;
use crate::device::{Device, image};
use crate::op::{OpError, Prepared};
use crate::shapes::ShapeSet;

/// Three configs: `narrow` takes everything, `wide` only multiples of 8, `split` is not canonical. With `hopper` there is a
/// fourth, for sm_90a alone. The rule of thumb prefers `hopper`, `split`, then `wide`.
#[derive(Default)]
struct Toy {
    hopper: bool,
}

impl Operation for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }
    fn summary(&self) -> &'static str {
        "a toy"
    }
    fn axes(&self) -> &'static [crate::op::spec::Axis] {
        &[]
    }
    fn configs(&self) -> Vec<ConfigInfo> {
        let info = |id: &str, order| ConfigInfo {
            id: id.into(),
            family: "toy",
            kernel: "toy_kernel",
            order,
            threads: 32,
            shared_bytes: 0,
            min_blocks: 0,
            archs: &[],
            plain: false,
        };
        let mut configs = vec![
            info("narrow", Order::Canonical),
            info("wide", Order::Canonical),
            info("split", Order::Fast),
        ];
        if self.hopper {
            configs.push(ConfigInfo {
                archs: &["sm_90a"],
                // A family that this build has images of, where it has images.
                family: crate::ops::all()[0].configs()[0].family,
                ..info("hopper", Order::Canonical)
            });
        }
        configs
    }
    fn cases(&self, _: &ShapeSet) -> Vec<Case> {
        Vec::new()
    }
    fn custom_case(&self, _: &[(String, u64)]) -> Result<Case, OpError> {
        Err(OpError::Shape("none".into()))
    }
    fn random_cases(&self, _: u64, _: usize) -> Vec<Case> {
        Vec::new()
    }
    fn admits(&self, case: &Case, config: &str) -> Result<(), String> {
        match case.dim("n") {
            Some(0) => Err("n = 0".into()),
            Some(n) if config == "wide" && n % 8 != 0 => Err(format!("n = {n} is no multiple of 8")),
            _ => Ok(()),
        }
    }
    fn heuristic(&self, _: &Case, _: u32) -> Vec<String> {
        ["hopper", "split", "wide", "narrow"].map(String::from).to_vec()
    }
    fn work(&self, _: &Case, config: &str, _: u32) -> Result<Work, OpError> {
        Err(OpError::UnknownConfig {
            op: "toy",
            config: config.into(),
        })
    }
    fn prepare(&self, _: &Device, _: &Case, _: u64, _: usize) -> Result<Box<dyn Prepared>, OpError> {
        Err(OpError::Shape("a toy runs nowhere".into()))
    }
}

/// A table with the given (n, config), all of one measured time; distance |n - n'|.
struct Table(Vec<(u64, &'static str)>);

impl TunedLookup for Table {
    fn candidates(&self, _: &str, arch: &str, dims: &BTreeMap<String, u64>, _: u32, _: Mode) -> Vec<Candidate> {
        let candidate = |&(n, config): &(u64, &str)| Candidate {
            config: config.into(),
            shape: format!("n={n}"),
            distance: n.abs_diff(dims["n"]) as f64,
            median: 7.5,
            kind: Kind::Measured,
        };
        let mut all: Vec<Candidate> = if arch == "sm_90a" {
            self.0.iter().map(candidate).collect()
        } else {
            Vec::new()
        };
        all.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        all
    }
}

fn case(n: u64) -> Case {
    Case::new("toy", "m", "t", &[("n", n), ("n_tok", 2)])
}

fn pick(n: u64, mode: Mode, table: &dyn TunedLookup) -> Choice {
    choose(&Toy::default(), &case(n), ANY_ADDRESS, mode, H200, table).unwrap()
}

const H200: Target<'static> = Target {
    arch: "sm_90",
    table_arch: "sm_90a",
    sm_count: 132,
};

#[test]
fn the_very_shape_comes_first_then_the_nearest_that_takes_it() {
    let table = Table(vec![(64, "narrow"), (16, "wide")]);
    let exact = pick(64, Mode::Strict, &table);
    assert_eq!(
        (exact.config.as_str(), &exact.reason),
        (
            "narrow",
            &Reason::Tuned {
                median: 7.5,
                kind: Kind::Measured
            }
        )
    );
    let near = pick(24, Mode::Strict, &table);
    assert_eq!(near.config, "wide");
    assert_eq!(
        near.reason,
        Reason::Nearest {
            shape: "n=16".into(),
            distance: 8.0,
            kind: Kind::Measured
        }
    );
    // 17 is nearest to 16, but `wide` does not take it.
    let ragged = pick(17, Mode::Strict, &table);
    assert_eq!(ragged.config, "narrow");
    assert!(
        ragged
            .refused
            .iter()
            .any(|r| r.config == "wide" && r.reason == "n = 17 is no multiple of 8")
    );
}

#[test]
fn strict_never_takes_another_order_even_when_the_table_says_so() {
    let table = Table(vec![(64, "split")]);
    let strict = pick(64, Mode::Strict, &table);
    assert_eq!(
        (strict.config.as_str(), strict.order, &strict.reason),
        ("wide", Order::Canonical, &Reason::Heuristic)
    );
    assert!(
        strict
            .refused
            .iter()
            .any(|r| r.config == "split" && r.reason.contains("canonical"))
    );
    assert_eq!(pick(64, Mode::Fast, &table).config, "split");
}

#[test]
fn nothing_tuned_is_the_rule_of_thumb_and_other_gpus_count_for_nothing() {
    assert_eq!(pick(63, Mode::Strict, &Untuned).config, "narrow");
    assert_eq!(pick(64, Mode::Fast, &Untuned).config, "split");
    let table = Table(vec![(64, "narrow")]);
    let blackwell = Target {
        arch: "sm_120",
        table_arch: "sm_120a",
        sm_count: 170,
    };
    let elsewhere = choose(&Toy::default(), &case(64), ANY_ADDRESS, Mode::Strict, blackwell, &table).unwrap();
    assert_eq!(elsewhere.reason, Reason::Heuristic);
}

/// Addresses that do not suit a config: the next is taken, the reason is recorded, and other addresses get another choice.
#[test]
fn addresses_refuse_configs_too() {
    let odd: Takes = &|config| match config {
        "wide" => Err("x is at 0x2, no multiple of 16".into()),
        _ => Ok(()),
    };
    let table = Table(vec![(64, "wide"), (16, "narrow")]);
    let choice = choose(&Toy::default(), &case(64), odd, Mode::Strict, H200, &table).unwrap();
    assert_eq!(choice.config, "narrow");
    let refused = choice.refused.iter().find(|r| r.config == "wide").unwrap();
    assert_eq!(refused.reason, "x is at 0x2, no multiple of 16");

    let device = Device::simt_with(crate::device::SimtOptions::default());
    let dispatcher = Dispatcher::with_table(device.info(), Mode::Strict, Untuned);
    let at = |takes: Takes| dispatcher.choose_at(&Toy::default(), &case(64), takes).unwrap();
    assert_eq!(at(ANY_ADDRESS).config, "wide");
    assert_eq!(at(odd).config, "narrow");
    assert!(std::sync::Arc::ptr_eq(&at(odd), &at(odd)));
    assert_eq!(dispatcher.choose(&Toy::default(), &case(64)).unwrap().config, "wide");
    assert_eq!(dispatcher.choices().len(), 2);
}

#[test]
fn a_config_of_another_architecture_is_refused_by_table_and_rule_of_thumb() {
    let toy = Toy { hopper: true };
    let on = |arch, table_arch, table: &dyn TunedLookup| {
        let target = Target {
            arch,
            table_arch,
            ..H200
        };
        choose(&toy, &case(64), ANY_ADDRESS, Mode::Strict, target, table).unwrap()
    };
    let built_for_hopper = image::IMAGES.is_empty() || image::IMAGES.iter().any(|image| image.arch == "sm_90a");
    if built_for_hopper {
        assert_eq!(on("sm_90", "sm_90a", &Untuned).config, "hopper");
    }
    assert_eq!(on("simt", "simt", &Untuned).config, "hopper");
    // The table's word is of the same image architecture here, so that only the config's own is left to refuse it.
    let table = Table(vec![(64, "hopper"), (32, "narrow")]);
    for (arch, table_arch, config) in [
        ("sm_80", "sm_90a", "narrow"),
        ("sm_120", "sm_90a", "narrow"),
        ("sm_80", "sm_80", "wide"),
    ] {
        let choice = on(arch, table_arch, &table);
        assert_eq!(choice.config, config, "{arch}");
        let reason = format!("built for sm_90a alone, and the device is {arch}");
        assert!(
            choice
                .refused
                .iter()
                .any(|r| r.config == "hopper" && r.reason == reason),
            "{choice}"
        );
    }
    let (usable, refused) = sort_out(&toy, &case(64), ANY_ADDRESS, Mode::Strict, "sm_89");
    assert_eq!((usable.len(), refused.len()), (2, 2));
}

#[test]
fn a_build_without_images_of_its_architecture_refuses_a_config() {
    let mut info = Toy { hopper: true }.configs().remove(3);
    info.family = "no family of this build";
    let verdict = info.runs_on("sm_90");
    if image::IMAGES.is_empty() {
        verdict.unwrap();
    } else {
        assert!(verdict.unwrap_err().contains("this build has no images of that"));
    }
    info.runs_on("simt").unwrap();
}

#[test]
fn a_config_that_is_gone_is_passed_over_and_named() {
    let choice = pick(64, Mode::Strict, &Table(vec![(64, "gone"), (48, "narrow")]));
    assert_eq!(choice.config, "narrow");
    assert!(
        choice
            .refused
            .iter()
            .any(|r| r.config == "gone" && r.reason.contains("no config of this build"))
    );
}

#[test]
fn no_config_at_all_is_an_error_with_every_reason() {
    let error = choose(&Toy::default(), &case(0), ANY_ADDRESS, Mode::Strict, H200, &Untuned).unwrap_err();
    assert_eq!(error.refused.len(), 3);
    let text = error.to_string();
    assert!(
        text.contains("no config of toy takes n=0,n_tok=2 in strict mode") && text.contains("narrow: n = 0"),
        "{text}"
    );
}

#[test]
fn a_choice_is_printed_and_read_back() {
    let choice = pick(17, Mode::Strict, &Table(vec![(17, "narrow")]));
    assert_eq!(
        choice.to_string(),
        "toy n=17,n_tok=2 strict: narrow (toy_kernel, canonical order), tuned for this shape, 7.50 us\n  \
         not wide: n = 17 is no multiple of 8\n  not split: not in the canonical order, and the mode is strict"
    );
    let json = serde_json::to_string(&choice).unwrap();
    assert_eq!(serde_json::from_str::<Choice>(&json).unwrap(), choice);
}
