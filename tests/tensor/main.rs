//! Tensors: views against a model, NumPy's and PyTorch's results, printing, errors at the door.

#[path = "../common/mod.rs"]
mod common;
mod picking;
mod views;

use common::{Random, cpus, slow};
use samebits::io::json;
use samebits::io::safetensors::{Dtype as FileDtype, SafeTensors, TensorView};
use samebits::kernels::elementwise::{Binary, Unary};
use samebits::kernels::norm::{Gain, LayerNorm, RmsNorm};
use samebits::tensor::{Axes, Dtype, KeepDim, Shape, Tensor};
use samebits::{Cpu, Error};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

// ---- NumPy and PyTorch

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tensor").join(name)
}

fn load(view: TensorView<'_>) -> Tensor {
    let dtype = match view.dtype {
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::I32 => Dtype::I32,
        FileDtype::U8 => Dtype::U8,
        other => panic!("{other}"),
    };
    Tensor::from_bytes(dtype, view.shape, view.bytes).unwrap()
}

struct Reference(SafeTensors);

impl Reference {
    fn get(&self, name: &str) -> Tensor {
        load(self.0.tensor(name).unwrap())
    }

    #[track_caller]
    fn check(&self, name: &str, got: &Tensor) {
        let want = self.get(name);
        assert_eq!((got.dtype(), got.shape()), (want.dtype(), want.shape()), "{name}");
        match want.dtype() {
            Dtype::F32 => {
                let bits = |t: &Tensor| t.to_vec::<f32>().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(got), bits(&want), "{name}: {got} {want}");
            }
            _ => assert_eq!(got.to_vec::<i32>(), want.to_vec::<i32>(), "{name}"),
        }
    }
}

/// The operands as they are, and in layouts that no kernel finds side by side.
fn layouts(x: &Tensor) -> Vec<Tensor> {
    let rank = x.rank();
    let mut all = vec![x.clone()];
    for a in 0..rank as isize {
        // The axis backwards in memory; the axis outermost in memory.
        all.push(x.flip(a).contiguous().flip(a));
        all.push(x.transpose(0, a).contiguous().transpose(0, a));
        let twice = Tensor::stack(&[x, x], a + 1);
        all.push(twice.select(a + 1, 1));
    }
    all
}

#[test]
fn what_numpy_and_pytorch_compute() {
    let r = Reference(SafeTensors::open(data("ops.safetensors")).unwrap());
    for cpu in cpus() {
        for x in layouts(&r.get("x")) {
            let (y, row, col) = (r.get("y"), r.get("row"), r.get("col"));
            r.check("x + y", &x.add(cpu, &y));
            r.check("x - row", &x.sub(cpu, &row));
            r.check("x * col", &x.mul(cpu, &col));
            r.check("x / y", &x.div(cpu, &y));
            r.check("col - row", &col.sub(cpu, &row));
            let mut sum = x.clone();
            sum.binary_assign(cpu, Binary::Add, &y);
            r.check("x + y", &sum);
            for axes in [&[0isize][..], &[1], &[2], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2], &[]] {
                let name = axes.iter().map(|a| a.to_string()).collect::<Vec<_>>().join(",");
                let from_end: Vec<isize> = axes.iter().rev().map(|a| a - 3).collect();
                r.check(&format!("sum {name}"), &x.sum(cpu, axes, KeepDim::No));
                r.check(&format!("max {name}"), &x.max(cpu, &from_end[..], KeepDim::No));
                r.check(&format!("min {name}"), &x.min(cpu, axes, KeepDim::Yes));
                r.check(&format!("mean {name}"), &x.mean(cpu, &from_end[..], KeepDim::Yes));
            }
            r.check("sum 0,1,2", &x.sum(cpu, Axes::All, KeepDim::No));
            for axis in 0..3 {
                r.check(&format!("argmax {axis}"), &x.argmax(cpu, axis, KeepDim::No));
                r.check(&format!("argmin {axis}"), &x.argmin(cpu, axis, KeepDim::No));
                r.check(&format!("concat {axis}"), &Tensor::concat(&[&x, &y], axis));
                r.check(&format!("stack {axis}"), &Tensor::stack(&[&x, &y], axis));
                r.check(&format!("take {axis}"), &x.index_select(axis, &[1, 0, 1]));
                let index = r.get(&format!("index {axis}"));
                r.check(&format!("gather {axis}"), &x.gather(axis, &index));
            }
        }
    }
}

