//! Protocol-specific upgrades of a plain connection to TLS, up to the byte where the handshake begins.
//!
//! Nothing is read beyond that byte: data that an attacker injected after the negotiation must not be taken as part of
//! the protected session.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::failure::connection_lost;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::tcp::StartTls;
use crate::secret::cut;

/// Maximum length of a line, in bytes.
const LONGEST_LINE: usize = 8 << 10;
/// Maximum number of lines in a greeting.
const MOST_LINES: usize = 100;

/// Negotiates TLS with the peer.
pub async fn negotiate<S>(stream: &mut S, protocol: StartTls, host: &str) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match protocol {
        StartTls::Smtp => {
            reply(stream, "220").await?;
            say(stream, b"EHLO wachta.invalid\r\n").await?;
            let offers = reply(stream, "250").await?;
            if !offers.iter().any(|line| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS")))
            {
                return Err(refused(&offers.join(" ")));
            }
            say(stream, b"STARTTLS\r\n").await?;
            reply(stream, "220").await.map(drop)
        }
        StartTls::Ftp => {
            reply(stream, "220").await?;
            say(stream, b"AUTH TLS\r\n").await?;
            reply(stream, "234").await.map(drop)
        }
        StartTls::Imap => {
            begins(&line(stream).await?, "* OK")?;
            say(stream, b"a1 STARTTLS\r\n").await?;
            for _ in 0..MOST_LINES {
                let said = line(stream).await?;
                if !said.starts_with('*') {
                    return begins(&said, "a1 OK");
                }
            }
            Err(refused("the response does not end"))
        }
        StartTls::Pop3 => {
            begins(&line(stream).await?, "+OK")?;
            say(stream, b"STLS\r\n").await?;
            begins(&line(stream).await?, "+OK")
        }
        StartTls::Xmpp => {
            let hello = format!(
                "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
                host.replace(['\'', '<', '&'], "")
            );
            say(stream, hello.as_bytes()).await?;
            let features = until(stream, &["</stream:features>", "<stream:features/>", "</stream:stream>"]).await?;
            if !features.contains("urn:ietf:params:xml:ns:xmpp-tls") {
                return Err(refused(&features));
            }
            say(stream, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
            let answer = until(stream, &["/>", "</proceed>", "</failure>"]).await?;
            if answer.contains("<proceed") { Ok(()) } else { Err(refused(&answer)) }
        }
        StartTls::Ldap => {
            // An ExtendedRequest with message id 1 for 1.3.6.1.4.1.1466.20037, in BER.
            let mut request = vec![0x30, 0x1d, 0x02, 0x01, 0x01, 0x77, 0x18, 0x80, 0x16];
            request.extend_from_slice(b"1.3.6.1.4.1.1466.20037");
            say(stream, &request).await?;
            let answer = ber(stream).await?;
            // Expected: message id 1 and an ExtendedResponse whose first element is the result code for success.
            let result = answer.windows(2).position(|part| part == [0x0a, 0x01]).and_then(|at| answer.get(at + 2));
            let good = answer.starts_with(&[0x02, 0x01, 0x01, 0x78]) && result == Some(&0);
            if good { Ok(()) } else { Err(refused("the result is not success")) }
        }
        StartTls::Postgres => {
            say(stream, &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await?;
            match stream.read_u8().await.map_err(|e| connection_lost(&e))? {
                b'S' => Ok(()),
                other => Err(refused(&char::from(other).to_string())),
            }
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await.map_err(|e| connection_lost(&e))?;
    stream.flush().await.map_err(|e| connection_lost(&e))
}

/// Reads one line and returns it without the line break.
async fn line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, Failure> {
    let text = until(stream, &["\n"]).await?;
    Ok(text.trim_end().to_owned())
}

/// Reads byte by byte up to one of the given endings.
async fn until<S: AsyncRead + Unpin>(stream: &mut S, ends: &[&str]) -> Result<String, Failure> {
    let mut said = Vec::new();
    loop {
        said.push(stream.read_u8().await.map_err(|e| connection_lost(&e))?);
        if ends.iter().any(|end| said.ends_with(end.as_bytes())) {
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
        if said.len() > LONGEST_LINE {
            return Err(refused(&String::from_utf8_lossy(&said)));
        }
    }
}

/// Reads the lines of a reply with a code, in the format of SMTP and FTP: `250-first`, `250 last`.
async fn reply<S: AsyncRead + Unpin>(stream: &mut S, code: &str) -> Result<Vec<String>, Failure> {
    let first = line(stream).await?;
    begins(&first, code)?;
    let last = format!("{code} ");
    let mut goes_on = first.as_bytes().get(3) == Some(&b'-');
    let mut lines = vec![first];
    while goes_on {
        if lines.len() > MOST_LINES {
            return Err(refused("the response does not end"));
        }
        let said = line(stream).await?;
        goes_on = !said.starts_with(&last);
        lines.push(said);
    }
    Ok(lines)
}

/// Reads the content of one BER element of less than 64 KiB.
async fn ber<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, Failure> {
    let read = async {
        let tag = stream.read_u8().await?;
        let length = match stream.read_u8().await? {
            short @ 0..=0x7f => usize::from(short),
            0x81 => usize::from(stream.read_u8().await?),
            0x82 => usize::from(stream.read_u16().await?),
            // OpenLDAP encodes lengths in four bytes.
            0x84 => stream.read_u32().await?.min(u32::from(u16::MAX)) as usize,
            _ => 0,
        };
        let mut content = vec![0; if tag == 0x30 { length } else { 0 }];
        stream.read_exact(&mut content).await?;
        Ok(content)
    };
    read.await.map_err(|e: std::io::Error| connection_lost(&e))
}

fn begins(said: &str, wanted: &str) -> Result<(), Failure> {
    if said.starts_with(wanted) {
        return Ok(());
    }
    Err(Failure::new(Reason::Protocol, "the server rejected STARTTLS").compared(format!("{wanted} …"), cut(said, 200)))
}

fn refused(said: &str) -> Failure {
    Failure::new(Reason::Protocol, "the server does not offer TLS").compared("STARTTLS", cut(said, 200))
}
