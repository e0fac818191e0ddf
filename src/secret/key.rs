//! The installation's key: 32 random bytes in a file outside the store. The store without it checks no
//! credential, it without the store opens nothing (design 1.6).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::{SecretError, file};

const DIGITS: usize = 64;

/// Reads the key at `path`, or makes it at the first start (mode 600, in a folder of mode 700 that is
/// made too where it is missing). The file is whole or not there, also after a crash.
pub fn installation_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let failed = |what| SecretError { reference: path.display().to_string(), what };
    match open(path) {
        Ok(file) => read(file).map_err(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path).map_err(|error| failed(format!("cannot be made: {error}")))?;
            // Read back: another process may have been first, and then its key counts.
            let file = open(path).map_err(|error| failed(format!("cannot be opened: {error}")))?;
            read(file).map_err(failed)
        }
        Err(error) => Err(failed(format!("cannot be opened: {error}"))),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A FIFO in its place must not hold us up.
    OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)
}

fn read(file: File) -> Result<Zeroizing<[u8; 32]>, String> {
    let content = file::read_private(file)?;
    let digits = content.strip_suffix(b"\n").unwrap_or(&content);
    let mut key = Zeroizing::new([0; 32]);
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let whole = digits.len() == DIGITS
        && digits.chunks_exact(2).zip(key.iter_mut()).all(|(pair, byte)| {
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => {
                    *byte = high << 4 | low;
                    true
                }
                _ => false,
            }
        });
    if !whole {
        return Err(format!(
            "not the {DIGITS} hexadecimal digits that an installation key is; put the right file back, for without it no \
             credential that was issued can be checked (or remove it to begin anew: all credentials must then be issued again)"
        ));
    }
    Ok(key)
}

fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|error| io::Error::other(error.to_string()))?;
    let mut text = Zeroizing::new(Vec::with_capacity(DIGITS + 1));
    for byte in key.iter() {
        write!(text, "{byte:02x}")?;
    }
    text.push(b'\n');

    // Written aside and linked into place: `hard_link` never replaces what is there.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".new-{}", std::process::id()));
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside) {
        // Left behind by a process of the same number that died here.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            std::fs::remove_file(&aside)?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?
        }
        opened => opened?,
    };
    let linked =
        file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&aside, path));
    std::fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => File::open(folder)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn the_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/installation.key");
        let first = installation_key(&path).unwrap();
        assert_ne!(*first, [0; 32]);
        assert_eq!(*installation_key(&path).unwrap(), *first);
        let other = installation_key(&folder.path().join("other.key")).unwrap();
        assert_ne!(*other, *first);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let there: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(there.len(), 1, "{there:?}");
    }

    #[test]
    fn a_file_that_is_no_key_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("installation.key");
        for content in ["", "00", &"g".repeat(64), &"a".repeat(65), &"+f".repeat(32)] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let said = installation_key(&path).unwrap_err().to_string();
            assert!(said.contains("not the 64 hexadecimal digits"), "{said}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        std::fs::write(&path, "a".repeat(64)).unwrap();
        assert_eq!(*installation_key(&path).unwrap(), [0xaa; 32]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(installation_key(&path).unwrap_err().to_string().contains("run chmod 600"));
    }
}
