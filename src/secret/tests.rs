//! Secrets in every notation.

use super::*;

/// Allows tests to create masked texts from literals, which contain no secrets.
impl From<&str> for Masked {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[test]
fn a_secret_is_masked_in_every_form() {
    let masker = Masker::default();
    assert!(masker.add("pa\"ss wörd/1"));
    for text in [
        "say pa\"ss wörd/1 now".to_owned(),
        serde_json::json!({"p": "pa\"ss wörd/1"}).to_string(),
        format!("?p={}", utf8_percent_encode("pa\"ss wörd/1", NON_ALPHANUMERIC)),
        format!("?p={}", url::form_urlencoded::byte_serialize("pa\"ss wörd/1".as_bytes()).collect::<String>()),
    ] {
        let masked = masker.mask(&text);
        assert!(masked.contains(MASK) && !masked.contains("rd"), "{text} became {masked}");
    }
    for lead in ["", "u:", "us:", "use:"] {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{lead}pa\"ss wörd/1"));
        assert!(masker.mask(&text).contains(MASK), "{lead}: {text}");
    }
}

#[test]
fn as_other_programs_write_it() {
    let masker = Masker::default();
    assert!(masker.add("Pä'ss w\"o/rd-1_<x>.~"));
    for text in [
        "Pä'ss w\\\"o/rd-1_<x>.~",
        r#"P\u00e4'ss w\"o\/rd-1_<x>.~"#,
        "P%C3%A4'ss%20w%22o/rd-1_%3Cx%3E.~",
        "P%c3%a4%27ss%20w%22o%2frd-1_%3cx%3e.~",
        "P%C3%A4'ss%20w%22o%2Frd-1_%3Cx%3E.~",
        "P%C3%A4%27ss+w%22o%2Frd-1_%3Cx%3E.%7E",
        "Pä&#39;ss w&quot;o/rd-1_&lt;x&gt;.~",
    ] {
        assert_eq!(masker.mask(&format!("a={text}&b")), "a=***&b");
    }
}

#[test]
fn too_short_a_secret_is_refused() {
    let masker = Masker::default();
    assert!(!masker.add("abc"));
    assert_eq!(masker.mask("abc"), "abc");
}

#[test]
fn a_secret_does_not_print() {
    assert_eq!(format!("{:?} {}", Secret::new("x"), Secret::new("y")), "*** ***");
}

/// Returns forty secrets. Each contains characters that encodings treat differently, and words that are recognizable in
/// any encoding.
fn planted() -> Vec<String> {
    const MIDDLES: [&str; 40] = [
        "",
        "&b<c>",
        "!b@c$d",
        "#frag-",
        "/path/",
        "\"quoted\"",
        "'single'",
        "\\back\\",
        "%25percent",
        "+plus+",
        " space ",
        "\ttab",
        "\nline",
        "\r\nline",
        "äöü",
        "ß€",
        "😀smile",
        "日本語",
        "=equals=",
        "?q=1&r=2",
        "a:b@c",
        "{json}",
        "[list]",
        "~tilde~",
        "`tick`",
        "^caret",
        "|pipe|",
        ";semi;",
        ",comma,",
        "*star*",
        "(paren)",
        "$dollar",
        "--dash--",
        "__under__",
        "..dots..",
        "&amp;",
        "%41",
        "\\n",
        "<b>bold</b>",
        "\u{a0}nbsp",
    ];
    MIDDLES.iter().enumerate().map(|(n, middle)| format!("Kq{n:02}alpha{middle}Zw{n:02}omega")).collect()
}

fn map(text: &str, encode: impl Fn(char) -> Option<String>) -> String {
    text.chars().map(|c| encode(c).unwrap_or_else(|| c.to_string())).collect()
}

