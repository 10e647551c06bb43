//! Attention: the fused kernel, and the scores that ONNX returns by the way without fusion.

use crate::judge::{Answer, Answers, Bound, Case, Reason, U, each};
use samebits::kernels::Line;
use samebits::kernels::attention::{
    Additive, Align, Attention, Keep, Options, Pattern, Sequences, Span, attention, scratch_len,
};
use samebits::kernels::elementwise::Unary;
use samebits::kernels::view::{HeadsMut, HeadsRef};
use samebits::tensor::{Dtype, KeepDim, Tensor};

/// `None` for an operator of another kind.
pub fn run(case: &Case) -> Option<Answers> {
    match case.node.op.as_str() {
        "Attention" => Some(attend(case)),
        "FlexAttention"
            if ["score_mod", "prob_mod"].iter().any(|a| case.node.attributes.contains_key(*a)) =>
        {
            Some(Err("a modification given as a graph; ours have names (softcap, bias, ALiBi)".into()))
        }
        "FlexAttention" => Some(attend(case)),
        _ => None,
    }
}

/// The operands in f32, heads apart: (batch, heads, tokens, dim).
struct Operands {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// (batch, heads, Lq, Lk), −∞ hides.
    additive: Option<Tensor>,
    /// (batch, heads, Lq, Lk), 0 hides.
    keep: Option<Tensor>,
    keys: Option<Vec<Span>>,
    scale: f32,
    softcap: Option<f32>,
    pattern: Pattern,
    align: Align,
}

/// (batch, tokens, heads · dim) with its heads apart.
fn heads(x: Tensor, heads: i64) -> Tensor {
    match *x.shape() {
        [b, tokens, hidden] => {
            let heads = heads as usize;
            x.reshape(&[b, tokens, heads, hidden / heads]).permute(&[0, 2, 1, 3]).contiguous()
        }
        _ => x,
    }
}

impl Operands {
    fn new(case: &Case) -> Result<Operands, Reason> {
        let (q_heads, kv_heads) = (case.int("q_num_heads", 0), case.int("kv_num_heads", 0));
        let q = heads(case.floats(0)?, q_heads);
        let (mut k, mut v) = (heads(case.floats(1)?, kv_heads), heads(case.floats(2)?, kv_heads));
        let (past_k, past_v) = (case.maybe(4)?, case.maybe(5)?);
        let mut align = Align::TopLeft;
        if let (Some(past_k), Some(past_v)) = (past_k, past_v) {
            align = Align::Offset(past_k.shape()[2] as isize);
            (k, v) = (Tensor::concat(&[&past_k, &k], 2), Tensor::concat(&[&past_v, &v], 2));
        }
        let lengths = case.raw(6).map(|_| case.ints(6));
        if lengths.is_some() {
            align = Align::BottomRight; // the queries are the last of what is not padding
        }
        let keys = lengths.map(|all| all.iter().map(|&n| Span { start: 0, len: n as usize }).collect());
        let scale = case.float("scale", Options::for_head_dim(q.shape()[3]).scale);
        let softcap = Some(case.float("softcap", 0.0)).filter(|&c| c > 0.0);
        let pattern = if case.int("is_causal", 0) == 1 { Pattern::Causal } else { Pattern::Full };
        let mut all = Operands { q, k, v, additive: None, keep: None, keys, scale, softcap, pattern, align };
        all.mask(case)?;
        Ok(all)
    }

    /// (batch, heads, Lq, Lk) of the scores.
    fn shape(&self) -> [usize; 4] {
        let (q, k) = (self.q.shape(), self.k.shape());
        [q[0], q[1], q[2], k[2]]
    }

    /// ONNX's mask: of booleans or of numbers; hiding what it does not reach.
    fn mask(&mut self, case: &Case) -> Result<(), Reason> {
        let Some(raw) = case.raw(3) else { return Ok(()) };
        let shape = self.shape();
        if raw.type_name() == "bool" {
            self.keep = Some(case.tensor(3)?.broadcast_to(&shape).contiguous());
            return Ok(());
        }
        let mut mask = case.floats(3)?;
        let mut rest = mask.shape().to_vec();
        let reach = rest.last_mut().expect("a mask has axes");
        if *reach < shape[3] {
            *reach = shape[3] - *reach;
            mask = Tensor::concat(&[&mask, &Tensor::full(f32::NEG_INFINITY, &rest)], -1);
        }
        self.additive = Some(mask.broadcast_to(&shape).contiguous());
        Ok(())
    }

    /// The fused kernel, with `v` as the values.
    fn attend(&self, case: &Case, v: &Tensor) -> Tensor {
        let view = |t: &'_ Tensor| -> [usize; 4] { t.shape().try_into().expect("four axes") };
        let (q, k, v) = (self.q.contiguous(), self.k.contiguous(), v.contiguous());
        let (dim, v_dim) = (q.shape()[3], v.shape()[3]);
        let mut out = Tensor::zeros(Dtype::F32, &[q.shape()[0], q.shape()[1], q.shape()[2], v_dim]);
        let shape = view(&out);
        let mut options = Options {
            pattern: self.pattern,
            align: self.align,
            softcap: self.softcap,
            ..Options::new(self.scale)
        };
        if let Some(keys) = &self.keys {
            options.sequences = Sequences::Padded { queries: None, keys };
        }
        let floats = |t: &'_ Tensor| t.as_slice::<f32>().expect("contiguous").to_vec();
        let (q_data, k_data, v_data) = (floats(&q), floats(&k), floats(&v));
        options.additive = self
            .additive
            .as_ref()
            .map(|m| Additive(HeadsRef::new(m.as_slice().expect("contiguous"), view(m))));
        options.keep =
            self.keep.as_ref().map(|m| Keep(HeadsRef::new(m.as_slice().expect("contiguous"), view(m))));
        let problem = Attention {
            q: HeadsRef::new(&q_data, view(&q)),
            k: HeadsRef::new(&k_data, view(&k)).into(),
            v: HeadsRef::new(&v_data, view(&v)).into(),
            out: HeadsMut::new(out.make_mut(), shape),
            lse: None,
            options,
        };
        attention(case.cpu, problem, &mut vec![Line::ZERO; scratch_len(dim, v_dim)]);
        out
    }

