//! The allocator over a program's own memory: pieces lie apart, aligned, and come together again.

mod common;

use common::Random;
use samebits::arena::Arena;
use samebits::kernels::Line;
use std::alloc::{GlobalAlloc, Layout};

fn arena(lines: usize) -> (&'static Arena, std::ops::Range<usize>) {
    let memory: &'static mut [Line] = Box::leak(vec![Line::ZERO; lines].into());
    let range = memory.as_ptr_range();
    let arena: &'static Arena = Box::leak(Box::new(Arena::empty()));
    arena.give(memory);
    (arena, range.start as usize..range.end as usize)
}

#[test]
fn pieces_never_meet_and_all_comes_back() {
    let (arena, range) = arena(512);
    let (mut random, mut lent) = (Random::new(1), Vec::<(usize, Layout, u8)>::new());
    let mut refused = 0;
    for step in 0..20_000 {
        if random.below(5) < 2 && !lent.is_empty() {
            let (at, layout, mark) = lent.swap_remove(random.below(lent.len()));
            // SAFETY: the piece was given for this layout, and every byte of it was written.
            unsafe {
                let bytes = std::slice::from_raw_parts(at as *const u8, layout.size());
                assert!(bytes.iter().all(|&byte| byte == mark), "step {step}: somebody wrote into a piece");
                arena.dealloc(at as *mut u8, layout);
            }
            continue;
        }
        let (size, align) = (1 + random.below(1_500), 1 << random.below(7));
        let layout = Layout::from_size_align(size, align).expect("a layout");
        // SAFETY: the layout has a size.
        let at = unsafe { arena.alloc(layout) };
        if at.is_null() {
            refused += 1;
            continue;
        }
        let (start, mark) = (at as usize, step as u8);
        assert!(start.is_multiple_of(64) && range.contains(&start) && start + size <= range.end);
        // SAFETY: as long as the layout says.
        unsafe { at.write_bytes(mark, size) };
        lent.push((start, layout, mark));
    }
    assert!(refused > 100, "{refused}: the arena was never full");
    for (at, layout, _) in lent.drain(..) {
        // SAFETY: as above.
        unsafe { arena.dealloc(at as *mut u8, layout) };
    }
    assert_eq!(arena.used(), 0);
    let all = Layout::from_size_align(512 * 64, 64).expect("a layout");
    // SAFETY: the layout has a size.
    assert!(!unsafe { arena.alloc(all) }.is_null(), "what came back is one piece");
    assert_eq!(arena.most(), 512 * 64);
}

#[test]
fn an_arena_of_exactly_enough_is_enough_and_one_line_less_is_not() {
    for (lines, fits) in [(4, true), (3, false)] {
        let (arena, _) = arena(lines);
        let layout = Layout::from_size_align(193, 8).expect("a layout");
        // SAFETY: the layout has a size.
        assert_eq!(!unsafe { arena.alloc(layout) }.is_null(), fits);
    }
    let (arena, _) = arena(4);
    // SAFETY: the layout has a size.
    assert!(unsafe { arena.alloc(Layout::from_size_align(1, 128).expect("a layout")) }.is_null());
}
