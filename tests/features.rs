//! What detection makes of odd machines: CPUID says what the processor has, XCR0 what the system saves.
#![cfg(target_arch = "x86_64")]

use samebits::kernels::cpu::Leaves;
use samebits::kernels::{Cpu, Features, Tier};

const SSE: u64 = 0x2;
const AVX: u64 = 0x6;
const ZMM: u64 = 0xe6;
const TILES: u64 = 0x6_0000;

// leaf 1 ECX
const FMA: u32 = 1 << 12;
const OSXSAVE: u32 = 1 << 27;
const AVX_BIT: u32 = 1 << 28;
const F16C: u32 = 1 << 29;
// leaf 7 EBX
const AVX2: u32 = 1 << 5;
const F: u32 = 1 << 16;
const DQ: u32 = 1 << 17;
const BW: u32 = 1 << 30;
const VL: u32 = 1 << 31;
// leaf 7 ECX, EDX, leaf 7.1 EAX
const VNNI: u32 = 1 << 11;
const HYBRID: u32 = 1 << 15;
const AMX_BF16: u32 = 1 << 22;
const FP16: u32 = 1 << 23;
const AMX_TILE: u32 = 1 << 24;
const AMX_INT8: u32 = 1 << 25;
const AVX_VNNI: u32 = 1 << 4;
const BF16: u32 = 1 << 5;

/// A machine with everything.
const ALL: Leaves = Leaves {
    max_leaf: 32,
    l1_ecx: FMA | OSXSAVE | AVX_BIT | F16C,
    l7_ebx: AVX2 | F | DQ | BW | VL,
    l7_ecx: VNNI,
    l7_edx: FP16 | AMX_TILE | AMX_BF16 | AMX_INT8,
    l7_max_sub: 1,
    l7_1_eax: AVX_VNNI | BF16,
    xcr0: ZMM | TILES,
};

/// The same without some of leaf 1, leaf 7 EBX.
const fn without(l1_ecx: u32, l7_ebx: u32) -> Leaves {
    Leaves { l1_ecx: ALL.l1_ecx & !l1_ecx, l7_ebx: ALL.l7_ebx & !l7_ebx, ..ALL }
}

const fn saves(xcr0: u64) -> Leaves {
    Leaves { xcr0, ..ALL }
}

/// Name, leaves, and what must come out: AVX2's tier, AVX-512's tier, AMX tiles.
const MACHINES: [(&str, Leaves, [bool; 3]); 21] = [
    ("everything", ALL, [true, true, true]),
    (
        "nothing at all",
        Leaves {
            max_leaf: 0,
            l1_ecx: 0,
            l7_ebx: 0,
            l7_ecx: 0,
            l7_edx: 0,
            l7_max_sub: 0,
            l7_1_eax: 0,
            xcr0: 0,
        },
        [false; 3],
    ),
    ("no OSXSAVE: XCR0 must not be believed", without(OSXSAVE, 0), [false; 3]),
    ("XCR0 saves x87 alone", saves(1), [false; 3]),
    ("XCR0 saves SSE", saves(SSE | 1), [false; 3]),
    ("XCR0 saves AVX", saves(AVX | 1), [true, false, false]),
    ("XCR0 saves AVX without SSE", saves(0x4), [false; 3]),
    ("XCR0 saves opmask but not zmm", saves(AVX | 0x20), [true, false, false]),
    ("XCR0 saves half of zmm", saves(AVX | 0x60), [true, false, false]),
    ("XCR0 saves zmm", saves(ZMM | 1), [true, true, false]),
    ("XCR0 saves zmm without AVX", saves(0xe0), [false; 3]),
    ("XCR0 saves tile data without configuration", saves(ZMM | 0x4_0000), [true, true, false]),
    ("AVX-512 F without BW", without(0, BW), [true, false, true]),
    ("AVX-512 F without VL (Knights Landing)", without(0, VL | BW | DQ), [true, false, true]),
    ("AVX-512 without DQ", without(0, DQ), [true, false, true]),
    ("AVX-512 without AVX2", without(0, AVX2), [false, false, true]),
    ("FMA without AVX2 (Piledriver)", without(0, AVX2 | F | DQ | BW | VL), [false, false, true]),
    ("AVX2 without FMA (VIA Eden)", without(FMA, 0), [false, false, true]),
    ("AVX2 without F16C", without(F16C, 0), [false, false, true]),
    ("AVX2 without AVX (a masked virtual machine)", without(AVX_BIT, 0), [false, false, true]),
    ("max leaf 6: leaf 7 is the noise of another leaf", Leaves { max_leaf: 6, ..ALL }, [false; 3]),
];

