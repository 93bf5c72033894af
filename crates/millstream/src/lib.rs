//! The sockets people import: std and tokio faces over a Millstream host.
