//! Key that the diagnosis expects in Zabbix.

/// Key that Zabbix should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Complete key with its parameters.
    pub key: String,
    /// Value type, as a number of the API.
    pub value_type: &'static str,
    /// Whether the agent sends its values; otherwise Zabbix extracts them from those of `wachta.run`.
    pub is_sent: bool,
    /// Whether the key belongs to a discovery rule.
    pub is_rule: bool,
}
