//! What two threads share: the standard library's, or loom's when models are checked (`cargo xtask loom`).
//!
//! What does not live here: how rings use it.

#[cfg(not(loom))]
mod real {
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicUsize};
    pub(crate) use std::sync::Arc;

    /// A cell that its owner of the moment changes, by loom's interface.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize};
}

pub(super) use core::sync::atomic::Ordering;
pub(super) use real::{Arc, AtomicBool, AtomicUsize, UnsafeCell};
