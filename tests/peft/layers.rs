//! Layers under adapters: switching, sums, mixed batches, merging, dropout; bottlenecks.

use super::*;
use common::{assert_same, cpus, hash};
use samebits::io::json;
use samebits::kernels::activation::Activation;
use samebits::peft::{AdapterCache, AdapterInit, AdapterKind, AdapterLayer, Draw, LoraCache, MergeInto};
use samebits::pool::Pool;
use samebits::random::Philox;

const SHAPE: [usize; 3] = [37, 300, 5];

/// Base 37 × 300 with two adapters of different ranks and a DoRA.
fn layer(run: &Run<'_>, base: Linear) -> LinearWithLora {
    let mut layer = LinearWithLora::new(base);
    layer.insert(run, "a", drawn_lora(3, SHAPE)).unwrap();
    layer.insert(run, "b", drawn_lora(4, [37, 300, 2])).unwrap();
    let mut dora = drawn_lora(5, SHAPE).with_magnitude(run, &layer.base().weight);
    dora.magnitude.as_mut().unwrap().lengths.iter_mut().for_each(|m| *m *= 1.5);
    layer.insert(run, "d", dora).unwrap();
    layer
}

/// y in `f64` from the definition: W x + b + Σ w (f ∘ (W + s B A) − W) x.
fn truth(layer: &LinearWithLora, x: &[f32], active: &[(&str, f32)]) -> Vec<f64> {
    let [n, k, _] = SHAPE;
    let w = layer.base().weight.to_rows(Cpu::detect());
    let mut full: Vec<f64> = w.iter().map(|&w| f64::from(w)).collect();
    for &(name, weight) in active {
        let lora = layer.get(name).unwrap();
        let rank = lora.shape().rank;
        for o in 0..n {
            let row: Vec<f64> = (0..k)
                .map(|i| {
                    let ba =
                        (0..rank).map(|r| f64::from(lora.b[o * rank + r]) * f64::from(lora.a[r * k + i]));
                    f64::from(w[o * k + i]) + f64::from(lora.scale) * ba.sum::<f64>()
                })
                .collect();
            let f = lora
                .magnitude
                .as_ref()
                .map_or(1.0, |m| f64::from(m.lengths[o]) / row.iter().map(|v| v * v).sum::<f64>().sqrt());
            for i in 0..k {
                full[o * k + i] += f64::from(weight) * (f * row[i] - f64::from(w[o * k + i]));
            }
        }
    }
    let bias = layer.base().bias.as_deref().unwrap();
    x.chunks(k)
        .flat_map(|x| {
            let full = &full;
            (0..n).map(move |o| {
                let sum: f64 = full[o * k..][..k].iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                sum + f64::from(bias[o])
            })
        })
        .collect()
}

/// Switching, sums with weights, hot swap: against `f64`, and the same bits on every tier and thread.
#[test]
fn active_adapters() {
    let pool = Pool::new(3);
    let x = Random::new(9).normal(7 * 300);
    let choices: [&[(&str, f32)]; 6] = [
        &[],
        &[("a", 1.0)],
        &[("b", -0.5)],
        &[("a", 0.25), ("b", 2.0)],
        &[("d", 1.0)],
        &[("d", 0.5), ("a", 1.0)],
    ];
    let mut first = [const { None }; 6];
    for cpu in cpus() {
        for run in [Run::here(cpu), Run::on(cpu, &pool)] {
            let mut layer = layer(&run, drawn_linear(cpu, 1, [37, 300]));
            let bare = forward(&run, &layer, &x);
            for (choice, first) in choices.iter().zip(&mut first) {
                layer.activate(choice).unwrap();
                let got = forward(&run, &layer, &x);
                let want: Vec<f32> = truth(&layer, &x, choice).iter().map(|&y| y as f32).collect();
                assert_near(&got, &want, 2e-6, format!("{choice:?} {cpu:?}"));
                assert_same(&got, first.get_or_insert_with(|| got.clone()), format!("{choice:?} {cpu:?}"));
            }
            layer.activate(&[]).unwrap();
            assert_same(&forward(&run, &layer, &x), &bare, "switched off");
            layer.insert(&run, "a", drawn_lora(8, [37, 300, 11])).unwrap(); // another rank in its place
            layer.activate(&[("a", 1.0)]).unwrap();
            let want: Vec<f32> = truth(&layer, &x, &[("a", 1.0)]).iter().map(|&y| y as f32).collect();
            assert_near(&forward(&run, &layer, &x), &want, 2e-6, "swapped");
        }
    }
}

