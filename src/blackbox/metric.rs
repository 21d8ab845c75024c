//! Names and help texts of the metrics of `blackbox_exporter`, on which dashboards and rules depend. All metrics are
//! gauges.

// Help texts are copied verbatim from blackbox_exporter, so the wording rules of this project do not apply to them.

/// A metric of a probe.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name of the metric.
    pub name: &'static str,
    /// Position in [`ALL`].
    pub(super) rank: usize,
    /// Lines that precede the samples: the help text, verbatim, and the type.
    pub(super) head: &'static str,
}

/// A phase of a probe, in the form of a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase(pub(super) &'static str);

macro_rules! phases {
    ($($id:ident $name:literal)*) => {
        $(pub(super) const $id: Phase = Phase(concat!("{phase=\"", $name, "\"}"));)*
    };
}

phases! {
    CHECK "check"
    CONNECT "connect"
    PROCESSING "processing"
    REQUEST "request"
    RESOLVE "resolve"
    RTT "rtt"
    SETUP "setup"
    TLS "tls"
    TRANSFER "transfer"
}

macro_rules! metrics {
    ($($id:ident $name:literal $help:literal;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Rank { $($id,)* }
        $(
            #[doc = $help]
            #[allow(clippy::doc_markdown)]
            pub const $id: Metric = Metric {
                name: $name,
                rank: Rank::$id as usize,
                head: concat!("# HELP ", $name, " ", $help, "\n# TYPE ", $name, " gauge\n"),
            };
        )*
        /// All metrics of probes in the order in which they are exported, which is by name.
        pub const ALL: &[Metric] = &[$($id,)*];
    };
}

metrics! {
    DNS_ADDITIONAL_RRS "probe_dns_additional_rrs" "Returns number of entries in the additional resource record list";
    DNS_ANSWER_RRS "probe_dns_answer_rrs" "Returns number of entries in the answer resource record list";
    DNS_AUTHORITY_RRS "probe_dns_authority_rrs" "Returns number of entries in the authority resource record list";
    DNS_DURATION "probe_dns_duration_seconds" "Duration of DNS request by phase";
    LOOKUP_TIME "probe_dns_lookup_time_seconds" "Returns the time taken for probe dns lookup in seconds";
    DNS_QUERY_SUCCEEDED "probe_dns_query_succeeded" "Displays whether or not the query was executed successfully";
    DNS_SERIAL "probe_dns_serial" "Returns the serial number of the zone";
    DURATION "probe_duration_seconds" "Returns how long the probe took to complete in seconds";
    EXPECT_INFO "probe_expect_info" "Explicit content matched";
    FAILED_DUE_TO_BYTES "probe_failed_due_to_bytes" "Indicates if probe failed due to bytes";
    FAILED_DUE_TO_REGEX "probe_failed_due_to_regex" "Indicates if probe failed due to regex";
    GRPC_DURATION "probe_grpc_duration_seconds" "Duration of gRPC request by phase";
    GRPC_HEALTHCHECK_RESPONSE "probe_grpc_healthcheck_response" "Response HealthCheck response";
    GRPC_SSL "probe_grpc_ssl" "Indicates if SSL was used for the connection";
    GRPC_STATUS_CODE "probe_grpc_status_code" "Response gRPC status code";
    HTTP_CONTENT_LENGTH "probe_http_content_length" "Length of http content response";
    HTTP_DURATION "probe_http_duration_seconds" "Duration of http request by phase, summed over all redirects";
    HTTP_LAST_MODIFIED "probe_http_last_modified_timestamp_seconds" "Returns the Last-Modified HTTP response header in unixtime";
    HTTP_REDIRECTS "probe_http_redirects" "The number of redirects";
    HTTP_SSL "probe_http_ssl" "Indicates if SSL was used for the final redirect";
    HTTP_STATUS_CODE "probe_http_status_code" "Response HTTP status code";
    HTTP_UNCOMPRESSED_BODY_LENGTH "probe_http_uncompressed_body_length" "Length of uncompressed response body";
    HTTP_VERSION "probe_http_version" "Returns the version of HTTP of the probe response";
    ICMP_DURATION "probe_icmp_duration_seconds" "Duration of icmp request by phase";
    ICMP_REPLY_HOP_LIMIT "probe_icmp_reply_hop_limit" "Replied packet hop limit (TTL for ipv4)";
    IP_ADDR_HASH "probe_ip_addr_hash" "Specifies the hash of IP address. It's useful to detect if the IP address changes.";
    IP_PROTOCOL "probe_ip_protocol" "Specifies whether probe ip protocol is IP4 or IP6";
    SSL_EARLIEST_CERT_EXPIRY "probe_ssl_earliest_cert_expiry" "Returns last SSL chain expiry in unixtime";
    SSL_LAST_CHAIN_EXPIRY "probe_ssl_last_chain_expiry_timestamp_seconds" "Returns last SSL chain expiry in timestamp";
    SSL_LAST_CHAIN_INFO "probe_ssl_last_chain_info" "Contains SSL leaf certificate information";
    SUCCESS "probe_success" "Displays whether or not the probe was a success";
    TIMEOUT "probe_timeout_seconds" "Returns how long the probe timeout is in seconds";
    TLS_CIPHER_INFO "probe_tls_cipher_info" "Returns the TLS cipher negotiated during handshake";
    TLS_VERSION_INFO "probe_tls_version_info" "Returns the TLS version used or NaN when unknown";
    WEBSOCKET_UPGRADED "probe_websocket_connection_upgraded" "Indicates if the websocket connection was successfully upgraded";
    WEBSOCKET_DURATION "probe_websocket_duration_seconds" "Duration of websocket request by phase";
    WEBSOCKET_FAILED_DUE_TO_REGEX "probe_websocket_failed_due_to_regex" "Indicates if probe failed due to regex";
    WEBSOCKET_STATUS_CODE "probe_websocket_status_code" "Response HTTP status code";
}

#[cfg(test)]
mod tests {
    #[test]
    fn metrics_stand_in_the_order_of_their_names() {
        assert!(super::ALL.is_sorted_by_key(|metric| metric.name));
        assert!(super::ALL.iter().enumerate().all(|(place, metric)| metric.rank == place));
    }
}
