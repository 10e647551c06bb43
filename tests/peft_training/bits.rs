//! The same bits however a model with adapters is fed, trained and cut; gradients.

use super::*;

/// A prompt whole or token by token, alone or in a batch, in training or not.
#[test]
fn a_prompt_has_the_same_bits_however_it_is_fed() {
    let run = Run::here(Cpu::detect());
    for (folder, name) in METHODS {
        let (model, batch) = (adapted(&run, name, &data(folder)), Batch::drawn(3));
        let want = logits(&model, &run, &batch, 64);
        for part in [1, 5] {
            assert_same(&logits(&model, &run, &batch, part), &want, format!("{folder}: parts of {part}"));
        }
        let mut both = vec![0.0; want.len()];
        let mut caches = [model.cache(2), model.cache(30)];
        let parts = ENDS.windows(2).map(|w| &batch.tokens[w[0]..w[1]]);
        let mut sequences: Vec<_> =
            parts.zip(&mut caches).map(|(tokens, cache)| Sequence { tokens, cache }).collect();
        model.forward_all(&run, &mut sequences, &mut both, &mut Workspace::new()).unwrap();
        assert_same(&both, &want, format!("{folder}: in a batch"));
        // The loss of training is that of these logits.
        let how = CrossEntropy::default();
        let learn = |gradients: &mut Gradients| {
            model.learn(&run, batch.examples(), &how, gradients, &mut Tape::default()).unwrap()
        };
        let (mut rows, mut losses) = (want.clone(), vec![0.0; 37]);
        let vocab = model.config().vocab;
        let rows = samebits::kernels::view::MatMut::new(&mut rows, 37, vocab);
        samebits::kernels::cross_entropy::cross_entropy(run.cpu(), &how, rows, &batch.targets, &mut losses);
        let sum: f64 = losses.iter().sum();
        assert_eq!(learn(&mut Gradients::default()).to_bits(), sum.to_bits(), "{folder}: in training");
    }
}

/// A cache keeps its prefix when it is shortened, saved and restored; a cache without it is refused.
#[test]
fn a_cache_begins_with_the_prefix() {
    let run = Run::here(Cpu::detect());
    let mut model = adapted(&run, "llama", &data("lora_training/prefix"));
    assert_eq!(model.prefix_tokens(), 5);
    let (tokens, vocab) = (Batch::drawn(1).tokens, model.config().vocab);
    let forward = |model: &Decoder, cache: &mut KvCache, tokens: &[u32]| {
        let mut out = vec![0.0; vocab];
        let mut sequences = [Sequence { tokens, cache }];
        model.forward(&run, &mut sequences, &mut out, &mut Workspace::new()).map(|()| out)
    };
    let mut cache = model.cache(8);
    let first = forward(&model, &mut cache, &tokens[..9]).unwrap();
    assert_eq!((cache.len(), cache.prefix()), (9, 5));
    assert!(cache.truncate(0));
    assert_same(&forward(&model, &mut cache, &tokens[..9]).unwrap(), &first, "after it was emptied");
    let mut restored = KvCache::restore(&cache.save()).unwrap();
    let next = forward(&model, &mut cache, &tokens[9..12]).unwrap();
    assert_same(&forward(&model, &mut restored, &tokens[9..12]).unwrap(), &next, "restored");
    activate(&mut model, &[]).unwrap();
    let error = forward(&model, &mut restored, &tokens[..1]).unwrap_err().to_string();
    assert!(error.contains("prefix of 5"), "{error}");
    let base = decoder("llama", &run);
    let (a, b) = (forward(&model, &mut model.cache(8), &tokens), forward(&base, &mut base.cache(8), &tokens));
    assert_same(&a.unwrap(), &b.unwrap(), "without the prefix");
    // Positions count it.
    activate(&mut model, &[("default", 1.0)]).unwrap();
    let long = vec![1; 252];
    let batch = Examples { tokens: &long, targets: &[1; 252], ends: &[0, 252] };
    let learned =
        model.learn(&run, batch, &CrossEntropy::default(), &mut Gradients::default(), &mut Tape::default());
    assert!(forward(&model, &mut model.cache(8), &long).is_ok() == learned.is_ok());
}

