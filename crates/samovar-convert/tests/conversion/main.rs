//! Models of random weights in their published form, converted: the files pass the gate and hold what they should.

mod adapters;
mod decoders;
mod demo;
mod encoders;
mod refusals;
mod repository;
mod tokenizers;
mod written;
