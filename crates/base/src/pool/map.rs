//! Anonymous memory in one mapping, cut into typed arrays; and the wish for huge pages.
//!
//! Invariant: a section's memory belongs to that section alone, and stays mapped as long as any section of its
//! mapping lives.
//! Invariant: memory is zero until written, and takes no physical page until touched.

use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut, Range};
use core::ptr::NonNull;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::sync::Arc;

const HUGE: usize = 2 << 20;
const PAGE: usize = 4 << 10;
/// Sections start on a line of their own.
const LINE: usize = 64;

/// What kind of pages hold a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Reserved huge pages (`vm.nr_hugepages`).
    HugeTlb,
    /// Ordinary pages which the kernel makes huge where it can.
    Transparent,
    /// Ordinary pages.
    Plain,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    backing: Backing,
}

// SAFETY: a mapping is plain memory, tied to no thread; every access goes through the one section that owns the
// bytes.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping gives out nothing but its backing.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Mapping> {
        if bytes >= HUGE
            && let Ok(mapping) = Mapping::anonymous(
                bytes,
                MapFlags::HUGETLB | MapFlags::HUGE_2MB,
                Backing::HugeTlb,
            )
        {
            return Ok(mapping);
        }
        // NORESERVE: a table for ten million connections on a machine that will see a thousand must not count as used.
        let mut mapping = Mapping::anonymous(bytes, MapFlags::NORESERVE, Backing::Plain)?;
        if bytes >= HUGE {
            // SAFETY: the range is this mapping, whole. Advice on page size changes no content.
            let advised = unsafe {
                madvise(
                    mapping.base.as_ptr().cast(),
                    mapping.bytes,
                    Advice::LinuxHugepage,
                )
            };
            if advised.is_ok() {
                mapping.backing = Backing::Transparent;
            }
        }
        Ok(mapping)
    }

    fn anonymous(bytes: usize, flags: MapFlags, backing: Backing) -> io::Result<Mapping> {
        let page = if bytes >= HUGE { HUGE } else { PAGE };
        let bytes = bytes
            .max(1)
            .checked_next_multiple_of(page)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so no existing mapping can be replaced.
        let base = unsafe {
            mmap_anonymous(
                core::ptr::null_mut(),
                bytes,
                prot,
                MapFlags::PRIVATE | flags,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping {
            base,
            bytes,
            backing,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is what `mmap` gave; sections hold the mapping in an `Arc`, so none is left.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A type of which any initialised or all-zero memory is a value.
///
/// # Safety
/// All-zero bytes are a valid value, and the alignment is at most 64.
pub(crate) unsafe trait Plain: Copy + 'static {}
// SAFETY: zero is a number.
unsafe impl Plain for u8 {}
// SAFETY: zero is a number.
unsafe impl Plain for u32 {}

/// A cache line of sixteen numbers.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; 16]);
// SAFETY: an array of numbers, aligned to 64.
unsafe impl Plain for Line {}

/// A mapping in the making, from which sections are cut one after the other.
pub(crate) struct Cutter {
    mapping: Arc<Mapping>,
    used: usize,
}

impl Cutter {
    /// Maps `bytes` bytes: the sum of [`Section::bytes`] of what will be cut.
    pub(crate) fn new(bytes: usize) -> io::Result<Cutter> {
        Ok(Cutter {
            mapping: Arc::new(Mapping::new(bytes)?),
            used: 0,
        })
    }

    pub(crate) fn backing(&self) -> Backing {
        self.mapping.backing
    }

    /// Cuts off an array of `len` zero values.
    ///
    /// # Panics
    /// If the mapping has not that much left.
    pub(crate) fn cut<T: Plain>(&mut self, len: usize) -> Section<T> {
        const { assert!(align_of::<T>() <= LINE) };
        let start = self.used;
        let end = Section::<T>::bytes(len).and_then(|bytes| start.checked_add(bytes));
        let end = end
            .filter(|&end| end <= self.mapping.bytes)
            .expect("the mapping holds its sections");
        self.used = end;
        // SAFETY: `start <= end <= bytes` of the mapping, so this stays inside it (or at its end).
        let base = unsafe { self.mapping.base.add(start) };
        Section {
            base: base.cast(),
            len,
            _mapping: Arc::clone(&self.mapping),
        }
    }
}

/// An array in a mapping.
///
/// Invariant: `base` is aligned for `T` (the mapping to a page, every section to a line) and the `len` values from it
/// on are inside the mapping, cut for this section only.
pub(crate) struct Section<T: Plain> {
    base: NonNull<T>,
    len: usize,
    _mapping: Arc<Mapping>,
}

// SAFETY: a section owns its values as a `Box<[T]>` would, and `T: Copy + 'static` holds no thread's pointers
// (`Plain` is implemented for numbers and arrays or records of numbers only).
unsafe impl<T: Plain + Send> Send for Section<T> {}
// SAFETY: `&Section` gives `&[T]` and the base pointer, and reading through the latter is the holder's own proof.
unsafe impl<T: Plain + Sync> Sync for Section<T> {}

impl<T: Plain> Section<T> {
    /// The bytes a section of `len` values takes of a mapping.
    pub(crate) fn bytes(len: usize) -> Option<usize> {
        len.checked_mul(size_of::<T>())?
            .checked_next_multiple_of(LINE)
    }

    /// A section with a mapping of its own.
    pub(crate) fn new(len: usize) -> io::Result<Section<T>> {
        let bytes = Section::<T>::bytes(len).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Cutter::new(bytes)?.cut(len))
    }

    /// Values in it; unlike the slice's own `len`, without a reference to them.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first value's address, with the right to write the whole section.
    #[inline]
    pub(crate) fn base(&self) -> *mut T {
        self.base.as_ptr()
    }
}

impl<T: Plain> Deref for Section<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: by the section's invariant the values are there and aligned; they started as zeros, which is a
        // value (`Plain`); nobody else has them, and `&self` holds off `&mut self`.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Section<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and `&mut self` makes it the only reference.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

/// The bytes of all blocks. A reference that can write covers what is asked for and no more, so that other bytes may be read elsewhere
/// meanwhile ([`View`]).
pub(crate) struct Bytes(Section<u8>);

impl Bytes {
    pub(crate) fn new(section: Section<u8>) -> Self {
        Self(section)
    }

    /// The first byte's address, with the right to write all that nobody reads elsewhere.
    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.0.base()
    }

    /// All bytes. Reading takes nothing from who reads elsewhere.
    #[inline(always)]
    pub(crate) fn whole(&self) -> &[u8] {
        &self.0
    }

    /// Some bytes.
    #[inline(always)]
    pub(crate) fn part(&self, range: Range<usize>) -> &[u8] {
        &self.0[range]
    }

    /// Some bytes, to be written. Nobody may read them elsewhere.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline(always)]
    pub(crate) fn part_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.0.len);
        // SAFETY: the range was checked to be inside the section.
        let start = unsafe { self.0.base.as_ptr().add(range.start) };
        // SAFETY: the values of the range are there and initialised; `&mut self` holds off every other reference through the pool.
        // Views are made for lent blocks, which the pool's callers of this leave alone: they write to blocks whose reference
        // count is 1 only.
        unsafe { core::slice::from_raw_parts_mut(start, range.len()) }
    }

    /// Copies bytes to another place, which they may overlap.
    ///
    /// # Panics
    /// If either is not inside.
    #[inline(always)]
    pub(crate) fn copy_within(&mut self, from: Range<usize>, to: usize) {
        let len = self.0.len;
        assert!(from.start <= from.end && from.end <= len && to <= len - from.len());
        let base = self.0.base.as_ptr();
        // SAFETY: the range was checked to be inside the section.
        let source = unsafe { base.add(from.start) };
        // SAFETY: as above.
        let target = unsafe { base.add(to) };
        // SAFETY: both ranges are inside the section; as for `part_mut`, nobody else writes what is read here, nor reads what is
        // written.
        unsafe { core::ptr::copy(source, target, from.len()) }
    }

    /// The same memory for who reads elsewhere.
    pub(crate) fn view(&self) -> View {
        View {
            base: self.0.base,
            len: self.0.len,
            mapping: Arc::clone(&self.0._mapping),
        }
    }

    /// Whether a view is of this memory.
    pub(crate) fn is_seen_by(&self, view: &View) -> bool {
        Arc::ptr_eq(&self.0._mapping, &view.mapping)
    }
}

