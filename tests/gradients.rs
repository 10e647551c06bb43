//! A decoder's loss and gradients: against PyTorch in f64, the same bits for any threads, tier and memory, and over
//! stored weights those over their decoded values.

mod common;

use common::{assert_same, cpus};
use samebits::io::safetensors::{Checkpoint, SafeTensors};
use samebits::kernels::Cpu;
use samebits::kernels::cross_entropy::CrossEntropy;
use samebits::model::{Decoder, DecoderConfig, Examples, Keep, Sequence, Tape, Workspace};
use samebits::nn::Gradients;
use samebits::pool::Pool;
use samebits::run::Run;
use std::path::PathBuf;

const MODELS: [&str; 8] = ["llama", "gemma2", "gpt2", "mistral", "qwen2", "qwen3", "gemma", "phi3_short"];

/// All of them, or under emulation the three that differ most.
fn models() -> &'static [&'static str] {
    if common::slow() { &MODELS[..3] } else { &MODELS }
}

const ENDS: [usize; 3] = [0, 23, 37];

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn decoder(name: &str, run: &Run<'_>) -> Decoder {
    let folder = data("models").join(name);
    let mut config = DecoderConfig::from_hf(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    config.length = config.length.min(37); // what selects LongRoPE's factors
    let weights = Checkpoint::open(folder.join("model.safetensors")).unwrap();
    Decoder::load(run.cpu(), config, &weights).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn reference() -> SafeTensors {
    SafeTensors::open(data("gradients.safetensors")).expect("a committed file")
}

/// Two sequences of one model, and the mean over their targets.
struct Case {
    tokens: Vec<u32>,
    targets: Vec<i32>,
    how: CrossEntropy,
}

impl Case {
    fn of(name: &str) -> Case {
        let file = reference();
        let ints = |what: &str| file.load(&format!("{name}/{what}")).unwrap().to_vec::<i32>();
        let targets = ints("targets");
        let how = CrossEntropy::default();
        let how = CrossEntropy { scale: how.mean_scale(&targets), ..how };
        Case { tokens: ints("ids").into_iter().map(|id| id as u32).collect(), targets, how }
    }

    fn examples(&self) -> Examples<'_> {
        Examples { tokens: &self.tokens, targets: &self.targets, ends: &ENDS }
    }

    /// The loss, and every gradient that `gradients` has.
    fn learn(&self, model: &Decoder, run: &Run<'_>, gradients: &mut Gradients, keep: Keep) -> f64 {
        model.learn(run, self.examples(), &self.how, gradients, &mut Tape::new(keep)).unwrap()
    }
}

/// Room for the gradient of every parameter of a model that is made trainable.
fn everything(model: &mut Decoder, run: &Run<'_>) -> Gradients {
    model.make_trainable(run);
    let mut gradients = Gradients::default();
    model.with_parameters(|all| all.iter().for_each(|p| gradients.train(&p.name, p.values.len())));
    gradients
}

#[test]
fn pytorch_has_these_losses_and_gradients() {
    let file = reference();
    for cpu in cpus() {
        let run = Run::here(cpu);
        for &name in models() {
            let (case, mut model) = (Case::of(name), decoder(name, &run));
            let mut gradients = everything(&mut model, &run);
            let loss = case.learn(&model, &run, &mut gradients, Keep::All);
            let want = f64::from(file.load(&format!("{name}/loss")).unwrap().to_vec::<f32>()[0]);
            assert!((loss - want).abs() < 2e-6, "{name} on {}: loss {loss}, PyTorch {want}", cpu.tier());
            let prefix = format!("{name}/gradient/");
            let known = file.tensors().filter(|t| t.name.starts_with(&prefix)).count();
            assert_eq!(gradients.iter().count(), known, "{name}: parameters");
            for (parameter, g) in gradients.iter() {
                let want: Vec<f32> = file.load(&format!("{prefix}{parameter}")).unwrap().to_vec();
                let largest = want.iter().fold(0.0f32, |m, w| m.max(w.abs()));
                let far = g.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0f32, f32::max);
                let what = format!("{name} on {}, {parameter}", cpu.tier());
                assert!(far <= 4e-6 * largest.max(0.1), "{what}: {far:e} of {largest:e} from PyTorch");
            }
        }
    }
}

#[test]
fn threads_tiers_and_what_is_kept_change_no_bit() {
    for &name in models() {
        let case = Case::of(name);
        let mut first: Option<(f64, Gradients)> = None;
        let mut same = |run: &Run<'_>, keep, what: String| {
            let mut model = decoder(name, run);
            let mut gradients = everything(&mut model, run);
            let loss = case.learn(&model, run, &mut gradients, keep);
            let (want_loss, want) = first.get_or_insert_with(|| (loss, gradients.clone()));
            assert_eq!(loss.to_bits(), want_loss.to_bits(), "{name}, {what}: loss");
            for ((parameter, g), (_, w)) in gradients.iter().zip(want.iter()) {
                assert_same(g, w, format!("{name}, {what}: {parameter}"));
            }
        };
        for cpu in cpus() {
            same(&Run::here(cpu), Keep::All, format!("{}", cpu.tier()));
        }
        let cpu = Cpu::detect();
        same(&Run::here(cpu), Keep::Inputs, "inputs kept".into());
        for threads in [2, 3, 7] {
            same(&Run::on(cpu, &Pool::new(threads)), Keep::All, format!("{threads} threads"));
        }
    }
}

