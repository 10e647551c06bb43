//! Strided matrices for tests: the same values laid out in every way that a view can name.

use samebits::kernels::view::{Layout, MatMut, MatRef};

/// A way to lay out a (rows, cols) matrix, with gaps that hold NaN.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Row after row.
    Contiguous,
    /// Rows side by side, with a gap after each.
    Padded,
    /// Column after column.
    Transposed,
    /// Every third element.
    Spread,
    /// Rows and columns from the last to the first.
    Reversed,
}

impl Form {
    pub const ALL: [Form; 5] =
        [Form::Contiguous, Form::Padded, Form::Transposed, Form::Spread, Form::Reversed];
}

/// A matrix in memory of its own.
pub struct Mat {
    pub data: Vec<f32>,
    pub offset: usize,
    pub layout: Layout,
}

impl Mat {
    /// `values` (rows, cols), row-major, in the given form; gaps are NaN.
    pub fn new(form: Form, rows: usize, cols: usize, values: &[f32]) -> Mat {
        let (r, c) = (rows as isize, cols as isize);
        let (offset, row_stride, col_stride) = match form {
            Form::Contiguous => (0, c, 1),
            Form::Padded => (3, c + 5, 1),
            Form::Transposed => (1, 1, r + 2),
            Form::Spread => (0, 3 * c + 1, 3),
            Form::Reversed => (((rows * cols).max(1) - 1), -c, -1),
        };
        let layout = Layout { rows, cols, row_stride, col_stride };
        let mut mat = Mat { data: vec![f32::NAN; (rows + 3) * (3 * cols + 3) + 4], offset, layout };
        let mut view = mat.view_mut();
        assert_eq!(values.len(), rows * cols);
        for (i, &x) in values.iter().enumerate() {
            *view.at(i / cols, i % cols) = x;
        }
        mat
    }

    pub fn view(&self) -> MatRef<'_> {
        MatRef::strided(&self.data, self.offset, self.layout)
    }

    pub fn view_mut(&mut self) -> MatMut<'_> {
        MatMut::strided(&mut self.data, self.offset, self.layout)
    }

    /// The values, row-major; panics where something was written between them.
    pub fn values(&self) -> Vec<f32> {
        let v = self.view();
        let (rows, cols) = (v.rows(), v.cols());
        let values: Vec<f32> = (0..rows * cols).map(|i| v.get(i / cols, i % cols)).collect();
        let gaps = self.data.iter().filter(|x| x.is_nan()).count();
        let inside = values.iter().filter(|x| x.is_nan()).count();
        assert_eq!(gaps - inside, self.data.len() - rows * cols, "a gap was written to: {:?}", self.layout);
        values
    }
}
