//! The inner loops of some kernels as a compiler made them, each instruction with the line that it comes from:
//! `python3 src/assets/listing/make.py` writes them, and says how.

use crate::Tier;

/// The loop of a kernel on a tier; none where nobody looked at it.
pub fn of(kernel: &str, tier: Tier) -> Option<Listing> {
    macro_rules! listings {
        ($($tier:ident $name:literal: $($kernel:literal)*;)*) => {
            match (tier, kernel) {
                $($((Tier::$tier, $kernel) => Some(include_str!(concat!("listing/", $name, "/", $kernel, ".txt"))),)*)*
                _ => None,
            }
        };
    }
    let text = listings! {
        Avx2 "avx2": "gemm" "gemv" "gemm_bf16" "gemm_i8" "softmax" "rms_norm" "attention" "attention_decode"
            "nf4" "nf4_gemv" "dot" "search" "topk" "f32_to_bf16";
        Avx512 "avx512": "gemm" "gemv" "gemm_bf16" "gemm_bf16_amx" "gemm_i8" "softmax" "rms_norm"
            "attention" "attention_decode" "nf4" "nf4_gemv" "dot" "search" "topk" "f32_to_bf16";
        Neon "neon": "gemm" "gemv" "gemm_bf16" "gemm_i8" "softmax" "rms_norm" "attention" "attention_decode"
            "nf4" "nf4_gemv" "dot" "search" "topk" "f32_to_bf16";
    };
    text.map(Listing)
}

/// A committed listing.
#[derive(Clone, Copy)]
pub struct Listing(&'static str);

/// An instruction, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// As a disassembler writes it; a jump with its distance in instructions.
    pub text: &'static str,
    /// File of `kernels/src` and line; `-` where the compiler says none.
    pub place: &'static str,
    /// That line.
    pub source: &'static str,
}

impl Listing {
    /// The compiler that made it.
    pub fn compiler(&self) -> &'static str {
        self.0.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default()
    }

    /// The loop, from its head to the jump back.
    pub fn instructions(&self) -> impl Iterator<Item = Instruction> + use<> {
        let text = self.0;
        let lines = text.lines().skip(1).take_while(|line| !line.starts_with('@'));
        let mut last = "";
        lines.map(move |line| {
            // A place that is left out is that of the line before.
            let (instruction, place) = line.split_once('\t').unwrap_or((line, last));
            last = place;
            let source =
                text.lines().find_map(|l| l.strip_prefix('@')?.strip_prefix(place)?.strip_prefix('\t'));
            Instruction { text: instruction, place, source: source.unwrap_or_default() }
        })
    }
}
