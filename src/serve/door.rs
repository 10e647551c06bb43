//! Who may ask.
//!
//! A server on this machine can be reached by every page that its owner's browser shows. Three things keep them out:
//!
//! * **Host** is the address that the server listens on, or `localhost`. A page whose name was made to point here (DNS
//!   rebinding) has its own name in it.
//! * **Origin**, which browsers add for scripts and forms of pages, is this very host, as is `Sec-Fetch-Site`. No answer
//!   ever has a CORS header, and what computes takes JSON alone, which no form can send.
//! * **A token**, where there is one; without one nothing but loopback is listened on.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use super::http::{Head, Refusal};
use crate::{Error, Result};

/// The rule of who may ask.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    token: Option<String>,
}

impl Door {
    /// For a server at `address`.
    ///
    /// # Errors
    /// Where everybody could reach it without a token, or the token is none that a header can carry.
    pub fn new(address: SocketAddr, token: Option<String>) -> Result<Door> {
        let usage = |what: String| Err(Error::Usage { what, hint: None });
        match &token {
            None if !address.ip().is_loopback() => {
                usage(format!("{} is no loopback address: it needs --token or --token-file", address.ip()))
            }
            Some(token) if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) => {
                usage("a token is ASCII without spaces, one character or more".into())
            }
            _ => Ok(Door { address, token }),
        }
    }

    /// The same behind the port that was given to it.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Door {
        Door { address, ..self }
    }

    /// Refuses requests that other sites make a browser send.
    ///
    /// # Errors
    /// 403, and why.
    pub fn check_site(&self, head: &Head) -> Result<(), Refusal> {
        let host = head.get("host").unwrap_or_default();
        if !self.is_here(host) {
            return Err(Refusal::new(403, "Host is not the address of this server"));
        }
        let ours =
            |origin: &str| origin.strip_prefix("http://").is_some_and(|o| o.eq_ignore_ascii_case(host));
        if !head.all("origin").all(ours) {
            return Err(Refusal::new(403, "Origin is another site"));
        }
        let direct = |site: &str| matches!(site, "same-origin" | "none");
        if head.method == "POST" && !head.all("sec-fetch-site").all(direct) {
            return Err(Refusal::new(403, "Sec-Fetch-Site is another site"));
        }
        Ok(())
    }

    /// Refuses requests without the token, where there is one. How long that takes does not depend on what is wrong.
    ///
    /// # Errors
    /// 401.
    pub fn check_token(&self, head: &Head) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let mut given = head.all("authorization");
        let (first, another) = (given.next().unwrap_or_default(), given.next());
        let (scheme, value) = first.split_once(' ').unwrap_or_default();
        let known = scheme.eq_ignore_ascii_case("bearer") && another.is_none();
        if same(token.as_bytes(), value.trim_start().as_bytes()) & known {
            return Ok(());
        }
        Err(Refusal::new(401, "the token is missing or wrong: Authorization: Bearer TOKEN"))
    }

    /// Whether `host`, perhaps with a port, is where the server listens.
    fn is_here(&self, host: &str) -> bool {
        let here = self.address.ip();
        let port = self.address.port();
        let name = match host.rsplit_once(':') {
            Some((name, given)) if given == port.to_string() => name,
            _ if port == 80 => host,
            _ => return false,
        };
        if name.eq_ignore_ascii_case("localhost") {
            return here.is_loopback() || here.is_unspecified();
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let ip = match bare {
            Some(six) => six.parse().map(IpAddr::V6),
            None => name.parse().map(IpAddr::V4),
        };
        // A number cannot be rebound: on all addresses, any is this machine's.
        ip.is_ok_and(|ip| ip == here || here.is_unspecified() || here.is_loopback() && ip.is_loopback())
    }
}

/// Whether both are equal, in a time that depends on the length of `given` alone.
fn same(token: &[u8], given: &[u8]) -> bool {
    let mut differences = token.len() ^ given.len();
    for (i, &byte) in given.iter().enumerate() {
        differences |= usize::from(byte ^ black_box(token[i % token.len()]));
    }
    black_box(differences) == 0
}
