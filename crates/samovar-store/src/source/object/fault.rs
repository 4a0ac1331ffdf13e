//! What an object store's refusal means, and what to do about it.

use crate::error::Error;

/// Characters of a server's own words that are repeated.
const WORDS: usize = 240;

/// What stands before the status in what `object_store` says of requests that it has no error of its own for.
const STATUS: &str = "non-2xx status code: ";
/// What the stores say when the bucket itself is missing.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];

/// Turns what `object_store` said into one of ours, so that callers can tell them apart.
pub(super) fn of(subject: &str, error: &object_store::Error) -> Error {
    let subject = subject.to_owned();
    let text = error.to_string();
    match (error, status(&text)) {
        _ if NO_BUCKET.iter().any(|said| text.contains(said)) => Error::Missing {
            subject: format!("the bucket of {subject}"),
            where_: " at the object store",
            hint: "check the bucket's name, its region (AWS_REGION) and the endpoint".to_owned(),
        },
        (object_store::Error::NotFound { .. }, _) | (_, Some(404)) => Error::Missing {
            subject,
            where_: " at the object store",
            hint: "check the key; names are case-sensitive".to_owned(),
        },
        (object_store::Error::PermissionDenied { .. }, _) | (_, Some(403)) => Error::Denied {
            subject,
            message: "these credentials may not read it, or it is not there and they may not know".to_owned(),
            hint: "check the credentials (AWS_ACCESS_KEY_ID and its like) and the bucket's policy".to_owned(),
        },
        (object_store::Error::Unauthenticated { .. }, _) | (_, Some(401)) => Error::Denied {
            subject,
            message: "the object store does not know these credentials".to_owned(),
            hint: "set the credentials of the store: AWS_…, GOOGLE_… or AZURE_…".to_owned(),
        },
        _ if text.contains("redirect without LOCATION") => Error::Denied {
            subject,
            message: "the bucket lies in another region".to_owned(),
            hint: "set AWS_REGION to the bucket's region".to_owned(),
        },
        (_, Some(status)) if (400..500).contains(&status) && ![408, 425, 429].contains(&status) => {
            let hint = "check the object store's settings".to_owned();
            Error::Denied { subject, message: words(&text), hint }
        }
        (object_store::Error::InvalidPath { .. }, _) => Error::BadAnswer { subject, message: words(&text) },
        _ => Error::Unreachable { subject, message: words(&text), retry_after: None, is_silent: false },
    }
}

/// The status that a server answered with, where the client repeats it.
fn status(text: &str) -> Option<u16> {
    text.split_once(STATUS)?.1.split_whitespace().next()?.parse().ok()
}

/// What the client said, on one line, cut, and without the queries of URLs: signatures travel there.
fn words(said: &str) -> String {
    let mut text = String::new();
    for word in said.split_whitespace() {
        let word = match word.split_once('?') {
            Some((address, _)) if address.contains("://") => format!("{address}?…"),
            _ => word.to_owned(),
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word);
    }
    text.chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        assert!(of("x", &generic("connection refused")).may_pass());
        assert!(
            of("x", &generic("Server returned non-2xx status code: 503 Service Unavailable: ")).may_pass()
        );
        assert!(of("x", &generic("Server returned non-2xx status code: 429 Too Many: ")).may_pass());
        let refused = of(
            "x",
            &generic("Server returned non-2xx status code: 400 Bad Request: AuthorizationHeaderMalformed"),
        );
        assert!(matches!(refused, Error::Denied { .. }), "{refused}");
    }

    #[test]
    fn signatures_in_addresses_are_not_repeated() {
        let error = of("x", &generic("error for url (https://h/c/x?sig=hunter2&se=1)\nagain"));
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains("https://h/c/x?…"), "{error}");
    }
}
