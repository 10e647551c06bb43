//! Few rows (m ≤ 8) over packed weights: every weight is read once, decoded in registers and used m times.
//!
//! A vector is one row of this: `gemv` is `gemm` with m = 1, the same code and so the same bits. Several
//! panels go at once, so that their chains hide each other's latency: with one row, four. They lie far apart,
//! so that each is a long run of memory:
//!
//! ```text
//!   b:  │ 0 1 2 … │ 8 9 10 … │ 16 17 18 … │ 24 25 26 … │   panels of 16 columns in the order of memory, here 32
//!         └─────────┴──────────┴────────────┴── first tile     then 1, 9, 17, 25 …: four runs from end to end
//! ```
//!
//! **Cost.**  k·n weights read once: memory binds. At m = 1 the tile does one load, one broadcast (shared by
//! four panels) and one FMA a line: L2 binds where the weights lie in it. With panels of 16 KB (bf16, k = 512) four long
//! runs come from memory 1.25 times as fast as four runs of a panel each.

use super::epilogue::{Begin, Finish, Panels, Target};
use super::pack;
use super::tile::{add_to, chain};
use super::weights::{GROUP, Weights, room_groups, stripe_of};
use super::{FEW, Gemm, K_BLOCK};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{LANES, Line};

/// Lines of the largest tile: 8 rows × 2 panels, or fewer rows by 4.
const TILE_LINES: usize = 16;

/// Lines of scratch: all of A, and running sums for all rows of a tile.
pub(super) const fn scratch_len(m: usize, k: usize) -> usize {
    let rows = if m < FEW { m } else { FEW };
    rows * pack::row_lines(k) + TILE_LINES
}

#[inline(always)]
pub(super) fn run<S: Simd, W: Weights>(s: S, job: Gemm<'_, W>, scratch: &mut [Line]) {
    let wide = S::TILE.1 == 3;
    match job.a.rows() {
        0 => {}
        _ if S::SMALL => rows::<S, W, 1, 1>(s, job, scratch),
        // Where a group is decoded as a whole it fills the registers; its eight steps hide their latency
        // behind the decoding of the next.
        1 if !wide && W::FEW[1] < FEW => rows::<S, W, 1, 1>(s, job, scratch),
        2 if !wide && W::FEW[1] < FEW => rows::<S, W, 2, 1>(s, job, scratch),
        1 => rows::<S, W, 1, 4>(s, job, scratch),
        2 => rows::<S, W, 2, 2>(s, job, scratch),
        3..=4 if wide => rows::<S, W, 4, 2>(s, job, scratch),
        _ if wide => rows::<S, W, 8, 2>(s, job, scratch),
        _ => rows::<S, W, 4, 1>(s, job, scratch),
    }
}

/// All rows, MR at a time (the second time from L1), NP panels side by side.
#[inline(always)]
fn rows<S: Simd, W: Weights, const MR: usize, const NP: usize>(
    s: S,
    mut job: Gemm<'_, W>,
    scratch: &mut [Line],
) {
    let (m, k, n) = (job.a.rows(), job.a.cols(), job.c.cols());
    let (sums, a_room) = scratch.split_at_mut(TILE_LINES);
    let all_rows = rows_of(s, job.a, a_room);
    let mut target = Target { c: &mut job.c, base: job.accumulate, last: Some(&job.epilogue) };
    let count = n.div_ceil(LANES);
    // The panel of the next tile follows in memory, so that the processor fetches it ahead of its use. Runs of panels
    // side by side would end after k steps, and it would have to find out again where the next ones are.
    let apart = count.div_ceil(NP);
    let panels = Panels { np: NP, stride: apart * LANES };
    for first in 0..apart {
        let col = first * LANES;
        // Past the last panel: the first of the tile again, its sums go nowhere.
        let b: [W::Panel; NP] = core::array::from_fn(|p| {
            let panel = first + p * apart;
            job.b.panel(if panel < count { panel } else { first })
        });
        let lines = m.next_multiple_of(MR) * NP;
        s.outline(Begin { target: &target, at: (0, col), panels, sums: &mut sums[..lines] });
        for (block, k0) in (0..k).step_by(K_BLOCK).enumerate() {
            let steps = K_BLOCK.min(k - k0);
            for r in (0..m).step_by(MR) {
                let mut a: [&[f32]; MR] = [&[]; MR];
                for (i, row) in a.iter_mut().enumerate() {
                    *row = &all_rows[r + i][k0..][..steps];
                }
                let acc = chain(s, a, b, block * (K_BLOCK / GROUP));
                add_to(s, lines_of::<MR, NP>(&mut sums[r * NP..]), &acc);
            }
        }
        s.outline(Finish { target: &mut target, at: (0, col), panels, sums: &sums[..m * NP] });
    }
}

