//! Our operations along rows and on single elements, x (rows, n) to y (rows, n), cut into bands of rows.

use crate::{Job, Output, cpu, input, job, pool};
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::map;
use samebits::kernels::math::exp::Exp;
use samebits::kernels::norm::{self, Gain, LayerNorm, RmsNorm};
use samebits::kernels::softmax;
use samebits::kernels::view::{MatMut, MatRef};
use std::ffi::{CStr, c_char};

/// Rows of a piece.
const BAND: usize = 64;

type RowKernel = Box<dyn Fn(MatRef, MatMut) + Sync>;

/// The operation of that name; one line each.
fn kernel(name: &str, weight: &'static [f32], bias: &'static [f32]) -> Option<RowKernel> {
    let layer = LayerNorm { weight: Some(weight), bias: Some(bias), eps: 1e-5 };
    let rms = RmsNorm { gain: Gain::Weight(weight), eps: 1e-5 };
    let act = |f: Activation| -> RowKernel { Box::new(move |x, y| activation::apply(cpu(), f, x, y)) };
    Some(match name {
        "exp" => Box::new(|x, y| map::apply(cpu(), Exp, x, y)),
        "log_softmax" => Box::new(|x, y| softmax::log_softmax(cpu(), x, y)),
        "softmax" => Box::new(|x, y| softmax::softmax(cpu(), x, y)),
        "layer_norm" => Box::new(move |x, y| norm::layer_norm(cpu(), x, &layer, y)),
        "rms_norm" => Box::new(move |x, y| norm::rms_norm(cpu(), x, &rms, y)),
        "gelu_erf" => act(Activation::GeluErf),
        "gelu_tanh" => act(Activation::GeluTanh),
        "silu" => act(Activation::Silu),
        _ => return None,
    })
}

/// Runs the operation `name`; null where there is none. `weight` and `bias` are (n).
///
/// # Safety
/// As the crate says; `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_rows(
    name: *const c_char,
    rows: usize,
    n: usize,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    y: *mut f32,
) -> *mut Job {
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
    let (weight, bias) = unsafe { (input(weight, n), input(bias, n)) };
    let Some(kernel) = kernel(name, weight, bias) else { return std::ptr::null_mut() };
    let x = unsafe { input(x, rows * n) };
    let mut y = Output { at: y, len: rows * n };
    job(move || {
        let bands = x.chunks(BAND * n).zip(y.slice().chunks_mut(BAND * n));
        pool().run(bands, |(x, y), _| {
            let rows = x.len() / n;
            kernel(MatRef::new(x, rows, n), MatMut::new(y, rows, n));
        });
    })
}
