//! `model.safetensors.index.json`: which file of a folder has which tensor.
//!
//! `{"metadata": {..}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors", ..}}`. It is read as a stream, a pair at a
//! time, so that it takes no more memory than its longest text and the files' names.

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Calls `each` with every tensor's name and its file's, in the file's order.
///
/// # Errors
/// A text that is no such object, with line and column; what `each` says.
pub(super) fn read(json: &[u8], each: &mut dyn FnMut(&str, &str) -> Result<(), String>) -> Result<(), String> {
    super::json::check(json, "metadata", true)?;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let (mut maps, mut said) = (0, None);
    // What `each` says is kept apart: the reader would add a place, and cut it.
    let mut each = |tensor: &str, file: &str| {
        each(tensor, file).map_err(|message| {
            said = Some(message);
            String::new()
        })
    };
    let index = Index {
        each: &mut each,
        maps: &mut maps,
    };
    let read = reader.deserialize_map(index).and_then(|()| reader.end());
    if let Some(message) = said {
        return Err(message);
    }
    read.map_err(|e| super::json::message(&e))?;
    match maps {
        1 => Ok(()),
        0 => Err("has no `weight_map`".into()),
        _ => Err(format!("has `weight_map` {maps} times")),
    }
}

/// Whether a text is the name of a safetensors file and not a path that leads somewhere else.
pub(super) fn is_file_name(text: &str) -> bool {
    let plain = !text.is_empty() && text.len() <= 255 && !text.contains(['/', '\\', '\0', ':']);
    plain && text.ends_with(".safetensors") && !text.starts_with('.')
}

struct Index<'a> {
    each: &'a mut dyn FnMut(&str, &str) -> Result<(), String>,
    maps: &'a mut usize,
}

impl<'de> Visitor<'de> for Index<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "weight_map" {
                *self.maps += 1;
                map.next_value_seed(WeightMap(&mut *self.each))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct WeightMap<'a>(&'a mut dyn FnMut(&str, &str) -> Result<(), String>);

impl<'de> DeserializeSeed<'de> for WeightMap<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a file's name for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((tensor, file)) = map.next_entry::<String, String>()? {
            (self.0)(&tensor, &file).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(json: &str) -> Result<Vec<(String, String)>, String> {
        let mut all = Vec::new();
        read(json.as_bytes(), &mut |tensor, file| {
            all.push((tensor.to_string(), file.to_string()));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn pairs_come_in_order_and_the_rest_is_passed_over() {
        let json = r#"{"metadata": {"total_size": 8, "x": [[]]}, "weight_map": {"b": "2.safetensors", "a\u0041": "1.safetensors"}}"#;
        let expected = [("b", "2.safetensors"), ("aA", "1.safetensors")];
        assert_eq!(
            pairs(json).unwrap(),
            expected.map(|(a, b)| (a.to_string(), b.to_string()))
        );
    }

    #[test]
    fn other_texts_are_refused_with_the_place() {
        for (json, text) in [
            ("{}", "no `weight_map`"),
            (r#"{"weight_map": {}, "weight_map": {}}"#, "2 times"),
            (
                r#"{"weight_map": ["a"]}"#,
                "expected an object with a file's name for each tensor at line 1",
            ),
            (r#"{"weight_map": {"a": 1}}"#, "expected a string at line 1"),
            ("[]", "expected an object with a `weight_map`"),
            (r#"{"weight_map": {}} x"#, "trailing characters"),
            ("", "EOF"),
        ] {
            let error = pairs(json).unwrap_err();
            assert!(error.contains(text), "{json}: {error}");
        }
        for (json, text) in [
            (
                format!(r#"{{"weight_map": {{"{}": "a"}}}}"#, "x".repeat(500)),
                "at byte 16: a string of 500 bytes",
            ),
            (format!(r#"{{"metadata": {}"#, "[".repeat(100)), "more than 64 deep"),
        ] {
            let error = pairs(&json).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        let long = pairs(&format!(r#"{{"weight_map": "{}"}}"#, "x".repeat(390))).unwrap_err();
        assert!(long.len() < 400 && long.contains("at line 1 column"), "{long}");
    }

    #[test]
    fn paths_are_no_file_names() {
        assert!(is_file_name("model-00001-of-00002.safetensors"));
        for bad in [
            "../a.safetensors",
            "/a.safetensors",
            "a/b.safetensors",
            "..",
            "",
            ".safetensors",
            "C:a.safetensors",
            "a.bin",
        ] {
            assert!(!is_file_name(bad), "{bad}");
        }
    }
}