/// A new adapter changes no bit of the output.
#[test]
fn zero_at_the_start() {
    use samebits::peft::{Init, LoraOptions};
    let x = Random::new(9).normal(5 * 300);
    for cpu in cpus() {
        let run = Run::here(cpu);
        let mut layer = LinearWithLora::new(drawn_linear(cpu, 1, [37, 300]));
        let bare = forward(&run, &layer, &x);
        for init in [Init::Kaiming, Init::Gaussian] {
            let options = LoraOptions { init, ..LoraOptions::default() };
            let (lora, _) = LoraLayer::new(&run, layer.weight(), &options, (Philox::new(1), 2)).unwrap();
            layer.insert(&run, "new", lora).unwrap();
            layer.activate(&[("new", 1.0)]).unwrap();
            assert_same(&forward(&run, &layer, &x), &bare, format!("{init:?} {cpu:?}"));
        }
    }
}

/// Each row with its own adapter has the bits of a pass of its own, DoRA too; also over NF4.
#[test]
fn mixed_batches() {
    let x = Random::new(9).normal(8 * 300);
    let of = [Some("a"), None, Some("d"), Some("b"), Some("a"), Some("d"), None, Some("d")];
    for cpu in cpus() {
        let run = Run::here(cpu);
        let mut base = drawn_linear(cpu, 1, [37, 300]);
        for nf4 in [false, true] {
            if nf4 {
                base.weight = base.weight.to_nf4(cpu, 64).unwrap();
            }
            let mut layer = layer(&run, base.clone());
            let mut got = vec![f32::NAN; 8 * 37];
            layer.forward_mixed(&run, &x, &of, &mut got).unwrap();
            for (r, name) in of.iter().enumerate() {
                let one = name.map(|name| (name, 1.0));
                layer.activate(one.as_slice()).unwrap();
                let alone = forward(&run, &layer, &x[r * 300..][..300]);
                assert_same(&got[r * 37..][..37], &alone, format!("row {r} {name:?} {cpu:?}"));
            }
            let error = layer.forward_mixed(&run, &x[..300], &[Some("z")], &mut got).unwrap_err();
            assert_eq!(error.to_string(), "no adapter \"z\"; there are [\"a\", \"b\", \"d\"]");
        }
    }
}

/// An adapter on NF4 is one on the decoded weight: the same bits.
#[test]
fn over_nf4() {
    let x = Random::new(9).normal(5 * 300);
    for cpu in cpus() {
        let run = Run::here(cpu);
        let mut coded = drawn_linear(cpu, 1, [37, 300]);
        coded.weight = coded.weight.to_nf4(cpu, 64).unwrap();
        let rows = coded.weight.to_rows(cpu);
        let decoded = Linear { weight: Weight::from_f32(cpu, MatRef::new(&rows, 37, 300)), ..coded.clone() };
        for name in ["a", "d"] {
            let [one, other] = [&coded, &decoded].map(|base| {
                let mut layer = layer(&run, base.clone());
                layer.activate(&[(name, 1.0)]).unwrap();
                forward(&run, &layer, &x)
            });
            assert_same(&one, &other, format!("{name} {cpu:?}"));
        }
    }
}

/// Merged once or three times it is W + ΔW; unmerged it is W, bit for bit; NF4 only when asked.
#[test]
fn merging() {
    let x = Random::new(9).normal(5 * 300);
    for cpu in cpus() {
        let run = Run::here(cpu);
        let base = drawn_linear(cpu, 1, [37, 300]);
        let mut layer = layer(&run, base.clone());
        let before = layer.weight().to_rows(cpu);
        for active in
            [&[("a", 1.0)][..], &[("a", 0.5), ("b", -1.0)], &[("d", 1.0)], &[("d", 0.5), ("a", 2.0)]]
        {
            layer.activate(active).unwrap();
            let want: Vec<f32> = truth(&layer, &x, active).iter().map(|&y| y as f32).collect();
            let report = layer.merge(&run).unwrap();
            assert_eq!((report.bytes, report.error), (layer.weight().bytes(), 0.0));
            let merged = layer.weight().to_rows(cpu);
            assert_near(&forward(&run, &layer, &x), &want, 2e-6, format!("merged {active:?}"));
            layer.merge(&run).unwrap();
            layer.merge(&run).unwrap();
            assert_same(&layer.weight().to_rows(cpu), &merged, "merged three times");
            assert!(layer.activate(&[]).is_err() && layer.remove("a").is_err());
            assert!(layer.unmerge() && !layer.unmerge());
            assert_same(&layer.weight().to_rows(cpu), &before, "unmerged");
            assert_near(&forward(&run, &layer, &x), &want, 2e-6, format!("unmerged {active:?}"));
        }
        layer.update(&run, "a", |lora| lora.b[3] = f32::INFINITY).unwrap();
        layer.activate(&[("a", 1.0)]).unwrap();
        let error = layer.merge(&run).unwrap_err().to_string();
        assert!(error.starts_with("merged weight: element") && error.ends_with("expected a finite number"));
        assert!(!layer.is_merged());
        assert_same(&layer.weight().to_rows(cpu), &before, "a merge that failed");
    }
}

