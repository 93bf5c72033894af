//! Where running hosts have their sockets: a folder of the user's own, closed to everybody else.
//!
//! What does not live here: the sockets.
//!
//! A socket is published under its name when it listens, so that one which refuses a connection is of a process that has died.
//!
//! Invariant: the folder is one, not a link to one, belongs to this user, and nobody else may enter it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::Error;

/// The variable that names the folder.
pub const VARIABLE: &str = "MILLSTREAM_RUNTIME_DIR";

const ENDING: &str = ".sock";

/// The folder this user's hosts have their sockets in.
pub fn path() -> PathBuf {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(own) = named(VARIABLE) {
        return own.into();
    }
    let runtime = named("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_dir());
    if let Some(runtime) = runtime {
        return Path::new(&runtime).join("millstream");
    }
    match rustix::process::geteuid() {
        user if user.is_root() => "/run/millstream".into(),
        user => std::env::temp_dir().join(format!("millstream-{}", user.as_raw())),
    }
}

/// Makes sure that the folder is there, and safe.
///
/// # Errors
/// It cannot be made, or is not safe.
pub(crate) fn make(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Folder(path.to_owned(), error));
        }
        _ => {}
    }
    check(path, rustix::process::geteuid().as_raw())
}

/// Whether nobody but this user can have put anything there.
fn check(path: &Path, user: u32) -> Result<(), Error> {
    let why = match fs::symlink_metadata(path) {
        Err(error) => error.to_string(),
        Ok(found) if !found.is_dir() => "it is no folder".to_owned(),
        Ok(found) if found.uid() != user => "it belongs to somebody else".to_owned(),
        Ok(found) if found.mode() & 0o077 != 0 => {
            "others may enter it; `chmod 700` closes it".to_owned()
        }
        Ok(_) => return Ok(()),
    };
    Err(Error::Unsafe(path.to_owned(), why))
}

/// The name of a host's socket: what of its own name is fit for one, and the process.
pub(crate) fn file_name(name: &str, process: u32) -> String {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = name
        .chars()
        .take(40)
        .map(|c| if fit(c) { c } else { '_' })
        .collect();
    format!("{name}.{process}{ENDING}")
}

/// The host's name and process of a socket's name.
fn parse(file: &str) -> Option<(String, u32)> {
    let (name, process) = file.strip_suffix(ENDING)?.rsplit_once('.')?;
    Some((name.to_owned(), process.parse().ok()?))
}

/// The sockets there are: name, process, path.
pub fn sockets(folder: &Path) -> Vec<(String, u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let socket = |entry: fs::DirEntry| {
        let (name, process) = parse(entry.file_name().to_str()?)?;
        Some((name, process, entry.path()))
    };
    let mut found: Vec<_> = entries.flatten().filter_map(socket).collect();
    found.sort();
    found
}

/// Whether the folder may be believed: it is there, and safe.
///
/// # Errors
/// It is there, and not safe.
pub fn is_safe(folder: &Path) -> Result<bool, Error> {
    if fs::symlink_metadata(folder).is_err() {
        return Ok(false);
    }
    check(folder, rustix::process::geteuid().as_raw()).map(|()| true)
}

/// Connects to a socket; one whose process has died is removed.
pub fn connect(path: &Path) -> Option<UnixStream> {
    match UnixStream::connect(path) {
        Ok(stream) => Some(stream),
        Err(error) => {
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                let _ = fs::remove_file(path);
            }
            None
        }
    }
}

/// Removes what processes that died have left.
pub(crate) fn sweep(folder: &Path) {
    for (_, _, path) in sockets(folder) {
        drop(connect(&path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_folder_of_ones_own_is_safe() {
        let own = tempfile::tempdir().unwrap();
        let user = fs::metadata(own.path()).unwrap().uid();
        let folder = own.path().join("run");
        DirBuilder::new().mode(0o700).create(&folder).unwrap();
        assert!(check(&folder, user).is_ok());
        let refused = |path: &Path, user| check(path, user).unwrap_err().to_string();
        assert!(refused(&folder, user + 1).contains("belongs to somebody else"));
        let link = own.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(refused(&link, user).contains("it is no folder"));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        let said = refused(&folder, user);
        assert!(
            said.contains("others may enter it") && said.contains(VARIABLE),
            "{said}"
        );
    }

    #[test]
    fn names_are_fit_for_files_and_come_back() {
        assert_eq!(file_name("demo", 7), "demo.7.sock");
        assert_eq!(file_name("../a b.c", 7), "___a_b_c.7.sock");
        assert_eq!(parse("demo.7.sock"), Some(("demo".into(), 7)));
        assert_eq!(parse("demo.sock"), None);
        assert_eq!(parse("demo.7"), None);
    }
}
