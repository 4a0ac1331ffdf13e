//! A native context: the KV cache, the compute buffers and the threads of one loaded model.
//!
//! ```text
//!   Batch ──decode──► logits of the tokens that asked for them
//!              │ between two operations of the graph: shall it stop?
//!   share / remove    mark cells of one sequence as another's, or as free
//! ```
//!
//! `llama-cpp-2` has a context too, but keeps its pointer to itself, and with it what a server needs: to
//! stop a step that is no longer waited for, threads that live from step to step, and compute buffers
//! no larger than what is sampled. Everything unsafe about contexts is in this file, and about their threads in `pools.rs`.
#![allow(unsafe_code, reason = "the safe binding's context cannot be interrupted")]

mod pools;

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;
use samovar_core::embedding::Pooling;

use self::pools::Pools;
use crate::native;
use crate::plan::{ContextOptions, PooledOptions};

/// Why a step was not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The cache has no room for the batch. Nothing was changed.
    NoRoom,
    /// Stopped on request. The batch's tokens are not in the cache.
    Interrupted,
    /// The native code failed with this number; the log says more.
    Failed(i32),
}

/// Asked between operations of a running step: shall it stop?
type Interrupt<'a> = &'a dyn Fn() -> bool;

/// A context of a model that outlives it. Used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Context<'m> {
    raw: NonNull<sys::llama_context>,
    pools: Pools,
    /// The question of the step that is running. Boxed: the native side keeps its address.
    interrupt: Box<Cell<Option<NonNull<c_void>>>>,
    vocabulary: usize,
    /// Numbers of a vector or scores of a sequence; 0 = it makes none.
    pooled: usize,
    /// Rows of logits that are not written, and whose memory was given back; `None` = they are written.
    unwritten_rows: Option<usize>,
    sequences: usize,
    model: PhantomData<&'m LlamaModel>,
}

impl<'m> Context<'m> {
    /// Makes a context. `None` when memory is not to be had or the model cannot run so; the log says why.
    pub(crate) fn new(model: &'m LlamaModel, options: ContextOptions) -> Option<Self> {
        let interrupt = Box::new(Cell::new(None));
        // SAFETY: a pure function.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = options.cells;
        params.n_batch = options.batch_tokens;
        params.n_ubatch = options.batch_tokens;
        params.n_seq_max = options.sequences;
        // At most one token of each sequence is sampled, or a draft of one; by default a row of logits would be
        // reserved for every token of the batch.
        params.n_outputs_max = options.rows();
        params.n_threads = options.threads as i32;
        params.n_threads_batch = options.threads as i32;
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_AUTO;
        if let Some(pooled) = options.pooled {
            make_vectors(&mut params, pooled);
        }
        params.type_k = options.kv_type;
        params.type_v = options.kv_type;
        // One cache for all sequences: a prefix is shared by marking its cells.
        params.kv_unified = true;
        params.swa_full = true;
        params.abort_callback = Some(ask);
        params.abort_callback_data = (&raw const *interrupt).cast_mut().cast::<c_void>();
        let _gate = native::context_gate();
        // SAFETY: the model is alive for 'm and the gate keeps others from making contexts meanwhile; the
        // callback's data is a box that the context's drop outlives.
        let raw = NonNull::new(unsafe { sys::llama_init_from_model(native::model_ptr(model), params) })?;
        let mut context = Self {
            raw,
            pools: Pools::default(),
            interrupt,
            vocabulary: model.n_vocab() as usize,
            pooled: options.pooled.map_or(0, |pooled| pooled_width(model, pooled.pooling)),
            unwritten_rows: None,
            sequences: options.sequences as usize,
            model: PhantomData,
        };
        context.set_threads(options.threads);
        if options.pooled.is_some() && !context.has_cache() {
            context.unwritten_rows = Some(0);
            context.give_rows_back(0);
        }
        Some(context)
    }

    /// The next steps have so many threads, which live as long as the context does: without them each step would
    /// start its own. Costs nothing if they are as many as before.
    pub(crate) fn set_threads(&mut self, threads: u32) {
        if self.pools.chosen == threads {
            return;
        }
        let pool = self.pools.of(threads);
        self.pools.chosen = threads;
        // SAFETY: the context lives. A pool that was attached before is freed only after a step has been computed with
        // another one: until then the backend may still refer to it.
        unsafe {
            sys::llama_set_n_threads(self.raw.as_ptr(), threads as i32, threads as i32);
            match pool {
                Some(pool) => sys::llama_attach_threadpool(self.raw.as_ptr(), pool.as_ptr(), pool.as_ptr()),
                None => sys::llama_detach_threadpool(self.raw.as_ptr()),
            }
        }
    }

