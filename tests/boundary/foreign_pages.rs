//! Pages that nobody here wrote, used by role, label and text alone: the scenarios of `tests/foreign-pages`.

use wachta::app::lookup::Environment;
use wachta::outcome::Verdict;
use wachta::scenario::Engine;

use crate::support::bugsink::Bugsink;
use crate::support::grid::Grid;
use crate::support::places::{Place, scenarios, told};
use crate::support::zabbix::Server;

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_pages_are_used_by_role_label_and_text() {
    let zabbix = tokio::task::spawn_blocking(Server::up);
    let (bugsink, grid) = tokio::join!(Bugsink::up("Harbour"), Grid::up("foreign-grid", 1));
    let zabbix = zabbix.await.unwrap();
    let urls = [
        ("ZABBIX_URL", zabbix.api.replace("/api_jsonrpc.php", "")),
        ("BUGSINK_URL", bugsink.url.clone()),
        ("GRID_URL", grid.url.to_string()),
    ];
    let environment = Environment::everything().with(urls.map(|(name, value)| (name.to_owned(), value)));
    let (_, all): (Vec<_>, Vec<_>) = scenarios("tests/foreign-pages", &environment).into_iter().unzip();
    let mut wrong = Vec::new();
    for engine in Engine::ALL {
        let place = Place::new(engine, None, environment.clone());
        for outcome in place.run(&all).await {
            if outcome.verdict != Verdict::Passed {
                wrong.push(format!("{}: {}", place.name, told(&outcome)));
            }
        }
        place.close().await;
    }
    // It waits for its processes, as starting it did.
    tokio::task::spawn_blocking(move || drop((zabbix, bugsink, grid))).await.unwrap();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}
