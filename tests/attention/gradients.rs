//! Clause 9 for attention in plain loops.

use crate::array::Array;
use crate::common::chains;
use crate::twin::{Key, Problem, Row, exp};
use samebits::kernels::simd::fma;

/// The gradients, each in the order of its shape.
pub struct Gradients {
    pub dq: Vec<f32>,
    pub dk: Vec<f32>,
    pub dv: Vec<f32>,
    pub delta: Vec<f32>,
    pub dsinks: Vec<f32>,
}

/// A row with what its pairs weigh.
struct Weighed {
    row: Row,
    /// p and scale · dS of each key, where it is seen.
    pairs: Vec<Option<[f32; 2]>>,
}

/// Saved results of the forward pass, and dO.
pub struct Saved<'a> {
    pub out: &'a Array,
    pub lse: &'a Array,
    pub d_out: &'a Array,
}

/// Σ of products by clause 2, padded with zeros.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let padded = |x: &[f32]| {
        let mut x = x.to_vec();
        x.resize(x.len().next_multiple_of(16), 0.0);
        x
    };
    chains::dot(&padded(a), &padded(b))
}

fn weigh(p: &Problem, saved: &Saved<'_>, row: Row, delta: f32) -> Weighed {
    let (b, h, t) = (row.batch, row.head, row.token);
    let kv_head = h / (p.q.shape[1] / p.k.shape[1]);
    let q = p.q.of_token(b, h, t);
    let (d_out, lse) = (saved.d_out.of_token(b, h, t), saved.lse.get(b, h, t, 0));
    let pair = |key: &Key| {
        let (s, slope) = p.score(&row, &q, key);
        let v = p.v.of_token(b, kv_head, key.row);
        let mut dp = 0.0f32;
        for (g, v) in d_out.chunks(256).zip(v.chunks(256)) {
            dp += g.iter().zip(v).fold(0.0, |chain, (&g, &v)| fma(g, v, chain));
        }
        let weight = exp(s - lse);
        let mut ds = weight * (dp - delta);
        if p.softcap.is_some() {
            ds *= slope;
        }
        [weight, ds * p.scale]
    };
    let pairs = row.keys.iter().map(|key| key.as_ref().map(pair)).collect();
    Weighed { row, pairs }
}

/// sum + the chain over 64 pairs, where one of them is seen; others are +0 · +0.
fn add_block(sum: f32, pairs: impl Iterator<Item = Option<(f32, f32)>> + Clone) -> f32 {
    if pairs.clone().all(|pair| pair.is_none()) {
        return sum;
    }
    let mut chain = 0.0;
    for i in pairs.map(Some).chain(std::iter::repeat(None)).take(64) {
        let (weight, x) = i.flatten().unwrap_or((0.0, 0.0));
        chain = fma(weight, x, chain);
    }
    sum + chain
}

pub fn gradients(p: &Problem, saved: &Saved<'_>) -> Gradients {
    let ([b, h, lq, d], [_, kv, lk, _], v_dim) = (p.q.shape, p.k.shape, p.v.shape[3]);
    let mut to = Gradients {
        dq: vec![0.0; b * h * lq * d],
        dk: vec![0.0; b * kv * lk * d],
        dv: vec![0.0; b * kv * lk * v_dim],
        delta: vec![0.0; b * h * lq],
        dsinks: vec![0.0; h],
    };
    let mut rows: Vec<Weighed> = Vec::new();
    p.rows(|row| {
        if row.query.is_some() {
            let (out, d_out) = (
                saved.out.of_token(row.batch, row.head, row.token),
                saved.d_out.of_token(row.batch, row.head, row.token),
            );
            let delta = dot(&d_out, &out);
            to.delta[(row.batch * h + row.head) * lq + row.token] = delta;
            rows.push(weigh(p, saved, row, delta));
        }
    });
    for Weighed { row, pairs } in &rows {
        let at = ((row.batch * h + row.head) * lq + row.token) * d;
        let kv_head = row.head / (h / kv);
        for c in 0..d {
            for (pairs, keys) in pairs.chunks(64).zip(row.keys.chunks(64)) {
                let pair = pairs.iter().zip(keys).map(|(pair, key)| {
                    let key = key.as_ref()?;
                    Some((pair.as_ref()?[1], p.k.get(row.batch, kv_head, key.row, c)))
                });
                to.dq[at + c] = add_block(to.dq[at + c], pair);
            }
        }
    }
    let sequences = rows.iter().map(|w| w.row.sequence + 1).max().unwrap_or(0);
    for sequence in 0..sequences {
        for kv_head in 0..kv {
            let heads: Vec<Vec<&Weighed>> = (kv_head * (h / kv)..(kv_head + 1) * (h / kv))
                .map(|head| {
                    rows.iter().filter(|w| w.row.sequence == sequence && w.row.head == head).collect()
                })
                .collect();
            key_gradients(p, saved, &heads, kv_head, &mut to);
        }
    }
    if let Some(sinks) = &p.sinks {
        for (head, sink) in sinks.iter().enumerate() {
            let mut total = 0.0;
            for b in 0..b {
                let term = |t: usize| {
                    let delta = to.delta[(b * h + head) * lq + t];
                    if delta == 0.0 {
                        0.0
                    } else {
                        f64::from(exp(sink - saved.lse.get(b, head, t, 0)) * delta)
                    }
                };
                total +=
                    chains::sum_f64((0..lq.next_multiple_of(16)).map(|t| if t < lq { term(t) } else { 0.0 }));
            }
            to.dsinks[head] += -(total as f32);
        }
    }
    to
}

/// dK and dV of one key head: the rows of each head of its group, in order.
fn key_gradients(
    p: &Problem,
    saved: &Saved<'_>,
    heads: &[Vec<&Weighed>],
    kv_head: usize,
    to: &mut Gradients,
) {
    let ([_, _, _, d], [_, kv, lk, _], v_dim) = (p.q.shape, p.k.shape, p.v.shape[3]);
    let keys = heads.iter().flatten().map(|w| w.row.keys.len()).max().unwrap_or(0);
    for j in 0..keys {
        let Some((w, key)) = heads.iter().flatten().find_map(|w| w.row.keys[j].as_ref().map(|key| (w, key)))
        else {
            continue;
        };
        let at = (w.row.batch * kv + kv_head) * lk + key.row;
        for (i, n, x, out) in [(1, d, &p.q, &mut to.dk), (0, v_dim, saved.d_out, &mut to.dv)] {
            for c in 0..n {
                let mut total = 0.0f32;
                for rows in heads {
                    let sum = rows.chunks(64).fold(0.0, |sum, rows| {
                        let pair = rows.iter().map(|w| {
                            let x = x.get(w.row.batch, w.row.head, w.row.token, c);
                            Some((w.pairs[j].as_ref()?[i], x))
                        });
                        add_block(sum, pair)
                    });
                    total += sum;
                }
                out[at * n + c] = total;
            }
        }
    }
}