#[test]
fn the_loss_is_that_of_the_logits() {
    let run = Run::here(Cpu::detect());
    for &name in models() {
        let (case, model) = (Case::of(name), decoder(name, &run));
        let loss = case.learn(&model, &run, &mut Gradients::default(), Keep::All);
        let vocab = model.config().vocab;
        let (mut logits, mut losses) = (vec![0.0; case.tokens.len() * vocab], vec![0.0; case.tokens.len()]);
        let parts = [&case.tokens[..ENDS[1]], &case.tokens[ENDS[1]..]];
        let mut caches = parts.map(|p| model.cache(p.len()));
        let mut batch: Vec<_> =
            parts.iter().zip(&mut caches).map(|(tokens, cache)| Sequence { tokens, cache }).collect();
        model.forward_all(&run, &mut batch, &mut logits, &mut Workspace::new()).unwrap();
        let rows = samebits::kernels::view::MatMut::new(&mut logits, case.tokens.len(), vocab);
        samebits::kernels::cross_entropy::cross_entropy(
            run.cpu(),
            &case.how,
            rows,
            &case.targets,
            &mut losses,
        );
        assert_eq!(loss.to_bits(), (case.how.scale * losses.iter().sum::<f64>()).to_bits(), "{name}");
    }
}

#[test]
fn only_what_is_trained_has_a_gradient_and_it_is_the_same() {
    let run = Run::here(Cpu::detect());
    let (case, mut model) = (Case::of("llama"), decoder("llama", &run));
    let mut all = everything(&mut model, &run);
    case.learn(&model, &run, &mut all, Keep::All);
    for some in [
        &["blocks.1.network.down.weight"][..],
        &["norm.weight"],
        &["blocks.0.attention.q.bias", "embedding.weight"],
    ] {
        let mut few = Gradients::default();
        some.iter().for_each(|name| few.train(name, all.get(name).unwrap().len()));
        case.learn(&model, &run, &mut few, Keep::Inputs);
        for name in some {
            assert_same(few.get(name).unwrap(), all.get(name).unwrap(), *name);
        }
        // Once more: added.
        case.learn(&model, &run, &mut few, Keep::Inputs);
        assert!(some.iter().all(|name| few.get(name) != all.get(name)));
    }
}

#[test]
fn over_stored_weights_gradients_are_those_over_their_decoded_values() {
    let run = Run::here(Cpu::detect());
    for name in ["llama", "qwen2", "gpt2"] {
        let case = Case::of(name);
        let mut stored = decoder(name, &run);
        stored.quantize_nf4(&run, 64).unwrap();
        let mut plain = stored.clone();
        let mut of_plain = everything(&mut plain, &run);
        let mut of_stored = Gradients::default();
        stored.with_parameters(|all| all.iter().for_each(|p| of_stored.train(&p.name, p.values.len())));
        let losses = [
            case.learn(&stored, &run, &mut of_stored, Keep::All),
            case.learn(&plain, &run, &mut of_plain, Keep::All),
        ];
        assert_eq!(losses[0].to_bits(), losses[1].to_bits(), "{name}");
        assert!(of_stored.iter().count() > 4, "norms and biases stay floats");
        for (parameter, g) in of_stored.iter() {
            assert_same(g, of_plain.get(parameter).unwrap(), format!("{name}: {parameter}"));
        }
    }
}

#[test]
fn what_cannot_be_learned_is_an_error() {
    let run = Run::here(Cpu::detect());
    let model = decoder("gpt2", &run);
    let learn = |tokens: &[u32], targets: &[i32], ends: &[usize]| {
        let examples = Examples { tokens, targets, ends };
        let how = CrossEntropy::default();
        model
            .learn(&run, examples, &how, &mut Gradients::default(), &mut Tape::default())
            .map_err(|e| e.to_string())
    };
    assert!(learn(&[1, 2], &[2, -100], &[0, 2]).is_ok());
    assert!(learn(&[1, 53], &[2, -100], &[0, 2]).unwrap_err().contains("token 53 of a vocabulary of 53"));
    assert!(learn(&[1, 2], &[53, -100], &[0, 2]).unwrap_err().contains("target 53 of a vocabulary of 53"));
    assert!(learn(&[1, 2], &[2, -100], &[0, 0, 2]).unwrap_err().contains("without tokens"));
    let long = vec![1; 129];
    assert!(
        learn(&long, &[2; 129], &[0, 129]).unwrap_err().contains("129 tokens, the model has 128 positions")
    );
}