#[test]
fn merging_into_four_bits() {
    let run = Run::here(Cpu::detect());
    let cpu = run.cpu();
    let mut base = drawn_linear(cpu, 1, [48, 320]);
    base.weight = base.weight.to_nf4(cpu, 64).unwrap();
    let mut layer = LinearWithLora::new(base.clone());
    let mut lora = drawn_lora(3, [48, 320, 5]);
    lora.b.iter_mut().for_each(|b| *b *= 0.01);
    layer.insert(&run, "a", lora).unwrap();
    layer.activate(&[("a", 1.0)]).unwrap();
    let error = layer.merge(&run).unwrap_err().to_string();
    assert!(error.contains("the base is stored as Nf4: merging would round the adapter away"), "{error}");
    let exact = layer.merge_into(&run, MergeInto::Floats).unwrap();
    assert_eq!(exact.error, 0.0);
    let sum = layer.weight().to_rows(cpu);
    layer.unmerge();
    let coded = layer.merge_into(&run, MergeInto::Nf4 { blocksize: 64 }).unwrap();
    let rows = layer.weight().to_rows(cpu);
    let lost: f64 = rows.iter().zip(&sum).map(|(a, b)| f64::from((a - b).abs())).sum();
    let size: f64 = sum.iter().map(|x| f64::from(x.abs())).sum();
    assert!((coded.error - lost / size).abs() < 1e-6 && coded.error > 0.0);
    assert!(coded.error_of_change > coded.error);
    assert!(coded.bytes < exact.bytes / 4, "{} bytes, {} in floats", coded.bytes, exact.bytes);
    layer.unmerge();
    assert_same(&layer.weight().to_rows(cpu), &base.weight.to_rows(cpu), "unmerged");
}

/// Dropout: by place alone, right in the mean, and only in training.
#[test]
fn dropout() {
    let draw = |first_row| Draw { random: Philox::new(3), stream: 7, first_row };
    let x = vec![1.0; 1000 * 101];
    let mut whole = vec![f32::NAN; x.len()];
    draw(0).dropout(0.25, 101, &x, &mut whole);
    assert!(whole.iter().all(|&y| y == 0.0 || y == 1.0 / 0.75));
    let mean = whole.iter().sum::<f32>() / whole.len() as f32;
    assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
    let mut part = vec![f32::NAN; 3 * 101];
    draw(17).dropout(0.25, 101, &x[..303], &mut part);
    assert_same(&part, &whole[17 * 101..][..303], "rows 17 to 20 alone");

    let run = Run::here(Cpu::detect());
    let mut layer = layer(&run, drawn_linear(run.cpu(), 1, [37, 300]));
    let x = Random::new(9).normal(5 * 300);
    for name in ["a", "d"] {
        layer.activate(&[(name, 1.0)]).unwrap();
        let (mut cache, mut out) = (LoraCache::default(), vec![0.0; 5 * 37]);
        layer.forward_train(&run, (name, draw(0)), &x, &mut out, &mut cache).unwrap();
        assert_same(&out, &forward(&run, &layer, &x), format!("{name}: nothing dropped"));
        layer.update(&run, name, |lora| lora.dropout = 0.5).unwrap();
        let eval = forward(&run, &layer, &x);
        assert_same(&out, &eval, format!("{name}: no dropout outside training"));
        layer.forward_train(&run, (name, draw(0)), &x, &mut out, &mut cache).unwrap();
        assert_ne!(hash(&out), hash(&eval), "{name}: dropped");
        // What training computes is the layer over the dropped input, but for LoRA's base, which sees all of x.
        let mut dropped = vec![0.0; x.len()];
        draw(0).dropout(0.5, 300, &x, &mut dropped);
        assert_same(&cache.dropped, &dropped, name);
        let with = forward(&run, &layer, &dropped);
        layer.activate(&[]).unwrap();
        let (base, base_dropped) = (forward(&run, &layer, &x), forward(&run, &layer, &dropped));
        let want: Vec<f32> = (0..out.len()).map(|i| base[i] + (with[i] - base_dropped[i])).collect();
        assert_near(&out, &want, 2e-6, name);
    }
}

