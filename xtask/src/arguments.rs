//! The few command-line shapes xtask needs: `--name value` and plain words.

/// Refuses any word at all.
pub(crate) fn none(words: &[String]) -> Result<(), String> {
    match words.first() {
        None => Ok(()),
        Some(word) => Err(format!(
            "'{word}' is not understood here: see `cargo xtask help`"
        )),
    }
}

/// Takes `--name value` out of `words`; `None` when it is not there.
pub(crate) fn option(words: &mut Vec<String>, name: &str) -> Result<Option<String>, String> {
    let Some(at) = words.iter().position(|word| word == name) else {
        return Ok(None);
    };
    if at + 1 >= words.len() {
        return Err(format!("{name} needs a value"));
    }
    words.remove(at);
    Ok(Some(words.remove(at)))
}

/// Takes `--name N` out of `words`, or gives `default`.
pub(crate) fn number(words: &mut Vec<String>, name: &str, default: u64) -> Result<u64, String> {
    match option(words, name)? {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| format!("{name} needs a whole number, not '{text}'")),
    }
}

/// Takes the flag `--name` out of `words`; whether it was there.
pub(crate) fn flag(words: &mut Vec<String>, name: &str) -> bool {
    let before = words.len();
    words.retain(|word| word != name);
    words.len() != before
}
