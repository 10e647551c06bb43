//! A program's start on a 64-bit ARM processor without a system, with NEON, and its end.

mod semihosting;

// NEON on; zeros where they belong; the first GiB as devices, the second as ordinary memory, so that it is cached and may
// be read at any address (translation of 4 GiB, level 1, blocks of 1 GiB).
core::arch::global_asm!(
    ".section .text.start, \"ax\"",
    ".global start",
    "start:",
    "mov x0, #(3 << 20)",
    "msr cpacr_el1, x0",
    "adrp x0, bss_start",
    "add x0, x0, :lo12:bss_start",
    "adrp x1, bss_end",
    "add x1, x1, :lo12:bss_end",
    "1: cmp x0, x1",
    "b.hs 2f",
    "stp xzr, xzr, [x0], #16",
    "b 1b",
    "2: adrp x0, stack",
    "add x0, x0, :lo12:stack",
    "mov sp, x0",
    "adrp x0, blocks",
    "add x0, x0, :lo12:blocks",
    "msr ttbr0_el1, x0",
    "mov x0, #0xff00", // attribute 0: a device; 1: memory, cached
    "msr mair_el1, x0",
    "ldr x0, =0x803520", // 4 GiB below, nothing above; 4 KiB granule; tables cached, inner shareable
    "msr tcr_el1, x0",
    "isb",
    "mrs x0, sctlr_el1",
    "mov x1, #0x1005", // translation, data cache, instruction cache
    "orr x0, x0, x1",
    "msr sctlr_el1, x0",
    "isb",
    "bl main",
    ".section .rodata.blocks, \"a\"",
    ".balign 4096",
    "blocks:",
    ".quad 0x00000000 | 0x401",
    ".quad 0x40000000 | 0x705",
    ".quad 0, 0",
);
