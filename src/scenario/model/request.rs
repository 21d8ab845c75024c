//! Requests, expectations on their responses, and values saved from them.

use std::time::Duration;

use crate::diagnostic::{Span, Spanned};
use crate::scenario::check::certificate::CertificateFact;
use crate::scenario::matcher::{Matcher, Pattern};
use crate::scenario::template::{Template, Value};
use crate::scenario::trust::Trust;
use crate::scenario::usual::SlowerThanUsual;
use crate::scenario::xpath::XPath;

/// HTTP request with the expectations on its response.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// HTTP method, such as `GET`.
    pub method: String,
    /// URL, absolute or relative to `base_url`.
    pub url: Spanned<Template>,
    /// Headers, in the order of the file.
    pub headers: Vec<(String, Spanned<Template>)>,
    /// Query parameters, added to those of the URL.
    pub query: Vec<(String, Spanned<Template>)>,
    /// Body of the request.
    pub body: Option<Body>,
    /// Credentials sent with the request.
    pub login: Option<Authentication>,
    /// Trusted certificates.
    pub trust: Trust,
    /// Proxy for the request.
    pub proxy: Option<Spanned<Template>>,
    /// HTTP version. If it is `None`, the version is negotiated with the server.
    pub http_version: Option<HttpVersion>,
    /// Whether redirects are followed.
    pub redirect: bool,
    /// Address to connect to instead of resolving the host name: `10.0.0.1` or `10.0.0.1:8443`.
    pub resolve: Option<Spanned<Template>>,
    /// Whether the request carries a `traceparent` header (default: only if the agent exports traces).
    pub traceparent: Option<bool>,
    /// Expectations on the response.
    pub expect: Vec<ResponseExpectation>,
    /// Values to save.
    pub save: Vec<ResponseSave>,
    /// Settings for repeating the request until the expectations hold.
    pub eventually: Option<Eventually>,
    /// Conditions that end the polling when all of them hold. Without conditions, polling ends only with success or the
    /// time limit.
    pub give_up_if: Vec<ResponseExpectation>,
}

impl Request {
    /// Returns every file that the request references.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
        let mut files = self.trust.files();
        if let Some(Body::Multipart(parts)) = &self.body {
            files.extend(parts.iter().filter_map(|part| match &part.content {
                PartContent::File { file, .. } => Some(file),
                PartContent::Text(_) => None,
            }));
        }
        let expected = self.expect.iter().chain(&self.give_up_if);
        files.extend(expected.filter_map(|expectation| expectation.what.matcher().and_then(Matcher::file)));
        files
    }
}

/// Interval and time limit of a polled request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eventually {
    /// Interval from the end of one attempt to the start of the next.
    pub every: Duration,
    /// Time limit of all attempts together.
    pub within: Duration,
}

/// HTTP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    One,
    /// HTTP/2; with prior knowledge if TLS is not used.
    Two,
}

/// Authentication of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Authentication {
    /// Basic authentication (RFC 7617), or digest authentication (RFC 7616) if `digest` is true.
    Basic {
        /// User name.
        user: Spanned<Template>,
        /// Password.
        password: Spanned<Template>,
        /// Whether to use digest authentication, which sends only a digest of the password.
        digest: bool,
    },
    /// Bearer token (RFC 6750).
    Bearer(Spanned<Template>),
    /// Token obtained with client credentials (RFC 6749, section 4.4).
    OAuth2(Box<OAuth2>),
}

/// OAuth 2.0 client credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// URL of the token endpoint.
    pub token_url: Spanned<Template>,
    /// Client id.
    pub client_id: Spanned<Template>,
    /// Client secret.
    pub client_secret: Spanned<Template>,
    /// Scope of the token.
    pub scope: Option<Spanned<Template>>,
    /// Audience of the token.
    pub audience: Option<Spanned<Template>>,
    /// Whether the client authenticates in the request body instead of a header.
    pub in_body: bool,
}

/// Body of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// JSON, sent as `application/json`.
    Json(Value),
    /// Form fields, sent as `application/x-www-form-urlencoded`.
    Form(Vec<(String, Spanned<Template>)>),
    /// Plain text.
    Text(Spanned<Template>),
    /// Several parts, sent as `multipart/form-data` (RFC 7578).
    Multipart(Vec<Part>),
    /// GraphQL request, sent as JSON.
    GraphQl(Box<GraphQl>),
}

/// Part of a multipart body.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Name of the field.
    pub name: String,
    /// Content of the part.
    pub content: PartContent,
}

/// Content of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum PartContent {
    /// Text.
    Text(Spanned<Template>),
    /// File, relative to the scenario file.
    File {
        /// Path of the file.
        file: Spanned<Template>,
        /// File name to send (default: the name of the file).
        filename: Option<Spanned<Template>>,
        /// Media type of the file (default: `application/octet-stream`).
        media_type: Option<Spanned<Template>>,
    },
}

/// GraphQL request.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphQl {
    /// Query document.
    pub query: Spanned<Template>,
    /// Values of the variables.
    pub variables: Option<Value>,
    /// Name of the operation to execute.
    pub operation: Option<Spanned<Template>>,
}

/// Expectation on a response.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseExpectation {
    /// Span of the expectation in the file.
    pub span: Span,
    /// Condition that must hold.
    pub what: ResponseFact,
}

/// Condition of `expect` on a response.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFact {
    /// Status code.
    Status(Matcher),
    /// Header, by its lower-case name.
    Header(String, Matcher),
    /// Result of a `JSONPath` (RFC 9535): the value, or a list if there are several.
    Json(String, Matcher),
    /// Result of an XPath on HTML or XML: the text of a node, or a list if there are several.
    Xpath(XPath, Matcher),
    /// Certificate of the server, or the TLS session in which it was presented.
    Certificate(CertificateFact),
    /// Body as text.
    Body(Matcher),
    /// Text that the body must contain.
    Contains(Template),
    /// Maximum time from sending the request to the last byte of the response.
    FasterThan(Duration),
    /// Limit of the step duration relative to earlier runs; evaluated after all other expectations hold.
    SlowerThanUsual(SlowerThanUsual),
}

impl ResponseFact {
    /// Returns the matcher of the condition if it has one.
    pub fn matcher(&self) -> Option<&Matcher> {
        match self {
            Self::Status(matcher)
            | Self::Header(_, matcher)
            | Self::Json(_, matcher)
            | Self::Xpath(_, matcher)
            | Self::Body(matcher) => Some(matcher),
            Self::Certificate(fact) => fact.matcher(),
            Self::Contains(_) | Self::FasterThan(_) | Self::SlowerThanUsual(_) => None,
        }
    }
}

/// Value of a response to save.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseSave {
    /// Name of the saved value.
    pub name: Spanned<String>,
    /// Source of the value.
    pub source: ResponseSource,
    /// Whether the value is masked from then on.
    pub secret: bool,
}

/// Source of a value that is saved from a response.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseSource {
    /// Result of a `JSONPath`.
    Json(String),
    /// Result of an XPath on HTML or XML.
    Xpath(XPath),
    /// A header, by its lower-case name.
    Header(String),
    /// Cookie, by name, that would be sent to the URL of the response.
    Cookie(String),
    /// First group of a regular expression applied to the body, or the entire body.
    Body(Option<Pattern>),
}
