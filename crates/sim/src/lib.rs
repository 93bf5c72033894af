//! A network in a test tube: virtual clock, links with faults, replay from a seed.
