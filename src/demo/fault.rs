//! Faults of the demo shop and the incidents that wachta must detect.

/// Fault of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// All responses are slow.
    Slow,
    /// Orders fail with status 500.
    Error500,
    /// The blue mug has a different price.
    WrongPrice,
    /// The button "Add to cart" is missing.
    MissingButton,
    /// The health endpoint responds with 503 every other time.
    Flapping,
    /// The certificate expires in three days.
    Certificate,
}

/// Fault with its name, its description, and the scenarios whose incidents it must open, without any others.
pub struct Row {
    /// Fault of the shop.
    pub fault: Fault,
    /// Name in URLs.
    pub name: &'static str,
    /// Description of the effect.
    pub what: &'static str,
    /// Ids of the scenarios whose incidents it opens.
    pub opens: &'static [&'static str],
}

/// All faults.
pub const FAULTS: &[Row] = &[
    Row {
        fault: Fault::Slow,
        name: "slow",
        what: "every response takes 1.2 seconds",
        opens: &["front-page", "orders-api"],
    },
    Row {
        fault: Fault::Error500,
        name: "error-500",
        what: "placing an order answers 500",
        opens: &["orders-api", "shop-checkout"],
    },
    Row {
        fault: Fault::WrongPrice,
        name: "wrong-price",
        what: "the blue mug costs 21.00 instead of 12.00",
        opens: &["product-api", "shop-catalogue"],
    },
    Row {
        fault: Fault::MissingButton,
        name: "missing-button",
        what: "the button \"Add to cart\" is gone",
        opens: &["shop-checkout"],
    },
    Row {
        fault: Fault::Flapping,
        name: "flapping",
        what: "the health endpoint answers 503 every other time",
        opens: &["health"],
    },
    Row {
        fault: Fault::Certificate,
        name: "certificate",
        what: "the certificate expires in three days",
        opens: &["certificate"],
    },
];

impl Fault {
    /// Returns the table row of the fault.
    pub fn row(self) -> &'static Row {
        FAULTS.iter().find(|row| row.fault == self).expect("every fault is in the table")
    }

    /// Returns the fault with this name.
    pub fn named(name: &str) -> Option<Self> {
        FAULTS.iter().find(|row| row.name == name).map(|row| row.fault)
    }
}
