//! What a set of vectors is, and how a vector is made fit for it.

use crate::kernels::half::f32_to_f16;
use crate::kernels::optim::sum_of_squares;
use crate::kernels::search::Code;
use crate::kernels::simd::sqrt64;
use crate::{Cpu, Error, Result};

/// How likeness is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The cosine of the angle.
    Cosine,
    /// The product.
    Dot,
    /// The Euclidean distance.
    L2,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

    /// What `score` is as a distance, less being better: cosine 1 − score in 0..=2, dot −score, L2 the squared distance.
    pub fn distance(self, score: f32) -> f32 {
        match self {
            Metric::Cosine => (1.0 - score).clamp(0.0, 2.0),
            Metric::Dot | Metric::L2 => 0.0 - score,
        }
    }

    /// The score of a query and a row, from their product and their squares.
    pub(super) fn score(self, product: f32, query_square: f32, square: f32) -> f32 {
        match self {
            Metric::Cosine | Metric::Dot => product,
            Metric::L2 => {
                let sum = f64::from(query_square) + f64::from(square);
                let distance = sum - 2.0 * f64::from(product);
                if distance > 0.0 { -distance as f32 } else { 0.0 }
            }
        }
    }
}

/// How a vector is stored.
///
/// ```
/// use samebits::rag::vectors::{Form, Full, Metric, VectorIndex, VectorType};
/// use samebits::{Cpu, run::Run};
/// let run = Run::here(Cpu::detect());
/// let plain = Form::new(64, Metric::Dot)?;
/// // Bits, with halves beside them by which the best are looked at again.
/// let binary = plain.stored(VectorType::Binary, Full::F16);
/// let row: Vec<f32> = (0..64).map(|i| if i % 3 == 0 { 1.0 } else { -1.0 }).collect();
/// let scores: Vec<f32> = [plain, binary].into_iter().map(|form| {
///     let mut index = VectorIndex::new(form);
///     index.add(run.cpu(), &["a"], &row)?;
///     Ok(index.search(&run, &row, 1)?[0][0].score as f32)
/// }).collect::<samebits::Result<_>>()?;
/// assert_eq!(scores, [64.0, 64.0]);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorType {
    /// As it is: 4 bytes an element.
    F32,
    /// Rounded to IEEE halves: 2 bytes an element.
    F16,
    /// Signed bytes and one scale, the largest magnitude / 127.
    Int8,
    /// Sixteen levels of the normal distribution and one scale, the largest magnitude: ½ byte an element.
    Nf4,
    /// Signs and one scale, the mean magnitude: ⅛ byte an element.
    Binary,
}

impl VectorType {
    /// All of them.
    pub const ALL: [VectorType; 5] =
        [VectorType::F32, VectorType::F16, VectorType::Int8, VectorType::Nf4, VectorType::Binary];

    /// How many of the closest by codes are looked at, unless told, to find the `k` closest:
    ///
    /// | type | for each | at least | recall@10 of 100,000 × 384 in 1,000 clusters | in 100 | 29,417 sentences by MiniLM |
    /// |---|---|---|---|---|---|
    /// | int8 | 4 | | 1 | 1 | 1 |
    /// | NF4 | 10 | 100 | 1 | 0.996 | 1 |
    /// | binary | 40 | 400 | 1 | 0.83 | 0.993 |
    ///
    /// Signs tell clusters apart, and little within one. Floats need none but themselves.
    pub const fn candidates(self, k: usize) -> usize {
        let (each, least) = match self {
            VectorType::F32 | VectorType::F16 => (1, 0),
            VectorType::Int8 => (4, 0),
            VectorType::Nf4 => (10, 100),
            VectorType::Binary => (40, 400),
        };
        let all = k.saturating_mul(each);
        if all < least { least } else { all }
    }

    /// The codes of a type that is searched by them first.
    pub(super) const fn code(self) -> Option<Code> {
        match self {
            VectorType::F32 | VectorType::F16 => None,
            VectorType::Int8 => Some(Code::Int8),
            VectorType::Nf4 => Some(Code::Nf4),
            VectorType::Binary => Some(Code::Binary),
        }
    }
}

/// What is kept of a vector beside its codes, to give those that the codes find their scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Nothing: scores are those of the decoded codes.
    Dropped,
    /// All of it.
    F32,
    /// It rounded to IEEE halves.
    F16,
}

impl Full {
    pub(super) const ALL: [Full; 3] = [Full::Dropped, Full::F32, Full::F16];
}

/// What a set of vectors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub(super) dim: usize,
    pub(super) metric: Metric,
    pub(super) kind: VectorType,
    pub(super) full: Full,
}

