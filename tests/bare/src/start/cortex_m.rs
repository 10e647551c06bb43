//! A program's start on a Cortex-M4 without a system, whose `fma` is the processor's own (the scalar tier), and its end.

mod semihosting;

use core::fmt::Write;
use semihosting::{Host, exit};

// The stack's top and the first instruction; then: the floating-point unit on, data where it belongs, zeros elsewhere.
core::arch::global_asm!(
    ".section .vectors, \"a\"",
    ".word stack, reset, fault, fault, fault, fault, fault",
    ".section .text.reset, \"ax\"",
    ".thumb_func",
    ".global reset",
    "reset:",
    "ldr r0, =0xe000ed88",
    "ldr r1, [r0]",
    "orr r1, r1, #0xf00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "ldr r0, =data_start",
    "ldr r1, =data_end",
    "ldr r2, =data_from",
    "1: cmp r0, r1",
    "bhs 2f",
    "ldr r3, [r2], #4",
    "str r3, [r0], #4",
    "b 1b",
    "2: ldr r0, =bss_start",
    "ldr r1, =bss_end",
    "movs r3, #0",
    "3: cmp r0, r1",
    "bhs 4f",
    "str r3, [r0], #4",
    "b 3b",
    "4: bl main",
    ".thumb_func",
    "fault: bl failed",
);

#[unsafe(no_mangle)]
extern "C" fn failed() -> ! {
    let _ = writeln!(Host, "a fault of the processor");
    exit(2)
}
