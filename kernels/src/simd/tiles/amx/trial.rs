//! Whether a unit does what plain Rust says.

use super::super::{
    BLOCK, Chain, End, Goal, Halves, Link, Meanwhile, NO_PRODUCTS, Pair, Plain, Products, Rounds, Rows, TALL,
    Tile, Tiles, WIDE,
};
use super::{Amx, AmxHalves};
use crate::gemm::Bf16;
use crate::int8::Quad;
use crate::view::MatMut;
use crate::{LANES, Line};

/// Numbers for a trial, always the same.
struct Trial(u32);

impl Trial {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0
    }

    /// A bfloat16 of any of 80 sizes.
    fn half(&mut self) -> u32 {
        let bits = self.bits();
        let (sign, fraction, exponent) = (bits >> 31 << 15, bits >> 8 & 0x7f, 87 + (bits >> 16) % 80);
        sign | exponent << 7 | fraction
    }

    /// Two bytes of any value.
    fn bytes(&mut self) -> u32 {
        self.bits() >> 16
    }

    fn tile<const ROWS: usize>(&mut self, two: fn(&mut Trial) -> u32) -> [Line; ROWS] {
        let mut word = || f32::from_bits(two(self) | two(self) << 16);
        core::array::from_fn(|_| Line(core::array::from_fn(|_| word())))
    }
}

/// Whether the unit does what [`Plain`] says, tried on numbers of many sizes: a unit that rounds otherwise, or a
/// system that saves nothing, must not change a result.
///
/// # Safety
/// As [`Amx::assume`], with AMX-BF16.
pub(crate) unsafe fn agrees_bf16() -> bool {
    // SAFETY: the caller's promise. One unit is released before the next is configured.
    let whole = agree::<Bf16>(unsafe { Amx::assume() }, Trial::half);
    // SAFETY: likewise, and the unit before is released.
    let mut unit = unsafe { Amx::assume() };
    let (got, want) = (trial_panel(&mut unit), trial_panel(&mut Plain));
    let panel = same(got.as_flattened(), want.as_flattened());
    let (got, want) = (trial_halves(&mut unit), trial_halves(&mut Plain));
    whole && panel && same(got.as_flattened(), want.as_flattened())
}

/// Floats to tiles, and two stripes past a panel of them.
fn trial_panel(unit: &mut impl Rounds) -> [Tile; 2] {
    let mut trial = Trial(1);
    let [mut upper, mut lower, mut panel] = [[[Line::ZERO; LANES]; 2]; 3];
    let mut float = || f32::from_bits(trial.half() << 16 | trial.bytes());
    for row in [&mut upper, &mut lower].into_iter().flatten().flatten() {
        unit.round(&core::array::from_fn(|_| float()), row);
    }
    for row in panel.as_flattened_mut() {
        let [even, odd] = core::array::from_fn(|_| core::array::from_fn(|_| float()));
        unit.pair(&even, &odd, row);
    }
    let mut products = [[Line::ZERO; LANES]; 2];
    unit.panel([&upper, &lower], &panel, &mut products);
    products
}

/// The same of codes, in whole tiles and in halves.
///
/// # Safety
/// As [`Amx::assume`], with AMX-INT8.
pub(crate) unsafe fn agrees_codes() -> bool {
    // SAFETY: the caller's promise. One unit is released before the next is configured.
    let whole = agree::<Quad>(unsafe { Amx::assume() }, Trial::bytes);
    // SAFETY: likewise, and the unit before is released.
    let mut halves = unsafe { AmxHalves::assume() };
    let got = trial_links(&mut halves);
    let want = trial_links(&mut Plain);
    whole && got.iter().zip(&want).all(|(got, want)| same(got.as_flattened(), want.as_flattened()))
}

