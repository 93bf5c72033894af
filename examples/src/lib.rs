//! Small servers and clients on a Millstream host.
