//! Adapters of one place by name, and which of them count.

use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Things of one kind by name; the active ones each have a weight.
#[derive(Clone, Debug)]
pub struct Named<T> {
    all: BTreeMap<String, T>,
    active: Vec<(String, f32)>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named { all: BTreeMap::new(), active: Vec::new() }
    }
}

impl<T> Named<T> {
    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.all.get(name)
    }

    /// Adds one, or puts it in the place of one of that name.
    pub fn insert(&mut self, name: &str, one: T) {
        self.all.insert(name.into(), one);
    }

    /// The active ones and their weights, in the order in which they were named.
    pub fn active(&self) -> impl Iterator<Item = (&T, f32)> + Clone {
        self.active.iter().map(|(name, weight)| (&self.all[name], *weight))
    }

    /// The one that training changes: the only active one.
    pub fn trained(&self) -> Option<&T> {
        match &self.active[..] {
            [(name, _)] => self.all.get(name),
            _ => None,
        }
    }

    /// [`Named::trained`], to be changed.
    pub fn trained_mut(&mut self) -> Option<&mut T> {
        match &self.active[..] {
            [(name, _)] => self.all.get_mut(name),
            _ => None,
        }
    }

    /// Which count from now on, each with a weight.
    ///
    /// # Errors
    /// Where there is none of a name, or a name comes twice.
    pub fn activate(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        for (i, (name, _)) in adapters.iter().enumerate() {
            if !self.all.contains_key(*name) {
                let names: Vec<&String> = self.all.keys().collect();
                return Err(Error::invalid(format!("no adapter {name:?}; there are {names:?}")));
            }
            if adapters[..i].iter().any(|(before, _)| before == name) {
                return Err(Error::invalid(format!("adapter {name:?} is named twice")));
            }
        }
        self.active = adapters.iter().map(|&(name, weight)| (name.into(), weight)).collect();
        Ok(())
    }
}

/// A place of a model that may have several adapters.
pub trait Choice {
    /// Whether one has that name.
    fn has(&self, name: &str) -> bool;

    /// Which of them count from now on, each with a weight.
    ///
    /// # Errors
    /// Where there is none of a name, or a name comes twice.
    fn choose(&mut self, adapters: &[(&str, f32)]) -> Result<()>;
}

impl<T> Choice for Named<T> {
    fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    fn choose(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        self.activate(adapters)
    }
}
