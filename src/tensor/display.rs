//! Printing as NumPy prints (`str` of an array, version 2.4's defaults).
//!
//! Eight digits after the point at most and no more than tell a number from its neighbours; one format for
//! the whole tensor, aligned; lines of 75; from 1,001 elements on three at either end of each axis. bfloat16,
//! which NumPy lacks, follows its rules for halves.

use super::{Dtype, Tensor};
use crate::kernels::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

const THRESHOLD: usize = 1000;
const EDGE: usize = 3;
const LINE: usize = 75;
const PRECISION: usize = 8;

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("[]");
        }
        let summary = self.len() > THRESHOLD;
        let mut shown = Vec::new();
        collect(self, summary, &mut shown);
        if self.rank() == 0 {
            return f.write_str(&scalar(self.dtype, shown[0]));
        }
        let format = Format::of(self.dtype, &shown);
        f.write_str(&rows(self, &format, summary, 1, LINE))
    }
}

/// An element: exact in `f64` for every type.
fn element(t: &Tensor) -> f64 {
    match t.dtype {
        Dtype::I32 => f64::from(t.data.elements::<i32>()[t.offset]),
        _ => f64::from(t.value(t.offset)),
    }
}

/// The places of the first axis that are shown.
fn places(n: usize, summary: bool) -> impl Iterator<Item = usize> {
    let cut = summary && n > 2 * EDGE;
    (0..n).filter(move |&i| !cut || i < EDGE || i >= n - EDGE)
}

/// The elements that will be shown.
fn collect(t: &Tensor, summary: bool, out: &mut Vec<f64>) {
    match t.shape().first() {
        None => out.push(element(t)),
        Some(&n) => places(n, summary).for_each(|i| collect(&t.select(0, i), summary, out)),
    }
}

/// A tensor with one axis or more, in brackets; `indent` spaces stand before the lines after the first, and
/// `width` columns are left.
fn rows(t: &Tensor, format: &Format, summary: bool, indent: usize, width: usize) -> String {
    let n = t.shape()[0];
    let cut = summary && n > 2 * EDGE;
    let inner = |i: usize| match t.rank() {
        1 => format.write(element(&t.select(0, i))),
        _ => rows(&t.select(0, i), format, summary, indent + 1, width - 1),
    };
    let mut words: Vec<String> = places(n, summary).map(inner).collect();
    if cut {
        words.insert(EDGE, "...".to_string());
    }
    let body = match t.rank() {
        1 => wrap(&words, indent, width - 1),
        rank => words.join(&format!("{}{}", "\n".repeat(rank - 1), " ".repeat(indent))),
    };
    format!("[{body}]")
}

/// Words with spaces between, broken into lines of `width` that are indented alike.
fn wrap(words: &[String], indent: usize, width: usize) -> String {
    let (mut out, mut line) = (String::new(), indent);
    for (i, word) in words.iter().enumerate() {
        let len = word.chars().count();
        if i > 0 && line + 1 + len > width {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.extend(core::iter::repeat_n(' ', indent));
            line = indent;
        } else if i > 0 {
            out.push(' ');
            line += 1;
        }
        out.push_str(word);
        line += len;
    }
    out
}

/// One format for all numbers that are shown.
enum Format {
    /// Digits, right-aligned.
    Integer { width: usize },
    /// `123.45`, the points below each other.
    Positional { dtype: Dtype, left: usize, right: usize },
    /// `1.2345e+02`, all with the same number of digits.
    Scientific { dtype: Dtype, left: usize, digits: usize, exponent: usize },
}

impl Format {
    fn of(dtype: Dtype, shown: &[f64]) -> Format {
        if matches!(dtype, Dtype::I32 | Dtype::U8) {
            return Format::Integer { width: shown.iter().map(|x| x.to_string().len()).max().unwrap_or(0) };
        }
        let finite: Vec<f64> = shown.iter().copied().filter(|x| x.is_finite()).collect();
        let scientific = needs_exponent(dtype, &finite);
        let texts = finite
            .iter()
            .map(|&x| if scientific { Digits::of(dtype, x).scientific() } else { positional(dtype, x) });
        let (mut left, mut right, mut exponent) = (0, 0, 0);
        for text in texts {
            let (mantissa, exp) = text.split_once('e').unwrap_or((&text, ""));
            let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
            left = left.max(whole.len());
            right = right.max(fraction.len());
            exponent = exponent.max(exp.len().saturating_sub(1));
        }
        // Room for `nan`, `inf` and `-inf`, where there are any.
        let tail = if scientific { exponent + 2 + right } else { right } + 1;
        for x in shown.iter().filter(|x| !x.is_finite()) {
            left = left.max(not_finite(*x).len().saturating_sub(tail));
        }
        match scientific {
            true => Format::Scientific { dtype, left, digits: right, exponent },
            false => Format::Positional { dtype, left, right },
        }
    }

    fn write(&self, x: f64) -> String {
        let width = match *self {
            Format::Integer { width } => width,
            Format::Positional { left, right, .. } => left + 1 + right,
            Format::Scientific { left, digits, exponent, .. } => left + 1 + digits + 2 + exponent,
        };
        match *self {
            Format::Integer { .. } => format!("{x:width$}"),
            _ if !x.is_finite() => format!("{:>width$}", not_finite(x)),
            Format::Positional { dtype, left, .. } => {
                let text = positional(dtype, x);
                let pad = left - text.find('.').unwrap_or(0);
                format!("{:width$}", format!("{}{text}", " ".repeat(pad)))
            }
            Format::Scientific { dtype, digits, exponent, .. } => {
                // Digits past the fewest are those of the number itself, not zeros.
                let fewest = Digits::of(dtype, x);
                let text = match fewest.digits.len() > digits {
                    true => fewest.scientific(),
                    false => format!("{x:.digits$e}"),
                };
                let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
                let point = if mantissa.contains('.') { "" } else { "." };
                format!(
                    "{:>width$}",
                    format!("{mantissa}{point}{}", power_text(power.parse().unwrap_or(0), exponent))
                )
            }
        }
    }
}

