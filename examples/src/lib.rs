//! Small servers and clients on a Millstream host.
#![forbid(unsafe_code)]
