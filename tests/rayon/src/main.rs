//! A program that has threads already, rayon's, hands them in: samebits makes none of its own, and the bits are those of
//! one thread.

use samebits::model::{Generator, Sampler};
use samebits::run::{Executor, Run};
use samebits::{Cpu, Error, assets};

/// rayon's threads.
#[derive(Debug)]
struct Rayon(rayon::ThreadPool);

impl Executor for Rayon {
    fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        self.0.broadcast(|_| work());
    }
}

fn story(run: &Run<'_>) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let model = assets::model(run.cpu())?;
    let prompt: Vec<u32> = (1..40).map(|i| i * 31 % 1500).collect();
    let mut generator = Generator::new(&model, Sampler::greedy(), 64);
    generator.feed(run, &prompt, |_| Ok::<(), Error>(()))?;
    while generator.left() > 0 {
        generator.next(run)?;
    }
    let bits = generator.logits().iter().map(|x| x.to_bits()).collect();
    Ok((generator.tokens().to_vec(), bits))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cpu = Cpu::detect();
    let alone = story(&Run::here(cpu))?;
    for threads in [1, 2, 4] {
        let rayon = Rayon(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?);
        assert!(story(&Run::by_executor(cpu, &rayon))? == alone, "{threads} threads of rayon: other bits");
        println!("{threads} threads of rayon: the bits of one");
    }
    Ok(())
}
