//! Bytes that look random and are known at every place, so that a transfer can be checked from any point on.

/// An endless stream of bytes, told apart from others by its number. Every byte can be computed from its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern(pub u64);

impl Pattern {
    /// Eight bytes of the stream; `word` is their offset divided by eight.
    fn word(self, word: u64) -> [u8; 8] {
        let mut x = word.wrapping_add(self.0.wrapping_mul(0xd134_2543_de82_ef95));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)).to_le_bytes()
    }

    /// Writes the bytes from offset `at` on.
    pub fn fill(self, at: u64, out: &mut [u8]) {
        let (mut at, mut out) = (at, out);
        while !out.is_empty() {
            let word = self.word(at / 8);
            let from = (at % 8) as usize;
            let n = out.len().min(8 - from);
            out[..n].copy_from_slice(&word[from..from + n]);
            out = &mut out[n..];
            at += n as u64;
        }
    }

    /// The first `len` bytes.
    #[must_use]
    pub fn bytes(self, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.fill(0, &mut out);
        out
    }

    /// Whether `bytes` are those from offset `at` on.
    ///
    /// # Errors
    /// The first that is not, in words.
    pub fn check(self, at: u64, bytes: &[u8]) -> Result<(), String> {
        let mut wanted = vec![0; bytes.len()];
        self.fill(at, &mut wanted);
        if wanted == bytes {
            return Ok(());
        }
        let place = wanted
            .iter()
            .zip(bytes)
            .position(|(a, b)| a != b)
            .unwrap_or(0);
        Err(format!("byte {} of the stream is wrong", at + place as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_is_the_same_as_in_the_whole() {
        let whole = Pattern(7).bytes(100);
        for from in 0..20 {
            for to in from..100 {
                assert!(Pattern(7).check(from as u64, &whole[from..to]).is_ok());
            }
        }
        assert!(Pattern(7).check(1, &whole).is_err());
        assert!(Pattern(8).check(0, &whole).is_err());
        let mut bent = whole;
        bent[57] ^= 1;
        let why = Pattern(7).check(0, &bent).unwrap_err();
        assert_eq!(why, "byte 57 of the stream is wrong");
    }
}