#[test]
fn matmul_as_numpy() {
    let r = Reference(SafeTensors::open(data("ops.safetensors")).unwrap());
    let column = |b: &Tensor| b.select(0, 0).select(1, 0);
    for cpu in cpus() {
        for (a, b) in layouts(&r.get("a")).iter().zip(layouts(&r.get("b")).iter().cycle()) {
            let row = a.select(0, 0).select(0, 0).select(0, 0);
            r.check("a @ b", &a.matmul(cpu, b));
            r.check("a[0,0] @ b", &a.select(0, 0).select(0, 0).matmul(cpu, b));
            r.check("a @ b[0]", &a.matmul(cpu, &b.select(0, 0)));
            r.check("a @ v", &a.matmul(cpu, &column(b)));
            r.check("v @ b", &row.matmul(cpu, b));
            r.check("v @ v", &row.matmul(cpu, &column(b)));
        }
    }
}

/// A result has the same bits alone, in a batch, and as a row of a larger product.
#[test]
fn products_do_not_depend_on_the_batch() {
    let mut random = Random::new(6);
    let (m, k, n) = (5, 300, 37);
    let a = Tensor::from_f32(&random.vec(2 * 3 * m * k), &[2, 3, m, k]);
    let b = Tensor::from_f32(&random.vec(3 * n * k), &[3, n, k]).t();
    let want = a.matmul(cpus()[0], &b).to_vec::<f32>();
    let first = a.matmul(cpus()[0], &b.select(0, 0)).to_vec::<f32>();
    for cpu in cpus() {
        common::assert_same(&a.matmul(cpu, &b).to_vec::<f32>(), &want, cpu.tier());
        let strided = a.transpose(0, 1).contiguous().transpose(0, 1);
        common::assert_same(&strided.matmul(cpu, &b.select(0, 0)).to_vec::<f32>(), &first, "not one matrix");
        for i in 0..6 * m {
            let (x, y, z) = (i / (3 * m), i / m % 3, i % m);
            let row = a.select(0, x).select(0, y).select(0, z);
            let alone = row.matmul(cpu, &b.select(0, y)).to_vec::<f32>();
            common::assert_same(&alone, &want[i * n..][..n], format!("row {i}"));
        }
    }
    let none = Tensor::zeros(Dtype::F32, &[4, 0]).matmul(cpus()[0], &Tensor::zeros(Dtype::F32, &[2, 0, 3]));
    assert_eq!((none.shape(), none.to_vec::<f32>()), (&[2, 4, 3][..], vec![0.0; 24]));
    assert_eq!(
        Tensor::zeros(Dtype::F32, &[0, 2, 3]).matmul(cpus()[0], &Tensor::zeros(Dtype::F32, &[3, 5])).shape(),
        [0, 2, 5]
    );
}

#[test]
fn printing_as_numpy_prints() {
    let arrays = SafeTensors::open(data("display.safetensors")).unwrap();
    let texts = std::fs::read(data("display.json")).unwrap();
    let texts = json::parse(&texts).unwrap();
    let mut count = 0;
    for (name, want) in texts.entries().unwrap() {
        let tensor = load(arrays.tensor(&name).unwrap());
        assert_eq!(tensor.to_string(), want.as_str().unwrap(), "{name}");
        count += 1;
    }
    assert!(count > 50);
    let bf16 = Tensor::from_f32(&[1.0, 0.1, -3.25], &[3]).to(Cpu::detect(), Dtype::BF16);
    assert_eq!(bf16.to_string(), "[ 1.    0.1  -3.25]");
}

// ---- kernels along any axis

#[test]
fn rows_along_any_axis() {
    let mut random = Random::new(5);
    let x = Tensor::from_f32(&random.vec(3 * 7 * 20), &[3, 7, 20]);
    let (weight, bias) = (random.vec(20), random.vec(20));
    let norm = LayerNorm { weight: Some(&weight), bias: Some(&bias), eps: 1e-5 };
    let rms = RmsNorm { gain: Gain::Weight(&weight), eps: 1e-6 };
    let scalar = cpus()[0];
    let want = [x.softmax(scalar, -1), x.layer_norm(scalar, &norm), x.rms_norm(scalar, &rms)];
    assert!(want[0].sum(scalar, &[2], KeepDim::No).to_vec::<f32>().iter().all(|s| (s - 1.0).abs() < 1e-6));
    for cpu in cpus() {
        for x in layouts(&x) {
            let got = [x.softmax(cpu, 2), x.layer_norm(cpu, &norm), x.rms_norm(cpu, &rms)];
            for (got, want) in got.iter().zip(&want) {
                common::assert_same(&got.to_vec::<f32>(), &want.to_vec::<f32>(), format!("{x:?}"));
            }
            for axis in 0..2 {
                let got = x.softmax(cpu, axis).to_vec::<f32>();
                let want =
                    x.transpose(axis, 2).contiguous().softmax(cpu, 2).transpose(axis, 2).to_vec::<f32>();
                common::assert_same(&got, &want, format!("softmax along {axis} of {x:?}"));
                let logs = x.log_softmax(cpu, axis).unary(cpu, Unary::Exp).to_vec::<f32>();
                assert!(
                    logs.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-6),
                    "log_softmax along {axis}"
                );
            }
        }
    }
}

