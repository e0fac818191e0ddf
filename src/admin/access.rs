//! Who may use the admin socket, and what they are called in the trail.

use std::io::{BufRead, BufReader, Read};

use crate::model::Actor;

/// `/etc/passwd` is read up to here; a name further down is simply not found.
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// The kernel's word on the peer decides: our own uid, root's, or one the node file lists.
pub(super) fn is_allowed(peer: u32, ours: u32, listed: &[u32]) -> bool {
    peer == 0 || peer == ours || listed.contains(&peer)
}

/// The actor behind a uid, with its name where `/etc/passwd` has one.
pub(super) fn actor(uid: u32) -> Actor {
    let name = std::fs::File::open("/etc/passwd")
        .ok()
        .and_then(|file| login_name(BufReader::new(file.take(PASSWD_BYTES_MAX)), uid));
    Actor::Local { uid, name }
}

fn login_name(passwd: impl BufRead, uid: u32) -> Option<String> {
    passwd.lines().map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_ourselves_and_listed_uids_may_come_in() {
        assert!(is_allowed(0, 1000, &[]));
        assert!(is_allowed(1000, 1000, &[]));
        assert!(is_allowed(7, 1000, &[7]));
        assert!(!is_allowed(7, 1000, &[]));
        assert!(!is_allowed(7, 0, &[8]));
    }

    #[test]
    fn a_uid_has_the_name_of_its_passwd_line() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nalice:x:1001:1001::/home/alice:/bin/sh\n";
        assert_eq!(login_name(passwd.as_bytes(), 1001).as_deref(), Some("alice"));
        assert_eq!(login_name(passwd.as_bytes(), 0).as_deref(), Some("root"));
        assert_eq!(login_name(passwd.as_bytes(), 5), None);
    }
}
