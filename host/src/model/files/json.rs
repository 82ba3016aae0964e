//! What is checked of a JSON text before it is read, so that reading it takes little memory.
//!
//! A reader copies strings that have escapes, repeats in its messages whole strings that are not what it expects, and remembers how deep
//! it is. Where strings are short and nothing is deep, all of that is little.

use super::shortened;

/// The most bytes of a string that is read.
const LONGEST: usize = 400;
/// The most brackets within brackets.
const DEEPEST: usize = 64;

/// Checks that brackets are not too deep, and that all strings are short but those in the value of the outermost object's member
/// `skipped`, which nothing reads. `escapes`: whether the short ones may have any.
///
/// # Errors
/// What is too deep or too long, and at which byte.
pub(super) fn check(json: &[u8], skipped: &str, escapes: bool) -> Result<(), String> {
    let (mut depth, mut at, mut free) = (0_usize, 0, false);
    while let Some(&byte) = json.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(format!(
                        "at byte {at}: brackets within brackets more than {DEEPEST} deep"
                    ));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let (length, escaped) = string(&json[at + 1..]);
                let text = &json[at + 1..at + 1 + length];
                // Each member of the outermost object begins with its name.
                if depth == 1 {
                    free = text == skipped.as_bytes();
                }
                if !free && length > LONGEST {
                    return Err(format!(
                        "at byte {at}: a string of {length} bytes; those that are read have at most {LONGEST}"
                    ));
                }
                if !free && escaped && !escapes {
                    let text = shortened(&String::from_utf8_lossy(text));
                    return Err(format!(
                        "at byte {at}: the string `{text}` has escapes; names are written without"
                    ));
                }
                at += length + 1;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The length of a string up to its closing quote or the end, and whether it has escapes.
fn string(rest: &[u8]) -> (usize, bool) {
    let (mut at, mut escaped) = (0, false);
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'"' => return (at, escaped),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
    (rest.len(), escaped)
}

/// What a reader says; of a long message the beginning, and where it is.
pub(super) fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((what, place)) => format!("{} at line {place}", shortened(what)),
        None => shortened(&message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_short_but_where_nothing_reads_them() {
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(check(br#"{"a": {"b\"": "c"}, "d": [1]}"#, "m", true), Ok(()));
        assert!(
            check(br#"{"a": {"b\"": "c"}}"#, "m", false)
                .unwrap_err()
                .contains("the string `b\\\"` has escapes")
        );
        let free = format!(r#"{{"m": {{"{long}": ["\\{long}"]}}, "a": "b"}}"#);
        assert_eq!(check(free.as_bytes(), "m", false), Ok(()));
        assert!(
            check(free.as_bytes(), "n", false)
                .unwrap_err()
                .contains("at byte 7: a string of 401 bytes")
        );
        let after = format!(r#"{{"m": "", "a": "{long}"}}"#);
        assert!(check(after.as_bytes(), "m", false).is_err());
        assert_eq!(check(&[b'['; DEEPEST], "m", false), Ok(()));
        assert!(
            check(&[b'['; DEEPEST + 1], "m", false)
                .unwrap_err()
                .contains("more than 64 deep")
        );
        assert_eq!(check(br#""\"#, "m", true), Ok(()));
        assert_eq!(check(b"", "m", true), Ok(()));
    }
}
