//! Attention against PyTorch: problems and results in tests/data/attention.safetensors, which
//! tests/reference/attention.py wrote; on every tier, within the kernel's stated bound.

mod common;

use common::{U, cpus};
use samebits::Cpu;
use samebits::io::safetensors::{SafeTensors, TensorView};
use samebits::kernels::Line;
use samebits::kernels::attention::{
    Additive, Align, Attention, Keep, Options, Pattern, attention, scratch_len,
};
use samebits::kernels::view::{HeadsMut, HeadsRef};
use std::path::Path;

/// The tensors of one problem.
struct Problem<'a> {
    file: &'a SafeTensors,
    name: &'a str,
}

impl<'a> Problem<'a> {
    fn tensor(&self, part: &str) -> Option<TensorView<'a>> {
        self.file.tensor(&format!("{}/{part}", self.name)).ok()
    }

    fn bytes<const N: usize>(&self, part: &str) -> Option<Vec<[u8; N]>> {
        self.tensor(part).map(|tensor| tensor.bytes.as_chunks().0.to_vec())
    }

    fn floats(&self, part: &str) -> Option<Vec<f32>> {
        Some(self.bytes(part)?.into_iter().map(f32::from_le_bytes).collect())
    }

    fn doubles(&self, part: &str) -> Vec<f64> {
        self.bytes(part).expect(part).into_iter().map(f64::from_le_bytes).collect()
    }

    fn shape(&self, part: &str) -> [usize; 4] {
        let shape = self.tensor(part).expect(part).shape;
        std::array::from_fn(|axis| shape[axis])
    }

    /// `out` and the log-sum-exp.
    fn run(&self, cpu: Cpu) -> (Vec<f32>, Vec<f32>) {
        let [q, k, v] = ["q", "k", "v"].map(|part| (self.floats(part).unwrap(), self.shape(part)));
        let [additive, slopes, sinks, softcap] =
            ["additive", "slopes", "sinks", "softcap"].map(|part| self.floats(part));
        let keep = self.tensor("keep").map(|keep| Keep(HeadsRef::new(keep.bytes, self.shape("keep"))));
        let pattern: Vec<i32> = self.bytes("pattern").unwrap().into_iter().map(i32::from_le_bytes).collect();
        let options = Options {
            pattern: match pattern[0] {
                0 => Pattern::Full,
                1 => Pattern::Causal,
                _ => Pattern::Window(pattern[1] as usize),
            },
            align: Align::Offset(pattern[2] as isize),
            keep,
            additive: additive.as_ref().map(|x| Additive(HeadsRef::new(x, self.shape("additive")))),
            softcap: softcap.map(|cap| cap[0]),
            alibi: slopes.as_deref(),
            sinks: sinks.as_deref(),
            ..Options::new(self.floats("scale").unwrap()[0])
        };
        let (shape, [b, h, lq, d]) = (self.shape("out"), q.1);
        let mut out = vec![f32::NAN; shape.iter().product()];
        let mut lse = vec![f32::NAN; b * h * lq];
        let problem = Attention {
            q: HeadsRef::new(&q.0, q.1),
            k: HeadsRef::new(&k.0, k.1).into(),
            v: HeadsRef::new(&v.0, v.1).into(),
            out: HeadsMut::new(&mut out, shape),
            lse: Some(HeadsMut::new(&mut lse, [b, h, lq, 1])),
            options,
        };
        attention(cpu, problem, &mut vec![Line::ZERO; scratch_len(d, shape[3])]);
        (out, lse)
    }

    fn check(&self, cpu: Cpu) {
        let ((out, lse), [gain, size]) =
            (self.run(cpu), ["gain", "size"].map(|part| self.floats(part).unwrap()));
        let v_dim = self.shape("out")[3];
        for (i, (got, want)) in out.iter().zip(self.doubles("out")).enumerate() {
            let bound = 4.0 * U * (1.0 + f64::from(gain[i / v_dim])) * f64::from(size[i]);
            let error = (f64::from(*got) - want).abs();
            assert!(
                error <= bound,
                "{} on {}: element {i} is {got}, {want} ± {bound:e}",
                self.name,
                cpu.tier()
            );
        }
        for (i, (got, want)) in lse.iter().zip(self.doubles("lse")).enumerate() {
            let bound = 4.0 * U * (1.0 + f64::from(gain[i]) + want.abs());
            let near = f64::from(*got) == want || (f64::from(*got) - want).abs() <= bound;
            assert!(near, "{} on {}: log-sum-exp {i} is {got}, {want} ± {bound:e}", self.name, cpu.tier());
        }
    }
}

#[test]
fn as_pytorch_computes_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/attention.safetensors");
    let file = SafeTensors::open(path).expect("a committed file");
    let names: Vec<&str> = file.tensors().filter_map(|tensor| tensor.name.strip_suffix("/q")).collect();
    assert_eq!(names.len(), 13);
    for name in names {
        cpus().into_iter().for_each(|cpu| Problem { file: &file, name }.check(cpu));
    }
}
