//! Criterion benches, named kernel/shape/tier; run once as tests by `cargo test --benches`.

use criterion::Criterion;

mod activation;
mod attention;
mod gemm;
mod ggml;
mod int8;
mod math;
mod nf4;
mod optim;
mod pool;
mod rope;
mod rows;
mod search;

fn main() {
    let mut c = Criterion::default().configure_from_args();
    // one line a kernel family: `family::benches(&mut c);`
    gemm::benches(&mut c);
    attention::benches(&mut c);
    nf4::benches(&mut c);
    optim::benches(&mut c);
    ggml::benches(&mut c);
    int8::benches(&mut c);
    pool::benches(&mut c);
    activation::benches(&mut c);
    rows::benches(&mut c);
    search::benches(&mut c);
    math::benches(&mut c);
    rope::benches(&mut c);
    c.final_summary();
}
