//! `samebits bench --weights`: the matrices of a model's file as cases, what its layers cost.
//!
//! Matrices of one shape and type form a case; a call goes through all of them in turn, as a forward pass
//! does, so that they come from the cache or the memory that holds them all.

use super::values::{decode, is_weight};
use super::{Console, Failure, Progress};
use crate::Error;
use crate::bench::memory::filled;
use crate::bench::rows::{Body, Case, Inputs, Weight, Work, gemm, nf4};
use crate::bench::{Session, shape};
use crate::io::safetensors::{Checkpoint, Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Rows of the other matrix in products: tokens of a prompt.
const TOKENS: usize = 128;
/// Weights of a case, at most: larger models are measured on their first matrices.
const MOST: usize = 1 << 28;

/// Matrices (n, k) of a shape and type.
struct Group {
    n: usize,
    k: usize,
    dtype: Dtype,
    names: Vec<String>,
}

/// The floating-point matrices of the model at `path`, by shape, largest share of the model first.
///
/// # Errors
/// Where the file cannot be read or holds no such matrix.
fn groups(model: &Checkpoint, path: &Path) -> Result<Vec<Group>, Error> {
    let mut groups: BTreeMap<(usize, usize, Dtype), Vec<String>> = BTreeMap::new();
    for t in model.tensors() {
        if let &[n, k] = t.shape
            && n > 1
            && k > 1
            && is_weight(t.dtype)
        {
            groups.entry((n, k, t.dtype)).or_default().push(t.name.to_owned());
        }
    }
    if groups.is_empty() {
        return Err(Error::invalid("no matrix of F32, F16 or BF16").in_file(path.display()));
    }
    let group = |((n, k, dtype), mut names): ((usize, usize, Dtype), Vec<String>)| {
        names.truncate((MOST / (n * k)).max(1));
        Group { n, k, dtype, names }
    };
    let mut groups: Vec<Group> = groups.into_iter().map(group).collect();
    groups.sort_by_key(|g| std::cmp::Reverse(g.n * g.k * g.names.len()));
    Ok(groups)
}

/// Measures every use of every group.
pub fn measure(
    path: &Path,
    session: &mut Session<'_>,
    progress: &mut Progress,
    console: &Console,
) -> Result<(), Failure> {
    let model = Checkpoint::open(path)?;
    for group in groups(&model, path)? {
        for (name, work, body) in USES {
            progress.show(format_args!("{name} {}", group.shape()));
            let mut inputs = session.inputs();
            let bodies = group.bodies(*body, &model, &mut inputs).map_err(|e| e.in_file(path.display()))?;
            let work = work(group.n, group.k).times(bodies.len());
            session.measure_case(name, &group.shape(), Case::of(work, Body::all(bodies)));
            console.check_interrupt()?;
        }
    }
    Ok(())
}

/// A way to use a weight: its name, the work, and the body over its values.
type Use = (&'static str, fn(usize, usize) -> Work, fn(&Weight, &mut Inputs) -> Body);

const USES: &[Use] = &[
    ("gemm_packed", |n, k| gemm::product(1, &[TOKENS, n, k]), |w, i| gemm::product_of(TOKENS, w, i)),
    ("gemv", |n, k| gemm::vector(&[n, k], 4), gemm::vector_of),
    ("nf4_gemm", |n, k| nf4::product_work(TOKENS, n, k), |w, i| nf4::product_of(TOKENS, w, i)),
    ("nf4_gemv", |n, k| nf4::product_work(1, n, k), nf4::vector_of),
    ("nf4_quantize", nf4::quantize_work, nf4::quantize_of),
    ("nf4_dequantize", nf4::dequantize_work, nf4::dequantize_of),
];

impl Group {
    /// `1536x384 × 6`
    fn shape(&self) -> String {
        format!("{} × {}", shape(&[self.n, self.k]), self.names.len())
    }

    fn bodies(
        &self,
        body: fn(&Weight, &mut Inputs) -> Body,
        model: &Checkpoint,
        inputs: &mut Inputs,
    ) -> Result<Vec<Body>, Error> {
        let one = |name: &String| Ok(body(&self.weight(&model.tensor(name)?, inputs)?, inputs));
        self.names.iter().map(one).collect()
    }

    fn weight(&self, tensor: &TensorView<'_>, inputs: &Inputs) -> Result<Weight, Error> {
        let mut values = filled(0.0, self.n * self.k);
        decode(inputs.cpu, self.dtype, tensor.bytes, &mut values);
        if let Some(index) = values.iter().position(|x| !x.is_finite()) {
            let (name, value) = (tensor.name.to_owned(), f64::from(values[index]));
            return Err(Error::Value { name, index, value, expected: "a finite number" });
        }
        Ok(Weight { n: self.n, k: self.k, values })
    }
}
