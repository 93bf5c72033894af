//! C's pointers as Rust's slices, and results as C wants them.
//!
//! What does not live here: what the bytes mean.

use std::io::{IoSlice, IoSliceMut};

use libc::{c_int, c_void, iovec, msghdr, sockaddr, socklen_t, ssize_t};
use posix::Errno;

/// Linux's UIO_MAXIOV.
const PIECES_MOST: usize = 1024;

/// The result of a call in C's manner: -1 and `errno`.
pub(crate) fn report<T: TryInto<ssize_t>>(result: Result<T, Errno>) -> ssize_t {
    match result {
        Ok(value) => value.try_into().unwrap_or(ssize_t::MAX),
        Err(error) => {
            set_errno(error);
            -1
        }
    }
}

/// As [`report`], for calls that return an int.
pub(crate) fn report_int(result: Result<c_int, Errno>) -> c_int {
    report(result) as c_int
}

/// Sets `errno`.
fn set_errno(error: Errno) {
    // SAFETY: always gives the address of this thread's errno.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above; nobody else writes it.
    unsafe { *place = error.0 };
}

/// Whether memory is there, asked of the kernel, so that a wild pointer is EFAULT and no crash: a byte of each page is read, and
/// with `write` written back. Where the kernel does not tell, pointers are believed.
fn there(at: usize, len: usize, write: bool) -> bool {
    const PAGE: usize = 4096;
    const PART: usize = 256;
    let Some(end) = at.checked_add(len) else {
        return false;
    };
    // SAFETY: asks for a number.
    let own = unsafe { libc::getpid() };
    let mut next = Some(at).filter(|at| *at < end);
    while next.is_some() {
        let mut bytes = [0_u8; PART];
        let mut places = [iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 1,
        }; PART];
        let mut count = 0;
        while let (Some(place), true) = (next, count < PART) {
            places[count].iov_base = place as *mut c_void;
            count += 1;
            let page = (place | (PAGE - 1)).checked_add(1);
            next = page.filter(|page| *page < end);
        }
        let local = iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: count,
        };
        let (places, count) = (places.as_ptr(), count as u64);
        // SAFETY: the kernel checks every place, and writes so many bytes of ours.
        let read = unsafe { libc::process_vm_readv(own, &raw const local, 1, places, count, 0) };
        if read < 0 && errno() != libc::EFAULT {
            return true;
        }
        let mut good = read == count as isize;
        if good && write {
            // SAFETY: as above; what is written is what is there.
            let n = unsafe { libc::process_vm_writev(own, &raw const local, 1, places, count, 0) };
            good = n == count as isize;
        }
        if !good {
            return false;
        }
    }
    true
}

fn errno() -> c_int {
    // SAFETY: always gives the address of this thread's errno.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place }
}

/// Bytes to read.
///
/// # Safety
/// `at` is null or points at `len` bytes that nobody writes while the result lives.
pub(crate) unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Result<&'a [u8], Errno> {
    if len == 0 {
        return Ok(&[]);
    }
    if at.is_null() || !there(at as usize, len, false) {
        return Err(Errno::FAULT);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    Ok(unsafe { core::slice::from_raw_parts(at.cast(), len) })
}

/// Bytes to write.
///
/// # Safety
/// `at` is null or points at `len` bytes that nobody else uses while the result lives.
pub(crate) unsafe fn bytes_mut<'a>(at: *mut c_void, len: usize) -> Result<&'a mut [u8], Errno> {
    if len == 0 {
        return Ok(&mut []);
    }
    if at.is_null() || !there(at as usize, len, true) {
        return Err(Errno::FAULT);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    Ok(unsafe { core::slice::from_raw_parts_mut(at.cast(), len) })
}

/// The iovecs of a message: EMSGSIZE when there are too many, where readv and writev say EINVAL.
pub(crate) fn count_of(header: &msghdr) -> Result<usize, Errno> {
    let count = header.msg_iovlen;
    if count > PIECES_MOST {
        return Err(Errno::MSGSIZE);
    }
    Ok(count)
}

/// The pieces of a gathering write.
///
/// # Safety
/// `at` is null or points at `count` iovecs, each of which points at as many bytes as it says.
pub(crate) unsafe fn pieces<'a>(
    at: *const iovec,
    count: usize,
) -> Result<&'a [IoSlice<'a>], Errno> {
    // SAFETY: the caller vouches for the iovecs; IoSlice has the layout of iovec on Unix.
    let bytes = unsafe { checked::<IoSlice<'a>>(at, count) }?;
    Ok(bytes)
}

/// The pieces of a scattering read.
///
/// # Safety
/// As for [`pieces`], and nobody else uses the bytes.
pub(crate) unsafe fn pieces_mut<'a>(
    at: *const iovec,
    count: usize,
) -> Result<Vec<IoSliceMut<'a>>, Errno> {
    // SAFETY: the caller vouches for the iovecs.
    let raw = unsafe { checked::<iovec>(at, count) }?;
    raw.iter()
        .map(|piece| {
            // SAFETY: the caller vouches for the bytes of each.
            unsafe { bytes_mut(piece.iov_base, piece.iov_len) }.map(IoSliceMut::new)
        })
        .collect()
}

