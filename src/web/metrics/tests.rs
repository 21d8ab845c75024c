//! Headers of scrapers, and responses in every format.

use std::io::Read as _;

use axum::http::HeaderName;

use super::*;
use crate::scenario::{Lookup, LookupError, load};
use crate::sink::prometheus::{Config, Prometheus};

fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
    values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
}

#[test]
fn formats_are_those_that_are_asked_for() {
    let check = |accept: &[&'static str], expected: Format| {
        assert_eq!(format(&headers(&header::ACCEPT, accept)), expected, "{accept:?}");
    };
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    check(&[], Format::Text);
    check(&["*/*"], Format::Text);
    check(&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Format::Text);
    // Prometheus 2.42, without and with native histograms.
    check(
        &[
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ],
        Format::OpenMetrics,
    );
    check(
        &[
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ],
        Format::Protobuf,
    );
    // Prometheus 3.
    check(
        &[
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        ],
        Format::OpenMetrics,
    );
    check(&["application/openmetrics-text"], Format::OpenMetricsDraft);
    check(&["application/openmetrics-text; version=2.0.0, text/plain;q=0.1"], Format::Text);
    check(&["text/plain", protobuf], Format::Text);
    check(&["text/plain;q=0.9", protobuf], Format::Protobuf);
    check(&["Application/OpenMetrics-Text; Version=\"1.0.0\""], Format::OpenMetrics);
    check(&["application/openmetrics-text;version=1.0.0;q=0"], Format::Text);
    check(&["application/openmetrics-text;version=1.0.0;q=much"], Format::Text);
    check(&["application/vnd.google.protobuf", "application/json"], Format::Text);
}

#[test]
fn encodings_are_those_that_are_asked_for() {
    let check = |accept: &[&'static str], expected: Encoding| {
        assert_eq!(Encoding::of(&headers(&header::ACCEPT_ENCODING, accept)), expected, "{accept:?}");
    };
    check(&[], Encoding::Identity);
    check(&["gzip"], Encoding::Gzip);
    check(&["gzip, deflate, br, zstd"], Encoding::Zstd);
    check(&["zstd;q=0.5, gzip"], Encoding::Gzip);
    check(&["gzip;q=0, zstd;q=0"], Encoding::Identity);
    check(&["br", "X-Gzip"], Encoding::Gzip);
    check(&["identity, *"], Encoding::Identity);
}

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

#[tokio::test]
async fn answers_are_whole_in_every_encoding() {
    let checks: String = (0..3000).map(|n| format!("  check {n}: {{tcp: \"host-{n}:80\"}}\n")).collect();
    let loaded = load("checks.yaml", &format!("checks:\n{checks}"), &Nothing);
    let known = loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect();
    let view = Prometheus::new(prometheus::Registry::new(), "waw-1");
    view.load(&known, &Config::default());
    let read = async |format, encoding| {
        let request = ScrapeRequest { format, selection: Selection::All, scraper: 1 };
        let pieces = Pieces { scrape: view.scrape(&request).unwrap(), piece: Vec::new(), at: 0, in_a_row: 0 };
        let body = body(pieces, encoding);
        let sent = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        match encoding {
            Encoding::Identity => sent.to_vec(),
            Encoding::Gzip => {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(&*sent).read_to_end(&mut plain).unwrap();
                assert!(sent.len() * 4 < plain.len(), "{} of {}", sent.len(), plain.len());
                plain
            }
            Encoding::Zstd => {
                let mut plain = Vec::new();
                let mut decoder = async_compression::tokio::bufread::ZstdDecoder::new(&*sent);
                decoder.read_to_end(&mut plain).await.unwrap();
                assert!(sent.len() * 4 < plain.len(), "{} of {}", sent.len(), plain.len());
                plain
            }
        }
    };
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let plain = read(format, Encoding::Identity).await;
        assert!(plain.len() > 10 * PART_BYTES, "{}", plain.len());
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            assert!(read(format, encoding).await == plain, "{format:?} {encoding:?} differs");
        }
    }
    let text = String::from_utf8(read(Format::Text, Encoding::Identity).await).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("wachta_scenario_info{")).count(), 3000);
}

#[test]
fn scrapers_differ_by_address_user_agent_and_part() {
    let of =
        |peer: [u8; 4], agent, query| scraper(Some(&Peer(peer.into())), &headers(&header::USER_AGENT, &[agent]), query);
    let one = of([127, 0, 0, 1], "Prometheus/3.5.0", "");
    assert_eq!(of([127, 0, 0, 1], "Prometheus/3.5.0", ""), one);
    assert_ne!(of([127, 0, 0, 2], "Prometheus/3.5.0", ""), one);
    assert_ne!(of([127, 0, 0, 1], "curl/8", ""), one);
    assert_ne!(of([127, 0, 0, 1], "Prometheus/3.5.0", "tag=a:b"), one);
}
