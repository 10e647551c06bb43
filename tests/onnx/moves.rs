//! Operators that move elements and calculate nothing: the same bits, any type that we have.

use crate::judge::{Answer, Answers, Bound, Case, NO_TYPE, Reason, exact};
use crate::proto::Attribute;
use samebits::tensor::{Dtype, KeepDim, Tensor, Which};

/// `None` for an operator of another kind.
pub fn run(case: &Case) -> Option<Answers> {
    Some(match case.node.op.as_str() {
        "Concat" => concat(case),
        "Gather" => gather(case),
        "GatherElements" => gather_elements(case),
        "GatherND" => gather_nd(case),
        "Scatter" | "ScatterElements" => scatter(case),
        "TensorScatter" => tensor_scatter(case),
        "Slice" => slice(case),
        "Split" => split(case),
        "Transpose" => transpose(case),
        "Trilu" => triangle(case),
        "TopK" => top_k(case),
        "ArgMax" => argmax(case),
        "Cast" => cast(case),
        _ => return None,
    })
}

fn concat(case: &Case) -> Answers {
    let parts = (0..case.node.inputs.len()).map(|i| case.tensor(i)).collect::<Result<Vec<_>, Reason>>()?;
    exact(Tensor::concat(&parts.iter().collect::<Vec<_>>(), case.axis(0)))
}

/// Places of an axis: ONNX counts negative ones from the end, `index_select` takes none.
fn places(indices: &[i64], n: usize) -> Vec<usize> {
    indices.iter().map(|&i| usize::try_from(if i < 0 { i + n as i64 } else { i }).unwrap()).collect()
}

fn axis_of(x: &Tensor, axis: isize) -> usize {
    (if axis < 0 { axis + x.rank() as isize } else { axis }) as usize
}

fn gather(case: &Case) -> Answers {
    let (x, index) = (case.tensor(0)?, case.raw(1).unwrap());
    let axis = axis_of(&x, case.axis(0));
    let picked = x.index_select(axis as isize, &places(&index.ints(), x.shape()[axis]));
    exact(picked.reshape(&[&x.shape()[..axis], &index.shape, &x.shape()[axis + 1..]].concat()))
}

fn gather_elements(case: &Case) -> Answers {
    let x = case.tensor(0)?;
    let n = x.shape()[axis_of(&x, case.axis(0))];
    let index = index(&places(&case.ints(1), n), &case.raw(1).unwrap().shape);
    exact(x.gather(case.axis(0), &index))
}

fn index(places: &[usize], shape: &[usize]) -> Tensor {
    Tensor::new(Dtype::I32, &places.iter().map(|&i| i as i32).collect::<Vec<_>>(), shape)
}

fn scatter(case: &Case) -> Answers {
    if case.node.attributes.contains_key("reduction") {
        return Err("a scatter that adds or compares comes with training".into());
    }
    let (x, axis) = (case.tensor(0)?, case.axis(0));
    let places = places(&case.ints(1), x.shape()[axis_of(&x, axis)]);
    exact(x.scatter(axis, &index(&places, &case.raw(1).unwrap().shape), &case.tensor(2)?))
}

/// A cache (batch, …, tokens, dim) taking in tokens from a place of each sequence on, round and round if it is circular.
fn tensor_scatter(case: &Case) -> Answers {
    let (cache, update) = (case.tensor(0)?, case.tensor(1)?);
    let (rank, n, new) = (cache.rank(), cache.shape()[cache.rank() - 2], update.shape()[cache.rank() - 2]);
    let starts = case.ints(2);
    let place = |i: usize| (starts[i / new] as usize + i % new) % n;
    let places: Vec<usize> = (0..starts.len() * new).map(place).collect();
    let mut shape = vec![1; rank];
    (shape[0], shape[rank - 2]) = (starts.len(), new);
    let index = index(&places, &shape).broadcast_to(update.shape());
    exact(cache.scatter(-2, &index, &update))
}

/// `x[i, j, …]` for each tuple of the last axis: one `index_select` over the axes of the tuple as one axis.
fn gather_nd(case: &Case) -> Answers {
    let (x, index) = (case.tensor(0)?, case.raw(1).unwrap());
    let batch = case.int("batch_dims", 0) as usize;
    let (&width, front) = index.shape.split_last().unwrap();
    let (outer, tuple) = (&x.shape()[..batch], &x.shape()[batch..batch + width]);
    let (each, inner) = (tuple.iter().product::<usize>(), &x.shape()[batch + width..]);
    let tuples = index.ints();
    let tuples = tuples.chunks(width);
    // Tuples that belong to one place of the batch.
    let share = tuples.len() / outer.iter().product::<usize>();
    let flat = |(i, t): (usize, &[i64])| {
        let within = t.iter().zip(tuple).fold(0, |at, (&i, &n)| at * n + places(&[i], n)[0]);
        i / share * each + within
    };
    let flat: Vec<usize> = tuples.enumerate().map(flat).collect();
    let rows = x.reshape(&[&[outer.iter().product::<usize>() * each], inner].concat());
    exact(rows.index_select(0, &flat).reshape(&[front, inner].concat()))
}

