//! The kernel that a layer's attention goes to.

use crate::kernels::attention::{Piece, Products};
use crate::kernels::{Cpu, Line};

/// The kernel of one kind of products, named by what makes it and not chosen from a list while a model runs: a program
/// whose layers never ask for [`Products::Bf16`] has that kernel nowhere in it.
///
/// A cache goes with any of them: keys and values are rounded as they are read, not as they are kept. One of bf16 has in
/// [`Products::Bf16`] the bits of one of f32.
///
/// ```
/// use samebits::kernels::attention::{Pattern, Products};
/// use samebits::nn::{AttentionKernel, Mixing};
/// let mut mixing = Mixing::new(64, Pattern::Causal);
/// assert_eq!(mixing.kernel.products(), AttentionKernel::F32.products());
/// mixing.kernel = AttentionKernel::of(Products::Bf16);
/// assert_eq!(mixing.kernel.products().name(), "bf16");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AttentionKernel {
    products: Products,
    run: fn(Piece<'_>, Cpu, &mut [Line]),
}

impl AttentionKernel {
    /// Products of floats: what every layer begins with.
    pub const F32: AttentionKernel =
        AttentionKernel { products: Products::F32, run: |piece, cpu, scratch| piece.run_f32(cpu, scratch) };

    /// The kernel of any products.
    pub const fn of(products: Products) -> AttentionKernel {
        match products {
            Products::F32 => AttentionKernel::F32,
            Products::Bf16 => {
                AttentionKernel { products, run: |piece, cpu, scratch| piece.run(cpu, scratch) }
            }
        }
    }

    /// What its products are made of.
    pub const fn products(self) -> Products {
        self.products
    }

    /// Computes a piece of these products.
    pub(super) fn run(self, piece: Piece<'_>, cpu: Cpu, scratch: &mut [Line]) {
        (self.run)(piece, cpu, scratch);
    }
}
