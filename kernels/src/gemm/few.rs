//! Few rows (m ≤ 8) over packed weights: every weight is read once, decoded in registers and used m times.
//!
//! A vector is one row of this: `gemv` is `gemm` with m = 1, the same code and so the same bits. Several
//! panels go side by side, so that their chains hide each other's latency: with one row, four.
//!
//! **Cost.**  k·n weights read once: memory binds. At m = 1 the tile does one load, one broadcast (shared by
//! four panels) and one FMA a line: L2 binds where the weights lie in it.

use super::epilogue::{Begin, Finish, Target};
use super::many::add_to;
use super::pack;
use super::tile::chain;
use super::weights::{GROUP, Lines, Weights};
use super::{FEW, Gemm, K_BLOCK};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{LANES, Line};

/// Lines of the largest tile: 8 rows × 2 panels, or fewer rows by 4.
const TILE_LINES: usize = 16;

/// Lines of scratch: all of A with slack for whole-line writes, and running sums for all rows of a tile.
pub(super) const fn scratch_len(m: usize, k: usize) -> usize {
    let rows = if m <= 1 { 1 } else { FEW };
    (rows * k).div_ceil(LANES) + 1 + TILE_LINES
}

#[inline(always)]
pub(super) fn run<S: Simd, W: Weights>(s: S, job: Gemm<'_, W>, scratch: &mut [Line]) {
    let wide = S::TILE.0 == 12;
    match job.a.rows() {
        0 => {}
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
    let packed = packed_a::<S, MR>(s, job.a, Line::floats_mut(a_room));
    let mut target = Target { c: &mut job.c, base: job.accumulate, last: Some(&job.epilogue) };
    let panels = n.div_ceil(LANES);
    for col in (0..n).step_by(NP * LANES) {
        // Past the last panel: any other, its sums go nowhere.
        let b: [W::Panel; NP] = core::array::from_fn(|p| job.b.panel((col / LANES + p).min(panels - 1)));
        let lines = m.next_multiple_of(MR) * NP;
        s.outline(Begin { target: &target, at: (0, col), np: NP, sums: &mut sums[..lines] });
        for (block, k0) in (0..k).step_by(K_BLOCK).enumerate() {
            let steps = K_BLOCK.min(k - k0);
            for r in (0..m).step_by(MR) {
                let a = &packed[r / MR * k + k0..][..steps];
                let acc = chain::<S, W::Panel, MR, NP>(s, a, b, block * (K_BLOCK / GROUP), &[]);
                add_to::<S, MR, NP>(s, &mut sums[r * NP..], &acc);
            }
        }
        s.outline(Finish { target: &mut target, at: (0, col), np: NP, sums: &sums[..m * NP] });
    }
}

/// A as tiles of MR rows, each (k, MR); one row side by side in memory is that already.
#[inline(always)]
fn packed_a<'a, S: Simd, const MR: usize>(s: S, a: MatRef<'a>, room: &'a mut [f32]) -> &'a [[f32; MR]] {
    let (m, k) = (a.rows(), a.cols());
    if MR == 1
        && let Some(row) = a.row(0)
    {
        return row.as_chunks().0;
    }
    for (i, r) in (0..m).step_by(MR).enumerate() {
        s.outline(pack::Tile::<MR>(a.sub(r..(r + MR).min(m), 0..k), &mut room[i * MR * k..]));
    }
    room.as_chunks().0
}

/// Whether this is a vector times weights (n, k) as they lie row by row in memory, as floats or in blocks: `Linear`
/// without packing.
#[inline(always)]
pub(super) fn takes_rows<W: Weights>(job: &Gemm<'_, W>) -> bool {
    let by_rows = |b: MatRef<'_>| b.row_stride() == 1 && b.rows() > 1;
    job.a.rows() == 1 && job.a.row(0).is_some() && (W::BY_ROWS || job.b.as_rows().is_some_and(by_rows))
}

/// Such a product: thirty-two weight rows at a time, over all of k, so that memory is read in long runs; each
/// 256 steps are transposed into L1 and go through the same chain.
#[inline(always)]
pub(super) fn run_rows<S: Simd, W: Weights>(s: S, mut job: Gemm<'_, W>, scratch: &mut [Line]) {
    const NP: usize = 2;
    let (k, n) = (job.a.cols(), job.c.cols());
    let (sums, room) = scratch.split_at_mut(TILE_LINES);
    let (room, _) = room.as_chunks_mut::<GROUP>();
    let x = job.a.row(0).unwrap_or(&[]);
    let mut target = Target { c: &mut job.c, base: job.accumulate, last: Some(&job.epilogue) };
    let panels = n.div_ceil(LANES);
    for p in (0..panels).step_by(NP) {
        let here = p..(p + NP).min(panels);
        s.outline(Begin { target: &target, at: (0, p * LANES), np: NP, sums: &mut sums[..NP] });
        for k0 in (0..k).step_by(K_BLOCK) {
            let ks = k0..(k0 + K_BLOCK).min(k);
            let depth = ks.len().div_ceil(GROUP);
            job.b.fill(s, here.clone(), ks.clone(), room);
            // Past the last panel: the first again, its sums go nowhere.
            let second = if here.len() == NP { depth } else { 0 };
            let b = [Lines(&room[..depth]), Lines(&room[second..][..depth])];
            let acc = chain::<S, Lines<'_>, 1, NP>(s, x[ks].as_chunks().0, b, 0, &[]);
            add_to::<S, 1, NP>(s, sums, &acc);
        }
        s.outline(Finish { target: &mut target, at: (0, p * LANES), np: NP, sums: &sums[..NP] });
    }
}
