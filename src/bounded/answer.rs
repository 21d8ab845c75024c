//! The body of an HTTP answer, read within a bound, and the cause of an error of the HTTP client.

/// A body, as far as it was read.
#[derive(Debug)]
pub struct Body {
    /// Its bytes, of which there are at most as many as the caller allows.
    pub bytes: Vec<u8>,
    /// Where it ended.
    pub end: End,
}

/// Where reading a body ended.
#[derive(Debug)]
pub enum End {
    /// Where the body ends.
    Whole,
    /// At the bound.
    Cut,
    /// In the middle, with the connection.
    Broken(reqwest::Error),
}

/// Reads at most `max_bytes` of the body of an answer.
pub async fn body(answer: &mut reqwest::Response, max_bytes: usize) -> Body {
    let mut bytes = Vec::new();
    let end = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break End::Whole,
            Err(error) => break End::Broken(error),
        }
        if bytes.len() > max_bytes {
            bytes.truncate(max_bytes);
            break End::Cut;
        }
    };
    Body { bytes, end }
}

/// The innermost cause of an error: the outer ones only say that a request failed.
pub fn root(error: &reqwest::Error) -> String {
    let mut last = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(inner) = next {
        last = inner.to_string();
        next = inner.source();
    }
    last
}