/// A block, then chains that go on and that end, with minima and without.
fn trial_links(unit: &mut impl Halves) -> [Products; 3] {
    let mut trial = Trial(1);
    let [a0, a1, b0, b1] = core::array::from_fn(|_| trial.tile(Trial::bytes));
    let [mut first, mut second, mut chains, mut sums] = [NO_PRODUCTS; 4];
    unit.multiply(&[a0, a1], [&b0, &b1], &mut first, None);
    let [rows, columns, more, besides]: [[Line; 2]; 4] = core::array::from_fn(|_| trial.tile(Trial::half));
    for (minima, ends) in [(false, false), (true, false), (false, true), (true, true), (true, false)] {
        let link = Link {
            done: &first,
            rows: &rows,
            columns: &columns,
            minima: minima.then_some((&more, &besides)),
            chains: &mut chains,
            sums: ends.then_some(&mut sums),
        };
        unit.multiply(&[a1, a0], [&b0, &b1], &mut second, Some(link));
    }
    [second, chains, sums]
}

fn agree<E>(mut unit: impl Tiles<E>, two: fn(&mut Trial) -> u32) -> bool
where
    Plain: Tiles<E>,
{
    let mut trial = Trial(1);
    let a: [Pair; BLOCK] = core::array::from_fn(|_| core::array::from_fn(|_| trial.tile(two)));
    let [b0, b1]: [[Tile; BLOCK]; 2] = core::array::from_fn(|_| core::array::from_fn(|_| trial.tile(two)));
    let got = trial_product(&mut unit, &a, [&b0, &b1]);
    let want = trial_product(&mut Plain, &a, [&b0, &b1]);
    got.iter().zip(&want).all(|(got, want)| same(got.as_flattened(), want.as_flattened()))
}

/// A block, the sums of an earlier one that was settled meanwhile, of both, past the caches and not, and a chain that goes
/// on from sums.
fn trial_product<E>(unit: &mut impl Tiles<E>, a: &[Pair], [b0, b1]: [&[Tile]; 2]) -> [Products; 5] {
    let [mut first, mut second, mut sums, mut c, mut past, mut on] = [NO_PRODUCTS; 6];
    let bias = [a[0][0][0], b0[0][0]];
    let new = Chain::New(Rows::of(&mut first));
    unit.multiply(&a[..1], [&b0[..1], &b1[..1]], new, Meanwhile::NOTHING);
    let settle = Some((&first, Goal::Sums(&mut sums)));
    unit.multiply(a, [b0, b1], Chain::New(Rows::of(&mut second)), Meanwhile { settle, ..Meanwhile::NOTHING });
    let end = End { from: &sums, bias: &bias, past: false };
    unit.settle(&second, Goal::Rows(end, Rows::of(&mut c)));
    unit.settle(&second, Goal::Rows(End { past: true, ..end }, Rows::of(&mut past)));
    unit.multiply(a, [b0, b1], Chain::End(&second, Rows::of(&mut on)), Meanwhile::NOTHING);
    unit.multiply(&a[..1], [&b0[..1], &b1[..1]], Chain::On(&mut on), Meanwhile::NOTHING);
    [second, sums, c, past, on]
}

/// The end of a product in bfloat16, past the caches and not.
fn trial_halves(unit: &mut impl Tiles<Bf16>) -> [[Line; TALL]; 2] {
    let mut trial = Trial(1);
    let [done, from]: [Products; 2] = core::array::from_fn(|_| {
        core::array::from_fn(|_| trial.tile(|trial| trial.half() << 16 | trial.bytes()))
    });
    let bias = trial.tile(|_| 0);
    [false, true].map(|past| {
        let mut c = [Line::ZERO; TALL];
        let halves: &mut [u16] = Line::elements_mut(&mut c);
        let end = End { from: &from, bias: &bias, past };
        let to = Rows::new(MatMut::new(halves, TALL, WIDE * LANES));
        unit.settle(&done, Goal::Halves(end, to));
        c
    })
}

/// Equal bits.
fn same(got: &[Line], want: &[Line]) -> bool {
    Line::floats(got).iter().zip(Line::floats(want)).all(|(got, want)| got.to_bits() == want.to_bits())
}
