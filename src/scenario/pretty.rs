//! Duration in a human-readable format.

use std::fmt;
use std::time::Duration;

/// Duration in a human-readable format: `90s`, `1m30s`, `250ms`.
pub struct HumanDuration(pub Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str(if self.0.is_zero() { "0s" } else { "under 1ms" });
        }
        let mut rest = millis;
        let mut shown = 0;
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            let n = rest / size;
            if n > 0 && shown < 2 {
                write!(f, "{n}{unit}")?;
                shown += 1;
            }
            rest %= size;
        }
        Ok(())
    }
}