#[test]
fn names_and_shapes() {
    let run = Run::here(Cpu::detect());
    let mut layer = layer(&run, drawn_linear(run.cpu(), 1, [37, 300]));
    assert_eq!(layer.names().collect::<Vec<_>>(), ["a", "b", "d"]);
    let error = layer.insert(&run, "e", drawn_lora(1, [36, 300, 2])).unwrap_err();
    assert_eq!(error.to_string(), "\"e\" has shape (36, 300), expected (37, 300)");
    assert!(layer.activate(&[("e", 1.0)]).is_err());
    let error = layer.activate(&[("a", 1.0), ("a", 2.0)]).unwrap_err();
    assert_eq!(error.to_string(), "adapter \"a\" is named twice");
    layer.activate(&[("a", 1.0), ("b", 1.0)]).unwrap();
    assert!(layer.remove("a").unwrap().is_some() && layer.remove("a").unwrap().is_none());
    assert_eq!(layer.active().collect::<Vec<_>>(), [("b", 1.0)]);
}

/// What the `adapters` package computes with the same weights.
#[test]
fn bottlenecks_of_the_adapters_package() {
    let text = std::fs::read(data("bottleneck.json")).unwrap();
    let root = json::parse(&text).unwrap();
    for (name, kind) in [
        ("houlsby", AdapterKind::Houlsby),
        ("pfeiffer", AdapterKind::Pfeiffer),
        ("parallel", AdapterKind::Parallel),
    ] {
        let case = root.get(name).unwrap();
        let numbers = |key: &str| -> Vec<f32> {
            case.get(key).unwrap().elements().unwrap().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        for cpu in cpus() {
            let run = Run::here(cpu);
            let mut layer = AdapterLayer::new(kind, 32, AdapterInit::Identity, (Philox::new(1), 0));
            assert_eq!(layer.down.len(), numbers("down").len(), "{name}: bottleneck");
            (layer.down, layer.down_bias) = (numbers("down"), numbers("down_bias"));
            (layer.up, layer.up_bias) = (numbers("up"), numbers("up_bias"));
            let (x, residual) = (numbers("x"), numbers("residual"));
            let mut out = vec![f32::NAN; x.len()];
            let mut room = vec![Line([f32::NAN; 16]); layer.room_len(x.len() / 32)];
            layer.forward(&run, &x, &residual, &mut out, Room::new(&mut room));
            assert_near(&out, &numbers("y"), 1e-6, format!("{name} {cpu:?}"));
            let (mut cache, mut trained) = (AdapterCache::default(), vec![f32::NAN; x.len()]);
            layer.forward_train(&run, &x, &residual, &mut trained, &mut cache);
            assert_same(&trained, &out, "in training");
            let active = |x: f32| {
                if layer.activation == Activation::Relu { x.max(0.0) } else { x / (1.0 + (-x).exp()) }
            };
            let want: Vec<f32> = cache.before.iter().map(|&x| active(x)).collect();
            assert_near(&cache.after, &want, 1e-6, "cache");
        }
    }
}

/// The identity at the start, bit for bit; the other beginnings have their deviations.
#[test]
fn bottlenecks_begin() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        for kind in [AdapterKind::Houlsby, AdapterKind::Pfeiffer, AdapterKind::Parallel] {
            let layer = AdapterLayer::new(kind, 77, AdapterInit::Identity, (Philox::new(1), 5));
            let x = Random::new(1).normal(9 * 77);
            let (mut y, mut room) = (vec![f32::NAN; x.len()], vec![Line::ZERO; layer.room_len(9)]);
            layer.forward(&run, &x, &x, &mut y, Room::new(&mut room));
            assert_same(&y, &x, format!("{kind:?} {cpu:?}"));
        }
    }
    let deviation = |x: &[f32]| (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
    for (init, want) in [(AdapterInit::Bert, 0.02), (AdapterInit::Houlsby, 0.01 * 0.8796)] {
        let layer = AdapterLayer::new(AdapterKind::Parallel, 256, init, (Philox::new(1), 5));
        for x in [&layer.down, &layer.up] {
            let got = deviation(x);
            assert!((got / want - 1.0).abs() < 0.02, "{init:?}: {got}, want {want}");
        }
        assert!(init == AdapterInit::Bert || layer.up.iter().all(|x| x.abs() <= 0.02));
        assert_ne!(layer.down[..10], layer.up[..10]);
    }
    assert_eq!(
        AdapterLayer::new(AdapterKind::Houlsby, 8, AdapterInit::Bert, (Philox::new(1), 0)).bottleneck(),
        1
    );
}
