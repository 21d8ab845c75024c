//! Retention and removal of evidence.

use uuid::{NoContext, Timestamp, Uuid};

use super::*;
use crate::secret::Masker;

const NOW: u64 = 1_800_000_000;

struct Temporary(EvidenceFolder);

impl Temporary {
    fn new() -> Self {
        Self(EvidenceFolder::new(std::env::temp_dir().join(format!("wachta-evidence-{}", RunId::new()))))
    }

    /// Creates a run that started this number of hours ago, with this number of bytes of evidence.
    async fn run(&self, hours: u64, bytes: usize) -> RunId {
        let run = RunId(Uuid::new_v7(Timestamp::from_unix(NoContext, NOW - hours * 3600, 0)));
        self.0.keep(run, EvidenceKind::Frame, "frame-000000ms.jpg", Masked::picture(vec![0; bytes])).await.unwrap();
        run
    }

    async fn prune(&self, max_size: u64, hours: u64, spared: &[RunId]) -> Pruned {
        let limits = Limits { max_size, keep: Duration::from_hours(hours) };
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        self.0.prune(limits, spared.iter().copied().collect(), now).await.unwrap()
    }

    async fn left(&self, runs: &[RunId]) -> Vec<bool> {
        let mut left = Vec::new();
        for run in runs {
            left.push(self.0.read(*run, "frame-000000ms.jpg").await.is_some());
        }
        left
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.root());
    }
}

#[tokio::test]
async fn the_oldest_goes_first_and_the_young_and_the_spared_stay() {
    let folder = Temporary::new();
    assert_eq!(folder.prune(1, 1, &[]).await, Pruned::default());
    let runs = [folder.run(9, 100).await, folder.run(8, 100).await, folder.run(7, 100).await, folder.run(0, 100).await];
    std::fs::create_dir(folder.0.root().join("not-a-run")).unwrap();
    assert_eq!(folder.prune(400, 100, &[]).await, Pruned { runs: 0, bytes: 0, left: 400 });
    assert_eq!(folder.prune(300, 100, &[runs[0]]).await, Pruned { runs: 1, bytes: 100, left: 300 });
    assert_eq!(folder.left(&runs).await, [true, false, true, true]);
    // First by age; then only recent evidence is left, regardless of its size.
    assert_eq!(folder.prune(300, 8, &[]).await, Pruned { runs: 1, bytes: 100, left: 200 });
    assert_eq!(folder.left(&runs).await, [false, false, true, true]);
    assert_eq!(folder.prune(1, 100, &[]).await, Pruned { runs: 1, bytes: 100, left: 100 });
    assert_eq!(folder.left(&runs).await, [false, false, false, true]);
    assert!(folder.0.root().join("not-a-run").exists());
}

#[tokio::test]
async fn a_text_that_is_too_large_is_cut_and_a_picture_is_refused() {
    let folder = Temporary::new();
    let (run, masker) = (RunId::new(), Masker::default());
    assert!(masker.add("hunter2"));
    for (kind, is_cut) in [
        (EvidenceKind::Screenshot, false),
        (EvidenceKind::Frame, false),
        (EvidenceKind::Har, false),
        (EvidenceKind::Page, true),
        (EvidenceKind::Accessibility, true),
    ] {
        folder.0.keep(run, kind, "piece", masker.masked_bytes(b"a hunter2 b".to_vec())).await.unwrap();
        assert_eq!(folder.0.read(run, "piece").await.unwrap(), b"a *** b", "{kind:?}");
        let large = folder.0.keep(run, kind, "piece", Masked::picture(vec![b'x'; LARGEST + 1])).await;
        assert_eq!(large.map(|kept| kept.bytes).ok(), is_cut.then_some(LARGEST as u64), "{kind:?}");
    }
}