fn json(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

fn percent(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Encodes a text.
type Encode = fn(&str) -> String;

/// Twenty-five encodings used by programs.
const ENCODINGS: [(&str, Encode); 25] = [
    ("plain", ToOwned::to_owned),
    ("JSON", json),
    ("JSON of Go", |text| json(text).replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")),
    ("JSON of .NET", |text| {
        map(&json(text), |c| {
            (!c.is_ascii() || "&<>+'`".contains(c))
                .then(|| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect())
        })
    }),
    ("JSON of PHP", |text| json(text).replace('/', "\\/")),
    ("percent", percent),
    ("percent, lower case", |text| {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") })
            .collect()
    }),
    ("form", |text| url::form_urlencoded::byte_serialize(text.as_bytes()).collect()),
    ("userinfo", |text| {
        text.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() || b"!$&'()*+,-._~".contains(&b) {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect()
    }),
    ("every second character in percent", |text| {
        text.bytes()
            .enumerate()
            .map(|(i, b)| {
                if i % 2 == 0 && b.is_ascii_graphic() && b != b'%' {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect()
    }),
    ("HTML", html),
    ("HTML, decimal", |text| map(text, |c| (!c.is_alphanumeric()).then(|| format!("&#{};", u32::from(c))))),
    ("HTML, hexadecimal", |text| {
        map(text, |c| (!c.is_ascii_alphanumeric()).then(|| format!("&#x{:x};", u32::from(c))))
    }),
    ("base64", |text| base64::engine::general_purpose::STANDARD.encode(text)),
    ("base64 behind a user", |text| base64::engine::general_purpose::STANDARD.encode(format!("user:{text}"))),
    ("base64 in the middle", |text| {
        base64::engine::general_purpose::STANDARD.encode(format!("{{\"k\":\"{text}\",\"n\":1}}"))
    }),
    ("base64 for URLs", |text| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)),
    ("hexadecimal", |text| text.bytes().map(|b| format!("{b:02x}")).collect()),
    ("hexadecimal, upper case", |text| text.bytes().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")),
    ("percent twice", |text| percent(&percent(text))),
    ("JSON twice", |text| json(&json(text))),
    ("JSON of HTML", |text| json(&html(text)).replace('&', "\\u0026")),
    ("percent of JSON", |text| percent(&json(text))),
    ("quoted-printable", |text| {
        text.bytes()
            .map(|b| if b.is_ascii_graphic() && b != b'=' { char::from(b).to_string() } else { format!("={b:02X}") })
            .collect()
    }),
    ("the shell's backslashes", |text| map(text, |c| (c.is_ascii_punctuation() || c == ' ').then(|| format!("\\{c}")))),
];

#[test]
fn forty_secrets_in_twenty_five_encodings_are_masked() {
    let (masker, secrets) = (Masker::default(), planted());
    for secret in &secrets {
        assert!(masker.add(secret));
    }
    let mut shown = Vec::new();
    for (secret, number) in secrets.iter().zip(0..) {
        for (name, encode) in ENCODINGS {
            let encoded = encode(secret);
            let masked = masker.mask(&format!("before \"{encoded}\" after"));
            let words = [format!("Kq{number:02}"), format!("Zw{number:02}")];
            let is_whole = encoded.contains(&words[0]);
            // Inside a longer base64 text, characters shared with the neighbors remain.
            let clean = if is_whole {
                masked == "before \"***\" after"
            } else {
                masked.contains(MASK) && masked.len() < 60 + 28
            };
            if !clean || words.iter().any(|word| masked.contains(word.as_str())) {
                shown.push(format!("{name} of {secret:?}: {encoded} became {masked}"));
            }
        }
    }
    assert!(shown.is_empty(), "{} are shown:\n{}", shown.len(), shown.join("\n"));
}

#[test]
fn parts_of_secrets_are_masked_as_far_as_it_is_said() {
    let check = |secret: &str, typed: bool, text: &str, expected: &str| {
        let masker = Masker::default();
        assert!(masker.add(secret));
        if typed {
            masker.typed(secret);
        }
        assert_eq!(masker.mask(text), expected, "{secret} in {text}");
    };
    // A prefix: at least half of the secret and at least eight characters.
    check("Kq10scriptKq10z", false, "typed Kq10scr, Kq10scri, Kq10scriptKq10", "typed Kq10scr, ***, ***");
    // Typed into a page: half of the secret, at least four and at most eight characters.
    check("hunter22", true, "hun hunt hunte hunter22", "hun *** *** ***");
    check("abcdefghijklmnopqrstuvwxyz", true, "abcdefg abcdefgh", "abcdefg ***");
    // Before a cut mark.
    check("hunter22", false, "says hun… and hu… and hunt...", "says ***… and hu… and ***...");
    // In a different letter case.
    check("hunter22", false, "HUNTER22 Hunter22", "*** ***");
    // Line breaks, spaces, or nothing between the lines.
    check("first line 1\nsecond line 2", false, "first line 1 second line 2", "***");
    check("first line 1\nsecond line 2", false, "first line 1second line 2", "***");
    check("first line 1\nsecond line 2", false, "a: first line 1\nb: second line 2", "a: ***\nb: ***");
    check("first line 1\nsecond line 2", false, "first line 1<br>second line 2", "***");
    check("two  blanks", false, "two blanks", "***");
    // The texts in a secret that is JSON, and in one with header and footer lines.
    let json = "{\"type\": \"x\", \"private_key\": \"long-private-key\", \"list\": [\"another-long-one\"]}";
    check(json, false, "{\n  \"private_key\": \"long-private-key\"\n}", "{\n  \"private_key\": \"***\"\n}");
    check(json, false, "another-long-one", "***");
    check("-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----", false, "key MIIEvQIBADANBg", "key ***");
    // A line broken by quoted-printable.
    check("hunter22", false, "hunt=\r\ner22", "***");
    // Short words are not masked.
    check("hunter22", false, "hunt the hunter", "hunt the hunter");
}

#[test]
fn every_leaf_of_a_value_is_learnt() {
    let masker = Masker::default();
    let value =
        serde_json::json!({"a": "Kqobj1value", "b": ["Kqobj2value", {"c": 8_812_345_678_u64}], "ok": true, "n": 1});
    assert!(masker.add_value(&value));
    assert_eq!(masker.mask("Kqobj1value Kqobj2value 8812345678 true 1"), "*** *** *** true 1");
    assert!(!masker.add_value(&serde_json::json!({"ok": true, "n": 1})));
}

#[test]
fn in_a_url_the_parts_of_a_secret_are_learnt() {
    let masker = Masker::default();
    assert!(masker.add("Kq03a#frag-Kq03b"));
    masker.in_url("http://a/?s=Kq03a#frag-Kq03b");
    assert_eq!(masker.mask("GET /?s=Kq03a"), "GET /?s=***");
    let site = Masker::default();
    assert!(site.add("https://hooks.example.com/?key=Kq04abcdefgh"));
    site.in_url("https://hooks.example.com/?key=Kq04abcdefgh");
    assert_eq!(site.mask("https://other.example.com/"), "https://other.example.com/");
}

#[test]
fn hostile_text_costs_little() {
    let masker = Masker::default();
    assert!(masker.add("%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%"));
    assert!(masker.add("&&&&&&&&&&&&&&&&&&&&&&&&"));
    assert!(masker.add("\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\x"));
    let began = std::time::Instant::now();
    for text in ["%25", "&amp;", "\\\\", "\\u005c", "&#37;", "%2525"] {
        masker.mask(&text.repeat(500));
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}
