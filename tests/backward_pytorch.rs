//! Gradients against PyTorch: problems and results in tests/data/backward.safetensors, which
//! tests/reference/backward.py wrote; on every tier, within 64 u of the sum of absolute terms.

mod common;

use common::{U, cpus};
use samebits::Cpu;
use samebits::io::safetensors::SafeTensors;
use samebits::kernels::Line;
use samebits::kernels::activation::{self, Activation, GatedInputs};
use samebits::kernels::attention::{
    Additive, Align, Attention, AttentionBackward, Gradients, Keep, Options, Pattern, attention,
    attention_backward, backward_scratch_len, scratch_len,
};
use samebits::kernels::column_sum::ColumnSum;
use samebits::kernels::cross_entropy::{CrossEntropy, cross_entropy};
use samebits::kernels::gemm::{Accumulate, Gemm, Strided};
use samebits::kernels::norm::{
    Gain, LayerNorm, NormBackward, NormWeights, RmsNorm, Stats, layer_norm_backward, rms_norm_backward,
};
use samebits::kernels::rope::{self, Pairing, Rope, Table};
use samebits::kernels::scatter::ScatterAdd;
use samebits::kernels::softmax::{log_softmax_backward, softmax_backward};
use samebits::kernels::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use std::path::Path;

/// The committed file.
struct File(SafeTensors);

impl File {
    fn open() -> File {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/backward.safetensors");
        File(SafeTensors::open(path).expect("a committed file"))
    }

    fn bytes<const N: usize>(&self, name: &str) -> Vec<[u8; N]> {
        let tensor = self.0.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        tensor.bytes.as_chunks().0.to_vec()
    }

    fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn ints(&self, name: &str) -> Vec<i32> {
        self.bytes(name).into_iter().map(i32::from_le_bytes).collect()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.0.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).shape.to_vec()
    }

    /// `got` within its bound of the gradient `name`.
    #[track_caller]
    fn check(&self, name: &str, got: &[f32], cpu: Cpu) {
        let want: Vec<f64> = self.bytes(name).into_iter().map(f64::from_le_bytes).collect();
        let gauge = self.floats(&format!("{name}_gauge"));
        assert_eq!((got.len(), gauge.len()), (want.len(), want.len()), "{name}");
        for (i, ((got, want), gauge)) in got.iter().zip(want).zip(gauge).enumerate() {
            let (error, bound) = ((f64::from(*got) - want).abs(), 64.0 * U * f64::from(gauge) + 3e-36);
            assert!(error <= bound, "{name} on {}: element {i} is {got:e}, {want:e} ± {bound:e}", cpu.tier());
        }
    }
}

#[test]
fn a_linear_layer() {
    let file = File::open();
    let (m, k, n) = (37, 33, 21);
    let [x, w, dy] = ["x", "w", "dy"].map(|part| file.floats(&format!("linear/{part}")));
    let dy = MatRef::new(&dy, m, n);
    for cpu in cpus() {
        let (mut dx, mut dw, mut db) = (vec![0.0; m * k], vec![0.0; n * k], vec![0.0; n]);
        let mut scratch = vec![Line::ZERO; 1 << 16];
        Gemm::new(dy, Strided(MatRef::new(&w, n, k)), MatMut::new(&mut dx, m, k)).run(cpu, &mut scratch);
        Gemm::new(dy.t(), Strided(MatRef::new(&x, m, k)), MatMut::new(&mut dw, n, k)).run(cpu, &mut scratch);
        ColumnSum { x: dy, accumulate: Accumulate::Overwrite, out: &mut db }.run(cpu);
        file.check("linear/dx", &dx, cpu);
        file.check("linear/dw", &dw, cpu);
        file.check("linear/db", &db, cpu);
    }
}

#[test]
fn softmaxes() {
    let file = File::open();
    for (name, kernel) in [
        ("softmax", softmax_backward as fn(Cpu, MatRef, MatRef, MatMut)),
        ("log_softmax", log_softmax_backward),
    ] {
        let [y, dy] = ["y", "dy"].map(|part| file.floats(&format!("{name}/{part}")));
        for cpu in cpus() {
            let mut dx = vec![0.0; y.len()];
            kernel(cpu, MatRef::new(&y, 5, 37), MatRef::new(&dy, 5, 37), MatMut::new(&mut dx, 5, 37));
            file.check(&format!("{name}/dx"), &dx, cpu);
        }
    }
}

