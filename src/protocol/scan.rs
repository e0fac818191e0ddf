//! Where pieces of a statement's text end, as every SQL dialect that is read here has it.

/// The end of the run of bytes from `from` on that are `inside`.
pub(crate) fn end_of(text: &[u8], from: usize, inside: impl Fn(u8) -> bool) -> usize {
    text[from..].iter().position(|byte| !inside(*byte)).map_or(text.len(), |count| from + count)
}

/// From behind an opening quote: the end of what is inside, and of the token. A doubled quote stands for itself, and
/// where a backslash `escapes` so does whatever is behind one. What is never closed ends with the text.
pub(crate) fn quoted(text: &[u8], from: usize, quote: u8, escapes: bool) -> (usize, usize) {
    let mut at = from;
    while at < text.len() {
        let byte = text[at];
        if escapes && byte == b'\\' {
            at += 2;
        } else if byte == quote {
            if text.get(at + 1) != Some(&quote) {
                return (at, at + 1);
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    (text.len(), text.len())
}
