//! The inner loops of the kernels as a compiler made them, each instruction with the line that it comes from:
//! `python3 src/assets/listing/make.py` writes them, and says how.

use crate::Tier;

/// The loop of a kernel on a tier; none of a tier that is not compiled here, or where another loop serves.
pub fn of(kernel: &str, tier: Tier) -> Option<Listing> {
    let kernel = match tier {
        // Small products have a tile of their own on avx512 alone.
        Tier::Avx2 | Tier::Neon if kernel == "gemm_each" => "gemm",
        _ => kernel,
    };
    // Those on three tiers; then tier, folder and name of the others.
    macro_rules! listings {
        ($($kernel:literal)*; $($tier:ident $folder:literal $name:literal)*) => {
            match (tier, kernel) {
                $((Tier::Avx2, $kernel) => Some(include_str!(concat!("listing/avx2/", $kernel, ".txt"))),
                (Tier::Avx512, $kernel) => Some(include_str!(concat!("listing/avx512/", $kernel, ".txt"))),
                (Tier::Neon, $kernel) => Some(include_str!(concat!("listing/neon/", $kernel, ".txt"))),)*
                $((Tier::$tier, $name) => {
                    Some(include_str!(concat!("listing/", $folder, "/", $name, ".txt")))
                })*
                _ => None,
            }
        };
    }
    let text = listings! {
        "gemm" "gemv" "gemv_bf16" "gemv_f16" "gemv_rows" "gemm_bf16" "gemm_i8"
        "gemv_q8_0" "gemv_q4_0" "gemv_q4_k" "gemv_q6_k"
        "softmax" "log_softmax" "rms_norm" "layer_norm" "gelu_erf" "silu" "exp" "rope" "rope_interleaved"
        "attention" "attention_products_bf16" "attention_backward"
        "attention_decode" "attention_decode_bf16" "attention_decode_products_bf16" "attention_decode_int8"
        "nf4" "nf4_gemv" "nf4_quantize" "nf4_dequantize" "dot" "dot_rows" "sum" "max"
        "search" "search_int8" "search_nf4" "search_binary" "topk"
        "f16_to_f32" "bf16_to_f32" "f32_to_f16" "f32_to_bf16"
        "layer_norm_backward" "swiglu_backward" "column_sum" "cross_entropy";
        Avx2 "avx2" "gemm_q8_0"
        Avx512 "avx512" "gemm_q8_0"
        Avx512 "avx512" "gemm_each"
        Avx512 "avx512" "gemm_bf16_amx"
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
