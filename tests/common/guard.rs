//! Memory between unreadable pages: a kernel that reads or writes one byte past a slice dies here.
//!
//! ```text
//!   ┌────────────┬──────────────────────────────┬────────────┐
//!   │ unreadable │ canary │ slice │ canary      │ unreadable │   Side::Left,  3 elements from the edge
//!   │ unreadable │             canary │ slice │c│ unreadable │   Side::Right, 1 element from the edge
//!   └────────────┴──────────────────────────────┴────────────┘
//! ```

use super::Random;
use std::ffi::{c_int, c_void};

unsafe extern "C" {
    fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(addr: *mut c_void, len: usize) -> c_int;
    fn mprotect(addr: *mut c_void, len: usize, prot: c_int) -> c_int;
}

/// A multiple of every page size in use.
const PAGE: usize = 1 << 16;
/// Bytes between the two unreadable parts.
const ROOM: usize = 4 * PAGE;
/// What lies around a slice. As `f32` it is a NaN: a value read from there cannot pass for a right one.
const CANARY: u8 = 0xff;
/// Bytes of canary that are set and checked on each side.
const REACH: usize = 256;

/// Which unreadable page the slices lie against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// One mapping with unreadable ends.
struct Region {
    start: *mut u8,
}

impl Region {
    fn new() -> Region {
        const NONE: c_int = 0;
        const READ_WRITE: c_int = 3;
        const PRIVATE_ANONYMOUS: c_int = 0x22;
        let len = ROOM + 2 * PAGE;
        // SAFETY: a fresh mapping of our own; the middle is opened before anything touches it.
        unsafe {
            let map = mmap(std::ptr::null_mut(), len, NONE, PRIVATE_ANONYMOUS, -1, 0);
            assert!(map as isize != -1, "mmap failed");
            let start = map.cast::<u8>().add(PAGE);
            assert_eq!(mprotect(start.cast(), ROOM, READ_WRITE), 0, "mprotect failed");
            Region { start }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`.
        unsafe { munmap(self.start.sub(PAGE).cast(), ROOM + 2 * PAGE) };
    }
}

/// Types that any bits make a value of.
pub trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for u8 {}
impl Plain for i8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for i32 {}
impl Plain for samebits::kernels::Line {}
impl Plain for samebits::kernels::gemm::Bf16 {}
impl Plain for samebits::kernels::gemm::Bf16Group {}
impl Plain for samebits::kernels::int8::Block8 {}
impl Plain for samebits::kernels::int8::Block6 {}
impl Plain for samebits::kernels::int8::Block5 {}
impl Plain for samebits::kernels::int8::Block4 {}
impl Plain for samebits::kernels::int8::Affine {}
impl Plain for samebits::kernels::int8::Super {}
impl Plain for samebits::kernels::int8::Sixteenths {}
impl Plain for [samebits::kernels::Line; 8] {}
impl Plain for samebits::kernels::nf4::CodeLine {}
impl Plain for samebits::kernels::norm::Stats {}
impl Plain for samebits::kernels::ggml::Code8 {}
impl Plain for samebits::kernels::ggml::HalfLine {}

/// Hands out slices that lie against an unreadable page, each in a mapping of its own.
pub struct Guarded {
    regions: Vec<Region>,
    /// (offset, bytes) of the slice in each region taken since `reset`.
    taken: [(usize, usize); Guarded::SLICES],
    outputs: [bool; Guarded::SLICES],
    used: usize,
    side: Side,
    offset: usize,
}

impl Guarded {
    /// Slices between two `reset`s.
    pub const SLICES: usize = 12;

    pub fn new() -> Guarded {
        Guarded {
            regions: (0..Guarded::SLICES).map(|_| Region::new()).collect(),
            taken: [(0, 0); Guarded::SLICES],
            outputs: [false; Guarded::SLICES],
            used: 0,
            side: Side::Left,
            offset: 0,
        }
    }

    /// Takes all slices back; the next ones lie `offset` elements from the page on that side.
    pub fn reset(&mut self, side: Side, offset: usize) {
        (self.side, self.offset, self.used) = (side, offset, 0);
    }

    /// `n` elements, all bits set.
    fn raw<T: Plain>(&mut self, n: usize, output: bool) -> &'static mut [T] {
        let bytes = n * size_of::<T>();
        let slack = self.offset * size_of::<T>();
        assert!(bytes + slack <= ROOM, "{n} elements do not fit the rig");
        let at = if self.side == Side::Left { slack } else { ROOM - slack - bytes };
        let (i, start) = (self.used, self.regions[self.used].start);
        self.used += 1;
        (self.taken[i], self.outputs[i]) = ((at, bytes), output);
        let (low, high) = (at.saturating_sub(REACH), (at + bytes + REACH).min(ROOM));
        // SAFETY: inside the mapping, which outlives the call of one case; each region is handed out once
        // between two resets; any bits are a `T`, and `at` keeps its alignment.
        unsafe {
            std::ptr::write_bytes(start.add(low), CANARY, high - low);
            std::slice::from_raw_parts_mut(start.add(at).cast::<T>(), n)
        }
    }

    /// `n` floats to read, in [−1, 1).
    pub fn floats(&mut self, n: usize) -> &'static [f32] {
        self.floats_mut(n)
    }

    /// `n` floats in [−1, 1) to work on in place: part of the result.
    pub fn floats_mut(&mut self, n: usize) -> &'static mut [f32] {
        let mut random = Random::new(self.used as u64 + 1);
        let x = self.raw(n, true);
        x.iter_mut().for_each(|x| *x = random.unit());
        x
    }

    /// `n` floats in [0, 1] to work on in place: part of the result.
    pub fn positive(&mut self, n: usize) -> &'static mut [f32] {
        let x = self.floats_mut(n);
        x.iter_mut().for_each(|x| *x = x.abs());
        x
    }

    /// `n` half words of finite halves.
    pub fn halves(&mut self, n: usize) -> &'static [u16] {
        let mut random = Random::new(self.used as u64 + 1);
        let x = self.raw(n, false);
        x.iter_mut().for_each(|x| *x = random.below(0x3c00) as u16 | (random.below(2) << 15) as u16);
        x
    }

    /// `n` random bytes.
    pub fn bytes(&mut self, n: usize) -> &'static [u8] {
        let mut random = Random::new(self.used as u64 + 1);
        let x = self.raw(n, false);
        x.iter_mut().for_each(|x| *x = random.bits() as u8);
        x
    }

    /// `n` signed bytes to read, any.
    pub fn codes(&mut self, n: usize) -> &'static [i8] {
        let mut random = Random::new(self.used as u64 + 1);
        let x = self.raw(n, false);
        x.iter_mut().for_each(|x| *x = random.bits() as i8);
        x
    }

    /// `n` elements to write, all bits set: part of the result.
    pub fn out<T: Plain>(&mut self, n: usize) -> &'static mut [T] {
        self.raw(n, true)
    }

    /// `n` lines that a kernel may use as it likes, all bits set.
    pub fn scratch(&mut self, n: usize) -> &'static mut [samebits::kernels::Line] {
        self.raw(n, false)
    }

    /// The hash of all results; panics where a canary is dead.
    pub fn check(&self, what: &dyn Fn() -> String) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for i in 0..self.used {
            let (at, bytes) = self.taken[i];
            let (low, high) = (at.saturating_sub(REACH), (at + bytes + REACH).min(ROOM));
            // SAFETY: inside the mapping; no slice is in use any more.
            let around = unsafe { std::slice::from_raw_parts(self.regions[i].start.add(low), high - low) };
            let (before, rest) = around.split_at(at - low);
            let (slice, after) = rest.split_at(bytes);
            let alive = before.iter().chain(after).all(|&b| b == CANARY);
            assert!(alive, "{}: wrote outside slice {i}", what());
            if self.outputs[i] {
                for &b in slice {
                    hash = (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        }
        hash
    }
}
