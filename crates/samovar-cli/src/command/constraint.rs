//! What the command line says that an answer must look like. Checks what needs no model, and never compiles anything.

use std::io::Read;
use std::path::Path;

use samovar::Constraint;
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};
use serde::de::IgnoredAny;

use crate::args::Form;
use crate::home;

/// No request may have a larger schema or grammar.
const FILE_MAX_BYTES: u64 = 64 << 10;
/// Stands for standard input.
const STDIN: &str = "-";

/// What was asked for. `is_stdin_taken`: the prompt is read from standard input.
///
/// # Errors
/// `NotFound` for a file that is not there, `Storage` for one that cannot be read, `InvalidRequest` for one that is neither a
/// schema nor a grammar.
pub(super) fn read(form: &Form, is_stdin_taken: bool) -> Result<Option<Constraint>, Failure> {
    if let Some(path) = &form.schema {
        return schema(path, is_stdin_taken).map(Some);
    }
    if let Some(path) = &form.grammar {
        return grammar(path).map(Some);
    }
    Ok(form.regex.clone().map(Constraint::Regex))
}

fn schema(path: &Path, is_stdin_taken: bool) -> Result<Constraint, Failure> {
    let (name, text) = if path.as_os_str() == STDIN {
        if is_stdin_taken {
            return Err(wrong("standard input cannot be the prompt and the schema")
                .with_hint("write the prompt as an argument, or the schema into a file"));
        }
        ("standard input".to_owned(), text(std::io::stdin(), "standard input")?)
    } else {
        let name = path.display().to_string();
        let text = file(path, "--schema names a file with a JSON schema")?;
        (name, text)
    };
    // A schema of a thousand levels is refused where it is compiled, in words of its own.
    serde_json::from_str::<IgnoredAny>(&text).map_err(|error| {
        wrong(format!("{name} is not JSON: {error}")).with_hint("--schema names a file with a JSON schema")
    })?;
    Ok(Constraint::JsonSchema(text))
}

fn grammar(path: &Path) -> Result<Constraint, Failure> {
    let form: fn(String) -> Constraint = match path.extension().and_then(|ending| ending.to_str()) {
        Some("lark") => Constraint::Lark,
        Some("gbnf") => Constraint::Gbnf,
        _ => {
            return Err(wrong(format!(
                "the name of the grammar {} says nothing about its form",
                path.display()
            ))
            .with_hint(
                "a file that ends in .lark has the rule `start`, one that ends in .gbnf the rule `root`",
            ));
        }
    };
    Ok(form(file(path, "--grammar names a file whose name ends in .lark or .gbnf")?))
}

fn file(path: &Path, hint: &str) -> Result<String, Failure> {
    let name = path.display().to_string();
    let file = fs_err::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(ErrorKind::NotFound, format!("there is no file {name}")).with_hint(hint)
        }
        _ => unreadable(&name, &error),
    })?;
    text(file, &name)
}

fn text(from: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let most = ByteSize::from_bytes(FILE_MAX_BYTES);
        return Err(wrong(format!("{name} has more than {most}")).with_hint("a request takes no more"));
    }
    String::from_utf8(bytes)
        .map_err(|_| wrong(format!("{name} is not UTF-8 text")).with_hint("write it in UTF-8"))
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::InvalidRequest, message)
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(ErrorKind::Storage, format!("could not read {name}: {}", home::plain(error)))
        .with_hint("check the file and who may read it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(option: &str, path: &Path) -> Form {
        let path = Some(path.to_owned());
        if option == "schema" {
            Form { schema: path, ..Form::default() }
        } else {
            Form { grammar: path, ..Form::default() }
        }
    }

    #[test]
    fn schemas_and_grammars_are_read_as_they_are() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let read_file = |name: &str, option: &str, text: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, text).expect("file");
            read(&form(option, &path), true).expect(name).expect("a constraint")
        };
        let schema = "{ \"type\": \"object\" }\n";
        assert_eq!(read_file("a.json", "schema", schema), Constraint::JsonSchema(schema.into()));
        assert_eq!(read_file("a.lark", "grammar", "start: \"a\""), Constraint::Lark("start: \"a\"".into()));
        assert_eq!(
            read_file("a.gbnf", "grammar", "root ::= \"a\""),
            Constraint::Gbnf("root ::= \"a\"".into())
        );
        let regex = Form { regex: Some("[0-9]+".into()), ..Form::default() };
        assert_eq!(read(&regex, false), Ok(Some(Constraint::Regex("[0-9]+".into()))));
        assert_eq!(read(&Form::default(), false), Ok(None));
    }

    #[test]
    fn what_is_no_schema_or_grammar_is_told_before_a_model_is_asked() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let refused = |name: &str, option: &str, bytes: Option<&[u8]>| {
            let path = folder.path().join(name);
            if let Some(bytes) = bytes {
                fs_err::write(&path, bytes).expect("file");
            }
            let failure = read(&form(option, &path), false).expect_err(name);
            assert!(failure.hint.is_some(), "{failure:?}");
            (failure.kind, failure.message)
        };
        let (kind, message) = refused("broken.json", "schema", Some(b"{\"type\": "));
        assert!(
            kind == ErrorKind::InvalidRequest
                && message.contains("is not JSON")
                && message.contains("line 1"),
            "{message}"
        );
        let large = vec![b' '; FILE_MAX_BYTES as usize + 1];
        for (name, option, bytes) in [
            ("latin.json", "schema", b"\"\xff\"".as_slice()),
            ("large.json", "schema", large.as_slice()),
            ("rules.txt", "grammar", b"root ::= x".as_slice()),
            ("rules", "grammar", b"root ::= x".as_slice()),
        ] {
            assert_eq!(refused(name, option, Some(bytes)).0, ErrorKind::InvalidRequest, "{name}");
        }
        assert_eq!(refused("none.json", "schema", None).0, ErrorKind::NotFound);
        assert_eq!(refused("none.lark", "grammar", None).0, ErrorKind::NotFound);
    }

    #[test]
    fn standard_input_is_the_prompt_or_the_schema() {
        let failure = read(&form("schema", Path::new(STDIN)), true).expect_err("taken");
        assert_eq!(failure.kind, ErrorKind::InvalidRequest);
        assert!(failure.message.contains("standard input"), "{failure:?}");
    }
}
