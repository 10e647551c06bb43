//! Clause 8 in plain loops, and problems to put to it.
#![allow(dead_code)] // each test file uses its own part

use crate::array::{Array, Order};
use crate::common::{Cpu, Random, Tier};
use samebits::kernels::attention::{
    Additive, Align, Attention, BLOCK, Keep, Options, Pattern, Products, Sequences, Span, attention,
    fast_scratch_len, scratch_len_on_tiles,
};
use samebits::kernels::math;
use samebits::kernels::simd::{Simd, fma, tiles::Plain};
use samebits::kernels::view::HeadsRef;
use samebits::kernels::{Kernel, Line};

/// Tokens of the sequences, owned.
#[derive(Clone, Debug)]
pub enum Tokens {
    Whole,
    Padded { queries: Option<Vec<Span>>, keys: Vec<Span> },
    Packed { queries: Vec<usize>, keys: Vec<usize> },
}

/// A problem that owns its arrays.
#[derive(Clone, Debug)]
pub struct Problem {
    pub q: Array,
    pub k: Array,
    pub v: Array,
    pub out_order: Order,
    pub products: Products,
    pub scale: f32,
    pub pattern: Pattern,
    pub align: Align,
    pub tokens: Tokens,
    /// (batch or sequences, heads, Lq, Lk) with strides.
    pub keep: Option<(Vec<u8>, [usize; 4], [isize; 4])>,
    pub additive: Option<Array>,
    pub softcap: Option<f32>,
    pub alibi: Option<Vec<f32>>,
    pub sinks: Option<Vec<f32>>,
}

/// batch, heads, kv_heads, Lq, Lk, qk_dim, v_dim
pub type Sizes = [usize; 7];

impl std::fmt::Display for Problem {
    /// Everything but the numbers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}, ", self.k.form(), self.v.form())?;
        let shapes = (self.q.shape, self.k.shape, self.v.shape);
        let masks = (self.keep.is_some(), self.additive.is_some());
        let others = (self.softcap, self.alibi.is_some(), self.sinks.is_some());
        write!(f, "{shapes:?} {:?} {:?} {:?}, ", self.pattern, self.align, self.tokens)?;
        write!(f, "keep, additive {masks:?}, softcap, alibi, sinks {others:?}")
    }
}

impl Problem {
    /// Standard normal q, k, v; no options.
    pub fn new(seed: u64, [b, h, kv, lq, lk, d, v_dim]: Sizes) -> Problem {
        let mut random = Random::new(seed);
        let mut normal = || random.normal(1)[0];
        Problem {
            q: Array::new([b, h, lq, d], Order::Heads, &mut normal),
            k: Array::new([b, kv, lk, d], Order::Heads, &mut normal),
            v: Array::new([b, kv, lk, v_dim], Order::Heads, &mut normal),
            out_order: Order::Heads,
            products: Products::F32,
            scale: Options::for_head_dim(d).scale,
            pattern: Pattern::Full,
            align: Align::BottomRight,
            tokens: Tokens::Whole,
            keep: None,
            additive: None,
            softcap: None,
            alibi: None,
            sinks: None,
        }
    }

    pub fn out_shape(&self) -> [usize; 4] {
        let [b, h, lq, _] = self.q.shape;
        [b, h, lq, self.v.shape[3]]
    }

