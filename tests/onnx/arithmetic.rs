//! Operators that calculate: element by element, along rows, over axes, products.

use crate::judge::{Answer, Answers, Bound, Case, U, each, exact, ulps, within};
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::elementwise::{Binary, Unary};
use samebits::kernels::reduce::Reduction;
use samebits::kernels::view::{MatMut, MatRef};
use samebits::tensor::{Axes, Dtype, KeepDim, Tensor};

/// `None` for an operator of another kind.
pub fn run(case: &Case) -> Option<Answers> {
    Some(match case.node.op.as_str() {
        "Add" => binary(case, Binary::Add),
        "Mul" => binary(case, Binary::Mul),
        "Pow" => power(case),
        "Exp" => unary(case, Unary::Exp, 1.5),
        "Sigmoid" => unary(case, Unary::Sigmoid, 3.0),
        "Sqrt" => unary(case, Unary::Sqrt, 0.0),
        "Reciprocal" => reciprocal(case),
        "Gelu" => gelu(case),
        "SwiGLU" => swiglu(case),
        "Clip" => clip(case),
        "CumSum" => cumsum(case),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceSumSquare" | "ReduceLogSumExp" => reduce(case),
        "MatMul" => matmul(case),
        "Gemm" => gemm(case),
        _ => return None,
    })
}

fn binary(case: &Case, op: Binary) -> Answers {
    exact(case.floats(0)?.binary(case.cpu, op, &case.floats(1)?))
}

/// Integers as exponents are given as f32, which is exact for such small ones.
fn power(case: &Case) -> Answers {
    let exponents = case.tensor(1)?.to(case.cpu, Dtype::F32);
    ulps(case.floats(0)?.pow(case.cpu, &exponents), 0.5 + 0.5) // ours, NumPy's
}

fn unary(case: &Case, f: Unary, bound: f64) -> Answers {
    ulps(case.floats(0)?.unary(case.cpu, f), bound)
}

fn reciprocal(case: &Case) -> Answers {
    exact(Tensor::scalar(1.0).div(case.cpu, &case.floats(0)?))
}

/// As a row for kernels.
fn row(x: &[f32]) -> MatRef<'_> {
    MatRef::new(x, 1, x.len())
}

fn gelu(case: &Case) -> Answers {
    let x = case.floats(0)?;
    let mut y = x.clone();
    let n = x.len();
    activation::apply_in_place(case.cpu, Activation::GeluErf, MatMut::new(y.make_mut(), 1, n));
    within(y, each(&x, |x| 2.5 * U * x.abs()))
}

/// a σ(α a) b: one kernel where α is 1.
fn swiglu(case: &Case) -> Answers {
    let (cpu, a, b) = (case.cpu, case.floats(0)?, case.floats(1)?);
    let alpha = case.float("alpha", 1.0);
    let product = a.mul(cpu, &b);
    if alpha == 1.0 {
        let (a, b) = (a.to_vec(), b.to_vec());
        let mut y = Tensor::zeros(Dtype::F32, product.shape());
        activation::gated(cpu, Activation::Silu, row(&a), row(&b), MatMut::new(y.make_mut(), 1, a.len()));
        return within(y, each(&product, |ab| 3.5 * U * ab.abs()));
    }
    let gate = a.mul(cpu, &Tensor::scalar(alpha)).unary(cpu, Unary::Sigmoid);
    let y = a.mul(cpu, &gate).mul(cpu, &b);
    let bound = each(&y, |y| 8.0 * U * y.abs()); // 3 ulp of σ, two products
    within(y, bound)
}

fn clip(case: &Case) -> Answers {
    let bound = |i: usize, default| case.maybe(i).map(|t| t.map_or(default, |t| t.at(&[])));
    exact(case.floats(0)?.clamp(case.cpu, bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?))
}

/// From the other end: flipped before and after. Without the element itself: a zero in front, the last left out.
fn cumsum(case: &Case) -> Answers {
    let (mut x, axis) = (case.floats(0)?, case.ints(1)[0] as isize);
    let n = x.shape()[if axis < 0 { axis + x.rank() as isize } else { axis } as usize];
    let flip = |x: Tensor| if case.int("reverse", 0) == 1 { x.flip(axis) } else { x };
    x = flip(x);
    if case.int("exclusive", 0) == 1 {
        let zero = x.slice(axis, 0..1).mul(case.cpu, &Tensor::scalar(0.0));
        x = Tensor::concat(&[&zero, &x.slice(axis, 0..n - 1)], axis);
    }
    exact(flip(x.cumsum(axis)))
}

