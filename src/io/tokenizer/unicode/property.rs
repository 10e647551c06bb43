//! A property of characters: which class each has, from a table of runs.

/// Code points of a block, as a power of two.
const BLOCK: u32 = 8;

/// Blocks of Unicode, and one more.
const BLOCKS: usize = (0x11_0000 >> BLOCK) + 1;

/// A property of characters, as runs of the same class.
pub(crate) struct Property {
    /// `code << 5 | class` where a class begins.
    runs: &'static [u32],
    /// For each block, the run that holds its first code point.
    blocks: [u16; BLOCKS],
    /// The classes of ASCII.
    ascii: [u8; 128],
}

impl Property {
    /// Of runs from code point 0 on, in rising order.
    pub const fn new(runs: &'static [u32]) -> Property {
        let mut blocks = [0; BLOCKS];
        let (mut block, mut run) = (0, 0);
        while block < BLOCKS {
            while run + 1 < runs.len() && runs[run + 1] >> 5 <= (block as u32) << BLOCK {
                run += 1;
            }
            blocks[block] = run as u16;
            block += 1;
        }
        let mut ascii = [0; 128];
        let (mut code, mut run) = (0, 0);
        while code < ascii.len() {
            if runs[run + 1] >> 5 <= code as u32 {
                run += 1;
            }
            ascii[code] = (runs[run] & 31) as u8;
            code += 1;
        }
        Property { runs, blocks, ascii }
    }

    /// The class of a byte that is a character.
    #[inline]
    pub const fn ascii(&self, byte: u8) -> u8 {
        self.ascii[byte as usize]
    }

    /// The class of `c`.
    #[inline]
    pub fn class(&self, c: char) -> u8 {
        if c.is_ascii() {
            return self.ascii(c as u8);
        }
        let (code, block) = (c as u32, (c as u32 >> BLOCK) as usize);
        let (first, last) = (usize::from(self.blocks[block]), usize::from(self.blocks[block + 1]));
        let within = &self.runs[first..=last];
        let run = within.partition_point(|run| run >> 5 <= code) - 1;
        (within[run] & 31) as u8
    }
}
