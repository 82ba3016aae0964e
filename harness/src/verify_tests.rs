//! What patterns mean, and what of a large case runs on the simulator.

use super::*;

#[test]
fn a_large_case_runs_some_configs_and_the_next_one_others() {
    let all = || ["plain", "a", "b", "c", "d"].map(String::from).to_vec();
    let kept = |index, most| {
        let mut configs = all();
        in_turn(&mut configs, index, most);
        configs.join(" ")
    };
    assert_eq!(kept(0, 9), "plain a b c d");
    assert_eq!(
        [0, 1, 2].map(|index| kept(index, 2)),
        ["plain a b", "plain c d", "plain a b"]
    );
    assert_eq!([0, 1].map(|index| kept(index, 0)), ["plain a", "plain b"]);
}

#[test]
fn an_operation_is_meant_with_one_dtype_or_all() {
    let meant = |globs: &[&str]| -> Vec<(String, Vec<&'static str>)> {
        let globs: Vec<String> = globs.iter().map(|g| g.to_string()).collect();
        let chosen = choose(&globs).unwrap().into_iter();
        chosen.map(|c| (c.op.name().to_string(), c.dtypes)).collect()
    };
    assert_eq!(meant(&["gemm"]), [("gemm".to_string(), vec![])]);
    assert_eq!(meant(&["gemm_f16"]), [("gemm".to_string(), vec!["f16"])]);
    assert_eq!(meant(&["gemm", "gemm_f16"]), [("gemm".to_string(), vec![])]);
    assert_eq!(meant(&["gemm_*"])[0].1, ["bf16", "f16"]);
    // A name of an operation is not taken for a dtype of another one.
    assert_eq!(meant(&["to_bf16"]), [("to_bf16".to_string(), vec![])]);
    assert!(choose(&["gemm_f32".to_string()]).is_err());
}
