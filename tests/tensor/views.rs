//! Views against a model: a tensor as a function from an index to a place.

use super::common::{Random, slow};
use samebits::tensor::{Dtype, Tensor};
use std::rc::Rc;

/// From an index to a place.
type Place = Rc<dyn Fn(&[usize]) -> usize>;

/// A tensor as a function from an index to a place of the base, and nothing else.
#[derive(Clone)]
struct Model {
    shape: Vec<usize>,
    place: Place,
}

impl Model {
    fn new(shape: &[usize]) -> Model {
        let of = shape.to_vec();
        Model { shape: shape.to_vec(), place: Rc::new(move |i| row_by_row(&of, i)) }
    }

    /// The same places under another shape, each index translated.
    fn map(&self, shape: Vec<usize>, index: impl Fn(&[usize]) -> Vec<usize> + 'static) -> Model {
        let place = self.place.clone();
        Model { shape, place: Rc::new(move |i| place(&index(i))) }
    }

    fn places(&self) -> Vec<usize> {
        indices(&self.shape).iter().map(|i| (self.place)(i)).collect()
    }
}

fn row_by_row(shape: &[usize], index: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (&i, &n)| at * n + i)
}

/// Every index of a shape, row by row.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let count: usize = shape.iter().product();
    let index = |mut at: usize| {
        let mut index = vec![0; shape.len()];
        for (i, &n) in index.iter_mut().zip(shape).rev() {
            (*i, at) = (at % n, at / n);
        }
        index
    };
    (0..count).map(index).collect()
}

/// Takes one random step with both. `copies` tells whether the tensor may have copied.
fn step(random: &mut Random, tensor: &Tensor, model: &Model, copies: &mut bool) -> (Tensor, Model) {
    let shape = model.shape.clone();
    let rank = shape.len();
    let axis = random.below(rank.max(1));
    let signed = axis as isize - if random.below(2) == 0 { rank as isize } else { 0 };
    let put = move |i: &[usize], v: usize| -> Vec<usize> {
        let mut i = i.to_vec();
        i[axis] = v;
        i
    };
    match random.below(9) {
        0 if rank > 0 => {
            let start = random.below(shape[axis] + 1);
            let end = start + random.below(shape[axis] - start + 1);
            let mut to = shape;
            to[axis] = end - start;
            (tensor.slice(signed, start..end), model.map(to, move |i| put(i, i[axis] + start)))
        }
        1 if rank > 0 => {
            let step = 1 + random.below(3);
            let n = shape[axis];
            let mut to = shape;
            to[axis] = n.div_ceil(step);
            match random.below(2) {
                0 => (tensor.step_by(signed, step as isize), model.map(to, move |i| put(i, i[axis] * step))),
                _ => {
                    let back = model.map(to, move |i| put(i, n - 1 - i[axis] * step));
                    (tensor.step_by(signed, -(step as isize)), back)
                }
            }
        }
        2 => {
            let mut order: Vec<usize> = (0..rank).collect();
            (1..rank).for_each(|i| order.swap(i, random.below(i + 1)));
            let to = order.iter().map(|&a| shape[a]).collect();
            let of = order.clone();
            let index = move |i: &[usize]| {
                (0..of.len()).map(|a| i[of.iter().position(|&o| o == a).unwrap()]).collect()
            };
            (tensor.permute(&order), model.map(to, index))
        }
        3 if rank > 0 && shape[axis] > 0 => {
            let i = random.below(shape[axis]);
            let mut to = shape;
            to.remove(axis);
            let index = move |index: &[usize]| {
                let mut index = index.to_vec();
                index.insert(axis, i);
                index
            };
            (tensor.select(signed, i), model.map(to, index))
        }
        4 if rank < 6 => {
            let at = random.below(rank + 1);
            let mut to = shape;
            to.insert(at, 1);
            let index = move |i: &[usize]| [&i[..at], &i[at + 1..]].concat();
            (tensor.unsqueeze(at as isize), model.map(to, index))
        }
        5 if rank > 0 && shape[axis] == 1 => {
            let mut to = shape;
            to.remove(axis);
            let index = move |i: &[usize]| [&i[..axis], &[0], &i[axis..]].concat();
            (tensor.squeeze(signed), model.map(to, index))
        }
        6 if rank < 6 && shape.iter().product::<usize>() < 300 => {
            let mut to: Vec<usize> = shape.clone();
            to.iter_mut().filter(|n| **n == 1).for_each(|n| *n = 1 + random.below(3));
            let new = random.below(2);
            let to = [vec![2; new], to].concat();
            let from = shape;
            let index = move |i: &[usize]| {
                i[new..].iter().zip(&from).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect()
            };
            (tensor.broadcast_to(&to), model.map(to, index))
        }
        7 => {
            let to = other_shape(random, &shape);
            let (from, of) = (shape, to.clone());
            let index = move |i: &[usize]| {
                let mut at = row_by_row(&of, i);
                let mut index = vec![0; from.len()];
                for (i, &n) in index.iter_mut().zip(&from).rev() {
                    (*i, at) = (at % n, at / n);
                }
                index
            };
            *copies = true;
            (tensor.reshape(&to), model.map(to, index))
        }
        _ => (tensor.clone(), model.clone()),
    }
}

