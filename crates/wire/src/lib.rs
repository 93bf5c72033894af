//! Header formats: views over any bytes, and representations that can always be emitted.