    /// For calls that are made elsewhere.
    pub(crate) fn as_ptr(&mut self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    /// Cells of its cache.
    pub(crate) fn cells(&self) -> u32 {
        // SAFETY: the context lives.
        unsafe { sys::llama_n_ctx(self.raw.as_ptr()) }
    }

    /// Computes a batch. `interrupt` is asked between operations and stops the step by answering true.
    pub(crate) fn decode(&mut self, batch: &mut Batch, interrupt: Interrupt<'_>) -> Result<(), DecodeError> {
        self.interrupt.set(Some(NonNull::from(&interrupt).cast::<c_void>()));
        // SAFETY: the context lives and is ours alone; the batch's arrays are as long as it says. The
        // question is a reference on this stack, and is taken back before it ends.
        let code = unsafe { sys::llama_decode(self.raw.as_ptr(), batch.as_native()) };
        self.interrupt.set(None);
        match code {
            0 => {
                self.pools.computed();
                self.give_rows_back(batch.len());
                Ok(())
            }
            1 => Err(DecodeError::NoRoom),
            2 => {
                // What was interrupted had its rows already.
                self.give_rows_back(batch.len());
                Err(DecodeError::Interrupted)
            }
            code => Err(DecodeError::Failed(code)),
        }
    }

    /// Logits of the batch's token at `place`, one for each of the vocabulary. `None` if that token did
    /// not ask for them.
    pub(crate) fn logits(&mut self, place: usize) -> Option<&[f32]> {
        // SAFETY: the context lives; a place without logits gives null.
        let logits = NonNull::new(unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), place as i32) })?;
        // SAFETY: llama.cpp keeps a row of the vocabulary's length there until the next call that takes
        // the context mutably, which the borrow excludes.
        Some(unsafe { std::slice::from_raw_parts(logits.as_ptr(), self.vocabulary) })
    }

    /// What was computed of a sequence of the last batch: its vector or its scores. `None` if there is nothing.
    pub(crate) fn pooled(&mut self, sequence: i32) -> Option<&[f32]> {
        if self.pooled == 0 {
            return None;
        }
        // SAFETY: the context lives; a sequence of which nothing was computed gives null.
        let row = NonNull::new(unsafe { sys::llama_get_embeddings_seq(self.raw.as_ptr(), sequence) })?;
        // SAFETY: llama.cpp keeps so many numbers of each sequence there until the next call that takes the context mutably,
        // which the borrow excludes.
        Some(unsafe { std::slice::from_raw_parts(row.as_ptr(), self.pooled) })
    }

    /// Forgets all sequences. Numbers of theirs that are none would spoil others even so, unless all of them are `wiped`.
    pub(crate) fn clear(&mut self, wiped: bool) {
        // SAFETY: the memory belongs to the living context; of one without a cache it is null, which this takes.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw.as_ptr()), wiped) };
    }

    /// Whether it has a KV cache or recurrent state.
    pub(crate) fn has_cache(&self) -> bool {
        // SAFETY: the context lives.
        !unsafe { sys::llama_get_memory(self.raw.as_ptr()) }.is_null()
    }

    /// Gives back the memory of logits that an encoder never writes. llama.cpp keeps a row of them for each token of the
    /// largest batch so far, and fills them with zeros when they become more: of a large vocabulary, hundreds of megabytes.
    fn give_rows_back(&mut self, tokens: usize) {
        let rows = tokens.max(self.sequences);
        if self.unwritten_rows.is_none_or(|unwritten| unwritten >= rows) {
            return;
        }
        self.unwritten_rows = Some(rows);
        // SAFETY: the context lives.
        let begin = unsafe { sys::llama_get_logits(self.raw.as_ptr()) };
        if !begin.is_null() {
            // SAFETY: since a batch of so many tokens began, llama.cpp's buffer has so many rows there, of which it neither reads
            // nor writes any: without a cache it is an encoder, and vectors of sequences are kept elsewhere.
            unsafe { native::discard(begin.cast(), rows * self.vocabulary * size_of::<f32>()) };
        }
    }

    /// Makes the first `tokens` cells of a sequence another's too; `None` = its whole state.
    pub(crate) fn share(&mut self, source: i32, target: i32, tokens: Option<usize>) {
        let end = tokens.map_or(-1, |tokens| tokens as i32);
        // SAFETY: the memory belongs to the living context; sequence ids are below its maximum.
        unsafe {
            sys::llama_memory_seq_cp(sys::llama_get_memory(self.raw.as_ptr()), source, target, 0, end);
        }
    }

    /// Bytes of a sequence's state.
    pub(crate) fn state_bytes(&mut self, sequence: i32) -> usize {
        // SAFETY: the context lives; the id is below its maximum.
        unsafe { sys::llama_state_seq_get_size(self.raw.as_ptr(), sequence) }
    }

    /// Writes a sequence's state. False if it is not exactly as long as `into`; the log may say why.
    pub(crate) fn save(&mut self, sequence: i32, into: &mut [u8]) -> bool {
        // SAFETY: as for `state_bytes`; it writes into the slice, whose length it is told and keeps.
        let written = unsafe {
            sys::llama_state_seq_get_data(self.raw.as_ptr(), into.as_mut_ptr(), into.len(), sequence)
        };
        written == into.len()
    }

    /// Place of the first token that every part of the cache has.
    pub(crate) fn first(&self, sequence: i32) -> usize {
        // SAFETY: the memory belongs to the living context; the id is below its maximum.
        let first =
            unsafe { sys::llama_memory_seq_pos_min(sys::llama_get_memory(self.raw.as_ptr()), sequence) };
        usize::try_from(first).unwrap_or(0)
    }

    /// Makes an empty sequence one of `tokens` tokens, all of them if it `is_whole`, by state that was written
    /// before. False if the state is not of this kind of context, or of another length; the sequence may then
    /// hold anything.
    pub(crate) fn restore(&mut self, sequence: i32, state: &[u8], tokens: usize, is_whole: bool) -> bool {
        // SAFETY: as for `save`; it reads no further than the slice.
        let read = unsafe {
            sys::llama_state_seq_set_data(self.raw.as_ptr(), state.as_ptr(), state.len(), sequence)
        };
        // SAFETY: the memory belongs to the living context.
        let (first, last) = unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            (sys::llama_memory_seq_pos_min(memory, sequence), sys::llama_memory_seq_pos_max(memory, sequence))
        };
        read == state.len()
            && (0..=if is_whole { 0 } else { last }).contains(&first)
            && last + 1 == tokens as i32
    }

    /// Removes a sequence's tokens from place `start` on. False if the state cannot be cut there.
    pub(crate) fn remove(&mut self, sequence: i32, start: usize) -> bool {
        // SAFETY: as for `share`.
        unsafe {
            sys::llama_memory_seq_rm(sys::llama_get_memory(self.raw.as_ptr()), sequence, start as i32, -1)
        }
    }
}

