//! The host of RFC 1122 without its environment: IP, ICMP, UDP, TCP as a pure state machine.
