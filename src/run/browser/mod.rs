//! Page steps over WebDriver: sessions, and what is done in them.

mod config;

pub use config::Config;

// Stands in until the engine is merged.
#[derive(Clone)]
pub struct Browsers;
pub struct Spec {
    pub viewport: Option<crate::scenario::Viewport>,
}
pub struct Page;
impl Browsers {
    pub async fn open(&self, _: Spec, _: std::time::Instant) -> Result<Page, crate::outcome::Failure> {
        unimplemented!()
    }
}
impl Page {
    pub async fn act(
        &mut self,
        _: &crate::scenario::PageAction,
        _: &crate::run::Values,
        _: std::time::Duration,
    ) -> Result<Vec<(String, serde_json::Value, bool)>, crate::outcome::Failure> {
        unimplemented!()
    }
    pub async fn screenshot(&mut self) -> Result<Vec<u8>, crate::outcome::Failure> {
        unimplemented!()
    }
    pub async fn evidence(&mut self) -> Vec<(crate::outcome::EvidenceKind, &'static str, Vec<u8>)> {
        unimplemented!()
    }
    pub async fn close(self) {}
}
