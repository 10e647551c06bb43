//! The work of an attention, cut by shape: (sequence, heads of one group, queries), up to 48 rows; of bfloat16
//! several times as many.

use super::class::{Bf16, F32};
use super::stored::{Stored, StoredRows};
use super::tiers::Run;
use super::tiles::{self, OnTiles};
use super::{Attention, Options, Products, ROWS, Sequences};
use crate::simd::Simd;
use crate::simd::tiles::Rounds;
use crate::view::{BATCH, HEADS, HeadsMut, HeadsRef, TOKENS};
use crate::{Cpu, LANES, Line};
use core::ops::Range;

/// Up to 48 rows, of bfloat16 384, (query, head) in a group of heads that read the same keys, with their part of the output.
pub struct Piece<'a> {
    /// (1, group, queries, qk_dim)
    pub(super) q: HeadsRef<'a>,
    /// (Lk, qk_dim): the keys of the sequence, without padding.
    pub(super) k: StoredRows<'a>,
    /// (Lk, v_dim)
    pub(super) v: StoredRows<'a>,
    /// (1, group, queries, v_dim) and (1, group, queries, 1)
    pub(super) output: Output<'a>,
    pub(super) options: Options<'a>,
    pub(super) place: Place,
}

/// Where a piece lies in the whole.
pub(super) struct Place {
    /// Row of the masks' batch.
    pub sequence: usize,
    /// Row of the batch, and the first query's token in it.
    pub token: (usize, usize),
    /// The first head.
    pub head: usize,
    /// The first query, as masks count.
    pub query: usize,
    /// The sequence's first key, as masks count.
    pub key: usize,
    /// Position of the first query among the keys; it may lie before the sequence.
    pub position: isize,
    /// Queries of the piece that are not padding.
    pub exist: Range<usize>,
}

/// `out` and `lse`, cut together.
pub(super) struct Output<'a> {
    pub out: HeadsMut<'a>,
    pub lse: Option<HeadsMut<'a>>,
}

impl<'a> Output<'a> {
    pub(super) fn take_front(&mut self, axis: usize, n: usize) -> Output<'a> {
        let lse = self.lse.as_mut().map(|lse| lse.take_front(axis, n));
        Output { out: self.out.take_front(axis, n), lse }
    }
}

/// The tokens of one sequence.
pub(super) struct Tokens {
    /// Row of the batch.
    pub row: usize,
    /// Its queries in that row, padding among them.
    pub tokens: Range<usize>,
    /// Those of them that are queries, counted from the first.
    pub exist: Range<usize>,
    /// Its keys in that row, without padding.
    pub keys: Range<usize>,
    /// The first key, as masks count.
    pub key: usize,
}

impl Sequences<'_> {
    /// How many sequences `batch` rows hold.
    pub(super) fn count(&self, batch: usize) -> usize {
        match self {
            Sequences::Packed { queries, .. } => queries.len() - 1,
            _ => batch,
        }
    }

    /// Of sequence `i`, where rows have Lq and Lk tokens.
    pub(super) fn tokens(&self, i: usize, (lq, lk): (usize, usize)) -> Tokens {
        match self {
            Sequences::Whole => Tokens { row: i, tokens: 0..lq, exist: 0..lq, keys: 0..lk, key: 0 },
            Sequences::Padded { queries, keys } => {
                let exist = queries.map_or(0..lq, |q| q[i].start..q[i].start + q[i].len);
                let keys = keys[i].start..keys[i].start + keys[i].len;
                Tokens { row: i, tokens: 0..lq, exist, key: keys.start, keys }
            }
            Sequences::Packed { queries, keys } => {
                let (tokens, keys) = (queries[i]..queries[i + 1], keys[i]..keys[i + 1]);
                Tokens { row: 0, exist: 0..tokens.len(), tokens, keys, key: 0 }
            }
        }
    }
}

/// Parts of a piece of bfloat16 that are looked at by themselves, at most.
pub(super) const PARTS: usize = 8;
/// Pieces that there should be before any has several parts: work for many threads.
const PIECES: usize = 32;