#[test]
fn odd_machines() {
    for (name, leaves, want) in MACHINES {
        let f = Features::from_leaves(leaves);
        assert_eq!([f.avx2, f.avx512, f.amx_tile], want, "{name}");
        // an extra never outlives what it stands on
        assert!(f.avx2 || !(f.avx512 || f.avx_vnni), "{name}: {f:?}");
        assert!(f.avx512 || !(f.avx512_vnni || f.avx512_bf16 || f.avx512_fp16), "{name}: {f:?}");
        assert!(f.amx_tile || !(f.amx_bf16 || f.amx_int8), "{name}: {f:?}");
        assert!(!(f.neon || f.fp16 || f.dotprod || f.i8mm || f.bf16), "{name}: {f:?}");
    }
}

#[test]
fn extras() {
    let all = Features::from_leaves(ALL);
    assert!(all.avx512_vnni && all.avx_vnni && all.avx512_bf16 && all.avx512_fp16, "{all:?}");
    assert!(all.amx_bf16 && all.amx_int8 && !all.hybrid, "{all:?}");
    let no_subleaf = Features::from_leaves(Leaves { l7_max_sub: 0, ..ALL });
    assert!(!no_subleaf.avx_vnni && !no_subleaf.avx512_bf16 && no_subleaf.avx512_vnni, "{no_subleaf:?}");
    assert!(Features::from_leaves(Leaves { l7_edx: HYBRID, ..ALL }).hybrid);
    let ones = Leaves {
        max_leaf: u32::MAX,
        l1_ecx: u32::MAX,
        l7_ebx: u32::MAX,
        l7_ecx: u32::MAX,
        l7_edx: u32::MAX,
        l7_max_sub: u32::MAX,
        l7_1_eax: u32::MAX,
        xcr0: u64::MAX,
    };
    let ones = Features::from_leaves(ones);
    assert!(ones.avx2 && ones.avx512 && ones.amx_tile && ones.hybrid, "{ones:?}");
}

/// Every single bit that is missing takes away at least what needs it, and adds nothing.
#[test]
fn a_missing_bit_never_adds() {
    let bits = |f: Features| {
        [
            f.avx2,
            f.avx512,
            f.avx512_vnni,
            f.avx_vnni,
            f.avx512_bf16,
            f.avx512_fp16,
            f.amx_tile,
            f.amx_bf16,
            f.amx_int8,
        ]
    };
    let all = bits(Features::from_leaves(ALL));
    for i in 0..64 {
        let mut machines = vec![saves(ALL.xcr0 & !(1 << i))];
        if i < 32 {
            machines.push(without(1 << i, 0));
            machines.push(without(0, 1 << i));
            machines.push(Leaves { l7_ecx: ALL.l7_ecx & !(1 << i), ..ALL });
            machines.push(Leaves { l7_edx: ALL.l7_edx & !(1 << i), ..ALL });
            machines.push(Leaves { l7_1_eax: ALL.l7_1_eax & !(1 << i), ..ALL });
        }
        for leaves in machines {
            let f = bits(Features::from_leaves(leaves));
            assert!(f.iter().zip(all).all(|(&f, all)| all || !f), "bit {i}: {leaves:?}");
        }
    }
}

/// This machine: tiers can only be lowered.
#[test]
fn a_cpu_can_only_be_lowered() {
    let cpu = Cpu::detect();
    let lowered = cpu.without(|f| *f = Features::default());
    let mut none = Features::default();
    none.hybrid = cpu.features().hybrid;
    assert_eq!(lowered.features(), none);
    let raised = lowered.without(|f| f.amx_tile = true);
    assert!(!raised.features().amx_tile);
    assert_eq!(Tier::from_name("avx512"), Some(Tier::Avx512));
    assert_eq!(Tier::from_name("AVX512"), None);
    assert!(Cpu::all().next().is_some_and(|c| c.tier() == Tier::Scalar));
    assert!(Cpu::with_tier(Tier::Neon).is_none());
}