#[test]
fn norms() {
    let (file, rows, n) = (File::open(), 11, 29);
    for name in ["layer_norm", "rms_norm", "rms_norm_one_plus"] {
        let [x, w, dy] = ["x", "w", "dy"].map(|part| file.floats(&format!("{name}/{part}")));
        let (x, dy) = (MatRef::new(&x, rows, n), MatRef::new(&dy, rows, n));
        for cpu in cpus() {
            let (mut dx, mut dw, mut db) = (vec![0.0; rows * n], vec![0.0; n], vec![0.0; n]);
            let mut stats = vec![Stats::default(); rows];
            let accumulate = Accumulate::Overwrite;
            let of_rows =
                NormBackward { x, dy, dx: MatMut::new(&mut dx, rows, n), accumulate, stats: &mut stats };
            match name {
                "layer_norm" => {
                    let norm = LayerNorm { weight: Some(&w), bias: None, eps: 1e-5 };
                    layer_norm_backward(cpu, &norm, of_rows);
                }
                "rms_norm" => rms_norm_backward(cpu, &RmsNorm { gain: Gain::Weight(&w), eps: 1e-5 }, of_rows),
                _ => rms_norm_backward(cpu, &RmsNorm { gain: Gain::OnePlus(&w), eps: 1e-5 }, of_rows),
            }
            NormWeights { x, dy, stats: &stats, accumulate, out: &mut dw }.run(cpu);
            file.check(&format!("{name}/dx"), &dx, cpu);
            file.check(&format!("{name}/dw"), &dw, cpu);
            if name == "layer_norm" {
                ColumnSum { x: dy, accumulate, out: &mut db }.run(cpu);
                file.check("layer_norm/db", &db, cpu);
            }
        }
    }
}

#[test]
fn activations_and_gated_forms() {
    let file = File::open();
    for (name, f) in [
        ("relu", Activation::Relu),
        ("gelu_erf", Activation::GeluErf),
        ("gelu_tanh", Activation::GeluTanh),
        ("gelu_quick", Activation::GeluQuick),
        ("silu", Activation::Silu),
    ] {
        let [x, dy] = ["x", "dy"].map(|part| file.floats(&format!("{name}/{part}")));
        let gated = ["gate", "up", "dy"].map(|part| file.floats(&format!("gated_{name}/{part}")));
        let [gate, up, gated_dy] = [0, 1, 2].map(|i| MatRef::new(&gated[i], 3, 41));
        for cpu in cpus() {
            let [mut dx, mut dgate, mut dup] = [(); 3].map(|()| vec![0.0; 123]);
            let [to, to_gate, to_up] = [&mut dx, &mut dgate, &mut dup].map(|x| MatMut::new(x, 3, 41));
            activation::backward(cpu, f, MatRef::new(&x, 3, 41), MatRef::new(&dy, 3, 41), to);
            activation::gated_backward(cpu, f, GatedInputs { gate, up, dy: gated_dy }, to_gate, to_up);
            file.check(&format!("{name}/dx"), &dx, cpu);
            file.check(&format!("gated_{name}/dgate"), &dgate, cpu);
            file.check(&format!("gated_{name}/dup"), &dup, cpu);
        }
    }
}

#[test]
fn rope_both_pairings() {
    let file = File::open();
    for (name, pairing) in [("rope_half", Pairing::Half), ("rope_interleaved", Pairing::Interleaved)] {
        let [cos, sin, dy] = ["cos", "sin", "dy"].map(|part| file.floats(&format!("{name}/{part}")));
        let positions: Vec<u32> =
            file.ints(&format!("{name}/positions")).into_iter().map(|p| p as u32).collect();
        let rope = Rope { table: Table { cos: &cos, sin: &sin, pairs: 5 }, pairing, positions: &positions };
        for cpu in cpus() {
            let mut dx = dy.clone();
            rope::backward_in_place(cpu, &rope, HeadsMut::by_token(&mut dx, 5, 2, 12));
            file.check(&format!("{name}/dx"), &dx, cpu);
        }
    }
}

#[test]
fn an_embedding() {
    let file = File::open();
    let (ids, dy) = (file.ints("embedding/ids"), file.floats("embedding/dy"));
    let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
    for cpu in cpus() {
        let mut dw = vec![0.0; 9 * 6];
        ScatterAdd { ids: &ids, x: MatRef::new(&dy, 40, 6), out: MatMut::new(&mut dw, 9, 6) }.run(cpu);
        file.check("embedding/dw", &dw, cpu);
    }
}

