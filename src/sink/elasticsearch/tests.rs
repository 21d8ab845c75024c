//! The sink against a cluster with scripted responses.

use super::*;
use crate::bounded::credential::Credential;
use crate::sink::fixtures::{self, Answerer, event};

async fn cluster(plan: Vec<(u16, &'static str, &'static str)>) -> Answerer {
    Answerer::start("base/", plan, r#"{"errors":false,"items":[]}"#).await
}

fn sink(url: &Url, target: Target, authentication: Option<Authentication>) -> Box<dyn Sink> {
    let config = Config { url: url.clone(), target, authentication, ca: None, puts_template: true };
    config.build(&fixtures::context_with_http()).unwrap()
}

#[tokio::test]
async fn a_batch_is_one_request_with_ids_that_make_repetition_harmless() {
    let cluster = cluster(Vec::new()).await;
    let key = Authentication::ApiKey(Credential::text("c2VjcmV0"));
    let mut sink = sink(&cluster.url, Target::Index("runs".into()), Some(key));
    let batch = [event(1, "shop"), event(2, "cart")];
    assert_eq!(sink.send(&batch).await, Sent::Taken);
    let first = cluster.asked();
    let [(line, credentials, body)] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((line.as_str(), credentials.as_str()), ("POST /base/_bulk", "ApiKey c2VjcmV0"));
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    for (pair, event) in lines.chunks(2).zip(&batch) {
        assert_eq!(pair[0], json!({"create": {"_index": "runs", "_id": event.run().to_string()}}));
        assert_eq!(pair[1]["monitor"]["id"], *event.about().text());
    }
    // The same batch produces the same request.
    assert_eq!(sink.send(&batch).await, Sent::Taken);
    assert_eq!(cluster.asked(), first);
}

#[tokio::test]
async fn the_template_is_put_first_and_once() {
    let cluster = cluster(vec![(503, "retry-after: 9", r#"{"error":{"reason":"not yet"}}"#), (200, "", "{}")]).await;
    let basic = Authentication::Basic("agent".into(), Credential::text("open sesame"));
    let mut sink = sink(&cluster.url, Target::DataStream("runs".into()), Some(basic));
    assert!(sink.upkeep_at().is_some());
    let reason = "the index template was rejected: status 503: not yet".to_owned();
    assert_eq!(sink.upkeep().await, Sent::Retry { after: Some(Duration::from_secs(9)), reason });
    assert!(sink.upkeep_at().is_some());
    assert_eq!((sink.upkeep().await, sink.upkeep_at()), (Sent::Taken, None));
    let (line, credentials, body) = cluster.asked().remove(1);
    assert_eq!(
        (line.as_str(), credentials.as_str()),
        ("PUT /base/_index_template/runs", "Basic YWdlbnQ6b3BlbiBzZXNhbWU=")
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["index_patterns"], &body["data_stream"]), (&json!(["runs"]), &json!({})));
}

#[tokio::test]
async fn a_cluster_that_does_not_take_it_is_tried_again() {
    let items =
        r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":400,"error":{"reason":"no date"}}}]}"#;
    let plan = vec![(429, "retry-after: 30", "slow down"), (200, "", items), (413, "", ""), (200, "", "no JSON")];
    let cluster = cluster(plan).await;
    let mut sink = sink(&cluster.url, Target::Index("runs".into()), None);
    let batch = [event(1, "shop"), event(2, "cart")];
    let retry =
        |after: Option<u64>, reason: &str| Sent::Retry { after: after.map(Duration::from_secs), reason: reason.into() };
    assert_eq!(sink.send(&batch).await, retry(Some(30), "status 429"));
    let refusal = super::super::Refusal { index: 1, reason: "no date".into(), for_now: false };
    assert_eq!(sink.send(&batch).await, Sent::Partial(vec![refusal]));
    assert_eq!(sink.send(&batch).await, Sent::Refused("status 413".into()));
    assert_eq!(sink.send(&batch).await, retry(None, "the response to _bulk is not JSON"));
    let nobody: Url = "http://127.0.0.1:1/".parse().unwrap();
    let mut sink = self::sink(&nobody, Target::Index("runs".into()), None);
    assert!(matches!(sink.send(&batch).await, Sent::Retry { after: None, .. }));
}
