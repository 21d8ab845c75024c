//! TLS with a pre-shared key (Zabbix manual, "Using pre-shared keys"), implemented with OpenSSL because rustls does not
//! support external keys.
//!
//! Only TLS 1.2 is supported, with the cipher suites common to servers built with `GnuTLS` and with OpenSSL. A server
//! that has no key or a different key for the identity closes the connection without an error message. Requires the
//! feature `zabbix-psk`; without it the configuration rejects a key.

#[cfg(feature = "zabbix-psk")]
use std::pin::Pin;

use tokio::net::TcpStream;

use super::stream::{Error, Stream};
use crate::bounded::credential::Credential;

/// Cipher suites in order of preference.
#[cfg(feature = "zabbix-psk")]
const CIPHERS: &str = "ECDHE-PSK-AES128-CBC-SHA256:PSK-AES128-GCM-SHA256:PSK-AES128-CBC-SHA256";
/// Maximum length of an identity, in bytes: the buffer of OpenSSL has 128, including the terminator.
pub const MAX_IDENTITY_BYTES: usize = 127;
/// Permitted number of hexadecimal digits in a key.
const KEY_DIGITS: std::ops::RangeInclusive<usize> = 32..=512;

/// Pre-shared key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Psk {
    /// Identity of the key, which is sent unencrypted.
    pub identity: String,
    /// Key as hexadecimal digits.
    pub key: Credential,
}

impl Psk {
    /// Encrypts a connection. The key is read each time, so that a renewed one takes effect at once.
    ///
    /// # Errors
    ///
    /// The key cannot be read, or the server does not accept it. No error contains the key.
    #[cfg(feature = "zabbix-psk")]
    pub async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Error> {
        let key = self.key.read().await.and_then(|text| {
            digits(&text).ok_or_else(|| {
                format!("{} is not a valid pre-shared key: it must be 32 to 512 hexadecimal digits", self.key.place())
            })
        });
        let ssl = session(self.identity.clone(), key.map_err(Error::Tls)?);
        let ssl = ssl.map_err(|error| Error::Tls(format!("OpenSSL cannot be set up: {error}")))?;
        let mut stream = tokio_openssl::SslStream::new(ssl, stream).map_err(|error| Error::Tls(error.to_string()))?;
        match Pin::new(&mut stream).connect().await {
            Ok(()) => Ok(Box::new(stream)),
            Err(error) => Err(Error::Tls(format!(
                "no connection with the pre-shared key: {}; check that the host in Zabbix has the identity `{}` and this \
                 key, and that the server has had its configuration sync since",
                reason(&error),
                self.identity
            ))),
        }
    }

    /// Returns an error because the feature is disabled. The configuration rejects such a key before.
    #[cfg(not(feature = "zabbix-psk"))]
    #[expect(clippy::unused_async, reason = "it has the signature of the other one")]
    pub async fn secure(&self, _: TcpStream) -> Result<Box<dyn Stream>, Error> {
        Err(Error::Tls("this wachta was built without pre-shared keys".into()))
    }
}

/// Decodes a key to bytes. Returns `None` if it is not valid.
#[cfg_attr(not(feature = "zabbix-psk"), allow(dead_code, reason = "tested in any case"))]
fn digits(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().as_bytes();
    if !KEY_DIGITS.contains(&text.len()) || !text.len().is_multiple_of(2) || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pairs = text.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect()
}

#[cfg(feature = "zabbix-psk")]
fn session(identity: String, key: Vec<u8>) -> Result<openssl::ssl::Ssl, openssl::error::ErrorStack> {
    use openssl::ssl::{Ssl, SslContext, SslMethod, SslVersion};
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_cipher_list(CIPHERS)?;
    context.set_psk_client_callback(move |_, _, identity_out, key_out| {
        // A key that exceeds the buffer is reported as missing, which ends the handshake. The identity is terminated by
        // a zero byte.
        let (identity, length) = (identity.as_bytes(), identity.len());
        if identity_out.len() <= length || key_out.len() < key.len() {
            return Ok(0);
        }
        identity_out[..length].copy_from_slice(identity);
        identity_out[length] = 0;
        key_out[..key.len()].copy_from_slice(&key);
        Ok(key.len())
    });
    Ssl::new(&context.build())
}

#[cfg(feature = "zabbix-psk")]
fn reason(error: &openssl::ssl::Error) -> String {
    let is_end = error.code() == openssl::ssl::ErrorCode::SYSCALL || error.io_error().is_some();
    let text = error.to_string();
    if is_end || text.contains("unexpected eof") { "the server closed it".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hexadecimal_digits_in_pairs() {
        let check =
            |text: &str, expected: Option<usize>| assert_eq!(digits(text).map(|key| key.len()), expected, "{text}");
        check(&"0f".repeat(16), Some(16));
        check(&format!("{}\n", "aB".repeat(256)), Some(256));
        check(&"0f".repeat(15), None);
        check(&"0f".repeat(257), None);
        check(&format!("{}0", "0f".repeat(16)), None);
        check(&"0g".repeat(16), None);
        check(&"+f".repeat(16), None);
        assert_eq!(digits(&"0fA0".repeat(8)), Some([0x0f, 0xa0].repeat(8)));
    }
}