#[test]
fn cross_entropy_of_the_mean() {
    let file = File::open();
    for name in ["cross_entropy_plain", "cross_entropy_smoothed"] {
        let (x, targets) = (file.floats(&format!("{name}/x")), file.ints(&format!("{name}/targets")));
        let label_smoothing = file.floats(&format!("{name}/smoothing"))[0];
        let mut how = CrossEntropy { label_smoothing, ..CrossEntropy::default() };
        how.scale = how.mean_scale(&targets);
        let want = f64::from_le_bytes(file.bytes(&format!("{name}/loss"))[0]);
        for cpu in cpus() {
            let (mut dx, mut losses) = (x.clone(), [0.0; 9]);
            cross_entropy(cpu, &how, MatMut::new(&mut dx, 9, 37), &targets, &mut losses);
            file.check(&format!("{name}/dx"), &dx, cpu);
            let loss = losses.iter().sum::<f64>() * how.scale;
            assert!((loss - want).abs() <= 8.0 * U * want.abs(), "{name}: {loss}, {want}");
        }
    }
}

/// A problem of attention.
struct Attended<'a> {
    file: &'a File,
    name: &'a str,
}

impl Attended<'_> {
    fn part(&self, part: &str) -> String {
        format!("{}/{part}", self.name)
    }

    fn floats(&self, part: &str) -> Option<Vec<f32>> {
        self.file.has(&self.part(part)).then(|| self.file.floats(&self.part(part)))
    }

    fn shape(&self, part: &str) -> [usize; 4] {
        self.file.shape(&self.part(part)).try_into().expect("four axes")
    }

    fn check(&self, cpu: Cpu) {
        let [q, k, v, dy] = ["q", "k", "v", "dy"].map(|part| (self.floats(part).unwrap(), self.shape(part)));
        let place = self.file.ints(&self.part("place"));
        let keep = self.file.has(&self.part("keep")).then(|| self.file.bytes::<1>(&self.part("keep")));
        let keep = keep.map(|keep| keep.into_iter().flatten().collect::<Vec<u8>>());
        let [additive, slopes, sinks] = ["additive", "slopes", "sinks"].map(|part| self.floats(part));
        let options = Options {
            pattern: match place[1] {
                0 => Pattern::Full,
                -1 => Pattern::Causal,
                w => Pattern::Window(w as usize),
            },
            align: Align::Offset(place[0] as isize),
            keep: keep.as_ref().map(|x| Keep(HeadsRef::new(x, self.shape("keep")))),
            additive: additive.as_ref().map(|x| Additive(HeadsRef::new(x, self.shape("additive")))),
            softcap: self.floats("softcap").map(|cap| cap[0]),
            alibi: slopes.as_deref(),
            sinks: sinks.as_deref(),
            ..Options::new(0.375)
        };
        let ([b, h, lq, d], v_dim) = (q.1, v.1[3]);
        let (mut out, mut lse) = (vec![0.0; dy.0.len()], vec![0.0; b * h * lq]);
        let problem = Attention {
            q: HeadsRef::new(&q.0, q.1),
            k: HeadsRef::new(&k.0, k.1).into(),
            v: HeadsRef::new(&v.0, v.1).into(),
            out: HeadsMut::new(&mut out, dy.1),
            lse: Some(HeadsMut::new(&mut lse, [b, h, lq, 1])),
            options,
        };
        let mut scratch = vec![Line::ZERO; scratch_len(d, v_dim).max(backward_scratch_len(d, v_dim))];
        attention(cpu, problem, &mut scratch);
        let backward = AttentionBackward {
            q: HeadsRef::new(&q.0, q.1),
            k: HeadsRef::new(&k.0, k.1),
            v: HeadsRef::new(&v.0, v.1),
            out: HeadsRef::new(&out, dy.1),
            lse: HeadsRef::new(&lse, [b, h, lq, 1]),
            d_out: HeadsRef::new(&dy.0, dy.1),
            options,
        };
        let (mut dq, mut dk, mut dv) = (q.0.clone(), k.0.clone(), v.0.clone());
        let mut delta = vec![0.0; b * h * lq];
        let to = Gradients {
            dq: HeadsMut::new(&mut dq, q.1),
            dk: HeadsMut::new(&mut dk, k.1),
            dv: HeadsMut::new(&mut dv, v.1),
        };
        attention_backward(cpu, &backward, to, &mut delta, &mut scratch);
        self.file.check(&self.part("dq"), &dq, cpu);
        self.file.check(&self.part("dk"), &dk, cpu);
        self.file.check(&self.part("dv"), &dv, cpu);
        if sinks.is_some() {
            let mut dsinks = vec![0.0; h];
            backward.sinks(cpu, HeadsRef::new(&delta, [b, h, lq, 1]), &mut dsinks);
            self.file.check(&self.part("dsinks"), &dsinks, cpu);
        }
    }
}

#[test]
fn attentions() {
    let file = File::open();
    for name in ["attention_causal", "attention_biased", "attention_masked"] {
        cpus().into_iter().for_each(|cpu| Attended { file: &file, name }.check(cpu));
    }
}