/// Numbers of a vector of this model, or its scores.
pub(crate) fn pooled_width(model: &LlamaModel, pooling: Pooling) -> usize {
    match pooling {
        Pooling::Rank => model.n_cls_out() as usize,
        Pooling::Mean | Pooling::Cls | Pooling::Last => model.n_embd_out() as usize,
    }
}

fn make_vectors(params: &mut sys::llama_context_params, options: PooledOptions) {
    params.embeddings = true;
    params.pooling_type = match options.pooling {
        Pooling::Mean => sys::LLAMA_POOLING_TYPE_MEAN,
        Pooling::Cls => sys::LLAMA_POOLING_TYPE_CLS,
        Pooling::Last => sys::LLAMA_POOLING_TYPE_LAST,
        Pooling::Rank => sys::LLAMA_POOLING_TYPE_RANK,
    };
    params.attention_type = if options.is_causal {
        sys::LLAMA_ATTENTION_TYPE_CAUSAL
    } else {
        sys::LLAMA_ATTENTION_TYPE_NON_CAUSAL
    };
    if options.is_exact {
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    // Every token has an output: as many as a batch has tokens.
    params.n_outputs_max = 0;
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: no other code has the context. The threads are freed after this, when nothing refers to them.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}

/// llama.cpp's abort callback: asks the question of the running step.
unsafe extern "C" fn ask(interrupt: *mut c_void) -> bool {
    // SAFETY: the data is the context's boxed cell. ggml calls this on the thread that called `decode`,
    // so the cell is not shared between threads.
    let question = unsafe { &*interrupt.cast::<Cell<Option<NonNull<c_void>>>>() }.get();
    // SAFETY: set for the duration of `decode` to a reference that outlives it.
    question.is_some_and(|question| unsafe { question.cast::<Interrupt<'_>>().as_ref() }())
}

/// Tokens to be computed in one step.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    tokens: Vec<sys::llama_token>,
    positions: Vec<sys::llama_pos>,
    sequences: Vec<sys::llama_seq_id>,
    sequence_counts: Vec<i32>,
    sequence_lists: Vec<*mut sys::llama_seq_id>,
    wants_logits: Vec<i8>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.wants_logits.clear();
    }

    /// Its tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a token of a sequence; returns its place in the batch.
    pub(crate) fn add(
        &mut self,
        token: LlamaToken,
        position: usize,
        sequence: i32,
        wants_logits: bool,
    ) -> usize {
        self.tokens.push(token.0);
        self.positions.push(position as sys::llama_pos);
        self.sequences.push(sequence);
        self.wants_logits.push(i8::from(wants_logits));
        self.tokens.len() - 1
    }

    /// The batch as llama.cpp reads it, valid until the batch is changed.
    fn as_native(&mut self) -> sys::llama_batch {
        self.sequence_counts.clear();
        self.sequence_counts.resize(self.tokens.len(), 1);
        self.sequence_lists.clear();
        self.sequence_lists.extend(self.sequences.iter_mut().map(std::ptr::from_mut));
        sys::llama_batch {
            n_tokens: self.tokens.len() as i32,
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.sequence_counts.as_mut_ptr(),
            seq_id: self.sequence_lists.as_mut_ptr(),
            logits: self.wants_logits.as_mut_ptr(),
        }
    }
}