/// NumPy's slice: a range of ours, then a step.
fn slice(case: &Case) -> Answers {
    let mut x = case.tensor(0)?;
    let (starts, ends) = (case.ints(1), case.ints(2));
    let all = |given: Vec<i64>, default: fn(usize) -> i64| match given.is_empty() {
        true => (0..starts.len()).map(default).collect(),
        false => given,
    };
    let (axes, steps) = (all(case.ints(3), |i| i as i64), all(case.ints(4), |_| 1));
    for (i, &axis) in axes.iter().enumerate() {
        let (axis, step) = (axis as isize, steps[i]);
        let n = x.shape()[axis_of(&x, axis)] as i64;
        let from_end = |at: i64| if at < 0 { at + n } else { at };
        if step > 0 {
            let start = from_end(starts[i]).clamp(0, n) as usize;
            let end = from_end(ends[i]).clamp(start as i64, n) as usize;
            x = x.slice(axis, start..end).step_by(axis, step as isize);
        } else {
            let last = from_end(starts[i]).clamp(-1, n - 1);
            let before = from_end(ends[i]).clamp(-1, last);
            x = x.slice(axis, (before + 1) as usize..(last + 1) as usize).step_by(axis, step as isize);
        }
    }
    exact(x)
}

fn split(case: &Case) -> Answers {
    let x = case.tensor(0)?;
    let n = x.shape()[axis_of(&x, case.axis(0))];
    let extents = match case.ints(1).as_slice() {
        [] => {
            let parts = case.node.outputs.len();
            let each = n.div_ceil(parts);
            (0..parts).map(|i| each.min(n - i * each)).collect::<Vec<_>>()
        }
        given => given.iter().map(|&n| n as usize).collect(),
    };
    let parts = x.split(case.axis(0), &extents);
    Ok(parts.into_iter().map(|tensor| Answer { tensor, bound: Bound::Exact }).collect())
}

fn transpose(case: &Case) -> Answers {
    let x = case.tensor(0)?;
    let order: Vec<usize> = match case.node.attributes.get("perm") {
        Some(Attribute::Ints(order)) => order.iter().map(|&a| a as usize).collect(),
        _ => (0..x.rank()).rev().collect(),
    };
    exact(x.permute(&order))
}

fn triangle(case: &Case) -> Answers {
    let (x, diagonal) = (case.tensor(0)?, case.ints(1).first().map_or(0, |&k| k as isize));
    exact(if case.int("upper", 1) == 1 { x.triu(diagonal) } else { x.tril(diagonal) })
}

/// Integers are compared as f32, which is exact for such small ones.
fn top_k(case: &Case) -> Answers {
    let (x, k) = (case.tensor(0)?, case.ints(1)[0] as usize);
    let which = if case.int("largest", 1) == 1 { Which::Largest } else { Which::Smallest };
    let (values, places) = x.to(case.cpu, Dtype::F32).topk(case.cpu, k, case.axis(-1), which);
    let values = values.to(case.cpu, x.dtype());
    Ok([values, places].map(|tensor| Answer { tensor, bound: Bound::Exact }).into())
}

/// Ours is the first of equals; the last is the first from the other end.
fn argmax(case: &Case) -> Answers {
    let (x, axis) = (case.floats(0)?, case.axis(0));
    let keep = if case.int("keepdims", 1) == 1 { KeepDim::Yes } else { KeepDim::No };
    if case.int("select_last_index", 0) == 0 {
        return exact(x.argmax(case.cpu, axis, keep));
    }
    let last = x.shape()[axis_of(&x, axis)] as i32 - 1;
    let mut places = x.flip(axis).argmax(case.cpu, axis, keep);
    places.make_mut::<i32>().iter_mut().for_each(|i| *i = last - *i);
    exact(places)
}

fn cast(case: &Case) -> Answers {
    let to = match case.int("to", 0) {
        1 => Dtype::F32,
        10 => Dtype::F16,
        16 => Dtype::BF16,
        _ => return Err(NO_TYPE.into()),
    };
    if case.raw(0).unwrap().type_name() == "float64" {
        return Err(NO_TYPE.into());
    }
    exact(case.tensor(0)?.to(case.cpu, to))
}