/// A shape of as many elements.
fn other_shape(random: &mut Random, shape: &[usize]) -> Vec<usize> {
    let mut left: usize = shape.iter().product();
    let mut to = vec![];
    while left > 1 && to.len() < 4 {
        let n = (1..=left).filter(|&n| left.is_multiple_of(n)).nth(random.below(3)).unwrap_or(left);
        to.push(n);
        left /= n;
    }
    to.push(left);
    to
}

#[test]
fn chains_of_views_equal_an_index_function() {
    let mut random = Random::new(8);
    let shapes: [&[usize]; 7] =
        [&[], &[12], &[3, 4], &[2, 3, 4], &[2, 1, 5, 3], &[4, 0, 2], &[2, 3, 2, 2, 2]];
    for round in 0..if slow() { 2_000 } else { 40_000 } {
        let shape = shapes[random.below(shapes.len())];
        let n: usize = shape.iter().product();
        let dtype = [Dtype::I32, Dtype::U8][random.below(2)];
        let base = match dtype {
            Dtype::I32 => Tensor::new(dtype, &(0..n as i32).collect::<Vec<_>>(), shape),
            _ => Tensor::new(dtype, &(0..n as u8).collect::<Vec<_>>(), shape),
        };
        let (mut tensor, mut model, mut copies) = (base.clone(), Model::new(shape), false);
        for _ in 0..1 + random.below(8) {
            (tensor, model) = step(&mut random, &tensor, &model, &mut copies);
        }
        assert_eq!(tensor.shape(), model.shape, "round {round}");
        let want = model.places();
        let got: Vec<usize> = match dtype {
            Dtype::I32 => tensor.to_vec::<i32>().iter().map(|&x| x as usize).collect(),
            _ => tensor.to_vec::<u8>().iter().map(|&x| x as usize).collect(),
        };
        assert_eq!(got, want, "round {round}: {tensor:?}");
        let one_by_one: Vec<usize> = indices(&model.shape).iter().map(|i| tensor.at(i) as usize).collect();
        assert_eq!(one_by_one, want, "round {round}: {tensor:?}");
        assert!(copies || tensor.shares_memory(&base), "round {round}: a view copied");
    }
}

#[test]
fn reshapes_copy_only_where_they_must() {
    let x = Tensor::arange(24).reshape(&[2, 3, 4]);
    let same = |t: &Tensor| t.shares_memory(&x);
    assert!(same(&x.reshape(&[6, 4])) && same(&x.reshape(&[24])) && same(&x.reshape(&[2, 1, 3, 2, 2])));
    assert!(same(&x.t().reshape(&[2, 2, 2, 3])) && !same(&x.t().reshape(&[24])));
    assert!(same(&x.step_by(0, -1).reshape(&[2, 12])) && same(&x.slice(0, 1..).reshape(&[12])));
    assert!(same(&x.step_by(2, 2).reshape(&[12])), "even places are one axis of stride 2");
    assert!(same(&Tensor::reshape(&x.slice(0, ..1).broadcast_to(&[2, 3, 4]), &[2, 12])));
    assert_eq!(x.reshape(&[4, 6]).reshape(&[2, 3, 4]).to_vec::<i32>(), x.to_vec::<i32>());
}

#[test]
fn writing_leaves_what_shares_alone() {
    let a = Tensor::from_f32(&[1.0, 2.0, 3.0, 4.0], &[2, 2]);
    let mut b = a.t();
    b.make_mut::<f32>()[1] = 30.0;
    assert_eq!((a.to_vec::<f32>(), b.to_vec::<f32>()), (vec![1.0, 2.0, 3.0, 4.0], vec![1.0, 30.0, 2.0, 4.0]));
    let at = b.as_slice::<f32>().unwrap().as_ptr();
    b.make_mut::<f32>()[0] = 10.0;
    assert_eq!(b.as_slice::<f32>().unwrap().as_ptr(), at, "alone, it is written in place");
    let mut row = b.slice(0, 1..);
    drop(b);
    row.make_mut::<f32>().fill(0.0);
    assert_eq!(row.to_vec::<f32>(), [0.0, 0.0]);
    let mut five = Tensor::full(5.0, &[2, 3]);
    five.make_mut::<f32>()[0] = 1.0;
    assert_eq!(five.to_vec::<f32>(), [1.0, 5.0, 5.0, 5.0, 5.0, 5.0]);
    assert_eq!(five.as_slice::<f32>().unwrap().as_ptr() as usize % 64, 0);
}