/// Iovecs, none of which is null but with a length.
///
/// # Safety
/// `at` is null or points at `count` iovecs; `T` has their layout.
unsafe fn checked<'a, T>(at: *const iovec, count: usize) -> Result<&'a [T], Errno> {
    if count > PIECES_MOST {
        return Err(Errno::INVAL);
    }
    if count == 0 {
        return Ok(&[]);
    }
    if at.is_null() || !there(at as usize, count * size_of::<iovec>(), false) {
        return Err(Errno::FAULT);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let raw = unsafe { core::slice::from_raw_parts(at, count) };
    if raw.iter().any(|p| isize::try_from(p.iov_len).is_err()) {
        return Err(Errno::INVAL);
    }
    let wild = |p: &iovec| p.iov_base.is_null() || !there(p.iov_base as usize, p.iov_len, false);
    if raw.iter().any(|p| p.iov_len > 0 && wild(p)) {
        return Err(Errno::FAULT);
    }
    // SAFETY: as above, and T has the layout of iovec.
    Ok(unsafe { core::slice::from_raw_parts(at.cast(), count) })
}

/// A `sockaddr` to read.
///
/// # Safety
/// As for [`bytes`].
pub(crate) unsafe fn address<'a>(at: *const sockaddr, len: socklen_t) -> Result<&'a [u8], Errno> {
    // Linux's sockaddr_storage is the longest.
    if len as usize > 128 {
        return Err(Errno::INVAL);
    }
    // SAFETY: the caller vouches for the bytes.
    unsafe { bytes(at.cast(), len as usize) }
}

/// Writes an address where the caller wants it, if he does, and its length.
///
/// # Safety
/// `at` and `len` are null, or `len` points at how many bytes `at` points at.
pub(crate) unsafe fn give_address(
    addr: &core::net::SocketAddr,
    v6: bool,
    at: *mut sockaddr,
    len: *mut socklen_t,
) -> Result<(), Errno> {
    if at.is_null() {
        return Ok(());
    }
    // SAFETY: null, or the caller vouches for it.
    let room = unsafe { place(len) }?;
    // SAFETY: the caller vouches for so many bytes.
    let out = unsafe { bytes_mut(at.cast(), *room as usize) }?;
    *room = posix::write(addr, v6, out) as socklen_t;
    Ok(())
}

/// A `msghdr`.
///
/// # Safety
/// `at` is null or points at one nobody else uses while the result lives.
pub(crate) unsafe fn message<'a>(at: *mut msghdr) -> Result<&'a mut msghdr, Errno> {
    // SAFETY: null, or the caller vouches for it.
    unsafe { place(at) }
}

/// One value to read.
///
/// # Safety
/// `at` is null or points at one nobody writes while the result lives.
pub(crate) unsafe fn look<'a, T>(at: *const T) -> Result<&'a T, Errno> {
    if !there(at as usize, size_of::<T>(), false) {
        return Err(Errno::FAULT);
    }
    // SAFETY: null, or the caller vouches for it.
    unsafe { at.as_ref() }.ok_or(Errno::FAULT)
}

/// One value to read and write.
///
/// # Safety
/// `at` is null or points at one nobody else uses while the result lives.
pub(crate) unsafe fn place<'a, T>(at: *mut T) -> Result<&'a mut T, Errno> {
    if !there(at as usize, size_of::<T>(), true) {
        return Err(Errno::FAULT);
    }
    // SAFETY: null, or the caller vouches for it.
    unsafe { at.as_mut() }.ok_or(Errno::FAULT)
}