    /// The heads of k, one for each of q.
    fn keys_a_head(&self) -> Tensor {
        let [b, heads, _, keys] = self.shape();
        let (kv, dim) = (self.k.shape()[1], self.k.shape()[3]);
        let groups = self.k.reshape(&[b, kv, 1, keys, dim]).broadcast_to(&[b, kv, heads / kv, keys, dim]);
        groups.reshape(&[b, heads, keys, dim])
    }

    /// scale · q kᵀ without fusion; the sizes of what is added in it.
    fn scores(&self, case: &Case) -> (Tensor, Tensor) {
        let (cpu, k) = (case.cpu, self.keys_a_head());
        let scale = Tensor::scalar(self.scale);
        let abs = |x: &Tensor| x.unary(cpu, Unary::Abs);
        let scores = |q: &Tensor, k: &Tensor| q.matmul(cpu, &k.t()).mul(cpu, &scale);
        (scores(&self.q, &k), scores(&abs(&self.q), &abs(&k)))
    }
}

fn attend(case: &Case) -> Answers {
    let o = Operands::new(case)?;
    let cpu = case.cpu;
    // fp16: ONNX calculates in it, so that its u is the unit of what may differ.
    let dtype = case.tensor(0)?.dtype();
    let u = if dtype == Dtype::F16 { 2f64.powi(-11) } else { U };
    let (scores, sizes) = o.scores(case);
    let gauge = sizes.max(cpu, &[-1], KeepDim::Yes);
    // The header's bound: 4u (1 + max scale Σ|q||k|) Σ p|v|.
    let bounded = |v: &Tensor| {
        let factor = gauge.add(cpu, &Tensor::scalar(1.0)).mul(cpu, &Tensor::scalar(4.0 * u as f32));
        o.attend(case, &v.unary(cpu, Unary::Abs)).mul(cpu, &factor)
    };
    let asked = |i: usize| case.node.outputs.get(i).is_some_and(|name| !name.is_empty());
    let stored = |t: Tensor| t.to(cpu, dtype);
    let joined = case.raw(0).is_some_and(|q| q.shape.len() == 3);
    // (batch, heads, tokens, dim), or with the heads together as they came.
    let placed = |t: Tensor| match *t.shape() {
        [b, h, tokens, dim] if joined => t.permute(&[0, 2, 1, 3]).reshape(&[b, tokens, h * dim]),
        _ => t,
    };
    let bound = Bound::Within(each(&placed(bounded(&o.v)), |x| x));
    let mut answers = vec![Answer { tensor: stored(placed(o.attend(case, &o.v))), bound }];
    for (i, present) in [(1, &o.k), (2, &o.v)] {
        if asked(i) {
            answers.push(Answer { tensor: stored(present.clone()), bound: Bound::Exact });
        }
    }
    if asked(3) {
        let Answer { tensor, bound } = stage(case, &o, (scores, sizes), bounded);
        answers.push(Answer { tensor: stored(tensor), bound });
    }
    Ok(answers)
}

/// What ONNX shows of the way: the scores scaled (0), capped (1), biased (2); the probabilities (3), which are
/// what attention makes of values that are the unit matrix.
fn stage(
    case: &Case,
    o: &Operands,
    (mut scores, sizes): (Tensor, Tensor),
    bounded: impl Fn(&Tensor) -> Tensor,
) -> Answer {
    let (cpu, mode) = (case.cpu, case.int("qk_matmul_output_mode", 0));
    if mode == 3 {
        let (b, kv, keys) = (o.k.shape()[0], o.k.shape()[1], o.k.shape()[2]);
        let unit: Vec<f32> = (0..keys * keys).map(|i| f32::from(i % (keys + 1) == 0)).collect();
        let unit = Tensor::from_f32(&unit, &[keys, keys]).broadcast_to(&[b, kv, keys, keys]);
        let bound = Bound::Within(each(&bounded(&unit), |x| x));
        return Answer { tensor: o.attend(case, &unit), bound };
    }
    if let (1.., Some(cap)) = (mode, o.softcap) {
        let cap = Tensor::scalar(cap);
        scores = scores.div(cpu, &cap).unary(cpu, Unary::Tanh).mul(cpu, &cap);
    }
    let mut added = Tensor::scalar(0.0);
    if let (2.., Some(mask)) = (mode, &o.additive) {
        scores = scores.add(cpu, mask);
        added = mask.unary(cpu, Unary::Abs);
    }
    // The chain of the product, the scale; the cap's division, tanh and product; the sum.
    let steps = (o.q.shape()[3] + 3 + 1 + 5 + 1) as f64;
    let size = sizes.add(cpu, &added);
    Answer { tensor: scores, bound: Bound::Within(each(&size, |s| steps * U * s)) }
}
