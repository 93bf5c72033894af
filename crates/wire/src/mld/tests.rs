//! Queries and reports byte by byte.

use super::*;
use crate::icmpv6::Packet;

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

#[test]
fn report_of_two_groups() {
    let records = [
        Record {
            kind: RecordKind::ChangeToExclude,
            group: addr("ff02::1:ff00:2"),
        },
        Record {
            kind: RecordKind::ChangeToInclude,
            group: addr("ff02::fb"),
        },
    ];
    let mut bytes = [0xff; 48];
    assert_eq!(report_len(2), 48);
    emit_report(&records, &mut bytes);
    assert_eq!(bytes[..8], [143, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(
        bytes[8..28],
        [
            4, 0, 0, 0, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2
        ]
    );
    assert_eq!(
        super::records(&Packet::new(&bytes).unwrap()).collect::<Vec<_>>(),
        records
    );
    assert_eq!(
        Packet::new(&bytes).unwrap().to_string(),
        "MLDv2 report ChangeToExclude ff02::1:ff00:2 ChangeToInclude ff02::fb len 48"
    );
}

#[test]
fn records_with_sources_and_auxiliary_data() {
    let mut bytes = vec![143, 0, 0, 0, 0, 0, 0, 3];
    for (kind, aux, sources) in [(1u8, 1u8, 1u8), (2, 0, 0), (9, 0, 0)] {
        bytes.extend([kind, aux, 0, sources]);
        bytes.extend(addr("ff02::9").0);
        bytes.extend(vec![0; usize::from(sources) * 16 + usize::from(aux) * 4]);
    }
    let read: Vec<_> = records(&Packet::new(&bytes).unwrap())
        .map(|record| record.kind)
        .collect();
    // The third is of no known kind.
    assert_eq!(read, [RecordKind::ModeIsInclude, RecordKind::ModeIsExclude]);
    let read: Vec<_> = records(&Packet::new(&bytes[..40]).unwrap()).collect();
    assert_eq!(read, []);
}

#[test]
fn queries() {
    let mut bytes = [
        &[130, 0, 0, 0, 0x27, 0x10, 0, 0][..],
        &[0; 16],
        &[2, 125, 0, 1],
        &[0; 16],
    ]
    .concat();
    let parse = |bytes: &[u8]| Query::parse(&Packet::new(bytes).unwrap(), 1);
    let general = Query {
        group: Addr::UNSPECIFIED_V6,
        max_response: 10_000,
        v2: true,
        sources: 1,
    };
    assert_eq!(parse(&bytes), Ok(general));
    assert_eq!(parse(&bytes[..43]), Err(Error::Truncated));
    assert_eq!(parse(&bytes[..26]), Err(Error::Length));
    assert_eq!(
        parse(&bytes[..24]),
        Ok(Query {
            v2: false,
            sources: 0,
            ..general
        })
    );
    assert_eq!(parse(&bytes[..23]), Err(Error::Truncated));
    assert_eq!(
        Query::parse(&Packet::new(&bytes).unwrap(), 2),
        Err(Error::Malformed)
    );
    // RFC 9777 section 5.1.3: beyond 32768 the code is a floating point number.
    bytes[4..6].copy_from_slice(&[0x80, 0x00]);
    assert_eq!(parse(&bytes).unwrap().max_response, 0x1000 << 3);
    bytes[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(parse(&bytes).unwrap().max_response, 0x1fff << 10);
    // Version 1 has no such thing.
    assert_eq!(parse(&bytes[..24]).unwrap().max_response, 65_535);
    bytes[8] = 0xfd;
    assert_eq!(parse(&bytes), Err(Error::Address));
    bytes[1] = 1;
    assert_eq!(parse(&bytes), Err(Error::Malformed));
}

#[test]
fn version_1_reports() {
    let mut bytes = [0xff; 24];
    ReportV1::Done(addr("ff02::9")).emit(&mut bytes);
    assert_eq!(bytes[..9], [132, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(
        Packet::new(&bytes).unwrap().to_string(),
        "MLDv1 done ff02::9 len 24"
    );
    bytes[8] = 0xfe;
    assert_eq!(
        ReportV1::parse(&Packet::new(&bytes).unwrap()),
        Err(Error::Address)
    );
    bytes[0] = 143;
    assert_eq!(
        ReportV1::parse(&Packet::new(&bytes).unwrap()),
        Err(Error::Unrecognized)
    );
}

#[test]
fn response_codes_round_down() {
    for millis in [
        0,
        1,
        0x7fff,
        0x8000,
        0x8007,
        0x8008,
        65_535,
        100_000,
        8_387_584,
        u32::MAX,
    ] {
        let code = response_code(millis);
        assert!(response_time(code) <= millis, "{millis}");
        assert!(
            code == u16::MAX || response_time(code + 1) > millis,
            "{millis}"
        );
    }
}