fn reduce(case: &Case) -> Answers {
    let (cpu, data) = (case.cpu, case.raw(0).unwrap());
    let x = match data.type_name() {
        "bool" => case.tensor(0)?.to(cpu, Dtype::F32),
        _ => case.floats(0)?,
    };
    let keep = if case.int("keepdims", 1) == 1 { KeepDim::Yes } else { KeepDim::No };
    let axes: Vec<isize> = case.ints(1).iter().map(|&a| a as isize).collect();
    let axes = if axes.is_empty() { Axes::All } else { Axes::These(&axes) };
    let sum = |x: &Tensor| x.reduce(cpu, Reduction::Sum, axes, keep);
    let size = sum(&x.unary(cpu, Unary::Abs));
    match case.node.op.as_str() {
        "ReduceSum" => within(sum(&x), each(&size, |s| 4.0 * U * s)),
        "ReduceMean" => {
            let y = x.reduce(cpu, Reduction::Mean, axes, keep);
            let n = (x.len() / y.len()) as f64;
            within(y, each(&size, |s| 4.0 * U * s / n))
        }
        "ReduceMax" => {
            let kind = if data.type_name() == "bool" { Dtype::U8 } else { Dtype::F32 };
            exact(x.reduce(cpu, Reduction::Max, axes, keep).to(cpu, kind))
        }
        "ReduceSumSquare" => {
            let y = sum(&x.mul(cpu, &x));
            let bound = each(&y, |y| 5.0 * U * y); // each square is rounded, then the sum
            within(y, bound)
        }
        _ => {
            let y = x.log_sum_exp(cpu, axes, keep);
            let largest = x.reduce(cpu, Reduction::Max, axes, keep).to_vec::<f32>();
            let bound = |(y, m): (&f32, &f32)| {
                let (y, m) = (f64::from(*y), f64::from(*m));
                // ONNX's operand is float64: reading it as f32 moves the result as far as the largest element.
                U * (16.0 + 2.0 * (y - m).abs() + y.abs() + m.abs())
            };
            let bounds = y.to_vec::<f32>().iter().zip(&largest).map(bound).collect();
            within(y, bounds)
        }
    }
}

/// Σ|a||b| times what clause 1 may lose.
pub fn product_bound(case: &Case, a: &Tensor, b: &Tensor) -> Vec<f64> {
    let abs = |x: &Tensor| x.unary(case.cpu, Unary::Abs);
    let k = a.shape()[a.rank() - 1];
    let steps = (k.min(256) + k.div_ceil(256) + 2) as f64;
    each(&abs(a).matmul(case.cpu, &abs(b)), |size| steps * U * size)
}

fn matmul(case: &Case) -> Answers {
    let (a, b) = (case.floats(0)?, case.floats(1)?);
    within(a.matmul(case.cpu, &b), product_bound(case, &a, &b))
}

/// α A B + β C.
fn gemm(case: &Case) -> Answers {
    let (cpu, mut a, mut b) = (case.cpu, case.floats(0)?, case.floats(1)?);
    a = if case.int("transA", 0) == 1 { a.t() } else { a };
    b = if case.int("transB", 0) == 1 { b.t() } else { b };
    let (alpha, beta) = (case.float("alpha", 1.0), case.float("beta", 1.0));
    let product = a.matmul(cpu, &b).mul(cpu, &Tensor::scalar(alpha));
    let c = case.floats(2)?.mul(cpu, &Tensor::scalar(beta)).broadcast_to(product.shape());
    let y = product.add(cpu, &c);
    let sizes = each(&product, f64::abs).into_iter().zip(each(&c.contiguous(), f64::abs));
    // Beside the product's own: α, β and the sum each round once.
    let bound = product_bound(case, &a, &b).into_iter().zip(sizes);
    let bound = bound.map(|(own, (p, c))| f64::from(alpha.abs()) * own + 2.0 * U * (p + c)).collect();
    Ok(vec![Answer { tensor: y, bound: Bound::Within(bound) }])
}
