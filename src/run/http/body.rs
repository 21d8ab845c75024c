//! Bodies of requests.

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use serde_json::{Map, Value as Json};
use url::form_urlencoded;
use uuid::Uuid;

use super::fields::{fill, pairs};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Body, GraphQl, Part, PartContent};
use crate::values::Values;

/// Maximum size of a request body, in bytes.
const LARGEST: usize = 64 << 20;

/// Creates a body and its media type, if it has one.
pub(super) fn of(body: &Body, values: &Values) -> Result<(Bytes, Option<HeaderValue>), Failure> {
    let json = Some(HeaderValue::from_static("application/json"));
    Ok(match body {
        Body::Json(value) => (written(&values.fill_value(value)?), json),
        Body::Form(fields) => {
            let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs(fields, values)?).finish();
            (text.into(), Some(HeaderValue::from_static("application/x-www-form-urlencoded")))
        }
        Body::Text(text) => (fill(text, values)?.into(), None),
        Body::Multipart(parts) => multipart(parts, values)?,
        Body::GraphQl(request) => (written(&graphql(request, values)?), json),
    })
}

fn written(value: &Json) -> Bytes {
    value.to_string().into()
}

/// Builds a request as defined by the GraphQL over HTTP specification.
fn graphql(request: &GraphQl, values: &Values) -> Result<Json, Failure> {
    let mut body = Map::new();
    body.insert("query".into(), fill(&request.query, values)?.into());
    if let Some(variables) = &request.variables {
        body.insert("variables".into(), values.fill_value(variables)?);
    }
    if let Some(operation) = &request.operation {
        body.insert("operationName".into(), fill(operation, values)?.into());
    }
    Ok(Json::Object(body))
}

/// Encodes a form (RFC 7578), with names escaped as in browsers (WHATWG HTML, section 4.10.22.8).
fn multipart(parts: &[Part], values: &Values) -> Result<(Bytes, Option<HeaderValue>), Failure> {
    let boundary = format!("wachta-{}", Uuid::now_v7().simple());
    let mut body = Vec::new();
    for part in parts {
        let mut head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", escaped(&part.name));
        let content = match &part.content {
            PartContent::Text(text) => fill(text, values)?.into_bytes(),
            PartContent::File { file, filename, media_type } => {
                let path = fill(file, values)?;
                let own = path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
                let name = filename.as_ref().map_or(Ok(own), |name| fill(name, values))?;
                let media_type = match media_type {
                    Some(media_type) => {
                        let text = fill(media_type, values)?;
                        HeaderValue::from_str(&text).map_err(|_| {
                            let message = format!("`{text}` is not a media type");
                            Failure::new(Reason::Configuration, message).at(media_type.span)
                        })?;
                        text
                    }
                    None => "application/octet-stream".into(),
                };
                head.push_str(&format!("; filename=\"{}\"\r\nContent-Type: {media_type}", escaped(&name)));
                values.file(file).map_err(|failure| failure.at(file.span))?
            }
        };
        if body.len() + content.len() > LARGEST {
            let message = format!("the body is larger than {} MiB", LARGEST >> 20);
            return Err(Failure::new(Reason::Configuration, message));
        }
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(&content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let media_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
    Ok((body.into(), Some(media_type.expect("hexadecimal digits are visible ASCII"))))
}

fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
