//! Checkpoints of training: one file, whole or not there, from which training goes on without a bit changed.
//!
//! A safetensors file: `weights.NAME` (f32) of every trained parameter, `optimizer` (bytes: the file that
//! [`Optimizer::save`] gives), and in its metadata the count of steps and the plan.

use super::optimizer::Optimizer;
use super::schedule::Shape;
use super::trainer::{Plan, Trainer};
use crate::io::safetensors::{Dtype, SafeTensors, TensorView, write};
use crate::model::Decoder;
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use std::path::Path;

/// What the metadata calls this format.
const FORMAT: &str = "samebits-training/1";

/// The plan as checkpoints remember it.
fn fingerprint(plan: &Plan) -> String {
    let mut plan = *plan;
    if let Shape::StableThenFall { decay, .. } = &mut plan.schedule.shape {
        (*decay, plan.schedule.total) = (0, 0);
    }
    format!("{plan:?}")
}

impl Trainer {
    /// Writes a checkpoint: after an error, or when the process is killed, `path` is as it was.
    ///
    /// # Errors
    /// [`Error::Io`] with what the system refused.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let optimizer = self.optimizer.save()?;
        let (steps, plan) = (self.step.to_string(), fingerprint(&self.plan));
        let gradients = &self.gradients;
        self.model.with_parameters(|all| {
            let trained = all.iter().filter(|p| gradients.get(&p.name).is_some());
            let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = trained
                .map(|p| {
                    let bytes = p.values.iter().flat_map(|x| x.to_le_bytes()).collect();
                    (format!("weights.{}", p.name), Dtype::F32, p.shape.to_vec(), bytes)
                })
                .collect();
            tensors.push(("optimizer".into(), Dtype::U8, vec![optimizer.len()], optimizer));
            let views: Vec<TensorView<'_>> = tensors
                .iter()
                .map(|(name, dtype, shape, bytes)| TensorView { name, dtype: *dtype, shape, bytes })
                .collect();
            write(path, &views, &[("format", FORMAT), ("steps", &steps), ("plan", &plan)])
        })
    }

    /// Goes on from a checkpoint: with the model, plan and choice of parameters that [`Trainer::new`] had, the next
    /// step has the bits that it would have had. Only the length of a warm-up–stable–decay schedule may be another: its
    /// stable steps do not depend on it, so a training can be prolonged.
    ///
    /// # Errors
    /// Where the file is no checkpoint, of another plan, or its tensors are not those that are trained here.
    pub fn resume(
        run: &Run<'_>,
        model: Decoder,
        plan: Plan,
        trained: impl Fn(&str) -> bool,
        path: &Path,
    ) -> Result<Trainer> {
        let file = SafeTensors::open(path)?;
        let named = |e: Error| e.in_file(path.display());
        let mut trainer = Trainer::new(model, plan, trained)?;
        trainer.restore(&file).map_err(named)?;
        trainer.model.refresh_adapters(run);
        Ok(trainer)
    }

    fn restore(&mut self, file: &SafeTensors) -> Result<()> {
        let metadata = |key: &str| file.metadata().find(|(k, _)| k == key).map(|(_, v)| v.into_owned());
        if metadata("format").as_deref() != Some(FORMAT) {
            return Err(Error::invalid(format!("no checkpoint of training ({FORMAT})")));
        }
        let (was, plan) = (metadata("plan").unwrap_or_default(), fingerprint(&self.plan));
        if was != plan {
            return Err(Error::invalid(format!("a checkpoint of another plan: {was}, now {plan}")));
        }
        let steps = metadata("steps").and_then(|s| s.parse().ok());
        self.step = steps.ok_or_else(|| Error::invalid("no count of steps in the metadata"))?;
        let names: Vec<(String, usize)> =
            self.gradients.iter().map(|(name, g)| (name.to_string(), g.len())).collect();
        if file.len() != names.len() + 1 {
            let what = format!("{} tensors, {} are trained", file.len() - 1, names.len());
            return Err(Error::invalid(what));
        }
        let moments = file.load("optimizer")?.to_vec::<u8>();
        let of: Vec<(&str, usize)> = names.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        self.optimizer = Optimizer::load(self.plan.method, &SafeTensors::from_bytes(&moments)?, &of)?;
        let gradients = &self.gradients;
        self.model.with_parameters(|all| {
            all.into_iter().filter(|p| gradients.get(&p.name).is_some()).try_for_each(|p| {
                let name = format!("weights.{}", p.name);
                let tensor = file.load(&name)?;
                if tensor.shape() != p.shape || tensor.dtype() != crate::tensor::Dtype::F32 {
                    let (shape, expected) = (tensor.shape().to_vec(), format!("{:?} of F32", p.shape));
                    return Err(Error::Shape { file: String::new(), name, shape, expected });
                }
                p.values.copy_from_slice(&tensor.to_vec::<f32>());
                Ok(())
            })
        })
    }
}