fn not_finite(x: f64) -> &'static str {
    match x {
        f64::INFINITY => "inf",
        f64::NEG_INFINITY => "-inf",
        _ => "nan",
    }
}

/// NumPy's rule: numbers too large, too small or too far apart for one column of plain digits. It compares in
/// the type itself.
fn needs_exponent(dtype: Dtype, finite: &[f64]) -> bool {
    let sizes = || finite.iter().map(|x| x.abs()).filter(|&x| x > 0.0);
    let (largest, smallest) = (sizes().fold(0.0, f64::max), sizes().fold(f64::INFINITY, f64::min));
    let ratio = round_to(dtype, (largest as f32) / (smallest as f32));
    largest > 0.0
        && (largest >= limit(dtype) || smallest < f64::from(round_to(dtype, 0.0001)) || ratio > 1000.0)
}

/// The power of ten up to which the type tells all whole numbers apart, by its decimal digits.
const fn limit(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e6,
        Dtype::F16 => 1e3,
        _ => 1e2,
    }
}

/// The nearest number of the type.
fn round_to(dtype: Dtype, x: f32) -> f32 {
    match dtype {
        Dtype::F16 => f16_to_f32(f32_to_f16(x)),
        Dtype::BF16 => bf16_to_f32(f32_to_bf16(x)),
        _ => x,
    }
}

/// The fewest decimal digits that give a number back.
struct Digits {
    negative: bool,
    /// The digits, the first before the point.
    digits: String,
    exponent: i32,
}

impl Digits {
    fn of(dtype: Dtype, x: f64) -> Digits {
        let back = |text: &str| text.parse::<f32>().map(|y| f64::from(round_to(dtype, y)));
        let exact = |text: &String| back(text) == Ok(x.abs());
        let size = x.abs();
        // The nearest with so many digits; or the next above, since below a power of two numbers are twice
        // as dense as above it. Nine digits tell all singles apart.
        let candidates = (0..=PRECISION).flat_map(|p| {
            let near = format!("{size:.p$e}");
            let above = next_above(size, &near, p);
            [near, above]
        });
        let text = candidates.into_iter().find(exact).unwrap_or_else(|| format!("{size:.8e}"));
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = mantissa.chars().filter(char::is_ascii_digit).collect();
        Digits { negative: x.is_sign_negative(), digits, exponent: exponent.parse().unwrap_or(0) }
    }

    /// `-1.25e-07`, `1.e+10`.
    fn scientific(&self) -> String {
        let (first, rest) = self.digits.split_at(1);
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{first}.{rest}{}", power_text(self.exponent, 2))
    }

    /// Digits after the point without an exponent.
    fn fraction_len(&self) -> usize {
        usize::try_from(self.digits.len() as i32 - 1 - self.exponent).unwrap_or(0)
    }

    /// `-1250.`, `0.0125`.
    fn positional(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = &self.digits;
        match usize::try_from(self.exponent) {
            Ok(e) if e + 1 >= digits.len() => format!("{sign}{digits:0<0$}.", e + 1),
            Ok(e) => format!("{sign}{}.{}", &digits[..=e], &digits[e + 1..]),
            Err(_) => format!("{sign}0.{}{digits}", "0".repeat(self.exponent.unsigned_abs() as usize - 1)),
        }
    }
}

/// The number of `p` digits after the point that is not below `size`; `near` is the nearest such.
fn next_above(size: f64, near: &str, p: usize) -> String {
    let exponent: i32 = near.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let half: f64 = format!("5e{}", exponent - p as i32 - 1).parse().unwrap_or(0.0);
    format!("{:.p$e}", size + half)
}

/// `e-07`: a power of ten with `width` digits, or as many as it takes.
fn power_text(power: i32, width: usize) -> String {
    format!("e{}{:0>width$}", if power < 0 { '-' } else { '+' }, power.unsigned_abs())
}

/// The fewest digits, or where those are more than [`PRECISION`] after the point, the number rounded there.
fn positional(dtype: Dtype, x: f64) -> String {
    let digits = Digits::of(dtype, x);
    if x == 0.0 {
        return if digits.negative { "-0." } else { "0." }.into();
    }
    match digits.fraction_len() > PRECISION {
        true => format!("{x:.PRECISION$}").trim_end_matches('0').into(),
        false => digits.positional(),
    }
}

/// A number by itself: as many digits as it takes.
fn scalar(dtype: Dtype, x: f64) -> String {
    if matches!(dtype, Dtype::I32 | Dtype::U8) {
        return x.to_string();
    }
    if !x.is_finite() {
        return not_finite(x).into();
    }
    let digits = Digits::of(dtype, x);
    if x != 0.0 && (x.abs() < 1e-4 || x.abs() >= limit(dtype)) {
        let text = digits.scientific();
        return text.replace(".e", "e");
    }
    let text = if x == 0.0 { positional(dtype, x) } else { digits.positional() };
    if text.ends_with('.') { text + "0" } else { text }
}
