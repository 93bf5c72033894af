//! Stateless address autoconfiguration.
