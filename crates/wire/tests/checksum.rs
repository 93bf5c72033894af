//! The checksum against a model that adds one byte at a time, at all lengths and offsets.

use proptest::prelude::*;
use wire::{
    Addr,
    checksum::{Sum, pseudo, update_bytes, update_u16, update_u32},
};

/// RFC 1071, word by word.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for (at, byte) in bytes.iter().enumerate() {
        sum += if at % 2 == 0 {
            u32::from(*byte) << 8
        } else {
            u32::from(*byte)
        };
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Zero has two names in one's complement.
fn same(a: u16, b: u16) -> bool {
    a % 0xffff == b % 0xffff
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[test]
fn example_of_rfc_1071() {
    let sum = Sum::new().add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(sum.fold(), 0xddf2);
    assert_eq!(sum.finish(), 0x220d);
    assert!(!sum.is_valid() && sum.add_u16(0x220d).is_valid());
}

#[test]
fn every_length_and_offset() {
    let bytes = noise(1200);
    for offset in 0..16 {
        for len in 0..=1100 {
            let part = &bytes[offset..offset + len];
            assert_eq!(
                Sum::new().add_bytes(part).finish(),
                naive(part),
                "offset {offset} len {len}"
            );
        }
    }
}

#[test]
fn all_ones_and_all_zeros_lose_no_carry() {
    for len in [2, 20, 64, 191, 192, 193, 1500, 65_536, 1 << 20] {
        let ones = vec![0xff; len];
        assert_eq!(
            Sum::new().add_bytes(&ones).finish(),
            naive(&ones),
            "ones {len}"
        );
        assert_eq!(
            Sum::new().add_bytes(&vec![0; len]).finish(),
            0xffff,
            "zeros {len}"
        );
    }
}

#[test]
fn every_split_in_two() {
    let bytes = noise(700);
    for len in [0, 1, 2, 7, 33, 64, 127, 700] {
        for cut in 0..=len {
            let sum = Sum::new()
                .add_bytes(&bytes[..cut])
                .add_bytes_at(&bytes[cut..len], cut % 2 == 1);
            assert_eq!(sum.finish(), naive(&bytes[..len]), "cut {cut} of {len}");
        }
    }
}

#[test]
fn no_data_sums_to_zero() {
    assert_eq!((Sum::new().fold(), Sum::new().finish()), (0, 0xffff));
    assert_eq!(Sum::new().add_u16(0xffff).finish_nonzero(), 0xffff);
    assert_eq!(Sum::new().add_u16(0xfffe).finish_nonzero(), 1);
}

#[test]
fn example_of_rfc_1624() {
    // Section 4: the case equation 2 gets wrong.
    assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

proptest! {
    #[test]
    fn words_and_sums(bytes in prop::collection::vec(any::<u8>(), 0..300), word in any::<u16>(), long in any::<u32>()) {
        let mut whole = Vec::from(word.to_be_bytes());
        whole.extend(long.to_be_bytes());
        whole.extend(&bytes);
        let sum = Sum::new().add_bytes(&bytes).add_u32(long).add_u16(word);
        prop_assert_eq!(sum.finish(), naive(&whole));
        let sum = Sum::new().add_u16(word).add_sum(Sum::new().add_u32(long)).add_sum(Sum::new().add_bytes(&bytes));
        prop_assert_eq!(sum.finish(), naive(&whole));
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6)) {
        let (mut sum, mut len) = (Sum::new(), 0);
        for piece in &pieces {
            sum = sum.add_bytes_at(piece, len % 2 == 1);
            len += piece.len();
        }
        prop_assert_eq!(sum.finish(), naive(&pieces.concat()));
    }

    #[test]
    fn pseudo_headers(src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), proto in any::<u8>(), len in 1u32..70_000) {
        let mut v6 = Vec::new();
        v6.extend(src);
        v6.extend(dst);
        v6.extend(len.to_be_bytes());
        v6.extend([0, 0, 0, proto]);
        prop_assert!(same(pseudo(&Addr(src), &Addr(dst), proto, len).finish(), naive(&v6)));

        let (a, b) = ([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]]);
        let mut v4 = Vec::new();
        v4.extend(a);
        v4.extend(b);
        v4.extend([0, proto]);
        v4.extend(((len % 65_536) as u16).to_be_bytes());
        let sum = pseudo(&Addr::from_v4(a), &Addr::from_v4(b), proto, len % 65_536);
        prop_assert!(same(sum.finish(), naive(&v4)));
    }

    #[test]
    fn updates_equal_a_new_sum(
        mut bytes in prop::collection::vec(any::<u8>(), 8..64),
        at in 0usize..30,
        new in any::<[u8; 4]>(),
    ) {
        // A real message is never all zero: its checksum may then be either zero.
        bytes[0] |= 1;
        let at = at * 2 % (bytes.len() - 3) / 2 * 2;
        let before = naive(&bytes);
        let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
        bytes[at..at + 4].copy_from_slice(&new);
        let after = naive(&bytes);
        prop_assert!(same(update_u32(before, u32::from_be_bytes(old), u32::from_be_bytes(new)), after));
        prop_assert!(same(update_bytes(before, &old, &new), after));
    }

    #[test]
    fn an_updated_message_still_verifies(
        mut bytes in prop::collection::vec(any::<u8>(), 20),
        new in any::<u16>(),
    ) {
        bytes[0] = 0x45;
        bytes[10..12].fill(0);
        let check = naive(&bytes);
        let old = u16::from_be_bytes([bytes[8], bytes[9]]);
        bytes[8..10].copy_from_slice(&new.to_be_bytes());
        bytes[10..12].copy_from_slice(&update_u16(check, old, new).to_be_bytes());
        prop_assert!(Sum::new().add_bytes(&bytes).is_valid());
    }
}
