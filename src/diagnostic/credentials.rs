//! Detection of passwords and tokens in configuration files, by the names of their keys and by their position in a URL.
//! Literal values (not references such as `${secret.NAME}` or `{env: NAME}`) are masked wherever a part of the file is
//! shown: in snippets, pages, logs and responses.

use crate::secret::{MASK, SHORTEST_PART};

/// Words, in lower case and without `-` and `_`, that mark a key whose value grants access by itself.
const WORDS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "credential",
    "routingkey",
    "integrationkey",
    "servicekey",
    "bearer",
    "signature",
    "webhookurl",
];

/// Endings of keys that contain such a word but hold only a location or a property of the value.
const NOT: [&str; 8] = ["file", "url", "path", "type", "name", "env", "endpoint", "length"];

/// Returns whether the name of a key indicates a password, a token or similar.
pub fn is_name(key: &str) -> bool {
    let name: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    if name == "webhookurl" {
        return true;
    }
    (WORDS.iter().any(|word| name.contains(word)) && !NOT.iter().any(|end| name.ends_with(end)))
        || matches!(name.as_str(), "pass" | "pwd" | "sig")
        // In lower case, the key is the name of a cookie in a scenario.
        || key == "Cookie"
}

/// Returns the secret parts of a URL: its password, and the query parameters with a secret name.
pub fn in_url(text: &str) -> Vec<String> {
    if !text.contains("://") {
        return Vec::new();
    }
    let Ok(url) = url::Url::parse(text.trim()) else { return Vec::new() };
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let query = url.query_pairs().filter(|(name, _)| is_name(name)).map(|(_, value)| value.into_owned());
    url.password().map(decoded).into_iter().chain(query).filter(|part| !is_reference(part)).collect()
}

/// Returns the parts of an entirely secret URL that are as revealing as the URL itself: long path segments, query
/// values and its password. Returns nothing if the text is not a URL.
pub fn parts_of_url(text: &str) -> Vec<String> {
    let Ok(url) = url::Url::parse(text.trim()) else { return Vec::new() };
    let segments = url.path_segments().into_iter().flatten().map(ToOwned::to_owned);
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    let password = url.password().map(ToOwned::to_owned);
    let parts = segments.chain(values).chain(password);
    parts.filter(|part| part.chars().count() >= SHORTEST_PART).collect()
}

/// Returns whether a value is only a reference to a secret.
pub fn is_reference(value: &str) -> bool {
    value.starts_with("${") && value.ends_with('}') && value.matches("${").count() == 1
}

/// Returns a line without the values of keys with secret names and without the passwords of URLs, for files that cannot
/// be parsed as YAML and for values that are too short to be masked by search.
pub fn hide(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find([':', '=']) {
        let (before, after) = rest.split_at(at);
        let key_end = before.trim_end_matches(['"', '\'', ' ']);
        let key_start = key_end
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
            .map_or(0, |i| i + key_end[i..].chars().next().map_or(1, char::len_utf8));
        let key = &key_end[key_start..];
        let value = after[1..].trim_start_matches(' ');
        let is_pair = after.starts_with('=') || after[1..].starts_with([' ', '"', '\'']) || value.is_empty();
        if let Some(end) = password_end(&line[..line.len() - rest.len() + at], after) {
            out.push_str(before);
            out.push(':');
            out.push_str(MASK);
            rest = &after[end..];
            continue;
        }
        out.push_str(before);
        let skipped = after.len() - value.len();
        out.push_str(&after[..skipped]);
        // `secret` may also hold only the name of a secret, as under `totp`; values long enough to be found by search
        // are masked anyway.
        if is_pair && key != "secret" && is_name(key) && !value.is_empty() {
            let end = value_end(value);
            out.push_str(&shown_value(&value[..end]));
            rest = &value[end..];
        } else {
            rest = value;
        }
    }
    out.push_str(rest);
    out
}

/// Returns the end of the password of a URL whose user precedes a `:`, counted from the `:`.
fn password_end(before: &str, after: &str) -> Option<usize> {
    let user_start = before.rfind("://")? + 3;
    let is_user = !before[user_start..].contains(['/', '?', '#', ' ', '"', '\'', ',']);
    let end = after.find('@')?;
    let password = &after[1..end];
    let is_password = !password.is_empty() && !password.contains(['/', ' ', '"', '\'', ',']) && !is_reference(password);
    (is_user && is_password && password != MASK).then_some(end)
}

fn value_end(value: &str) -> usize {
    for quote in ['"', '\''] {
        if value.starts_with(quote) {
            return value[1..].find(quote).map_or(value.len(), |end| end + 2);
        }
    }
    // The content of a possible map or list is examined as well.
    if value.starts_with(['{', '[']) {
        return 1;
    }
    if value.starts_with("${") {
        return value.find('}').map_or(value.len(), |end| end + 1);
    }
    value.find([',', '}', ']', '#', '&']).unwrap_or(value.len())
}

fn shown_value(value: &str) -> String {
    let bare = value.trim_matches(['"', '\'']).trim();
    let is_plain = bare.is_empty()
        || bare.contains("${")
        || matches!(bare, "{" | "[" | "true" | "false" | "null" | "~" | "|" | ">" | "|-" | ">-" | MASK);
    if is_plain {
        return value.to_owned();
    }
    let trailing = &value[value.trim_end().len()..];
    format!("{MASK}{trailing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_show_no_credentials() {
        for (line, shown) in [
            ("    team: {slack: {token: xoxb-1, channel: \"#a\"}}", "    team: {slack: {token: ***, channel: \"#a\"}}"),
            ("headers: {Authorization: \"Bearer abc\"}", "headers: {Authorization: ***}"),
            ("  password: 'a, b'  # mine", "  password: ***  # mine"),
            ("  password: p4ss  # mine", "  password: ***  # mine"),
            ("  \"api-key\": abc", "  \"api-key\": ***"),
            ("  token: \"xoxb-without-end", "  token: ***"),
            ("  token: ${secret.chat}", "  token: ${secret.chat}"),
            ("  token: {file: /run/secrets/chat}", "  token: {file: /run/secrets/chat}"),
            ("  token_file: /run/secrets/chat", "  token_file: /run/secrets/chat"),
            ("  tok: {json: $.data, secret: true}", "  tok: {json: $.data, secret: true}"),
            ("- GET: https://u:p4ss@a.example/x", "- GET: https://u:***@a.example/x"),
            ("- GET: https://u:${secret.p}@a.example/x", "- GET: https://u:${secret.p}@a.example/x"),
            ("- GET: https://a.example/x?access_token=abc&b=1", "- GET: https://a.example/x?access_token=***&b=1"),
            ("- GET: http://a.example:8080/@me", "- GET: http://a.example:8080/@me"),
            ("every: 5s", "every: 5s"),
            ("store: postgres://w:hunter2@db/w", "store: postgres://w:***@db/w"),
        ] {
            assert_eq!(hide(line), shown, "{line}");
        }
    }

    #[test]
    fn urls_show_no_credentials() {
        assert_eq!(in_url("https://u:p%40ss@a/?api_key=k1&b=2"), ["p@ss", "k1"]);
        assert!(in_url("https://a/?b=2").is_empty() && in_url("no url").is_empty());
    }
}
