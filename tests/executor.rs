//! A whole model on an embedder's own threads, beside another user in the same process, and in a forked child: the bits
//! of one thread alone.

use samebits::model::{Decoder, Sequence, Workspace};
use samebits::pool::Pool;
use samebits::run::{Executor, Run};
use samebits::{Cpu, assets};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that live for one job.
#[derive(Debug)]
struct Scoped(usize, AtomicUsize);

impl Executor for Scoped {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| {
                    self.1.fetch_add(1, Ordering::Relaxed);
                    work();
                });
            }
        });
    }
}

/// An executor that does nothing at all.
#[derive(Debug)]
struct Nobody;

impl Executor for Nobody {
    fn threads(&self) -> usize {
        0
    }

    fn run(&self, _: &(dyn Fn() + Sync)) {}
}

fn model() -> Decoder {
    assets::model(Cpu::detect()).expect("the model inside")
}

/// The bits of the logits after a prompt.
fn logits(run: &Run<'_>, model: &Decoder) -> Vec<u32> {
    let tokens: Vec<u32> = (0..40).map(|i| i * 31 % 1500).collect();
    let mut out = vec![0.0; model.config().vocab];
    let mut batch = [Sequence { tokens: &tokens, cache: &mut model.cache(40) }];
    model.forward(run, &mut batch, &mut out, &mut Workspace::new()).expect("sound tokens");
    out.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn an_executor_of_any_size_gives_the_bits_of_one_thread() {
    let (cpu, model) = (Cpu::detect(), model());
    let alone = logits(&Run::here(cpu), &model);
    for threads in [1, 2, 5] {
        let scoped = Scoped(threads, AtomicUsize::new(0));
        assert_eq!(logits(&Run::by_executor(cpu, &scoped), &model), alone, "{threads} threads");
        assert!(scoped.1.load(Ordering::Relaxed) > 0, "it was asked");
    }
    assert_eq!(logits(&Run::by_executor(cpu, &Nobody), &model), alone, "by whom nothing is done");
}

#[test]
#[should_panic(expected = "a piece")]
fn a_panic_on_an_executor_s_thread_reaches_the_caller() {
    #[derive(Debug)]
    struct Here;
    impl Executor for Here {
        fn threads(&self) -> usize {
            1
        }
        fn run(&self, work: &(dyn Fn() + Sync)) {
            work();
        }
    }
    Run::by_executor(Cpu::detect(), &Here).pieces(0..3, |i, _| assert!(i != 1, "a piece"));
}

/// Each with a pool, a tier and a model of its own: there is nothing that both would set.
#[test]
fn two_users_in_one_process_do_not_meet() {
    let alone = logits(&Run::here(Cpu::detect()), &model());
    std::thread::scope(|scope| {
        for cpu in Cpu::all() {
            let alone = &alone;
            scope.spawn(move || {
                let (model, pool) = (model(), Pool::new(2));
                for _ in 0..3 {
                    assert!(logits(&Run::on(cpu, &pool), &model) == *alone, "{}", cpu.tier());
                }
            });
        }
    });
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
        fn alarm(seconds: u32) -> u32;
    }

    #[test]
    fn a_forked_child_computes_what_its_parent_does() {
        let (cpu, model, pool) = (Cpu::detect(), model(), Pool::new(3));
        let alone = logits(&Run::here(cpu), &model);
        assert_eq!(logits(&Run::on(cpu, &pool), &model), alone);
        // SAFETY: the child computes and leaves; glibc keeps its allocator usable in it.
        let child = unsafe { fork() };
        if child == 0 {
            // SAFETY: a child that hangs is ended by the alarm and so fails the test.
            unsafe { alarm(60) };
            let same = logits(&Run::on(cpu, &pool), &model) == alone;
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { _exit(if same { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: the child just made, and a place for its status.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child's exit");
        assert_eq!(logits(&Run::on(cpu, &pool), &model), alone, "the parent goes on");
    }
}
