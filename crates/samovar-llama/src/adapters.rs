//! The adapters that a context can attach: loaded on first use, the longest unused freed.
//!
//! ```text
//!   ensure ──► loaded (at most eight, by last use) ──attach──► on the context, for the steps to come
//! ```
//!
//! A context computes all sequences of a step with the same adapters. Everything unsafe about adapters is in
//! this file. It never looks into a file: the gate has, and llama.cpp compares its shapes with the model's.
#![allow(unsafe_code, reason = "the safe binding ties an adapter to a mutable model")]

use std::ffi::CString;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use crate::adapter_set::{AdapterSet, FileId, MOST_ADAPTERS, Member};
use crate::context::Context;
use crate::error::Error;
use crate::{log, native};

/// An adapter in memory.
#[derive(Debug)]
struct Loaded {
    file: FileId,
    raw: NonNull<sys::llama_adapter_lora>,
    bytes: u64,
}

impl Loaded {
    fn is_in(&self, sets: &[&AdapterSet]) -> bool {
        sets.iter().any(|set| set.needs(&self.file))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: made by `load`, attached to no context that will compute again, and its model lives.
        unsafe { sys::llama_adapter_lora_free(self.raw.as_ptr()) };
    }
}

/// Adapters of one model, for one context.
#[derive(Debug)]
pub(crate) struct Adapters<'m> {
    model: &'m LlamaModel,
    /// The longest unused first.
    loaded: Vec<Loaded>,
    attached: AdapterSet,
}

impl<'m> Adapters<'m> {
    pub(crate) fn new(model: &'m LlamaModel) -> Self {
        Self { model, loaded: Vec::new(), attached: AdapterSet::default() }
    }

    /// Bytes of those that are loaded.
    pub(crate) fn bytes(&self) -> u64 {
        self.loaded.iter().map(|adapter| adapter.bytes).sum()
    }

    /// Whether there is room for a set beside those in use.
    pub(crate) fn has_room(&self, set: &AdapterSet, in_use: &[&AdapterSet]) -> bool {
        let staying = self.loaded.iter().filter(|adapter| !set.needs(&adapter.file) && adapter.is_in(in_use));
        staying.count() + set.members().len() <= MOST_ADAPTERS
    }

    /// Loads what a set needs and is not there, and frees for it what is not in use. There is room.
    pub(crate) fn ensure(
        &mut self,
        context: &mut Context<'_>,
        set: &AdapterSet,
        in_use: &[&AdapterSet],
    ) -> Result<(), Error> {
        for member in set.members() {
            if let Some(place) = self.loaded.iter().position(|adapter| adapter.file == member.file) {
                self.loaded[place..].rotate_left(1);
                continue;
            }
            let is_free = |adapter: &Loaded| !set.needs(&adapter.file) && !adapter.is_in(in_use);
            if self.loaded.len() >= MOST_ADAPTERS
                && let Some(place) = self.loaded.iter().position(is_free)
            {
                self.free(context, place);
            }
            self.loaded.push(load(self.model, member)?);
        }
        Ok(())
    }

    /// Has the next steps computed with a set, all of which is loaded.
    pub(crate) fn attach(&mut self, context: &mut Context<'_>, set: &AdapterSet) {
        if self.attached == *set {
            return;
        }
        // Each change has llama.cpp plan its buffers anew, and say so.
        let _ = log::take_buffers();
        let raw = |member: &Member| {
            let adapter = self.loaded.iter().find(|adapter| adapter.file == member.file);
            adapter.expect("invariant: adapters of requests that run stay loaded").raw.as_ptr()
        };
        let mut adapters: Vec<_> = set.members().iter().map(raw).collect();
        let mut scales: Vec<_> = set.members().iter().map(|member| member.scale).collect();
        // SAFETY: the context and the adapters live, the arrays are as long as it is told, and adapters are
        // freed only once they are attached no more.
        unsafe {
            sys::llama_set_adapters_lora(
                context.as_ptr(),
                adapters.as_mut_ptr(),
                adapters.len(),
                scales.as_mut_ptr(),
            );
        }
        self.attached = set.clone();
    }

    fn free(&mut self, context: &mut Context<'_>, place: usize) {
        if self.attached.needs(&self.loaded[place].file) {
            self.attach(context, &AdapterSet::default());
        }
        drop(self.loaded.remove(place));
    }
}

fn load(model: &LlamaModel, member: &Member) -> Result<Loaded, Error> {
    let refuse = |detail: String| Error::Adapter { path: member.path.clone(), detail };
    let path = CString::new(member.path.as_os_str().as_encoded_bytes())
        .map_err(|_| refuse("its path holds a zero byte".to_owned()))?;
    let _ = (log::take_complaints(), log::take_buffers());
    // SAFETY: the model outlives the adapter, is used on this thread alone, and the path is NUL-terminated.
    let raw = unsafe { sys::llama_adapter_lora_init(native::model_ptr(model), path.as_ptr()) };
    let raw = NonNull::new(raw).ok_or_else(|| refuse(log::take_complaints()))?;
    let bytes = log::take_buffers().iter().map(|buffer| buffer.bytes).sum();
    Ok(Loaded { file: member.file.clone(), raw, bytes })
}
