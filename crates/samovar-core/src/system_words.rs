//! What the operating system said, as a sentence goes on: without its number, and without what a library put before it.

use std::io;

const NUMBER: &str = "(os error ";

/// The reason behind an I/O error, such as `permission denied`.
pub fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    let number = || text.rsplit_once(NUMBER)?.1.split_once(')')?.0.parse().ok();
    let text = match error.raw_os_error().or_else(number) {
        Some(code) => io::Error::from_raw_os_error(code).to_string(),
        None => text,
    };
    let words = text.split_once(NUMBER).map_or(text.as_str(), |(words, _)| words.trim_end());
    let mut characters = words.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_number_nor_library_is_quoted() {
        assert_eq!(system_words(&io::Error::from_raw_os_error(28)), "no space left on device");
        let wrapped = "failed to query resolved metadata `/x`: Permission denied (os error 13)";
        assert_eq!(system_words(&io::Error::other(wrapped)), "permission denied");
        assert_eq!(system_words(&io::Error::other("Stream ended")), "stream ended");
        let opened = fs_err_like();
        assert_eq!(system_words(&opened), "no such file or directory");
    }

    fn fs_err_like() -> io::Error {
        let source = io::Error::from_raw_os_error(2);
        io::Error::new(source.kind(), format!("failed to open file `/x`: {source}"))
    }
}
