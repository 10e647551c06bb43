//! Criterion benches, named kernel/shape/tier; run once as tests by `cargo test --benches`.

use criterion::Criterion;

fn main() {
    let c = Criterion::default().configure_from_args();
    // one line a kernel family: `family::benches(&mut c);`
    c.final_summary();
}