#[test]
fn conversions() {
    let cpu = Cpu::detect();
    let x = Tensor::from_f32(&[1.0, -2.5, 300.7, f32::NAN, 1e10, 65519.9, 1.0 / 3.0, -0.0], &[2, 4]);
    assert_eq!(x.to(cpu, Dtype::I32).to_vec::<i32>(), [1, -2, 300, 0, i32::MAX, 65519, 0, 0]);
    assert_eq!(x.to(cpu, Dtype::U8).to_vec::<u8>(), [1, 0, 255, 0, 255, 255, 0, 0]);
    for dtype in [Dtype::F16, Dtype::BF16] {
        let half = x.t().to(cpu, dtype);
        let back = half.to(cpu, Dtype::F32).t().to_vec::<f32>();
        let narrow = |&x: &f32| match dtype {
            Dtype::F16 => samebits::kernels::half::f16_to_f32(samebits::kernels::half::f32_to_f16(x)),
            _ => samebits::kernels::half::bf16_to_f32(samebits::kernels::half::f32_to_bf16(x)),
        };
        common::assert_same(&back, &x.to_vec::<f32>().iter().map(narrow).collect::<Vec<_>>(), dtype);
        assert_eq!(half.at(&[0, 0]), 1.0);
    }
    let bytes = Tensor::new(Dtype::U8, &[0u8, 7, 255], &[3]);
    assert_eq!(bytes.to(cpu, Dtype::I32).to_vec::<i32>(), [0, 7, 255]);
    assert_eq!(bytes.to(cpu, Dtype::F16).to_f32_vec(cpu), [0.0, 7.0, 255.0]);
}

/// More ones than `f32` can count in one chain.
#[test]
fn sums_of_twenty_million_ones_are_exact() {
    let n = if slow() { 2_000_000 } else { 20_000_000 };
    for cpu in common::simd_cpus() {
        let ones = Tensor::full(1.0, &[n]).contiguous();
        for shape in [[n, 1], [1, n], [n / 4, 4], [4, n / 4]] {
            let x = ones.reshape(&shape);
            for axis in 0..2 {
                let sums = x.sum(cpu, &[axis as isize], KeepDim::No).to_vec::<f32>();
                assert!(
                    sums.iter().all(|&s| s == shape[axis] as f32),
                    "axis {axis} of {shape:?}: {}",
                    sums[0]
                );
            }
            assert_eq!(x.sum(cpu, Axes::All, KeepDim::No).at(&[]), n as f32);
        }
        assert_eq!(Tensor::full(1.0, &[n]).sum(cpu, Axes::All, KeepDim::No).at(&[]), n as f32, "stride 0");
    }
}

#[test]
fn nothing_at_all() {
    let cpu = Cpu::detect();
    let none = Tensor::zeros(Dtype::F32, &[0, 3]);
    assert_eq!(none.sum(cpu, &[0], KeepDim::No).to_vec::<f32>(), [0.0, 0.0, 0.0]);
    assert!(none.mean(cpu, &[0], KeepDim::No).to_vec::<f32>().iter().all(|x| x.is_nan()));
    assert_eq!(none.sum(cpu, &[1], KeepDim::No).shape(), [0]);
    assert_eq!(none.max(cpu, &[1], KeepDim::Yes).shape(), [0, 1]);
    assert_eq!(none.argmax(cpu, 1, KeepDim::No).shape(), [0]);
    assert_eq!(none.add(cpu, &Tensor::scalar(1.0)).shape(), [0, 3]);
    assert_eq!(none.softmax(cpu, 1).shape(), [0, 3]);
    assert_eq!(none.unary(cpu, Unary::Neg).t().reshape(&[3, 0, 7]).shape(), [3, 0, 7]);
    assert_eq!(Tensor::concat(&[&none, &none], 0).shape(), [0, 3]);
    assert_eq!(none.index_select(1, &[]).shape(), [0, 0]);
    assert_eq!(Tensor::scalar(-2.0).unary(cpu, Unary::Abs).at(&[]), 2.0);
}

#[test]
fn shapes_from_data_are_errors() {
    let wrong: [&[usize]; 4] = [&[usize::MAX, 2], &[1 << 32, 1 << 32], &[0, 1 << 40, 1 << 40], &[usize::MAX]];
    for shape in wrong {
        assert!(matches!(Shape::new(shape), Err(Error::TooLarge { .. })), "{shape:?}");
        assert!(matches!(Tensor::try_zeros(Dtype::U8, shape), Err(Error::TooLarge { .. })), "{shape:?}");
    }
    assert_eq!(
        Shape::new(&[1; 9]).unwrap_err().to_string(),
        "\"a tensor\" has shape (1, 1, 1, 1, 1, 1, 1, 1, 1), expected at most 8 axes"
    );
    let error = Tensor::from_bytes(Dtype::F32, &[2, 3], &[0; 23]).unwrap_err().to_string();
    assert_eq!(error, "\"a tensor\" has shape (2, 3), expected one that takes 23 bytes of f32");
    assert!(Tensor::try_zeros(Dtype::F32, &[1 << 58]).is_err(), "more than the machine has");
}

