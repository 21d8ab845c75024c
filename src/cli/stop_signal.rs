//! Signals that stop a command.

/// Waits until SIGTERM or Ctrl-C. The signal handlers are installed by the call, not by the first poll of the future,
/// because an unhandled signal terminates the process.
pub(super) fn stop_asked() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    async move {
        let received = signals.into_iter().map(async |signal| match signal {
            Ok(mut signal) => {
                let _ = signal.recv().await;
            }
            Err(error) => {
                tracing::error!(%error, "cannot listen for a signal");
                std::future::pending::<()>().await;
            }
        });
        futures_util::future::select_all(received.map(Box::pin)).await;
    }
}