/// All rows of A, where they lie or copied to `room`; past the last, the last again: its sums go nowhere.
#[inline(always)]
fn rows_of<'a, S: Simd>(s: S, a: MatRef<'a>, room: &'a mut [Line]) -> [&'a [f32]; FEW] {
    let (m, k) = (a.rows(), a.cols());
    let in_place = pack::reads_in_place(a);
    if !in_place {
        s.outline(pack::Rows(a, &mut *room));
    }
    let room: &[Line] = room;
    let mut rows: [&[f32]; FEW] = [&[]; FEW];
    for (r, row) in rows.iter_mut().enumerate() {
        let r = r.min(m - 1);
        *row = match a.row(r) {
            Some(row) if in_place => row,
            _ => &Line::floats(&room[r * pack::row_lines(k)..])[..k],
        };
    }
    rows
}

/// Whether this is a vector times weights (n, k) that lie row by row in blocks.
#[inline(always)]
pub(super) fn takes_blocks<W: Weights>(job: &Gemm<'_, W>) -> bool {
    W::BY_ROWS && job.a.rows() == 1 && job.a.row(0).is_some()
}

/// Such a product: thirty-two weight rows at a time, over all of k, so that memory is read in long runs; each
/// 256 steps are decoded into L1 and go through the same chain.
#[inline(always)]
pub(super) fn run_blocks<S: Simd, W: Weights>(s: S, mut job: Gemm<'_, W>, scratch: &mut [Line]) {
    const NP: usize = 2;
    let (k, n) = (job.a.cols(), job.c.cols());
    let (sums, room) = scratch.split_at_mut(TILE_LINES);
    let (room, _) = room.as_chunks_mut::<GROUP>();
    let x = job.a.row(0).unwrap_or(&[]);
    let mut target = Target { c: &mut job.c, base: job.accumulate, last: Some(&job.epilogue) };
    let panels = n.div_ceil(LANES);
    for p in (0..panels).step_by(NP) {
        let here = p..(p + NP).min(panels);
        s.outline(Begin {
            target: &target,
            at: (0, p * LANES),
            panels: Panels::beside(NP),
            sums: &mut sums[..NP],
        });
        for k0 in (0..k).step_by(K_BLOCK) {
            let ks = k0..(k0 + K_BLOCK).min(k);
            let depth = ks.len().div_ceil(GROUP);
            job.b.fill(s, here.clone(), ks.clone(), room);
            // Past the last panel: the first again, its sums go nowhere.
            let second = if here.len() == NP { room_groups(ks.len()) } else { 0 };
            let b = [stripe_of(&room[..depth]), stripe_of(&room[second..][..depth])];
            let acc = chain(s, [&x[ks]], b, 0);
            add_to(s, lines_of::<1, NP>(sums), &acc);
        }
        s.outline(Finish {
            target: &mut target,
            at: (0, p * LANES),
            panels: Panels::beside(NP),
            sums: &sums[..NP],
        });
    }
}

/// The running sums of MR rows.
#[inline(always)]
fn lines_of<const MR: usize, const NP: usize>(sums: &mut [Line]) -> &mut [[Line; NP]; MR] {
    sums.as_chunks_mut().0.first_chunk_mut().expect("room for a tile's sums")
}