/// What the caller did wrong, and what the panic must name.
#[test]
fn mistakes_panic_at_the_door() {
    let cpu = Cpu::detect();
    let x = Tensor::from_f32(&[0.0; 6], &[2, 3]);
    let i = Tensor::arange(4);
    type Door<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let doors: Vec<Door<'_>> = vec![
        ("5 values for shape (2, 3)", Box::new(|| drop(Tensor::from_f32(&[0.0; 5], &[2, 3])))),
        ("f32 values for a tensor of i32", Box::new(|| drop(Tensor::new(Dtype::I32, &[0f32], &[1])))),
        ("axis 2 of shape (2, 3)", Box::new(|| drop(x.slice(2, ..)))),
        ("axis -3 of shape (2, 3)", Box::new(|| drop(x.flip(-3)))),
        ("1..4 of axis 1 of shape (2, 3)", Box::new(|| drop(x.slice(1, 1..4)))),
        ("a step of 0", Box::new(|| drop(x.step_by(0, 0)))),
        ("place 2 of axis 0 of shape (2, 3)", Box::new(|| drop(x.select(0, 2)))),
        ("axes [0, 0] of shape (2, 3)", Box::new(|| drop(x.permute(&[0, 0])))),
        ("shape (2, 3) does not broadcast to (3, 2)", Box::new(|| drop(x.broadcast_to(&[3, 2])))),
        ("shape (2, 3) does not broadcast to (3,)", Box::new(|| drop(x.broadcast_to(&[3])))),
        ("shape (2, 3) has not as many elements as (7,)", Box::new(|| drop(x.reshape(&[7])))),
        ("axis 0 of shape (2, 3) is not 1", Box::new(|| drop(x.squeeze(0)))),
        ("new axis 3 of shape (2, 3)", Box::new(|| drop(x.unsqueeze(3)))),
        ("shapes (2, 3) and (4,) do not broadcast", Box::new(|| drop(x.add(cpu, &Tensor::full(0.0, &[4]))))),
        ("a tensor of i32 read as f32", Box::new(|| drop(i.add(cpu, &i)))),
        ("axis -1 of shape (2, 3) is named twice", Box::new(|| drop(x.sum(cpu, &[1, -1], KeepDim::No)))),
        ("Max of no elements, shape (0, 3)", Box::new(|| drop(x.slice(0, ..0).max(cpu, &[0], KeepDim::No)))),
        (
            "extreme of no elements, shape (2, 0)",
            Box::new(|| drop(x.slice(1, ..0).argmax(cpu, 1, KeepDim::No))),
        ),
        ("place 3 of axis 1 of shape (2, 3)", Box::new(|| drop(x.index_select(1, &[0, 3])))),
        ("index of shape (4,) along axis 0 of shape (2, 3)", Box::new(|| drop(x.gather(0, &i)))),
        (
            "index 2 into axis 0 of shape (2, 3)",
            Box::new(|| drop(x.gather(0, &i.slice(0, 1..).reshape(&[1, 3])))),
        ),
        ("matmul of shapes (2, 3) and (2, 3)", Box::new(|| drop(x.matmul(cpu, &x)))),
        ("matmul of shapes (2, 3) and ()", Box::new(|| drop(x.matmul(cpu, &Tensor::scalar(1.0))))),
        (
            "shapes (2,) and (3,) do not broadcast",
            Box::new(|| drop(x.reshape(&[2, 1, 3]).matmul(cpu, &Tensor::full(0.0, &[3, 3, 1])))),
        ),
        ("concat of no tensors", Box::new(|| drop(Tensor::concat(&[], 0)))),
        (
            "concat along axis 0: f32 (2, 3) and f32 (3, 2)",
            Box::new(|| drop(Tensor::concat(&[&x, &x.t()], 0))),
        ),
        ("index [2, 0] into shape (2, 3)", Box::new(|| assert!(x.at(&[2, 0]) > 0.0))),
        (
            "larger than the address space",
            Box::new(|| drop(x.slice(0, ..1).slice(1, ..1).broadcast_to(&[1 << 40, 1 << 40]))),
        ),
    ];
    for (want, door) in &doors {
        let panic = catch_unwind(AssertUnwindSafe(door)).expect_err(want);
        let text = panic
            .downcast_ref::<String>()
            .map_or_else(|| *panic.downcast_ref::<&str>().unwrap(), String::as_str);
        assert!(text.contains(want), "{text:?}, want {want:?}");
    }
}
