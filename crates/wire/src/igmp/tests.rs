//! Queries and reports byte by byte, of each version.

use super::*;

#[test]
fn report_of_version_3() {
    let records = [Record {
        kind: RecordKind::ChangeToExclude,
        group: Addr::v4(224, 0, 0, 251),
    }];
    let mut bytes = [0xff; 16];
    emit_report(&records, &mut bytes);
    fill_checksum(&mut bytes);
    // 0x2200 + 1 + 0x0400 + 0xe000 + 0xfb = 0x106fc, and the carry comes in again.
    assert_eq!(
        bytes,
        [0x22, 0, 0xf9, 0x02, 0, 0, 0, 1, 4, 0, 0, 0, 224, 0, 0, 251]
    );
    let packet = Packet::new(&bytes).unwrap();
    assert!(packet.verify_checksum());
    assert_eq!(packet.records().collect::<Vec<_>>(), records);
    assert_eq!(
        packet.to_string(),
        "IGMPv3 report ChangeToExclude 224.0.0.251"
    );
}

#[test]
fn queries_of_each_version() {
    let parse = |bytes: &[u8]| Query::parse(&Packet::new(bytes).unwrap());
    let query = |version, max_response| Query {
        group: Addr::UNSPECIFIED_V4,
        max_response,
        version,
        sources: 0,
    };
    assert_eq!(
        parse(&[0x11, 0, 0, 0, 0, 0, 0, 0]),
        Ok(query(Version::V1, 10_000))
    );
    assert_eq!(
        parse(&[0x11, 100, 0, 0, 0, 0, 0, 0]),
        Ok(query(Version::V2, 10_000))
    );
    assert_eq!(
        parse(&[0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]),
        Ok(query(Version::V3, 10_000))
    );
    assert_eq!(
        parse(&[0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 1]),
        Err(Error::Truncated)
    );
    assert_eq!(parse(&[0x11, 100, 0, 0, 0, 0, 0, 0, 2]), Err(Error::Length));
    assert_eq!(parse(&[0x11, 100, 0, 0, 10, 0, 0, 1]), Err(Error::Address));
    assert_eq!(
        parse(&[0x16, 100, 0, 0, 224, 0, 0, 9]),
        Err(Error::Unrecognized)
    );
    // RFC 9776 section 4.1.1: from 128 on a floating point number.
    assert_eq!(
        parse(&[0x11, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .unwrap()
            .max_response,
        12_800
    );
    assert_eq!(
        parse(&[0x11, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .unwrap()
            .max_response,
        (31 << 10) * 100
    );
}

#[test]
fn reports_of_version_2() {
    let mut bytes = [0xff; 8];
    ReportV2::Leave(Addr::v4(239, 1, 2, 3)).emit(&mut bytes);
    assert_eq!(bytes, [0x17, 0, 0, 0, 239, 1, 2, 3]);
    assert_eq!(
        Packet::new(&bytes).unwrap().to_string(),
        "IGMPv2 leave 239.1.2.3"
    );
    bytes[4] = 10;
    assert_eq!(
        ReportV2::parse(&Packet::new(&bytes).unwrap()),
        Err(Error::Address)
    );
    assert_eq!(Packet::new(&bytes[..7]).err(), Some(Error::Truncated));
}