/// Memory of a section for who reads it elsewhere. It stays mapped as long.
pub(crate) struct View {
    base: NonNull<u8>,
    len: usize,
    mapping: Arc<Mapping>,
}

// SAFETY: a view gives bytes to be read only, by a function whose caller proves that nobody writes them; plain memory is tied to no
// thread.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Some bytes.
    ///
    /// # Safety
    /// Nobody writes them as long as the reference lives, and what was written before happened before.
    ///
    /// # Panics
    /// If there are not that many.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range was checked to be inside the section, whose mapping `self` holds.
        let start = unsafe { self.base.as_ptr().add(range.start) };
        // SAFETY: its values are there and initialised; that nobody writes them is the caller's proof.
        unsafe { core::slice::from_raw_parts(start, range.len()) }
    }
}

/// Asks for huge pages under memory that is about to be used, if it is large enough to care: on a large table they
/// save a page-table walk with nearly every access.
pub(crate) fn advise_huge<T>(spare: &mut [MaybeUninit<T>]) {
    let range = spare.as_mut_ptr_range();
    let start = range.start.cast::<u8>();
    let skip = start.align_offset(PAGE);
    let bytes = size_of_val(spare).saturating_sub(skip) / PAGE * PAGE;
    if bytes >= 2 * HUGE && skip < PAGE {
        // A refusal costs speed only.
        // SAFETY: whole pages inside memory that `spare` borrows exclusively; the advice changes no content.
        let _ = unsafe {
            madvise(
                start.wrapping_add(skip).cast(),
                bytes,
                Advice::LinuxHugepage,
            )
        };
    }
}
