//! Session ids.

/// Mints an id: 128 random bits from a cryptographic generator, as 32 hexadecimal digits.
///
/// Visible ASCII only and unguessable, as the transport chapter of 2025-11-25 demands.
pub fn mint() -> Box<str> {
    format!("{:032x}", rand::random::<u128>()).into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::mint;

    #[test]
    fn ids_differ_and_are_visible_ascii() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| mint()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
