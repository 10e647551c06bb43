//! AdamW with moments of eight bits.
//!
//! **Math.**  The moments of 256 neighbours are stored as codes c with one absmax a: m = SIGNED\[c\] · a,
//! v = UNSIGNED\[c\] · a. A step decodes them, does what AdamW does, and stores the new moments in the code whose
//! entry is nearest to x ÷ a, a the new largest |x| (at a midpoint the upper one).
//!
//! **Law.**  Clauses 3 and 5: an element meets only the absmax of its block. The weight moves by the moments *before*
//! they are rounded to codes, as bitsandbytes' does.
//!
//! ```text
//!   codes (n), absmax (n / 256) ─► 256 floats ─► AdamW ─► 256 floats ─► max |x| ─► codes, absmax
//!                                   └────────── 2 KiB on the stack ──────────┘
//! ```
//!
//! **Cost.**  10 bytes read and 6 written an element, and two look-ups of eight steps: these bind.
//!
//! **Error.**  |x − decoded| ≤ a / 128 (signed), a / 256 (unsigned), and 4 % of x above 10⁻⁶ a.
//!
//! bitsandbytes' CPU path chooses codes by a table of 65,536 bins and misses the nearest for 0.25 % of them; here
//! they are the nearest, as in its definition.
//!
//! **Reference.**  Dettmers et al. 2022, *8-bit optimizers via block-wise quantization*, [arXiv:2110.02861](https://arxiv.org/abs/2110.02861); `AdamW8bit` of bitsandbytes
//! 0.50.2.   **Next.**  [`crate::nf4`]: whole weights in four bits.

use super::{AdamW, Step};
use crate::nf4::{DECADES, DYNAMIC_MAP, block_count, boundary};
use crate::simd::{Floats, Simd, tree};
use crate::{Cpu, Kernel, LANES};

/// Elements that share an absmax.
pub const BLOCKSIZE: usize = 256;

/// The entries for numbers of either sign: bitsandbytes' signed dynamic map.
pub const SIGNED: [f32; 256] = DYNAMIC_MAP;

/// The entries for numbers that are not negative: bitsandbytes' unsigned dynamic map, ascending, bit for bit.
pub const UNSIGNED: [f32; 256] = {
    let mut map = [0.0; 256]; // entry 0 stays 0
    map[255] = 1.0;
    let mut at = 1;
    let mut e = 0;
    while e < DECADES.len() {
        let parts = 2 << e;
        let mut j = 0;
        while j < parts {
            map[at] = DECADES[e] * ((boundary(j, parts) + boundary(j + 1, parts)) / 2.0);
            at += 1;
            j += 1;
        }
        e += 1;
    }
    map
};

const fn midpoints(map: &[f32; 256]) -> [f32; 255] {
    let mut m = [0.0; 255];
    let mut i = 0;
    while i < 255 {
        m[i] = (map[i] + map[i + 1]) * 0.5;
        i += 1;
    }
    m
}

/// A map and the places halfway between its entries.
struct Map {
    entries: [f32; 256],
    midpoints: [f32; 255],
    /// The code of 0.
    zero: u8,
}

static SIGNED_MAP: Map = Map { entries: SIGNED, midpoints: midpoints(&SIGNED), zero: 127 };
static UNSIGNED_MAP: Map = Map { entries: UNSIGNED, midpoints: midpoints(&UNSIGNED), zero: 0 };

/// The code of zero in [`SIGNED`] and in [`UNSIGNED`]: what moments are at the start.
pub const ZERO_CODES: [u8; 2] = [127, 0];

/// The moments of one tensor: `n` codes each and one absmax for every 256.
///
/// ```
/// use samebits_kernels::optim::eight::{BLOCKSIZE, Moments, SIGNED, UNSIGNED, ZERO_CODES, adamw};
/// use samebits_kernels::{Cpu, optim::{AdamW, AdamWOptions}};
/// let options = AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 };
/// let (cpu, step, g) = (Cpu::detect(), AdamW::at(1, 0.5, &options, 1.0), [2.0; 300]);
/// let (mut m, mut v) = ([ZERO_CODES[0]; 300], [ZERO_CODES[1]; 300]);
/// let (mut m_absmax, mut v_absmax) = ([0.0; 300usize.div_ceil(BLOCKSIZE)], [0.0; 2]);
/// let moments = Moments { m: &mut m, v: &mut v, m_absmax: &mut m_absmax, v_absmax: &mut v_absmax };
/// let (mut p, mut q) = ([1.0; 300], [1.0; 300]);
/// adamw(cpu, step, &mut p, &g, moments);
/// step.run(cpu, &mut q, &g, &mut [0.0; 300], &mut [0.0; 300]);
/// assert_eq!(p, q); // the first step is that of moments in f32
/// assert_eq!((SIGNED[m[0] as usize], UNSIGNED[v[0] as usize]), (1.0, 1.0)); // all alike: each the largest
/// ```
#[derive(Debug)]
pub struct Moments<'a> {
    /// (n): of the first moment, by [`SIGNED`].
    pub m: &'a mut [u8],
    /// (n): of the second moment, by [`UNSIGNED`].
    pub v: &'a mut [u8],
    /// (n / 256, rounded up)
    pub m_absmax: &'a mut [f32],
    /// (n / 256, rounded up)
    pub v_absmax: &'a mut [f32],
}

