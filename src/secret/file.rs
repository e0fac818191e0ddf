//! Opens a file that stays below a directory whatever links are put in its way, and reads it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::model::limits::SECRET_BYTES_MAX;

/// Reads the file at `path` below `directory`. The error is a sentence about it.
pub(super) fn read(directory: &Path, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| {
                format!("the secret directory {} cannot be opened: {errno}", directory.display())
            })?;
    let file = open_below(&directory, path).map_err(|errno| match errno {
        Errno::XDEV => "a link in its path leads out of the secret directory".to_owned(),
        Errno::LOOP => "a link in its path cannot be followed".to_owned(),
        errno => format!("cannot be opened: {}", std::io::Error::from(errno)),
    })?;
    read_private(File::from(file))
}

/// Reads a small file that nobody else may read. Everything is asked of the open file, so nothing can
/// be put in its place between a check and the reading.
pub(super) fn read_private(file: File) -> Result<Zeroizing<Vec<u8>>, String> {
    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(format!("other users may read or write it (mode {mode:03o}); run chmod 600 on it"));
    }
    // One buffer of the size that it may have at most: growing would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 1));
    match file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut content) {
        Ok(count) if count as u64 > SECRET_BYTES_MAX => {
            Err(format!("longer than {SECRET_BYTES_MAX} bytes; a secret is not"))
        }
        Ok(_) => Ok(content),
        Err(error) if error.kind() == ErrorKind::OutOfMemory => {
            Err("there is no memory to read it".to_owned())
        }
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// `NONBLOCK`: a FIFO must not hold us up before it is seen not to be a file.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The kernel follows links that stay below the directory (the way Kubernetes mounts secrets) and no others.
#[cfg(target_os = "linux")]
fn open_below(directory: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..8 {
        match openat2(directory, path, READ, Mode::empty(), below) {
            // Something was renamed meanwhile and the kernel could not be sure: it asks for another try.
            Err(Errno::AGAIN) => continue,
            // Linux before 5.6, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return open_plain(directory, path),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(not(target_os = "linux"))]
fn open_below(directory: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_plain(directory, path)
}

/// Step by step, following no link at all.
fn open_plain(directory: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = None;
    let parent = path.parent().unwrap_or(Path::new(""));
    for component in parent.components() {
        let at = folder.as_ref().unwrap_or(directory);
        folder = Some(openat(at, component.as_os_str(), step, Mode::empty())?);
    }
    let name = path.file_name().ok_or(Errno::INVAL)?;
    openat(folder.as_ref().unwrap_or(directory), name, READ | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn put(path: &Path, content: &[u8], mode: u32) {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_what_is_below_is_read() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("secrets");
        std::fs::create_dir_all(directory.join("..data")).unwrap();
        put(&outer.path().join("outside"), b"no", 0o600);
        put(&directory.join("..data/inside"), b"yes", 0o600);
        symlink("../outside", directory.join("up")).unwrap();
        symlink(outer.path().join("outside"), directory.join("absolute")).unwrap();
        symlink(outer.path(), directory.join("folder")).unwrap();
        symlink("..data/inside", directory.join("link")).unwrap();
        symlink("loop", directory.join("loop")).unwrap();

        assert_eq!(&**read(&directory, Path::new("..data/inside")).unwrap(), b"yes");
        assert_eq!(&**read(&directory, Path::new("link")).unwrap(), b"yes");
        for (out, said) in [
            ("up", "a link in its path leads out"),
            ("absolute", "a link in its path leads out"),
            ("folder/outside", "a link in its path leads out"),
            ("loop", "a link in its path cannot be followed"),
            ("none", "cannot be opened: No such file"),
            ("..data", "not a regular file"),
        ] {
            let error = read(&directory, Path::new(out)).unwrap_err();
            assert!(error.starts_with(said), "{out}: {error}");
        }
        let error = read(&outer.path().join("nowhere"), Path::new("x")).unwrap_err();
        assert!(error.starts_with("the secret directory"), "{error}");
    }

    #[test]
    fn without_the_kernels_help_no_link_is_followed() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("in")).unwrap();
        put(&outer.path().join("in/file"), b"yes", 0o600);
        symlink("in", outer.path().join("link")).unwrap();
        symlink("file", outer.path().join("in/other")).unwrap();
        let directory =
            rustix::fs::open(outer.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(open_plain(&directory, Path::new("in/file")).is_ok());
        assert!(open_plain(&directory, Path::new("link/file")).is_err());
        assert!(open_plain(&directory, Path::new("in/other")).is_err());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, fits) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            put(&folder.path().join("x"), b"{}", mode);
            let read = read(folder.path(), Path::new("x"));
            assert_eq!(read.is_ok(), fits, "{mode:o}");
            if let Err(said) = read {
                assert!(said.contains("run chmod 600"), "{said}");
            }
            std::fs::remove_file(folder.path().join("x")).unwrap();
        }
    }

    #[test]
    fn what_is_too_long_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        put(&folder.path().join("most"), &vec![b' '; SECRET_BYTES_MAX as usize], 0o600);
        put(&folder.path().join("more"), &vec![b' '; SECRET_BYTES_MAX as usize + 1], 0o600);
        assert!(read(folder.path(), Path::new("most")).is_ok());
        assert!(read(folder.path(), Path::new("more")).unwrap_err().starts_with("longer than"));
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0)
            .unwrap();
        assert_eq!(read(folder.path(), Path::new("fifo")).unwrap_err(), "not a regular file");
    }
}
