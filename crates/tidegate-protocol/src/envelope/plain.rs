//! Finding the end of plain text in a string, which is where most bytes of large messages are.

/// How many bytes precede the next quote, backslash or control character; all of them if none.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    // Most keys and names end within two words.
    let Some((first, rest)) = bytes.split_first_chunk() else { return far_plain_len(bytes, 0) };
    if let Some(at) = special_in(*first) {
        return at;
    }
    let Some(second) = rest.first_chunk() else { return far_plain_len(bytes, 8) };
    if let Some(at) = special_in(*second) {
        return 8 + at;
    }
    far_plain_len(bytes, 16)
}

/// The same, where the first `from` bytes are known to be plain.
#[inline(never)]
fn far_plain_len(bytes: &[u8], from: usize) -> usize {
    // What does not end soon is most often long.
    let (near, far) = bytes.split_at(bytes.len().min(64));
    let at = plain_len_by_word(near, from);
    if at < near.len() { at } else { at + plain_len_by_block(far) }
}

fn plain_len_by_block(bytes: &[u8]) -> usize {
    // The fold has no early exit, so that it compiles to vector instructions.
    let clean = |block: &&[u8; 64]| !block.iter().fold(false, |hit, byte| hit | is_special(*byte));
    let (blocks, _) = bytes.as_chunks();
    plain_len_by_word(bytes, 64 * blocks.iter().take_while(clean).count())
}

#[inline]
fn plain_len_by_word(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        match special_in(*word) {
            Some(index) => return at + index,
            None => at += 8,
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// The index of the first special byte in a word.
#[inline]
const fn special_in(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    // Each term has the high bit of a byte set where its condition holds. Bytes above the first
    // hit may be wrong, which does not matter, since only the first one is used.
    let hits = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    let hits = hits & HIGH;
    if hits == 0 { None } else { Some((hits.trailing_zeros() / 8) as usize) }
}

#[inline]
const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::{is_special, plain_len};

    #[test]
    fn every_special_byte_is_found_everywhere() {
        // Neighbors of special bytes and high bytes are what arithmetic on words gets wrong.
        let fillers = [b'a', 0x20, 0x21, 0x23, 0x5B, 0x5D, 0x7F, 0x80, 0x9F, 0xA2, 0xDC, 0xFF];
        for (index, len) in (0..180).enumerate() {
            let mut bytes: Vec<u8> =
                (0..len).map(|at| fillers[(at * 7 + index) % fillers.len()]).collect();
            assert_eq!(plain_len(&bytes), len);
            for at in (0..len).rev() {
                let special = [b'"', b'\\', 0, 0x1F, b'\n'][at % 5];
                assert!(is_special(special));
                bytes[at] = special;
                assert_eq!(plain_len(&bytes), at, "{len}");
            }
        }
    }

    #[test]
    fn special_is_what_json_says() {
        for byte in 0..=u8::MAX {
            let expected = matches!(byte, 0..0x20 | b'"' | b'\\');
            assert_eq!(plain_len(&[byte; 9]) == 0, expected, "{byte:#x}");
        }
    }
}