/// Elements of a vector, at most: integer products of so many codes do not overflow.
pub(super) const MAX_DIM: usize = 1 << 16;
/// The largest square of a norm under dot and L2: (2⁶²)². Then no product overflows, nor does a squared distance.
const MAX_SQUARE: f64 = (1u128 << 124) as f64;

impl Form {
    /// Vectors of `dim` floats as they are.
    ///
    /// # Errors
    /// Where `dim` is not 1 to 2¹⁶.
    pub fn new(dim: usize, metric: Metric) -> Result<Form> {
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(Error::invalid(format!("vectors of {dim} elements, expected 1 to {MAX_DIM}")));
        }
        Ok(Form { dim, metric, kind: VectorType::F32, full: Full::Dropped })
    }

    /// The same, stored as `kind`; beside codes `full` is kept (beside floats, which are all there is, nothing).
    #[must_use]
    pub const fn stored(self, kind: VectorType, full: Full) -> Form {
        let full = if kind.code().is_some() { full } else { Full::Dropped };
        Form { kind, full, ..self }
    }

    /// Elements of a vector.
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// How likeness is measured.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// How vectors are stored.
    pub const fn kind(&self) -> VectorType {
        self.kind
    }

    /// What is kept beside codes.
    pub const fn full(&self) -> Full {
        self.full
    }

    /// Bytes of a row of floats or codes.
    pub(super) const fn row_bytes(&self) -> usize {
        match (self.kind, self.kind.code()) {
            (_, Some(code)) => code.row_bytes(self.dim),
            (VectorType::F16, _) => 2 * self.dim,
            _ => 4 * self.dim,
        }
    }

    /// Bytes of a row that is kept beside codes.
    pub(super) const fn full_bytes(&self) -> usize {
        match self.full {
            Full::Dropped => 0,
            Full::F32 => 4 * self.dim,
            Full::F16 => 2 * self.dim,
        }
    }

    /// Whether rows have scales.
    pub(super) const fn has_scales(&self) -> bool {
        self.kind.code().is_some()
    }

    /// Whether the squares of rows are stored.
    pub(super) const fn has_squares(&self) -> bool {
        matches!(self.metric, Metric::L2)
    }

    const fn has_halves(&self) -> bool {
        matches!(self.kind, VectorType::F16) || matches!(self.full, Full::F16)
    }

    /// `rows` rows as they are compared; their number and every element are checked.
    pub(super) fn prepare(&self, cpu: Cpu, x: &[f32], rows: usize, role: Role) -> Result<Vec<f32>> {
        let (dim, name) = (self.dim, role.name());
        if rows.checked_mul(dim) != Some(x.len()) {
            let expected = format!("({rows}, {dim})");
            return Err(Error::Shape {
                file: String::new(),
                name: name.into(),
                shape: vec![x.len()],
                expected,
            });
        }
        let mut out = x.to_vec();
        for (r, row) in out.chunks_exact_mut(dim).enumerate() {
            if let Err((i, expected)) = self.prepare_row(cpu, row, role) {
                let index = r * dim + i;
                return Err(Error::Value { name: name.into(), index, value: x[index].into(), expected });
            }
        }
        Ok(out)
    }

    /// A row as it is compared, or which element is wrong, and what was expected.
    fn prepare_row(&self, cpu: Cpu, row: &mut [f32], role: Role) -> Result<(), (usize, &'static str)> {
        let square = sum_of_squares(cpu, row);
        if !square.is_finite() {
            return Err((row.iter().position(|x| !x.is_finite()).unwrap_or(0), "a finite number"));
        }
        match self.metric {
            Metric::Cosine if square > 0.0 => {
                let norm = sqrt64(square);
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
            Metric::Cosine if role == Role::Stored => {
                return Err((0, "a vector that is not all zeros: it has no cosine"));
            }
            Metric::Dot | Metric::L2 if square > MAX_SQUARE => {
                return Err((largest(row), "a vector of norm 2^62 at most: products would overflow"));
            }
            _ => {}
        }
        let at = largest(row);
        if role == Role::Stored && self.has_halves() && f32_to_f16(row[at].abs()) == HALF_INFINITY {
            return Err((at, "a number that a half holds, 65504 at most"));
        }
        Ok(())
    }
}

/// The half that larger numbers become.
const HALF_INFINITY: u16 = 0x7c00;

/// What a vector is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Stored,
    Query,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Role::Stored => "vectors",
            Role::Query => "queries",
        }
    }
}

fn largest(row: &[f32]) -> usize {
    let of = |&i: &usize, &j: &usize| row[i].abs().total_cmp(&row[j].abs());
    (0..row.len()).max_by(of).unwrap_or(0)
}