/// One step of all weights and moments.
///
/// # Panics
/// Where the lengths do not fit.
pub fn adamw(cpu: Cpu, step: AdamW, p: &mut [f32], g: &[f32], moments: Moments<'_>) {
    let (n, blocks) = (p.len(), block_count(p.len(), BLOCKSIZE));
    let Moments { m, v, m_absmax, v_absmax } = &moments;
    assert!(
        [g.len(), m.len(), v.len()] == [n; 3] && [m_absmax.len(), v_absmax.len()] == [blocks; 2],
        "{n} weights need {n} gradients and codes and {blocks} absmax, not {}, {}, {}, {}, {}",
        g.len(),
        m.len(),
        v.len(),
        m_absmax.len(),
        v_absmax.len()
    );
    cpu.run(Eight { step, p, g, moments });
}

struct Eight<'a> {
    step: AdamW,
    p: &'a mut [f32],
    g: &'a [f32],
    moments: Moments<'a>,
}

impl Kernel for Eight<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Eight { step, p, g, moments: Moments { m, v, m_absmax, v_absmax } } = self;
        let blocks = p.chunks_mut(BLOCKSIZE).zip(g.chunks(BLOCKSIZE));
        let codes = m.chunks_mut(BLOCKSIZE).zip(v.chunks_mut(BLOCKSIZE));
        let absmax = m_absmax.iter_mut().zip(v_absmax);
        for (((p, g), (m_codes, v_codes)), (m_absmax, v_absmax)) in blocks.zip(codes).zip(absmax) {
            // Past a short last block there is +0, which stays +0 and raises no maximum.
            let (mut m, mut v) = ([[0.0; LANES]; BLOCKSIZE / LANES], [[0.0; LANES]; BLOCKSIZE / LANES]);
            decode(&SIGNED_MAP, m_codes, *m_absmax, m.as_flattened_mut());
            decode(&UNSIGNED_MAP, v_codes, *v_absmax, v.as_flattened_mut());
            let lines = p.chunks_mut(LANES).zip(g.chunks(LANES)).zip(m.iter_mut().zip(&mut v));
            for ((p, g), (m, v)) in lines {
                let state = [s.load(m), s.load(v)];
                let (new, [m_new, v_new]) = step.of(s, s.load_tail(p, 0.0), s.load_tail(g, 0.0), state);
                s.store_tail(p, new);
                s.store(m, m_new);
                s.store(v, v_new);
            }
            *m_absmax = largest(s, &m);
            *v_absmax = largest(s, &v);
            encode(&SIGNED_MAP, m.as_flattened(), *m_absmax, m_codes);
            encode(&UNSIGNED_MAP, v.as_flattened(), *v_absmax, v_codes);
        }
    }
}

/// max |x|: exact in any order.
#[inline(always)]
fn largest<S: Simd>(s: S, x: &[Floats]) -> f32 {
    let mut most = s.splat(0.0);
    for line in x {
        most = s.max(s.abs(s.load(line)), most);
    }
    tree(s.to_array(most), |a, b| if a > b { a } else { b })
}

// No word of the vocabulary is said below: one copy serves every tier.

#[inline(never)]
fn decode(map: &Map, codes: &[u8], absmax: f32, out: &mut [f32]) {
    for (x, &code) in out.iter_mut().zip(codes) {
        *x = map.entries[usize::from(code)] * absmax;
    }
}

#[inline(never)]
fn encode(map: &Map, x: &[f32], absmax: f32, codes: &mut [u8]) {
    for (code, &x) in codes.iter_mut().zip(x) {
        *code = if absmax > 0.0 { nearest(map, x / absmax) } else { map.zero };
    }
}

/// The number of midpoints that q reaches, by eight halvings.
fn nearest(map: &Map, q: f32) -> u8 {
    let mut code = 0;
    for d in [128, 64, 32, 16, 8, 4, 2, 1] {
        if q >= map.midpoints[code + d - 1] {
            code += d;
        }
    }
    code as u8
}
