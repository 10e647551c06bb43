//! Memory to be taken in order, and the numbers and hashes of `src/golden`.

use samebits_kernels::Line;
use samebits_kernels::nf4::CodeLine;

/// Memory that is handed out from its beginning on; what is handed out holds zeros.
pub struct Room<'m>(&'m mut [Line]);

impl<'m> Room<'m> {
    pub fn new(memory: &'m mut [Line]) -> Room<'m> {
        Room(memory)
    }

    pub fn lines(&mut self, n: usize) -> &'m mut [Line] {
        let (lines, rest) = core::mem::take(&mut self.0).split_at_mut(n);
        self.0 = rest;
        lines.fill(Line::ZERO);
        lines
    }

    pub fn floats(&mut self, n: usize) -> &'m mut [f32] {
        &mut Line::floats_mut(self.lines(n.div_ceil(16)))[..n]
    }

    pub fn bytes(&mut self, n: usize) -> &'m mut [u8] {
        &mut Line::elements_mut(self.lines(n.div_ceil(64)))[..n]
    }

    /// `n` numbers, about normal.
    pub fn normal(&mut self, random: &mut Random, n: usize) -> &'m mut [f32] {
        let floats = self.floats(n);
        floats.fill_with(|| random.normal());
        floats
    }
}

/// Room for the codes of the largest weight, (256, 256): zeros, which take no place in the module.
pub static mut CODES: [CodeLine; 256 * 256 / 128] = [CodeLine([0; 16]); 256 * 256 / 128];

/// SplitMix64, as `src/golden` has it.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn normal(&mut self) -> f32 {
        (self.unit() + self.unit() + self.unit() + self.unit()) * 0.866_025_4
    }
}

/// FNV-1a over the bits of floats, one NaN for all, as `src/golden` has it.
pub fn hash<'a>(floats: impl IntoIterator<Item = &'a f32>) -> u64 {
    let bits = floats.into_iter().map(|&x| if x.is_nan() { f32::NAN } else { x }.to_bits());
    bits.flat_map(u32::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