/// Rows of a piece, at most. With products of bfloat16 keys and values are brought into another form, once for a piece: for
/// more rows, where there are enough.
fn rows_of(q: &HeadsRef<'_>, options: &Options<'_>) -> usize {
    let [batch, heads, queries, _] = q.shape();
    match options.products {
        Products::F32 => ROWS,
        Products::Bf16 => (batch * heads * queries / (PIECES * ROWS)).clamp(1, PARTS) * ROWS,
    }
}

/// The pieces of an [`Attention`], in order: sequences, then heads, then queries.
pub struct Pieces<'a> {
    q: HeadsRef<'a>,
    k: Stored<'a>,
    v: Stored<'a>,
    options: Options<'a>,
    /// Sequences not begun; heads of this one not begun; queries of these heads not begun.
    sequences: Output<'a>,
    heads: Output<'a>,
    queries: Output<'a>,
    /// The next piece: sequence, its first head, how many, its first query.
    sequence: usize,
    head: usize,
    group: usize,
    query: usize,
    left: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(problem: Attention<'a>) -> Self {
        let Attention { q, k, v, out, lse, options } = problem;
        let mut sequences = Output { out, lse };
        let heads = sequences.take_front(BATCH, 0);
        let mut empty = sequences.take_front(BATCH, 0);
        let queries = empty.take_front(BATCH, 0);
        let mut pieces = Pieces {
            q,
            k,
            v,
            options,
            sequences,
            heads,
            queries,
            sequence: 0,
            head: 0,
            group: 0,
            query: 0,
            left: 0,
        };
        pieces.left = pieces.cuts();
        if pieces.left > 0 {
            pieces.begin_sequence();
        }
        pieces
    }

    /// Query heads that read one key head.
    fn group_size(&self) -> usize {
        self.q.shape()[HEADS] / self.k.shape()[HEADS].max(1)
    }

    fn cuts(&self) -> usize {
        let (group, kv_heads) = (self.group_size(), self.k.shape()[HEADS]);
        let rows = rows_of(&self.q, &self.options);
        let of_heads = |queries: usize| {
            let whole = group / ROWS * queries.div_ceil(rows / ROWS);
            let rest = group % ROWS;
            whole + rows.checked_div(rest).map_or(0, |n| queries.div_ceil(n))
        };
        (0..self.sequence_count()).map(|i| of_heads(self.tokens(i).len()) * kv_heads).sum()
    }

    fn sequence_count(&self) -> usize {
        self.options.sequences.count(self.q.shape()[BATCH])
    }

    /// Query tokens of sequence `i`, padding among them, in its batch row.
    fn tokens(&self, i: usize) -> Range<usize> {
        match self.options.sequences {
            Sequences::Packed { queries, .. } => queries[i]..queries[i + 1],
            _ => 0..self.q.shape()[TOKENS],
        }
    }

    fn begin_sequence(&mut self) {
        let mut sequence = match self.options.sequences {
            Sequences::Packed { .. } => self.sequences.take_front(TOKENS, self.tokens(self.sequence).len()),
            _ => self.sequences.take_front(BATCH, 1),
        };
        self.head = 0;
        core::mem::swap(&mut self.heads, &mut sequence);
        self.begin_heads();
    }

    fn begin_heads(&mut self) {
        let group = self.group_size();
        self.group = (group - self.head % group).min(ROWS);
        self.query = 0;
        self.queries = self.heads.take_front(HEADS, self.group);
    }

    /// The part of the whole that starts at query `self.query`, `n` queries long.
    fn cut(&mut self, n: usize) -> Piece<'a> {
        let i = self.sequence;
        let lengths = (self.q.shape()[TOKENS], self.k.shape()[TOKENS]);
        let Tokens { row, tokens, exist, keys, key } = self.options.sequences.tokens(i, lengths);
        let kv_head = self.head / self.group_size();
        let part = |x: &Stored<'a>| x.rows(row, kv_head, keys.clone());
        let first = self.options.align.position(exist.len(), keys.len());
        let inside = |at: usize| at.saturating_sub(self.query).min(n);
        let q = self.q.part(BATCH, row, 1).part(HEADS, self.head, self.group);
        Piece {
            q: q.part(TOKENS, tokens.start + self.query, n),
            k: part(&self.k),
            v: part(&self.v),
            options: self.options,
            place: Place {
                sequence: i,
                token: (row, tokens.start + self.query),
                head: self.head,
                query: self.query,
                key,
                position: first + self.query as isize - exist.start as isize,
                exist: inside(exist.start)..inside(exist.end),
            },
            output: self.queries.take_front(TOKENS, n),
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let rest = self.queries.out.shape()[TOKENS];
            if rest > 0 {
                let n = rest.min(rows_of(&self.q, &self.options) / self.group);
                let piece = self.cut(n);
                self.query += n;
                return Some(piece);
            }
            self.head += self.group;
            if self.head < self.q.shape()[HEADS] {
                self.begin_heads();
            } else {
                self.sequence += 1;
                self.begin_sequence();
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Pieces<'_> {}

impl Piece<'_> {
    /// Computes this part of the output.
    ///
    /// # Panics
    /// Where `scratch` is shorter than [`super::scratch_len_for`] the keys.
    pub fn run(self, cpu: Cpu, scratch: &mut [Line]) {
        self.check(scratch);
        match self.options.products {
            Products::F32 => cpu.run(Run { class: F32, piece: self, scratch }),
            Products::Bf16 => {
                let room = super::scratch_len_on_tiles(self.k.cols(), self.v.cols());
                let fits = self.fits_tiles() && scratch.len() >= room;
                match if fits { cpu.tiles_bf16() } else { None } {
                    Some(tiles) => cpu.run(OnTiles { piece: self, scratch, tiles }),
                    None => cpu.run(Run { class: Bf16, piece: self, scratch }),
                }
            }
        }
    }

    /// [`Piece::run`] on a matrix unit; with [`Plain`](crate::simd::tiles::Plain) what the unit would do. Few rows, and
    /// components past a block, go the way that they go without one.
    ///
    /// # Panics
    /// Where products are not of bfloat16, or `scratch` is shorter than [`super::scratch_len_on_tiles`].
    pub fn run_on_tiles<T: Rounds>(self, cpu: Cpu, tiles: T, scratch: &mut [Line]) {
        let needed = super::scratch_len_on_tiles(self.k.cols(), self.v.cols());
        assert!(scratch.len() >= needed, "attention: {} lines of scratch, needed {needed}", scratch.len());
        assert!(
            self.options.products == Products::Bf16,
            "attention: products of floats on a unit for bfloat16"
        );
        if self.fits_tiles() {
            cpu.run(OnTiles { piece: self, scratch, tiles });
        } else {
            cpu.run(Run { class: Bf16, piece: self, scratch });
        }
    }

    fn fits_tiles(&self) -> bool {
        self.rows() >= tiles::MIN_ROWS && (1..=tiles::MAX_DIM).contains(&self.k.cols())
    }

    /// [`Piece::run`] where products are of floats: a program that calls this alone has no kernels of the others.
    ///
    /// # Panics
    /// Where they are not, and as [`Piece::run`].
    pub fn run_f32(self, cpu: Cpu, scratch: &mut [Line]) {
        self.check(scratch);
        assert!(self.options.products == Products::F32, "attention: products of bfloat16");
        cpu.run(Run { class: F32, piece: self, scratch });
    }

    fn check(&self, scratch: &[Line]) {
        let needed = super::scratch_len_for(self.k.rows(), self.k.cols(), self.v.cols());
        assert!(scratch.len() >= needed, "attention: {} lines of scratch, needed {needed}", scratch.len());
    }

    /// As pieces of at most 48 rows.
    pub(super) fn parts(mut self) -> [Option<Self>; PARTS] {
        let [_, group, ..] = self.q.shape();
        let mut parts = [const { None }; PARTS];
        for part in &mut parts {
            let n = self.q.shape()[TOKENS].min(ROWS / group.max(1));
            if n > 0 {
                *part = Some(self.front(n));
            }
        }
        parts
    }

    /// Takes the first `n` queries off.
    fn front(&mut self, n: usize) -> Self {
        let rest = self.q.shape()[TOKENS] - n;
        let Place { sequence, token, head, query, key, position, ref exist } = self.place;
        let inside = |at: usize| at.min(n)..at.max(n);
        let (start, end) = (inside(exist.start), inside(exist.end));
        let place = |front: bool| Place {
            sequence,
            token: (token.0, if front { token.1 } else { token.1 + n }),
            head,
            query: if front { query } else { query + n },
            key,
            position: if front { position } else { position + n as isize },
            exist: if front { start.start..end.start } else { start.end - n..end.end - n },
        };
        let (place, after) = (place(true), place(false));
        let piece = Piece {
            q: self.q.part(TOKENS, 0, n),
            k: self.k,
            v: self.v,
            output: self.output.take_front(TOKENS, n),
            options: self.options,
            place,
        };
        (self.q, self.place) = (self.q.part(TOKENS, n, rest), after);
        piece
    }

    /// Row (query, head) alone, with its part of the output.
    pub(super) fn one<'p>(&'p self, query: usize, head: usize, output: Output<'p>) -> Piece<'p> {
        let Place { sequence, token, key, .. } = self.place;
        Piece {
            q: self.q.part(HEADS, head, 1).part(TOKENS, query, 1),
            k: self.k,
            v: self.v,
            output,
            options: self.options,
            place: Place {
                sequence,
                token: (token.0, token.1 + query),
                head: self.place.head + head,
                query: self.place.query + query,
                key,
                position: self.place.position + query as isize,
                exist: if self.place.exist.contains(&query) { 0..1 } else { 0..0 },
            },
        }
    }

    /// (query, head) pairs. Row r is query r / group, head r % group: neighbours see nearly the same keys.
    #[inline(always)]
    pub(super) fn rows(&self) -> usize {
        self.q.shape()[HEADS] * self.q.shape()[TOKENS]
    }

    /// The query of row `r` in the piece.
    #[inline(always)]
    pub(super) fn query(&self, r: usize) -> usize {
        r / self.q.shape()[HEADS]
    }

    /// The head of row `r` in the piece.
    #[inline(always)]
    pub(super) fn local_head(&self, r: usize) -> usize {
        r % self.q.shape()[HEADS]
    }

    /// The head of row `r` in the whole.
    #[inline(always)]
    pub(super) fn head(&self, r: usize) -> usize {
        self.place.head + self.local_head(r)
    }

    /// Where the query of row `r` stands among the keys.
    #[inline(always)]
    pub(super) fn position(&self, r: usize) -> isize {
        self.place.position + self.query(r) as isize
    }

    /// Whether row `r` is a query and not padding.
    #[inline(always)]
    pub(super) fn exists(&self, r: usize) -> bool {
        self.place.exist.contains(&self.query(r))
    }

    /// Whether more than the scale becomes of a score before masks.
    pub(super) fn is_biased(&self) -> bool {
        let Options { softcap, alibi, additive, .. } = self.options;
        softcap.is_some() || alibi.is_some() || additive.is_some()
    }

    /// Writes sixteen components of the output of row `r` from `c` on, as many as it has.
    #[inline(always)]
    pub(super) fn set_out<S: Simd>(&mut self, s: S, r: usize, c: usize, word: S::F32) {
        let (head, query) = (self.local_head(r), self.query(r));
        let mut out = self.output.out.head(0, head);
        let cols = c..out.cols().min(c + LANES);
        match out.row(query) {
            Some(row) => s.store_tail(&mut row[cols], word),
            None => cols.zip(s.to_array(word)).for_each(|(c, x)| *out.at(query, c) = x),
        }
    }

    /// Writes the log-sum-exp of row `r`, where it is wanted.
    #[inline(always)]
    pub(super) fn set_lse(&mut self, r: usize, lse: f32) {
        let (head, query) = (self.local_head(r), self.query(r));
        if let Some(out) = &mut self.output.lse {
            *out.head(0, head).at(query, 0) = lse;
        }
    }
}