    pub fn options(&self) -> Options<'_> {
        let sequences = match &self.tokens {
            Tokens::Whole => Sequences::Whole,
            Tokens::Padded { queries, keys } => Sequences::Padded { queries: queries.as_deref(), keys },
            Tokens::Packed { queries, keys } => Sequences::Packed { queries, keys },
        };
        Options {
            products: self.products,
            scale: self.scale,
            pattern: self.pattern,
            align: self.align,
            sequences,
            keep: self
                .keep
                .as_ref()
                .map(|(x, shape, strides)| Keep(HeadsRef::strided(x, 0, *shape, *strides))),
            additive: self.additive.as_ref().map(|a| Additive(a.view())),
            softcap: self.softcap,
            alibi: self.alibi.as_deref(),
            sinks: self.sinks.as_deref(),
        }
    }

    /// Hands the problem, with an output full of NaN, to `f`; gives back (out, lse) in the order of the shape.
    pub fn with(&self, f: impl FnOnce(Attention<'_>)) -> (Vec<f32>, Vec<f32>) {
        let [b, h, lq, _] = self.out_shape();
        let mut out = Array::new(self.out_shape(), self.out_order, || f32::NAN);
        let mut lse = Array::new([b, h, lq, 1], self.out_order, || f32::NAN);
        f(Attention {
            q: self.q.view(),
            k: self.k.stored(),
            v: self.v.stored(),
            out: out.view_mut(),
            lse: Some(lse.view_mut()),
            options: self.options(),
        });
        (out.values(), lse.values())
    }

    /// The kernel's result.
    pub fn run(&self, cpu: Cpu) -> (Vec<f32>, Vec<f32>) {
        let lines = fast_scratch_len(cpu, self.products, self.q.shape[3], self.v.shape[3]);
        let mut scratch = vec![Line([f32::NAN; 16]); lines];
        self.with(|problem| attention(cpu, problem, &mut scratch))
    }

    /// With what a matrix unit would do.
    pub fn run_on_tiles(&self, cpu: Cpu) -> (Vec<f32>, Vec<f32>) {
        let mut scratch = vec![Line([f32::NAN; 16]); scratch_len_on_tiles(self.q.shape[3], self.v.shape[3])];
        self.with(|problem| problem.pieces().for_each(|piece| piece.run_on_tiles(cpu, Plain, &mut scratch)))
    }

    fn keep_at(&self, s: usize, h: usize, i: usize, j: usize) -> bool {
        self.keep.as_ref().is_none_or(|(data, _, strides)| {
            data[[s, h, i, j].iter().zip(strides).map(|(&i, s)| i * *s as usize).sum::<usize>()] != 0
        })
    }

    fn additive_at(&self, s: usize, h: usize, i: usize, j: usize) -> f32 {
        self.additive.as_ref().map_or(0.0, |a| a.get(s, h, i, j))
    }

    /// The score of a key that a row sees, and the slope of the softcap.
    pub fn score(&self, row: &Row, q: &[f32], key: &Key) -> (f32, f32) {
        let kv_head = row.head / (self.q.shape[1] / self.k.shape[1]);
        let total = self.product(q, &self.k.of_token(row.batch, kv_head, key.row));
        let (mut s, mut slope) = (total * self.scale, 1.0);
        if let Some(cap) = self.softcap {
            let t = tanh(s / cap);
            (s, slope) = (t * cap, fma(-t, t, 1.0));
        }
        if let Some(slopes) = &self.alibi {
            s = fma(slopes[row.head], key.distance, s);
        }
        (if self.additive.is_some() { s + key.bias } else { s }, slope)
    }

    /// a · b of at most some thousands, in the class of the problem.
    pub fn product(&self, a: &[f32], b: &[f32]) -> f32 {
        let mut total = 0.0f32;
        for (a, b) in a.chunks(256).zip(b.chunks(256)) {
            total += match self.products {
                Products::F32 => a.iter().zip(b).fold(0.0, |chain, (&a, &b)| fma(a, b, chain)),
                Products::Bf16 => in_pairs(a, b),
            };
        }
        total
    }

    /// Calls `f` with every row: its place in (batch, heads, Lq), and its keys: (row of k and v, the key's
    /// number in masks, its distance from the query) where it is seen.
    pub fn rows(&self, mut f: impl FnMut(Row)) {
        let ([b, h, lq, _], lk) = (self.q.shape, self.k.shape[2]);
        let sequences = if let Tokens::Packed { queries, .. } = &self.tokens { queries.len() - 1 } else { b };
        for s in 0..sequences {
            let all = Span { start: 0, len: lq };
            // q tokens of the sequence, those that are queries, its keys, and where masks start to count
            let (tokens, exist, keys, mask) = match &self.tokens {
                Tokens::Whole => (0..lq, all, 0..lk, 0),
                Tokens::Padded { queries, keys } => {
                    let exist = queries.as_ref().map_or(all, |q| q[s]);
                    let k = keys[s];
                    (0..lq, exist, k.start..k.start + k.len, k.start)
                }
                Tokens::Packed { queries, keys } => {
                    let tokens = queries[s]..queries[s + 1];
                    let exist = Span { start: 0, len: tokens.len() };
                    (tokens, exist, keys[s]..keys[s + 1], 0)
                }
            };
            let batch = if let Tokens::Packed { .. } = self.tokens { 0 } else { s };
            let first = match self.align {
                Align::BottomRight => keys.len() as isize - exist.len as isize,
                Align::TopLeft => 0,
                Align::Offset(o) => o,
            };
            for head in 0..h {
                for i in 0..tokens.len() {
                    let exists = i >= exist.start && i < exist.start + exist.len;
                    let position = first + i as isize - exist.start as isize;
                    let sees = |j: usize| {
                        let distance = j as isize - position;
                        let pattern = match self.pattern {
                            Pattern::Full => true,
                            Pattern::Causal => distance <= 0,
                            Pattern::Window(w) => distance <= 0 && -distance < w as isize,
                        };
                        exists
                            && pattern
                            && self.keep_at(s, head, i, mask + j)
                            && self.additive_at(s, head, i, mask + j) != f32::NEG_INFINITY
                    };
                    let key = |j: usize| Key {
                        row: keys.start + j,
                        distance: (j as isize - position) as f32,
                        bias: self.additive_at(s, head, i, mask + j),
                    };
                    let keys = (0..keys.len()).map(|j| sees(j).then(|| key(j))).collect();
                    let query = exists.then(|| i - exist.start);
                    f(Row { sequence: s, batch, head, token: tokens.start + i, query, keys });
                }
            }
        }
    }
}