#[test]
fn threads_tiers_what_is_kept_and_a_stop_change_no_bit() {
    for (folder, name) in METHODS {
        let (batches, _) = record(folder);
        let train = |run: &Run<'_>, keep: Keep, stop: Option<usize>| {
            let (plan, model) = (Plan { keep, ..PLAN }, || adapted(run, name, &data(folder)));
            let mut trainer = Trainer::new(model(), plan, is_adapter).unwrap();
            for (i, batch) in batches.iter().enumerate() {
                if stop == Some(i) {
                    let file = format!("samebits-peft-{}-{}", learned_name(folder), std::process::id());
                    let file = std::env::temp_dir().join(file + ".safetensors");
                    trainer.save(&file).unwrap();
                    trainer = Trainer::resume(run, model(), plan, is_adapter, &file).unwrap();
                    std::fs::remove_file(file).unwrap();
                }
                trainer.step(run, &[batch.examples()]).unwrap();
            }
            values(&mut trainer.into_model())
        };
        let cpu = Cpu::detect();
        let want = train(&Run::here(cpu), Keep::All, None);
        for threads in [2, 3, 7] {
            let pool = Pool::new(threads);
            let got = train(&Run::on(cpu, &pool), Keep::All, None);
            assert_same(&got, &want, format!("{folder}: {threads} threads"));
        }
        assert_same(&train(&Run::here(cpu), Keep::Inputs, None), &want, format!("{folder}: inputs kept"));
        assert_same(&train(&Run::here(cpu), Keep::All, Some(9)), &want, format!("{folder}: 9 + 11 steps"));
        for cpu in cpus() {
            let got = train(&Run::here(cpu), Keep::All, None);
            assert_same(&got, &want, format!("{folder}: {}", cpu.tier()));
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss_and_the_base_has_none() {
    let run = Run::here(Cpu::detect());
    let batch = Batch::drawn(7);
    for (folder, name) in METHODS {
        let mut model = adapted(&run, name, &data(folder));
        let (mut gradients, mut names) = (Gradients::default(), Vec::new());
        model.with_parameters(|all| {
            for p in all.iter().filter(|p| is_adapter(&p.name)) {
                gradients.train(&p.name, p.values.len());
                names.push(p.name.clone());
            }
        });
        let loss = |model: &Decoder, gradients: &mut Gradients| {
            let how = CrossEntropy::default();
            model.learn(&run, batch.examples(), &how, gradients, &mut Tape::default()).unwrap()
        };
        loss(&model, &mut gradients);
        assert!(
            gradients.iter().all(|(name, g)| is_adapter(name) && g.iter().any(|x| *x != 0.0)),
            "{folder}"
        );
        for name in &names {
            let g = gradients.get(name).unwrap().to_vec();
            for i in [0, g.len() / 2, g.len() - 1] {
                let mut at = |step: f32| {
                    model.with_parameters(|mut all| {
                        let p = all.iter_mut().find(|p| p.name == *name).unwrap();
                        p.values[i] += step;
                    });
                    loss(&model, &mut Gradients::default())
                };
                let (up, down) = (at(0.002), at(-0.004));
                at(0.002);
                let slope = (up - down) / 0.004;
                let near = (slope - f64::from(g[i])).abs() <= 5e-3 * f64::from(g[i].abs()) + 2e-2;
                assert!(near, "{folder}, {name}[{i}]: slope {slope}, gradient {}", g[i]);
            }
        }
    }
}

/// A prefix's gradients are added sequence by sequence, scales' and bottlenecks' in blocks of 256 rows.
#[test]
fn micro_batches_of_whole_blocks_are_one_batch_to_the_bit() {
    let run = Run::here(Cpu::detect());
    let tokens = |n: u32, seed: u32| (0..n).map(move |i| (i * i * 7 + i * 3 + seed * 11) % 53);
    let all: Vec<u32> = tokens(128, 1).chain(tokens(128, 2)).chain(tokens(40, 3)).collect();
    let targets: Vec<i32> = all.iter().skip(1).chain(&all[..1]).map(|t| *t as i32).collect();
    let whole = Examples { tokens: &all, targets: &targets, ends: &[0, 128, 256, 296] };
    let first = Examples { tokens: &all[..256], targets: &targets[..256], ends: &[0, 128, 256] };
    let second = Examples { tokens: &all[256..], targets: &targets[256..], ends: &[0, 40] };
    for (folder, name) in METHODS.into_iter().filter(|(_, name)| *name == "llama") {
        let train = |batches: &[Examples<'_>]| {
            let mut trainer = Trainer::new(adapted(&run, name, &data(folder)), PLAN, is_adapter).unwrap();
            (0..2).for_each(|_| _ = trainer.step(&run, batches).unwrap());
            values(&mut trainer.into_model())
        };
        assert_same(&train(&[first, second]), &train(&[whole]), folder);
    }
}
