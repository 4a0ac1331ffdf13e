//! What a file seems to be when it is not GGUF, so that the message can help.

/// What a file seems to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookalike {
    /// Weights in Hugging Face's format.
    Safetensors,
    /// A zip archive, such as a `PyTorch` checkpoint.
    Zip,
    /// A Python pickle: an old `PyTorch` checkpoint.
    Pickle,
    /// A compressed file.
    Compressed,
    /// llama.cpp's formats from before GGUF.
    OldGgml,
    /// A web page, usually an error page saved under the model's name.
    WebPage,
    /// The small text file that stands for a large one in a git repository.
    LfsPointer,
    /// JSON text.
    Json,
    /// Nothing but zeros: space reserved for a download that did not happen.
    Zeros,
    /// Something else, with its first bytes.
    Unknown([u8; 4]),
}

impl Lookalike {
    /// What a file with this beginning seems to be.
    pub(super) fn of(head: &[u8]) -> Self {
        let starts = |magic: &[u8]| head.starts_with(magic);
        let text = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
        if starts(b"PK\x03\x04") {
            Self::Zip
        } else if head.first() == Some(&0x80) && head.get(1).is_some_and(|version| (2..=5).contains(version))
        {
            Self::Pickle
        } else if [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh", b"7z\xbc\xaf"]
            .iter()
            .any(|m| starts(m))
        {
            Self::Compressed
        } else if [&b"lmgg"[..], b"fmgg", b"tjgg", b"algg"].iter().any(|magic| starts(magic)) {
            Self::OldGgml
        } else if text.starts_with("version https://git-lfs") {
            Self::LfsPointer
        } else if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") {
            Self::WebPage
        } else if head.get(8) == Some(&b'{') && head.get(4..8) == Some(&[0; 4]) {
            Self::Safetensors
        } else if text.starts_with('{') {
            Self::Json
        } else if head.iter().all(|byte| *byte == 0) {
            Self::Zeros
        } else {
            let mut first = [0; 4];
            first.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
            Self::Unknown(first)
        }
    }

    /// What the user can do about it.
    pub(super) const fn hint(&self) -> &'static str {
        match self {
            Self::Safetensors | Self::Zip | Self::Pickle => {
                "look for a GGUF version of this model, or convert it with llama.cpp's convert_hf_to_gguf.py"
            }
            Self::Compressed => "unpack it first",
            Self::OldGgml => "this format was given up in 2023: look for a GGUF version of the model",
            Self::WebPage => "the download saved a web page: check the address, and whether it needs a login",
            Self::LfsPointer => "run `git lfs pull` in the repository, or download the file itself",
            Self::Json => "this may be a model's configuration: give the weights, a file that ends in .gguf",
            Self::Zeros => "the download seems not to have finished: fetch it again",
            Self::Unknown(_) => "give a model file in GGUF format",
        }
    }
}

impl std::fmt::Display for Lookalike {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "it looks like safetensors",
            Self::Zip => "it looks like a zip archive, such as a PyTorch checkpoint",
            Self::Pickle => "it looks like a Python pickle, such as an old PyTorch checkpoint",
            Self::Compressed => "it looks like a compressed file",
            Self::OldGgml => "it is in a format that llama.cpp used before GGUF",
            Self::WebPage => "it looks like a web page",
            Self::LfsPointer => "it is a git-lfs pointer, not the file it stands for",
            Self::Json => "it looks like JSON",
            Self::Zeros => "it begins with nothing but zeros",
            Self::Unknown(first) => return write!(f, "it begins with the bytes {first:02x?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_often_given_instead() {
        let safetensors = [&200_u64.to_le_bytes()[..], b"{\"__metadata__\":"].concat();
        for (head, expected) in [
            (&safetensors[..], Lookalike::Safetensors),
            (b"PK\x03\x04rest", Lookalike::Zip),
            (b"\x80\x02\x8a\x0a", Lookalike::Pickle),
            (b"\x1f\x8b\x08", Lookalike::Compressed),
            (b"tjgg\x03\0\0\0", Lookalike::OldGgml),
            (b"  <!DOCTYPE html><html>", Lookalike::WebPage),
            (b"version https://git-lfs.github.com/spec/v1\n", Lookalike::LfsPointer),
            (b"{\"error\":1}", Lookalike::Json),
            (&[0; 64], Lookalike::Zeros),
            (b"ELF", Lookalike::Unknown(*b"ELF\0")),
        ] {
            assert_eq!(Lookalike::of(head), expected);
        }
    }
}
