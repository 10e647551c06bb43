//! Panels of bfloat16 out of floats that lie in rows, and out of the panels of the transpose.
//!
//! ```text
//!   rows of floats     row 2j     a₀ a₁ … a₁₅ │ the next panel        rounded, two rows to a line of words:
//!                      row 2j+1   b₀ b₁ … b₁₅ │ …                     b₀a₀ b₁a₁ … b₁₅a₁₅
//!
//!   16 × 16 of a panel of W        widened, transposed in registers, two lines to one again
//! ```
//!
//! **Cost.**  About ten operations for sixteen elements, of which a product of m rows makes 32·m: what a gradient
//! multiplies once is packed on the way (dW = dyᵀ x packs x, dx = dy W turns W).

use super::{PackedBf16, rounded};
use crate::gemm::{Bf16, Bf16Group, Element, GROUP, packed_len};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Cpu, Kernel, LANES};

impl<'a> PackedBf16<'a> {
    /// Packs B (k, n) of floats, any strides, rounded to nearest even; what is less than 2⁻⁵⁰ becomes 0.
    ///
    /// # Panics
    /// Where there are not [`packed_len`]`(k, n)` groups.
    pub fn pack_floats(cpu: Cpu, b: MatRef<'_>, groups: &'a mut [Bf16Group]) -> Self {
        let (k, n) = (b.rows(), b.cols());
        let need = packed_len(k, n);
        assert!(groups.len() == need, "pack ({k}, {n}): {} groups, {need} needed", groups.len());
        cpu.run(Rows { b, panels: &mut *groups });
        PackedBf16::new(groups, k, n)
    }

    /// Panel `p` of the transpose (n, k): columns 16p to 16p + 15 of it, which are rows of this.
    ///
    /// # Panics
    /// Where `panel` is not ⌈n/8⌉ groups.
    pub fn transposed_panel(&self, cpu: Cpu, p: usize, panel: &mut [Bf16Group]) {
        let (k, n) = self.shape();
        let need = n.div_ceil(GROUP);
        assert!(panel.len() == need, "a panel of ({n}, {k}): {} groups, {need} needed", panel.len());
        cpu.run(Turn { of: *self, p, panel });
    }
}

/// All panels, eight rows at a time: what is written lies together, four lines of each panel.
struct Rows<'a, 'o> {
    b: MatRef<'a>,
    panels: &'o mut [Bf16Group],
}

impl Kernel for Rows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows { b, panels } = self;
        let (k, n) = (b.rows(), b.cols());
        let depth = k.div_ceil(GROUP);
        for g in 0..depth {
            for (p, panel) in panels.chunks_exact_mut(depth.max(1)).enumerate() {
                let cols = p * LANES..(p * LANES + LANES).min(n);
                for i in 0..GROUP / 2 {
                    let r = g * GROUP + 2 * i;
                    let (mut even, mut odd) = (s.splat(0.0), s.splat(0.0));
                    // The group that follows comes from memory meanwhile.
                    for ahead in r + GROUP..(r + GROUP + 2).min(k) {
                        if let Some(row) = b.row(ahead) {
                            s.prefetch_far(row[cols.start..].as_ptr());
                        }
                    }
                    if r < k {
                        even = rounded(s, super::load_at(s, b, r, cols.clone()));
                    }
                    if r + 1 < k {
                        odd = rounded(s, super::load_at(s, b, r + 1, cols.clone()));
                    }
                    panel[g].put_pair(s, i, even, odd);
                }
            }
        }
    }
}

/// One panel of the transpose, sixteen steps at a time.
struct Turn<'a, 'o> {
    of: PackedBf16<'a>,
    p: usize,
    panel: &'o mut [Bf16Group],
}

impl Kernel for Turn<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Turn { of, p, panel } = self;
        // Rows 16p … of the matrix are two groups of each of its panels; the last may be but one.
        let rows = p * (LANES / GROUP);
        for (from, to) in panel.chunks_mut(LANES / GROUP).enumerate() {
            let groups = &of.0.panel_groups(from)[rows..];
            let mut lines = [s.splat(0.0); LANES];
            for (group, lines) in groups.iter().zip(lines.chunks_exact_mut(GROUP)) {
                for (i, line) in lines.iter_mut().enumerate() {
                    *line = Bf16::load(s, group, i);
                }
            }
            let steps = s.transpose(lines);
            for (group, steps) in to.iter_mut().zip(steps.as_chunks::<GROUP>().0) {
                for (i, &[even, odd]) in steps.as_chunks::<2>().0.iter().enumerate() {
                    group.put_pair(s, i, even, odd);
                }
            }
        }
    }
}
