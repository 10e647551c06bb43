//! Splits, triangles, scatter, the k largest, running sums, powers, clamps: what PyTorch calls by the same names.

use super::common::{Random, cpus};
use samebits::tensor::{Axes, Dtype, KeepDim, Tensor, Which};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn counted(shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
    Tensor::from_f32(&values, shape)
}

#[test]
fn parts_share_memory_and_join_again() {
    let x = counted(&[3, 5, 2]);
    let parts = x.split(1, &[2, 0, 3]);
    assert_eq!(parts.iter().map(|p| p.shape()[1]).collect::<Vec<_>>(), [2, 0, 3]);
    assert!(parts.iter().all(|p| p.shares_memory(&x)));
    assert_eq!(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1).to_vec::<f32>(), x.to_vec::<f32>());
    assert!(catch_unwind(|| x.split(1, &[2, 2])).is_err());
}

#[test]
fn triangles_by_definition() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::I32, Dtype::U8] {
        for shape in [[2, 3, 4], [2, 4, 3], [1, 1, 5], [3, 0, 2], [3, 2, 0]] {
            for diagonal in [isize::MIN, -7, -2, -1, 0, 1, 2, 9, isize::MAX] {
                // Ones, as a view whose rows do not lie in order.
                let ones = Tensor::full(1.0, &shape).to(cpus()[0], dtype).step_by(1, -1);
                let at = |t: &Tensor, i: usize, j: usize| t.at(&[0, i, j]) != 0.0;
                let (low, up) = (ones.tril(diagonal), ones.triu(diagonal));
                assert_eq!((low.shape(), low.dtype()), (&shape[..], dtype));
                for i in 0..shape[1] {
                    for j in 0..shape[2] {
                        let distance = j as isize - i as isize;
                        assert_eq!(
                            at(&low, i, j),
                            distance <= diagonal,
                            "tril({diagonal}) of {shape:?}: {i}, {j}"
                        );
                        assert_eq!(
                            at(&up, i, j),
                            distance >= diagonal,
                            "triu({diagonal}) of {shape:?}: {i}, {j}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn scatter_is_the_way_back_from_gather() {
    let mut random = Random::new(1);
    for axis in 0..3 {
        let x = Tensor::from_f32(&random.normal(4 * 3 * 5), &[4, 3, 5]);
        // A permutation of each line of the axis.
        let n = x.shape()[axis as usize];
        let places: Vec<i32> = (0..n as i32).map(|i| (i * 2 + 1) % n as i32).collect();
        let permutes = places.iter().collect::<std::collections::BTreeSet<_>>().len() == n;
        let mut line = [1; 3];
        line[axis as usize] = n;
        let index = Tensor::new(Dtype::I32, &places, &line).broadcast_to(x.shape());
        let back = Tensor::zeros(Dtype::F32, x.shape()).scatter(axis, &index, &x.gather(axis, &index));
        if permutes {
            assert_eq!(back.to_vec::<f32>(), x.to_vec::<f32>(), "axis {axis}");
        }
    }
    // The last update of a place stays; what no index names is kept; the tensor itself is not changed.
    let x = counted(&[4]);
    let index = Tensor::new(Dtype::I32, &[2, 0, 2], &[3]);
    let y = x.scatter(0, &index, &Tensor::from_f32(&[7.0, 8.0, 9.0], &[3]));
    assert_eq!(y.to_vec::<f32>(), [8.0, 1.0, 9.0, 3.0]);
    assert_eq!(x.to_vec::<f32>(), [0.0, 1.0, 2.0, 3.0]);
    let fails = |index: &[i32], updates: &Tensor| {
        let index = Tensor::new(Dtype::I32, index, &[index.len()]);
        catch_unwind(AssertUnwindSafe(|| x.scatter(0, &index, updates))).is_err()
    };
    assert!(fails(&[4], &counted(&[1])), "no such place");
    assert!(fails(&[-1], &counted(&[1])), "no such place");
    assert!(fails(&[1], &counted(&[2])), "another shape");
    assert!(fails(&[1], &Tensor::zeros(Dtype::I32, &[1])), "another type");
}

#[test]
fn the_k_largest_and_smallest() {
    let x = Tensor::from_f32(&[3.0, 1.0, 3.0, 2.0, f32::NAN, 5.0, -0.0, 0.0], &[2, 4]);
    for cpu in cpus() {
        let (values, places) = x.topk(cpu, 2, 1, Which::Largest);
        assert_eq!(places.to_vec::<i32>(), [0, 2, 0, 1]);
        assert_eq!(values.slice(0, 0..1).to_vec::<f32>(), [3.0, 3.0]);
        let (values, places) = x.topk(cpu, 3, -1, Which::Smallest);
        assert_eq!(places.to_vec::<i32>(), [1, 3, 0, 0, 2, 3]);
        assert_eq!(values.slice(0, 0..1).to_vec::<f32>(), [1.0, 2.0, 3.0]);
        // Along the outer axis, and none at all.
        let (values, places) = counted(&[3, 2]).topk(cpu, 1, 0, Which::Largest);
        assert_eq!(
            (values.shape(), values.to_vec::<f32>(), places.to_vec::<i32>()),
            (&[1, 2][..], vec![4.0, 5.0], vec![2, 2])
        );
        assert_eq!(x.topk(cpu, 0, 0, Which::Largest).0.shape(), [0, 4]);
        assert!(catch_unwind(|| x.topk(cpu, 5, 1, Which::Largest)).is_err());
    }
}

#[test]
fn sums_powers_clamps() {
    let x = counted(&[2, 3]);
    for cpu in cpus() {
        assert_eq!(x.cumsum(0).to_vec::<f32>(), [0.0, 1.0, 2.0, 3.0, 5.0, 7.0]);
        assert_eq!(x.cumsum(-1).to_vec::<f32>(), [0.0, 1.0, 3.0, 3.0, 7.0, 12.0]);
        let squares = x.pow(cpu, &Tensor::scalar(2.0));
        assert_eq!(squares.to_vec::<f32>(), [0.0, 1.0, 4.0, 9.0, 16.0, 25.0]);
        assert_eq!(x.clamp(cpu, 1.0, 3.0).to_vec::<f32>(), [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
        assert_eq!(x.clamp(cpu, 4.0, 2.0).to_vec::<f32>(), [2.0; 6], "min above max: max");
        assert!(Tensor::scalar(f32::NAN).clamp(cpu, 0.0, 1.0).at(&[]).is_nan());
        let logs = Tensor::from_f32(&[1000.0, 1000.0, -1000.0, f32::NEG_INFINITY], &[2, 2]);
        let two = 2f32.ln();
        assert_eq!(logs.log_sum_exp(cpu, &[1], KeepDim::No).to_vec::<f32>(), [1000.0 + two, -1000.0]);
        assert_eq!(logs.log_sum_exp(cpu, Axes::All, KeepDim::Yes).shape(), [1, 1]);
        let nothing = Tensor::zeros(Dtype::F32, &[2, 0]);
        assert_eq!(nothing.log_sum_exp(cpu, &[1], KeepDim::No).to_vec::<f32>(), [f32::NEG_INFINITY; 2]);
    }
}
