//! Lookup for the scenarios of the demo: the addresses of the shop, its customer and its certificate authority, but
//! nothing of the machine.

use std::collections::HashMap;
use std::path::Path;

use super::{Demo, PASSWORD, USER};
use crate::scenario::{Lookup, LookupError};

/// File name under which scenarios look up the certificate of the authority.
const CA: &str = "demo-authority.pem";

/// Lookup for the scenarios of the demo.
pub struct DemoLookup {
    variables: HashMap<&'static str, String>,
    ca: Vec<u8>,
}

impl DemoLookup {
    /// Creates the lookup for this shop.
    pub fn new(demo: &Demo) -> Self {
        let variables = HashMap::from([
            ("SHOP_URL", format!("http://{}", demo.http)),
            ("SHOP_ADDRESS", demo.http.to_string()),
            ("SHOP_TLS_ADDRESS", demo.https.to_string()),
            ("SHOP_CA", CA.to_owned()),
            ("SHOP_USER", USER.to_owned()),
            ("SHOP_PASSWORD", PASSWORD.to_owned()),
        ]);
        Self { variables, ca: demo.authority.pem().as_bytes().to_vec() }
    }

    /// Returns the variables, for an agent in another process.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl Lookup for DemoLookup {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        self.variables
            .get(name)
            .cloned()
            .ok_or_else(|| LookupError::Missing(format!("the demo has no variable `{name}`")))
    }

    fn file(&self, path: &Path, _beside: &str) -> Result<Vec<u8>, LookupError> {
        if path == Path::new(CA) {
            return Ok(self.ca.clone());
        }
        Err(LookupError::NotAllowed(format!("the demo allows no file but `{CA}`")))
    }
}
