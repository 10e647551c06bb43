//! One test: its node, its inputs, what ONNX expects; and how an answer is judged.

use crate::proto::{Attribute, Node, Raw};
use samebits::Cpu;
use samebits::tensor::{Dtype, Tensor};
use std::path::Path;

/// The unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Why a test is not applicable.
pub type Reason = String;

/// Of elements that a tensor of ours cannot hold.
pub const NO_TYPE: &str = "tensors hold f32, f16, bf16, i32 and u8";

/// How far an answer may be from what ONNX expects.
pub enum Bound {
    /// The same bits, or both NaN.
    Exact,
    /// Units in the last place of the expected value.
    Ulps(f64),
    /// For each element.
    Within(Vec<f64>),
}

/// What we compute for one output.
pub struct Answer {
    pub tensor: Tensor,
    pub bound: Bound,
}

/// One for each output that is asked for, in order.
pub type Answers = Result<Vec<Answer>, Reason>;

pub fn exact(tensor: Tensor) -> Answers {
    Ok(vec![Answer { tensor, bound: Bound::Exact }])
}

pub fn within(tensor: Tensor, bound: Vec<f64>) -> Answers {
    Ok(vec![Answer { tensor, bound: Bound::Within(bound) }])
}

pub fn ulps(tensor: Tensor, n: f64) -> Answers {
    Ok(vec![Answer { tensor, bound: Bound::Ulps(n) }])
}

/// One folder of ONNX's.
pub struct Case {
    pub cpu: Cpu,
    pub node: Node,
    inputs: Vec<Option<Raw>>,
    /// Those that are asked for.
    outputs: Vec<Raw>,
}

impl Case {
    pub fn read(cpu: Cpu, folder: &Path) -> Case {
        let node = Node::read(&folder.join("model.onnx"));
        let read = |kind: &str, i: usize| Raw::read(&folder.join(format!("test_data_set_0/{kind}_{i}.pb")));
        // An omitted operand has an empty name and no file.
        let mut count = 0;
        let input = |name: &String| {
            count += usize::from(!name.is_empty());
            (!name.is_empty()).then(|| read("input", count - 1))
        };
        let inputs = node.inputs.iter().map(input).collect();
        let asked = node.outputs.iter().filter(|name| !name.is_empty()).count();
        let outputs = (0..asked).map(|i| read("output", i)).collect();
        Case { cpu, node, inputs, outputs }
    }

    /// An operand, if it is there.
    pub fn raw(&self, i: usize) -> Option<&Raw> {
        self.inputs.get(i)?.as_ref()
    }

    /// An operand in a type of ours.
    pub fn tensor(&self, i: usize) -> Result<Tensor, Reason> {
        let raw = self.raw(i).expect("an operand that is not optional");
        raw.tensor().ok_or_else(|| NO_TYPE.into())
    }

    /// An operand to calculate with: floats.
    pub fn floats(&self, i: usize) -> Result<Tensor, Reason> {
        let raw = self.raw(i).expect("an operand that is not optional");
        match raw.type_name() {
            "float32" | "float64" | "float16" => Ok(raw.floats(self.cpu).expect("a type of ours")),
            _ => Err("arithmetic is done in f32, not in integers".into()),
        }
    }

    /// An optional operand to calculate with.
    pub fn maybe(&self, i: usize) -> Result<Option<Tensor>, Reason> {
        self.raw(i).map(|_| self.floats(i)).transpose()
    }

    /// An operand of integers; none where it is left out.
    pub fn ints(&self, i: usize) -> Vec<i64> {
        self.raw(i).map(Raw::ints).unwrap_or_default()
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.node.attributes.get(name) {
            Some(Attribute::Int(x)) => *x,
            None => default,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.node.attributes.get(name) {
            Some(Attribute::Float(x)) => *x,
            None => default,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn axis(&self, default: isize) -> isize {
        self.int("axis", default as i64) as isize
    }

    /// The greatest error of the answers, as a share of what they may have.
    ///
    /// # Errors
    /// Where an answer has another shape or type, or is out of its bound.
    pub fn judge(&self, answers: &[Answer]) -> Result<f64, String> {
        assert_eq!(answers.len(), self.outputs.len(), "outputs");
        let mut worst = 0.0f64;
        for (i, (answer, raw)) in answers.iter().zip(&self.outputs).enumerate() {
            let want = raw.tensor().ok_or_else(|| format!("an answer in {}", raw.type_name()))?;
            let got = &answer.tensor;
            if (got.dtype(), got.shape()) != (want.dtype(), want.shape()) {
                return Err(format!("output {i} is {got:?}, ONNX has {want:?}"));
            }
            for (j, (&g, &w)) in self.values(got).iter().zip(&self.values(&want)).enumerate() {
                let share = share(g, w, &answer.bound, j);
                if share > 1.0 {
                    return Err(format!(
                        "output {i}, element {j} is {g:e}, ONNX has {w:e}: {share:.2} of the bound"
                    ));
                }
                worst = worst.max(share);
            }
        }
        Ok(worst)
    }

    fn values(&self, t: &Tensor) -> Vec<f32> {
        t.to(self.cpu, Dtype::F32).to_vec()
    }
}

/// The error as a share of the bound.
fn share(got: f32, want: f32, bound: &Bound, element: usize) -> f64 {
    if got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan() {
        return 0.0;
    }
    let allowed = match bound {
        Bound::Exact => return f64::INFINITY,
        Bound::Ulps(n) => n * f64::from(want.abs().next_up() - want.abs()),
        Bound::Within(each) => each[element],
    };
    let error = (f64::from(got) - f64::from(want)).abs();
    if error.is_nan() { f64::INFINITY } else { error / allowed }
}

/// f(x) for each element, to state bounds with.
pub fn each(x: &Tensor, f: impl Fn(f64) -> f64) -> Vec<f64> {
    x.to_vec::<f32>().into_iter().map(|x| f(f64::from(x))).collect()
}
