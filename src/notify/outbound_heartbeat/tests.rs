//! Calls with the clock of the tests, and to a server on loopback.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn every(seconds: u64) -> OutboundHeartbeat {
    OutboundHeartbeat { url: Credential::text("http://unused.invalid/token"), every: Duration::from_secs(seconds) }
}

/// State of the agent and the called service over time.
struct Scene {
    began: Instant,
    works: Cell<Option<Result<(), String>>>,
    answer: RefCell<Result<(), HeartbeatError>>,
    calls: RefCell<Vec<u64>>,
}

impl Scene {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            began: Instant::now(),
            works: Cell::new(Some(Ok(()))),
            answer: RefCell::new(Ok(())),
            calls: RefCell::default(),
        })
    }

    async fn run(self: &Rc<Self>, config: &watch::Sender<Option<OutboundHeartbeat>>) {
        let works = || async {
            match self.works.take() {
                Some(proof) => {
                    self.works.set(Some(proof.clone()));
                    proof
                }
                // A store that hangs.
                None => std::future::pending().await,
            }
        };
        let call = |_| async {
            self.calls.borrow_mut().push(self.began.elapsed().as_secs());
            self.answer.borrow().clone()
        };
        calling(config.subscribe(), works, call).await;
    }

    /// Returns the times of the calls since the last query.
    fn calls(&self) -> Vec<u64> {
        std::mem::take(&mut *self.calls.borrow_mut())
    }
}

/// Waits until half a second after the events, which happen at full seconds.
async fn half() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_calls_at_the_start_and_every_period_while_the_agent_works() {
    let (scene, config) = (Scene::new(), watch::Sender::new(None));
    let play = async {
        half().await;
        pass(5).await;
        assert_eq!(scene.calls(), [0; 0], "nobody is to be called");
        config.send_replace(Some(every(60)));
        pass(185).await;
        assert_eq!(scene.calls(), [5, 65, 125, 185]);
        scene.works.set(Some(Err("the scheduler stands still".into())));
        pass(300).await;
        assert_eq!(scene.calls(), [0; 0], "the agent says that it does not work");
        scene.works.set(None);
        pass(300).await;
        assert_eq!(scene.calls(), [0; 0], "the store hangs");
        scene.works.set(Some(Ok(())));
        pass(60).await;
        assert_eq!(scene.calls(), [845]);
        config.send_replace(Some(every(20)));
        pass(45).await;
        assert_eq!(scene.calls(), [850, 870, 890]);
        config.send_replace(None);
        pass(300).await;
        assert_eq!(scene.calls(), [0; 0]);
    };
    tokio::select! {
        () = scene.run(&config) => panic!("it ended"),
        () = play => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_arrive_is_tried_again_within_the_period() {
    let (scene, config) = (Scene::new(), watch::Sender::new(Some(every(60))));
    let missed = |again| Err(HeartbeatError { why: "no response".into(), again });
    *scene.answer.borrow_mut() = missed(true);
    let play = async {
        half().await;
        pass(61).await;
        assert_eq!(scene.calls(), [0, 1, 4, 14, 60, 61]);
        *scene.answer.borrow_mut() = missed(false);
        pass(60).await;
        assert_eq!(scene.calls(), [64, 120], "the last try was the last");
        config.send_replace(Some(every(10)));
        *scene.answer.borrow_mut() = missed(true);
        pass(9).await;
        assert_eq!(scene.calls(), [121, 122, 125]);
    };
    tokio::select! {
        () = scene.run(&config) => panic!("it ended"),
        () = play => {}
    }
}

/// Responds to each request with the next of these responses.
async fn server(answers: &'static [&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hidden-token", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.push(String::from_utf8(head).unwrap().lines().next().unwrap().to_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        heads
    });
    (url, serving)
}

fn client() -> reqwest::Client {
    // Once for all tests of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK";

#[tokio::test]
async fn a_server_is_called_again_and_again() {
    let (url, serving) = server(&[OK, OK, OK]).await;
    let alive = OutboundHeartbeat { url: Credential::text(url), every: Duration::from_millis(20) };
    let config = watch::Sender::new(Some(alive));
    let client = client();
    let stop = CancellationToken::new();
    let calling = tokio::spawn(run_outbound_heartbeat(client, config.subscribe(), || async { Ok(()) }, stop.clone()));
    assert_eq!(serving.await.unwrap(), ["GET /hidden-token HTTP/1.1"; 3]);
    stop.cancel();
    calling.await.unwrap();
}

#[tokio::test]
async fn answers_are_told_apart_and_no_url_is_told() {
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const GONE: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, serving) = server(&[OK, BUSY, GONE, ""]).await;
    let client = client();
    let alive = OutboundHeartbeat { url: Credential::text(url), every: Duration::from_secs(60) };
    let ask = || call(client.clone(), alive.clone());
    assert_eq!(ask().await, Ok(()));
    let missed = |why: &str, again| Err(HeartbeatError { why: why.into(), again });
    assert_eq!(ask().await, missed("status 503 Service Unavailable", true));
    assert_eq!(ask().await, missed("status 404 Not Found", false));
    for _ in 0..2 {
        // A truncated response, then no server.
        let problem = ask().await.unwrap_err();
        assert!(problem.again && !problem.why.contains("hidden"), "{problem:?}");
    }
    serving.await.unwrap();
    let unset = OutboundHeartbeat { url: Credential::Env("WACHTA_NOT_SET".into()), ..alive };
    assert_eq!(call(client, unset).await, missed("the variable `WACHTA_NOT_SET` is not set, or is not text", true));
}
