//! Vectors by id, that come, change and go.

use super::form::{Form, Role};
use super::memory::Bytes;
use super::rows::RowSet;
use super::search::Search;
use super::stored::VectorsRef;
use crate::rag::retrieve::Hit;
use crate::run::Run;
use crate::{Cpu, Error, Result};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, OnceLock};

/// Vectors by id. Whatever was added, replaced and removed before: what it finds, scores and order included, and the bytes
/// that it writes are those of an index into which the same vectors came at once.
///
/// ```
/// use samebits::rag::vectors::{Form, Metric, VectorIndex};
/// use samebits::{Cpu, run::Run};
/// let run = Run::here(Cpu::detect());
/// let mut index = VectorIndex::new(Form::new(2, Metric::Cosine)?);
/// index.add(run.cpu(), &["east", "north"], &[3.0, 0.0, 0.0, 5.0])?;
/// let hits = index.search(&run, &[1.0, 0.1], 1)?;
/// assert_eq!(hits[0][0].id, "east");
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct VectorIndex {
    form: Form,
    rows: Bytes,
    full: Bytes,
    /// Of each row under L2.
    squares: Vec<f32>,
    /// Of each row of codes.
    scales: Vec<f32>,
    /// Of each row.
    ids: Vec<Arc<str>>,
    /// The row of each.
    by_id: BTreeMap<Arc<str>, u32>,
    /// Which of the ids, in their order, a row has: computed when it is needed.
    rank: OnceLock<Vec<u32>>,
}

impl VectorIndex {
    /// An empty index.
    pub fn new(form: Form) -> VectorIndex {
        VectorIndex {
            form,
            rows: Bytes::default(),
            full: Bytes::default(),
            squares: Vec::new(),
            scales: Vec::new(),
            ids: Vec::new(),
            by_id: BTreeMap::new(),
            rank: OnceLock::new(),
        }
    }

    /// An index of stored vectors: row r is that of `ids[r]`.
    ///
    /// # Errors
    /// Where there are not as many ids as vectors, or two are the same.
    pub fn from_stored(ids: &[&str], vectors: &VectorsRef<'_>) -> Result<VectorIndex> {
        if ids.len() != vectors.len() {
            return Err(Error::invalid(format!("{} ids of {} vectors", ids.len(), vectors.len())));
        }
        let mut index = VectorIndex::new(vectors.form());
        index.append(ids.iter().map(|&id| Arc::from(id)), vectors)?;
        Ok(index)
    }

    /// Adds all vectors of another index, as they are stored there. All or, where there is an error, none.
    ///
    /// # Errors
    /// Where they are of another form, or an id is there already.
    pub fn absorb(&mut self, other: &VectorIndex) -> Result<()> {
        if other.form != self.form {
            return Err(Error::invalid(format!("{:?} cannot join {:?}", other.form, self.form)));
        }
        self.append(other.ids.iter().cloned(), &other.view())
    }

    /// Adds stored vectors of this form, row by row with their ids. All or, where there is an error, none.
    fn append(&mut self, ids: impl Iterator<Item = Arc<str>>, vectors: &VectorsRef<'_>) -> Result<()> {
        let known = self.ids.len();
        for (row, id) in (known as u32..).zip(ids) {
            if self.by_id.contains_key(&id) {
                self.ids.drain(known..).for_each(|id| _ = self.by_id.remove(&id));
                return Err(Error::invalid(format!("two vectors of the id {id:?}")));
            }
            self.by_id.insert(id.clone(), row);
            self.ids.push(id);
        }
        self.rows.extend(vectors.rows);
        self.full.extend(vectors.full);
        self.squares.extend(vectors.squares);
        self.scales.extend(vectors.scales);
        self.rank.take();
        Ok(())
    }

