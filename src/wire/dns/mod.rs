//! DNS: messages (RFC 1035), the query and answer of a check, and the exchange of messages.

mod answer;
mod exchange;
mod message;

pub use answer::{DnsResponse, answer, query, reverse_name};
pub use exchange::{over_stream, over_udp};
pub use message::{Message, ResourceRecord, SOA, class, class_name, kind, kind_name, question, rcode, rcode_name};
