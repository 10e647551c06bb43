//! Problems drawn at random, for attention and its gradients.

use crate::array::{Array, ORDERS, Order};
use crate::common::Random;
use crate::twin::{Problem, Tokens};
use samebits::kernels::attention::{Align, Pattern, Span};

/// A problem drawn at random: shapes, layouts and every option.
pub fn draw(seed: u64) -> Problem {
    let mut r = Random::new(1000 + seed);
    let kv = 1 + r.below(3);
    let dims = [1, 3, 7, 8, 16, 21, 33, 64];
    let sizes = [
        1 + r.below(2),
        kv * [1, 1, 2, 3, 5, 17][r.below(6)],
        kv,
        [1, 1, 2, 5, 17, 50][r.below(6)],
        r.below(200),
        dims[r.below(8)],
        dims[r.below(8)],
    ];
    let [b, h, kv, lq, lk, d, v_dim] = sizes;
    let mut p = Problem::new(seed, sizes);
    let mut order = || ORDERS[r.below(ORDERS.len())];
    let mut random = Random::new(2000 + seed);
    let mut normal = || 2.0 * random.normal(1)[0];
    p.q = Array::new([b, h, lq, d], order(), &mut normal);
    p.k = Array::new([b, kv, lk, d], order(), &mut normal);
    p.v = Array::new([b, kv, lk, v_dim], order(), &mut normal);
    p.out_order = order();
    if seed.is_multiple_of(5) {
        // p·v underflows to −0 and to subnormals
        p.v.data.iter_mut().for_each(|v| *v *= 1e-44);
    }
    let mask_order = order();
    p.pattern = [Pattern::Full, Pattern::Causal, Pattern::Window(1 + r.below(100))][r.below(3)];
    p.align = [Align::BottomRight, Align::TopLeft, Align::Offset(r.below(90) as isize - 20)][r.below(3)];
    let mut span = |n: usize| {
        let start = r.below(n + 1);
        Span { start, len: r.below(n - start + 1) }
    };
    match seed % 4 {
        0 => {
            let queries = (seed.is_multiple_of(8)).then(|| (0..b).map(|_| span(lq)).collect());
            p.tokens = Tokens::Padded { queries, keys: (0..b).map(|_| span(lk)).collect() };
        }
        1 if b == 1 => {
            let mut ends = |n: usize| {
                let mut ends = vec![0, r.below(n + 1), r.below(n + 1), n];
                ends.sort_unstable();
                ends
            };
            p.tokens = Tokens::Packed { queries: ends(lq), keys: ends(lk) };
        }
        _ => {}
    }
    draw_biases(&mut r, &mut p, mask_order);
    p
}

/// The masks and biases of a problem drawn at random.
fn draw_biases(r: &mut Random, p: &mut Problem, mask_order: Order) {
    let ([b, h, lq, _], lk) = (p.q.shape, p.k.shape[2]);
    let rows = if matches!(p.tokens, Tokens::Packed { .. }) { 3 } else { b };
    if r.below(3) == 0 {
        let odds = [2, 10, 300][r.below(3)];
        let bytes = (0..rows * h * lq * lk).map(|_| (r.below(odds) != 0) as u8).collect();
        let mut strides = [h * lq * lk, lq * lk, lk, 1].map(|s| s as isize);
        strides[r.below(3)] = 0;
        p.keep = Some((bytes, [rows, h, lq, lk], strides));
    }
    if r.below(3) == 0 {
        let mut bias = || if r.below(4) == 0 { f32::NEG_INFINITY } else { r.unit() };
        p.additive = Some(Array::new([rows, h, lq, lk], mask_order, &mut bias));
    }
    p.softcap = (r.below(4) == 0).then_some(1.5);
    p.alibi = (r.below(4) == 0).then(|| (0..h).map(|h| 1.0 / (h + 2) as f32).collect());
    p.sinks = (r.below(4) == 0).then(|| r.normal(h));
}
