//! Which engine runs a model that was published in safetensors, as its owner chooses it.

/// The engine of a published model. Models in GGUF are llama.cpp's; `Candle` is refused for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineChoice {
    /// llama.cpp, for which it is prepared; candle where it cannot be prepared and candle runs it.
    #[default]
    Auto,
    /// llama.cpp, for which it is prepared.
    Llama,
    /// candle, which runs it as it is.
    Candle,
}

impl EngineChoice {
    /// Every one, in the order of the settings' reference.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Llama, Self::Candle];

    /// As settings write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Llama => "llama",
            Self::Candle => "candle",
        }
    }

    /// The one of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == word)
    }
}
