//! The ways that a product can go – in place, copied, few rows, wide – are for speed: each gives the twin's bits, with
//! a prior C and a bias too.

use super::common::{self, Random, assert_same, cpus};
use super::{run, twin};
use samebits::kernels::gemm::{Accumulate, Epilogue, Gemm, Strided};
use samebits::kernels::view::{Layout, MatMut, MatRef};

/// How a matrix lies: row after row, column after column, or rows a page apart (which a tile does not read in
/// place).
#[derive(Clone, Copy, Debug)]
enum Lies {
    Rows,
    Columns,
    Pages,
}

/// A random matrix that lies so.
fn matrix(random: &mut Random, rows: usize, cols: usize, lies: Lies) -> (Vec<f32>, Layout) {
    let page = cols.next_multiple_of(1024) as isize;
    let (row_stride, col_stride) = match lies {
        Lies::Rows => (cols as isize, 1),
        Lies::Columns => (1, rows as isize),
        Lies::Pages => (page, 1),
    };
    let len = (rows as isize - 1) * row_stride + (cols as isize - 1) * col_stride + 1;
    (random.vec(len as usize), Layout { rows, cols, row_stride, col_stride })
}

fn check(random: &mut Random, (m, n, k): (usize, usize, usize), of_a: Lies, of_b: Lies) {
    let (a, a_layout) = matrix(random, m, k, of_a);
    let (b, b_layout) = matrix(random, k, n, of_b);
    let (a, b) = (MatRef::strided(&a, 0, a_layout), MatRef::strided(&b, 0, b_layout));
    let (prior, bias) = (random.vec(m * n), random.vec(n));
    let plain = twin(a, b, |_, _| 0.0);
    let mut more = twin(a, b, |i, j| prior[i * n + j]);
    more.iter_mut().enumerate().for_each(|(i, x)| *x += bias[i % n]);
    for cpu in cpus() {
        let case = format!("{cpu:?} {m}×{n}×{k}, A by {of_a:?}, B by {of_b:?}");
        let mut c = vec![f32::NAN; m * n];
        run(cpu, Gemm::new(a, Strided(b), MatMut::new(&mut c, m, n)));
        assert_same(&c, &plain, &case);
        c.copy_from_slice(&prior);
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::NONE };
        let job = Gemm::new(a, Strided(b), MatMut::new(&mut c, m, n));
        run(cpu, Gemm { accumulate: Accumulate::Add, epilogue, ..job });
        assert_same(&c, &more, format!("{case}, added to C, with a bias"));
    }
}

#[test]
fn few_rows_of_weights_as_they_lie() {
    let mut random = Random::new(41);
    for m in 1..=9 {
        for (n, k) in [(1, 2), (16, 256), (35, 530), (50, 1041)] {
            check(&mut random, (m, n, k), Lies::Rows, Lies::Columns);
        }
    }
    check(&mut random, (5, 40, 300), Lies::Pages, Lies::Columns);
    check(&mut random, (5, 40, 300), Lies::Columns, Lies::Columns);
}

/// B is read in strips of 1,024 columns from 2¹⁸ elements on, its last columns otherwise.
#[test]
fn few_rows_of_a_large_b() {
    let mut random = Random::new(42);
    let rows: &[usize] = if common::slow() { &[3] } else { &[1, 2, 3, 5, 8] };
    for &m in rows {
        check(&mut random, (m, 1037, 261), Lies::Rows, Lies::Rows);
        check(&mut random, (m, 1037, 261), Lies::Columns, Lies::Rows);
    }
    if !common::slow() {
        check(&mut random, (3, 2048, 517), Lies::Pages, Lies::Rows);
        check(&mut random, (8, 33, 8192), Lies::Rows, Lies::Rows);
    }
}

/// Rows of A in place or copied, once or for every sliver; B in place or packed; an odd last panel; every number of
/// last rows.
#[test]
fn tiles_of_rows_that_lie_anyhow() {
    let mut random = Random::new(43);
    let shapes: &[_] = match common::slow() {
        true => &[(14, 150, 261), (13, 48, 520)],
        false => {
            &[(30, 150, 600), (13, 48, 520), (100, 167, 264), (100, 167, 261), (200, 40, 72), (64, 1024, 64)]
        }
    };
    for &shape in shapes {
        for of_a in [Lies::Rows, Lies::Pages, Lies::Columns] {
            check(&mut random, shape, of_a, Lies::Rows);
        }
        check(&mut random, shape, Lies::Pages, Lies::Columns);
    }
    for m in 9..=21 {
        check(&mut random, (m, 80, 40), Lies::Rows, Lies::Pages);
    }
}