    /// What its vectors are.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The ids in their order: that of the rows that [`VectorIndex::write`] writes.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(|id| &**id)
    }

    /// The vector of `id` as it is compared.
    pub fn get(&self, cpu: Cpu, id: &str) -> Option<Vec<f32>> {
        Some(self.view().row(cpu, *self.by_id.get(id)?))
    }

    /// Adds `vectors`, (ids, dim), each in the place of the one of the same id if there is one; of one id twice the last
    /// counts. All or, where there is an error, none.
    ///
    /// # Errors
    /// Where the vectors are not (ids, dim), or one is what [this module](super) refuses.
    pub fn add(&mut self, cpu: Cpu, ids: &[&str], vectors: &[f32]) -> Result<()> {
        let prepared = self.check(cpu, ids, vectors)?;
        for (id, x) in ids.iter().zip(prepared.chunks_exact(self.form.dim)) {
            self.put(cpu, id, x);
        }
        Ok(())
    }

    /// The vectors as they are compared, if they can be added.
    pub(super) fn check(&self, cpu: Cpu, ids: &[&str], vectors: &[f32]) -> Result<Vec<f32>> {
        let count = self.len() + ids.len();
        if count > u32::MAX as usize {
            return Err(Error::TooLarge { shape: vec![count, self.form.dim] });
        }
        self.form.prepare(cpu, vectors, ids.len(), Role::Stored)
    }

    /// Stores a prepared vector.
    fn put(&mut self, cpu: Cpu, id: &str, x: &[f32]) {
        let new = self.form.encode(cpu, x);
        let row = match self.by_id.get(id) {
            Some(&row) => row as usize,
            None => {
                let (row, id) = (self.ids.len(), Arc::<str>::from(id));
                self.rows.extend(&new.bytes);
                self.full.extend(&new.full);
                self.squares.extend(self.form.has_squares().then_some(new.square));
                self.scales.extend(self.form.has_scales().then_some(new.scale));
                self.ids.push(id.clone());
                self.by_id.insert(id, row as u32);
                self.rank.take();
                return;
            }
        };
        self.rows.put(row, &new.bytes);
        self.full.put(row, &new.full);
        if let Some(square) = self.squares.get_mut(row) {
            *square = new.square;
        }
        if let Some(scale) = self.scales.get_mut(row) {
            *scale = new.scale;
        }
    }

    /// Removes a vector, as if it had never been there; whether it was.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(row) = self.by_id.remove(id) else { return false };
        self.rank.take();
        let row = row as usize;
        self.rows.swap_remove(row, self.form.row_bytes());
        self.full.swap_remove(row, self.form.full_bytes());
        self.ids.swap_remove(row);
        for numbers in [&mut self.squares, &mut self.scales] {
            if row < numbers.len() {
                numbers.swap_remove(row);
            }
        }
        if let Some(moved) = self.ids.get(row) {
            self.by_id.insert(moved.clone(), row as u32);
        }
        true
    }

    /// The vectors where they lie. Their rows are in the order of what happened to the index.
    pub fn view(&self) -> VectorsRef<'_> {
        VectorsRef {
            form: self.form,
            count: self.ids.len(),
            squares: &self.squares,
            scales: &self.scales,
            rows: self.rows.as_slice(),
            full: self.full.as_slice(),
        }
    }

    /// The `k` vectors that are closest to each of `queries`, (n, dim), the closest first.
    ///
    /// # Errors
    /// Where the queries are not (n, dim), or not finite.
    pub fn search(&self, run: &Run<'_>, queries: &[f32], k: usize) -> Result<Vec<Vec<Hit>>> {
        self.search_in(run, queries, &Search::new(k))
    }

    /// The same among the vectors whose id is `wanted`, as if there were no others.
    ///
    /// # Errors
    /// As [`VectorIndex::search`].
    pub fn search_where(
        &self,
        run: &Run<'_>,
        queries: &[f32],
        k: usize,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Vec<Hit>>> {
        let wanted = self.wanted(wanted);
        self.search_in(run, queries, &Search { wanted: Some(&wanted), ..Search::new(k) })
    }

    fn search_in(&self, run: &Run<'_>, queries: &[f32], search: &Search<'_>) -> Result<Vec<Vec<Hit>>> {
        let found = self.view().search_ranked(run, queries, search, Some(self.rank()))?;
        let hits = |found: Vec<(u32, f32)>| found.into_iter().map(|found| self.hit(found)).collect();
        Ok(found.into_iter().map(hits).collect())
    }

    pub(super) fn hit(&self, (row, score): (u32, f32)) -> Hit {
        Hit { id: self.ids[row as usize].to_string(), score: score.into() }
    }

    /// The rows whose ids are wanted.
    pub(super) fn wanted(&self, wanted: &dyn Fn(&str) -> bool) -> RowSet {
        RowSet::new(self.len(), |row| wanted(&self.ids[row as usize]))
    }

    pub(super) fn row_of(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The rows in the order of their ids.
    pub(super) fn rows_by_id(&self) -> Vec<u32> {
        self.by_id.values().copied().collect()
    }

    /// Of each row, which in that order it is.
    pub(super) fn rank(&self) -> &[u32] {
        self.rank.get_or_init(|| {
            let mut rank = vec![0; self.ids.len()];
            self.by_id.values().zip(0..).for_each(|(&row, place)| rank[row as usize] = place);
            rank
        })
    }

    /// Writes the vectors in the order of their ids, as [`VectorsRef::parse`] reads them.
    ///
    /// # Errors
    /// What `to` says.
    pub fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        self.view().write(self.by_id.values().copied(), to)
    }

    /// What [`VectorIndex::write`] writes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.view().written_len());
        self.write(&mut bytes).expect("memory takes what is written to it");
        bytes
    }
}