/// A key that a row sees.
pub struct Key {
    pub row: usize,
    pub distance: f32,
    pub bias: f32,
}

/// A query and its keys.
pub struct Row {
    pub sequence: usize,
    pub batch: usize,
    pub head: usize,
    pub token: usize,
    /// Its number among the queries of its sequence; `None` for padding.
    pub query: Option<usize>,
    pub keys: Vec<Option<Key>>,
}

macro_rules! scalar {
    ($name:ident = $f:path) => {
        /// The scalar tier's word, which has a twin of its own.
        pub fn $name(x: f32) -> f32 {
            struct One(f32);
            impl Kernel for One {
                type Output = f32;
                #[inline(always)]
                fn run<S: Simd>(self, s: S) -> f32 {
                    s.to_array($f(s, s.splat(self.0)))[0]
                }
            }
            Cpu::with_tier(Tier::Scalar).expect("scalar").run(One(x))
        }
    };
}
scalar!(exp = math::exp::exp);
scalar!(ln = math::ln::ln);
scalar!(tanh = math::tanh::tanh);

fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// To bfloat16, nearest even, and back; less than 2⁻⁵⁰ to 0.
pub fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let near = f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
    match x {
        _ if x.is_nan() => x,
        _ if near.abs() < 2f32.powi(-50) => 0.0,
        _ => near,
    }
}

/// A block of clause 10. (Products of two bfloat16 are exact: an addition rounds as often as a fused one.)
fn in_pairs(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    for (a, b) in a.chunks(32).zip(b.chunks(32)) {
        let mut chains = [0.0f32; 2];
        for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
            chains[i % 2] += rounded(a) * rounded(b);
        }
        sum += chains[0] + chains[1];
    }
    sum
}

/// Sixteen chains and the tree.
fn sum(x: &[f32; BLOCK]) -> f32 {
    let mut chains = [0.0f32; 16];
    for (i, x) in x.iter().enumerate() {
        chains[i % 16] += x;
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            chains[i] += chains[i + half];
        }
    }
    chains[0]
}

/// Running (m, l, o) and whether a key was seen.
struct State {
    m: f32,
    l: f32,
    o: Vec<f32>,
    seen: bool,
}

impl State {
    /// One block: scores and values of 64 keys, `None` where masked or absent.
    fn block(&mut self, of: &Problem, scores: &[Option<f32>; BLOCK], value: impl Fn(usize, usize) -> f32) {
        let old = self.m;
        self.m = scores.iter().flatten().fold(old, |m, &s| max(s, m));
        let base = if self.m == f32::NEG_INFINITY { 0.0 } else { self.m };
        let alpha = if old == f32::NEG_INFINITY { 0.0 } else { exp(old - base) };
        let p: [f32; BLOCK] = std::array::from_fn(|j| scores[j].map_or(0.0, |s| exp(s - base)));
        self.l = self.l * alpha + sum(&p);
        for (c, o) in self.o.iter_mut().enumerate() {
            let v = std::array::from_fn::<_, BLOCK, _>(|j| scores[j].map_or(0.0, |_| value(j, c)));
            *o = fma(*o, alpha, of.product(&p, &v));
        }
    }
}

/// (out, lse) of `problem`, in the order of its shape.
pub fn twin(problem: &Problem) -> (Vec<f32>, Vec<f32>) {
    let [b, h, lq, v_dim] = problem.out_shape();
    let (mut out, mut lse) = (vec![f32::NAN; b * h * lq * v_dim], vec![f32::NAN; b * h * lq]);
    let kv_heads = problem.k.shape[1];
    problem.rows(|row| {
        let (batch, kv_head) = (row.batch, row.head / (h / kv_heads));
        let q = problem.q.of_token(batch, row.head, row.token);
        let score = |key: &Key| problem.score(&row, &q, key).0;
        let mut state = State { m: f32::NEG_INFINITY, l: 0.0, o: vec![0.0; v_dim], seen: false };
        for keys in row.keys.chunks(BLOCK) {
            if keys.iter().any(Option::is_some) {
                let scores = std::array::from_fn(|j| keys.get(j).and_then(Option::as_ref).map(score));
                let value = |j: usize, c: usize| {
                    problem.v.get(batch, kv_head, keys[j].as_ref().expect("seen").row, c)
                };
                state.block(problem, &scores, value);
                state.seen = true;
            }
        }
        if let Some(sinks) = &problem.sinks {
            state.block(problem, &std::array::from_fn(|j| (j == 0).then_some(sinks[row.head])), |_, _| 0.0);
        }
        let at = (batch * h + row.head) * lq + row.token;
        for (c, o) in state.o.iter().enumerate() {
            out[at * v_dim + c] = if state.seen { o / state.l } else { 0.0 };
        }
        lse[at] = state.m + ln(state.l);
    });
    (out, lse)
}
