//! Opening of a page for one run.

use std::time::Instant;

use super::{BUSY, BrowserPool, LONGEST};
use crate::browser::lease::End;
use crate::browser::metrics::Cause;
use crate::browser::page::Page;
use crate::browser::session::VIEWPORT;
use crate::browser::trust::{self, LaunchOptions};
use crate::browser::{ContextOptions, engine};
use crate::names::Reason;
use crate::outcome::Failure;

impl BrowserPool {
    /// Opens a page for one run. Waits for a free slot, for memory and for the browser until `deadline`.
    pub async fn open(&self, spec: ContextOptions, deadline: Instant) -> Result<Page, Failure> {
        let inner = &self.0;
        let until = tokio::time::Instant::from_std(deadline) + spec.lasts.unwrap_or(LONGEST);
        let engine = inner.config.engine.or(spec.engine).unwrap_or_default();
        if let (Some(roots), Some(_)) = (&spec.roots, &inner.config.webdriver) {
            return Err(trust::elsewhere().at(roots.span));
        }
        let headless = spec.headless.unwrap_or(inner.config.headless);
        let setup = LaunchOptions {
            engine,
            program: engine::program(engine, headless, &inner.config),
            roots: spec.roots.as_ref().map(|roots| roots.value.clone()),
        };
        let began = Instant::now();
        let permit = self.place(deadline).await?;
        let (mut session, warm) = match self.take_idle(&setup, &spec).await {
            Some(session) => {
                session.lease.busy(permit, until);
                (session, true)
            }
            None => (Box::pin(self.start_one(&setup, permit, until, deadline)).await?, false),
        };
        let context = match self.context(&mut session, &spec).await {
            Ok(context) => context,
            Err(error) => {
                let failure = Failure::new(Reason::Browser, format!("no user context in the browser: {error}"));
                session.lease.end(End::Because(Cause::Crashed)).await;
                return Err(failure);
            }
        };
        inner.metrics.wait_seconds.observe(began.elapsed().as_secs_f64());
        session.runs += 1;
        let mut context = context;
        // In a headed browser, the new window would be in front. Firefox has one window for all contexts.
        session.hurried = session.idle_since.take().is_some_and(|since| since.elapsed() < BUSY)
            && !inner.config.headed
            && engine::kind(engine).has_a_window_for_each_user;
        let watch = session.watch(&context, &inner.tasks);
        if let Err(failure) = spec.apply(&session, &mut context, &watch).await {
            self.give_back(session, context, true).await;
            return Err(failure);
        }
        let mut page = Page::new(self.clone(), session, context, watch, inner.http.clone(), warm);
        page.located = spec.geolocation.map(|_| std::collections::HashSet::new());
        if spec.filmstrip {
            page.film(&inner.tasks);
        }
        // Without BiDi, the size is set in a way specific to Chromium.
        page.resize_alone(spec.viewport.unwrap_or(VIEWPORT)).await;
        Ok(page)
    }
}
