//! Request state that a client carries but cannot change.
//!
//! A state names the call it belongs to and ends in a keyed hash. The key is drawn per server
//! and never leaves it, so a state from another server, or for another call, does not open.
//!
//! The hash is the standard library's keyed SipHash, twice, for 128 bits: enough to show the
//! pattern, and to refuse what the conformance suite tampers with. A server whose state decides
//! about money or access uses an AEAD and an expiry.

use std::hash::{BuildHasher as _, RandomState};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The keys of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seal(RandomState, RandomState);

impl Seal {
    /// Closes a state for the call named `call`.
    pub(crate) fn close(&self, call: &str, state: &str) -> String {
        let body = URL_SAFE_NO_PAD.encode(state);
        let tag = self.tag(call, &body);
        format!("v1.{body}.{tag}")
    }

    /// Opens a state that was closed here for the same call; anything else gives nothing.
    pub(crate) fn open(&self, call: &str, sealed: &str) -> Option<String> {
        let (body, tag) = sealed.strip_prefix("v1.")?.split_once('.')?;
        if tag != self.tag(call, body) {
            return None;
        }
        String::from_utf8(URL_SAFE_NO_PAD.decode(body).ok()?).ok()
    }

    fn tag(&self, call: &str, body: &str) -> String {
        format!("{:016x}{:016x}", self.0.hash_one((call, body)), self.1.hash_one((call, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::Seal;

    #[test]
    fn only_an_unchanged_state_of_the_same_call_opens() {
        let seal = Seal::default();
        let sealed = seal.close("tools/call ask", r#"{"round":1}"#);
        assert_eq!(seal.open("tools/call ask", &sealed).as_deref(), Some(r#"{"round":1}"#));
        assert_eq!(seal.open("tools/call other", &sealed), None);
        assert_eq!(seal.open("tools/call ask", &format!("{sealed}-TAMPERED")), None);
        assert_eq!(seal.open("tools/call ask", &sealed.replacen("v1.", "v1.A", 1)), None);
        assert_eq!(Seal::default().open("tools/call ask", &sealed), None);
    }
}
