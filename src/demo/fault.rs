//! What can go wrong with the shop, and what wachta must find.

/// A fault of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Every answer takes long.
    Slow,
    /// Orders cannot be placed: 500.
    Error500,
    /// The blue mug has another price.
    WrongPrice,
    /// The button "Add to cart" is gone.
    MissingButton,
    /// The health endpoint answers 503 every other time.
    Flapping,
    /// The certificate expires in three days.
    Certificate,
}

/// A fault with its name, what it does, and the scenarios whose incidents it must open, those and no others.
pub struct Row {
    /// The fault.
    pub fault: Fault,
    /// Its name in URLs.
    pub name: &'static str,
    /// What it does, for people.
    pub what: &'static str,
    /// Ids of scenarios.
    pub opens: &'static [&'static str],
}

/// Every fault there is.
pub const FAULTS: &[Row] = &[
    Row {
        fault: Fault::Slow,
        name: "slow",
        what: "every answer takes 1.2 seconds",
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
    /// The row of the table.
    pub fn row(self) -> &'static Row {
        FAULTS.iter().find(|row| row.fault == self).expect("every fault is in the table")
    }

    /// The fault with this name.
    pub fn named(name: &str) -> Option<Self> {
        FAULTS.iter().find(|row| row.name == name).map(|row| row.fault)
    }
}
