//! Names have a limit, over which the server cuts them: better to choose where.

use bstr::BString;

/// Bytes of a name: NAMEDATALEN - 1.
pub const LONGEST_NAME: usize = 63;

/// The name with an ending, which stays whole.
pub fn with_ending(name: &[u8], ending: &str) -> BString {
    let room = LONGEST_NAME.saturating_sub(ending.len()).min(name.len());
    let mut longer = BString::from(before_character(name, room));
    longer.extend_from_slice(ending.as_bytes());
    longer
}

/// Cut where no character of UTF-8 is cut apart.
pub fn before_character(text: &[u8], mut end: usize) -> &[u8] {
    while end > 0 && end < text.len() && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

pub fn after_character(text: &[u8], mut start: usize) -> &[u8] {
    while start < text.len() && start > 0 && text[start] & 0xc0 == 0x80 {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_gives_way_to_its_ending() {
        assert_eq!(with_ending(b"shop", "_old"), "shop_old");
        let long = with_ending("é".repeat(31).as_bytes(), "_old");
        assert_eq!(long, format!("{}_old", "é".repeat(29)));
        assert_eq!(with_ending(&[b'x'; 63], "_old").len(), LONGEST_NAME);
    }
}
