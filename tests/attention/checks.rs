//! What attention of floats and of bfloat16 are both held to.

use crate::array::{Array, ORDERS};
use crate::common::{Cpu, assert_same, cpus, slow};
use crate::twin::{Problem, twin};
use samebits::kernels::attention::Products;

/// On every tier the bits of the definition.
#[track_caller]
pub fn check(problem: &Problem, what: impl std::fmt::Display) {
    let want = twin(problem);
    for cpu in cpus() {
        let got = problem.run(cpu);
        assert_same(&got.0, &want.0, format!("{what} on {}", cpu.tier()));
        assert_same(&got.1, &want.1, format!("{what} on {}, log-sum-exp", cpu.tier()));
    }
    if problem.products == Products::Bf16 {
        let got = problem.run_on_tiles(Cpu::detect());
        assert_same(&got.0, &want.0, format!("{what} on tiles"));
        assert_same(&got.1, &want.1, format!("{what} on tiles, log-sum-exp"));
    }
}

/// One query over the keys so far, as decoding goes, has the bits of its row in the whole.
#[track_caller]
pub fn check_decode(whole: &Problem) {
    let ([_, h, lq, d], lk, v_dim) = (whole.q.shape, whole.k.shape[2], whole.v.shape[3]);
    for cpu in cpus() {
        let all = whole.run(cpu);
        for i in (0..lq).step_by(if slow() { 7 } else { 1 }) {
            let (mut one, so_far) = (whole.clone(), lk - lq + i + 1);
            one.q = Array::new([1, h, 1, d], ORDERS[1], || 0.0);
            (0..h * d).for_each(|x| one.q.set(0, x / d, 0, x % d, whole.q.get(0, x / d, i, x % d)));
            one.k = whole.k.tokens(0, so_far);
            one.v = whole.v.tokens(0, so_far);
            let got = one.run(cpu);
            for head in 0..h {
                let at = head * lq + i;
                let what = format!("{whole}, query {i}, head {head}, {}", cpu.tier());
                let want = &all.0[at * v_dim..(at + 1) * v_dim];
                assert_same(&got.0[head * v_dim..(head + 1) * v_dim], want, &what);
                assert_same(&got.1[head..=head], &all.1[at..=at], what);
            }
        }
    }
}

/// NaN and infinity in key `at` of a causal problem, as many queries as keys, change nothing in the rows before it; those
/// from it on are NaN.
#[track_caller]
pub fn check_poisoned(p: &Problem, at: usize) {
    let before = at * p.v.shape[3];
    let clean = p.run(cpus()[0]).0;
    for poison in [f32::NAN, f32::INFINITY] {
        let mut p = p.clone();
        p.v.set(0, 0, at, 4, poison);
        p.k.set(0, 0, at, 3, f32::NAN);
        for cpu in cpus() {
            let got = p.run(cpu).0;
            assert_same(&got[..before], &clean[..before], format!("rows before {at} on {}", cpu.tier()));
            assert!(got[before..].iter().all(|x| x.is_nan()), "rows from {at} on, {}", cpu.tier());
        }
    }
}
