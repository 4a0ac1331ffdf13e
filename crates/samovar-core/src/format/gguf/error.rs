//! Why a file is refused.

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("{0}")]
    Io(std::io::Error),
    /// It does not begin with the magic.
    #[error("not a GGUF file")]
    NotGguf,
}

impl From<Error> for crate::Failure {
    fn from(error: Error) -> Self {
        Self::new(crate::ErrorKind::InvalidModel, error.to_string())
    }
}
