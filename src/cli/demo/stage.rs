//! The temporary folder and the processes in it. Everything that is made is remembered here, and
//! [`Stage::clear`] undoes it.

use std::fs::{DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::cli::failure::{Failure, Outcome};

/// How long a process may take to stop when it is asked to, before it is made to.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// Of a log, when something went wrong.
const LAST_LINES: usize = 15;

/// An account of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

pub struct Stage {
    /// Nobody else can look into it: mode 0700, or 0711 where the database server runs as another user,
    /// who must get through to its own folder.
    pub folder: PathBuf,
    /// Who the database server runs as when we are root, which none of them should run as.
    pub account: Option<Account>,
    /// In the order in which they were started.
    processes: Vec<Process>,
}

struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// What asks it to stop.
    signal: Signal,
}

impl Stage {
    /// `accounts`: whom the database server may run as, the best first.
    pub fn build(accounts: &[&str]) -> Outcome<Self> {
        let account = match rustix::process::geteuid().is_root() {
            true => Some(unprivileged(accounts)?),
            false => None,
        };
        let folder = std::env::temp_dir().join(format!("tidegate-demo-{}", &random_text()?[..8]));
        make_folder(&folder, if account.is_some() { 0o711 } else { 0o700 })?;
        Ok(Self { folder, account, processes: Vec::new() })
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(relative)
    }

    /// A folder for us alone.
    pub fn private_folder(&self, relative: &str) -> Outcome<PathBuf> {
        let path = self.path(relative);
        make_folder(&path, 0o700)?;
        Ok(path)
    }

    /// Gives a file or folder to the account that the database server runs as.
    pub fn hand_over(&self, path: &Path) -> Outcome {
        match self.account {
            None => Ok(()),
            Some(account) => std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
                .map_err(|error| failed(path, &error)),
        }
    }

    /// Starts a process whose output goes to a log in the folder, in a process group of its own: a
    /// Ctrl-C at the terminal reaches us alone, and we stop things in order.
    pub fn start(&mut self, name: &'static str, command: &mut Command, signal: Signal) -> Outcome {
        let log = self.path(&format!("{name}.log"));
        let file = std::fs::OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .map_err(|error| failed(&log, &error))?;
        let copy = file.try_clone().map_err(|error| failed(&log, &error))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::new(format!("{name} does not start: {error}")))?;
        self.processes.push(Process { name, child, log, signal });
        Ok(())
    }

    pub fn log(&self, name: &str) -> Outcome<String> {
        let path = self.path(&format!("{name}.log"));
        std::fs::read(&path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| failed(&path, &error))
    }

    /// An error where a process that should run does not.
    pub fn all_run(&mut self) -> Outcome {
        for process in &mut self.processes {
            if let Ok(Some(status)) = process.child.try_wait() {
                return Err(Failure::new(format!("{} ended by itself: {status}", process.name)));
            }
        }
        Ok(())
    }

    /// Waits until a process ends that should not, and says which.
    pub async fn somebody_ended(&mut self) -> String {
        loop {
            if let Err(failure) = self.all_run() {
                return failure.message;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The ends of the logs, for when something went wrong.
    pub fn last_words(&self) -> String {
        let mut text = String::new();
        for process in &self.processes {
            let log = std::fs::read(&process.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().collect();
            text += &format!("\nthe last lines of {}:\n", process.name);
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                text += &format!("  {}\n", crate::cli::output::plain(line));
            }
        }
        text
    }

    /// Stops the processes, the last one first, and removes the folder.
    pub async fn clear(mut self) -> Outcome {
        while let Some(process) = self.processes.pop() {
            stop(process).await;
        }
        std::fs::remove_dir_all(&self.folder).map_err(|error| {
            Failure::new(format!("{} could not be removed: {error}", self.folder.display()))
        })?;
        Ok(())
    }
}

impl Drop for Stage {
    /// For a panic only: [`Stage::clear`] has done all of it otherwise. The processes are killed as they
    /// are dropped.
    fn drop(&mut self) {
        self.processes.clear();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn stop(mut process: Process) {
    for signal in [process.signal, Signal::KILL] {
        let Some(pid) = process.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
        else {
            return;
        };
        // Not waited for yet, so the id is still its own.
        let _ = kill_process(pid, signal);
        if tokio::time::timeout(STOP_WAIT, process.child.wait()).await.is_ok() {
            return;
        }
    }
}

/// A file for its owner only.
pub fn private_file(path: &Path, text: &str) -> Outcome {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(path, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| failed(path, &error))
}

/// A file for everybody, such as a CA certificate.
pub fn public_file(path: &Path, text: &str) -> Outcome {
    private_file(path, text)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(|error| failed(path, &error))
}

fn make_folder(path: &Path, mode: u32) -> Outcome {
    DirBuilder::new().mode(mode).create(path).map_err(|error| failed(path, &error))?;
    // Whatever the umask is.
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| failed(path, &error))
}

pub fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// 48 hexadecimal digits from the system's random source.
pub fn random_text() -> Outcome<String> {
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(format!("no random bits: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unprivileged(accounts: &[&str]) -> Outcome<Account> {
    let passwd = std::fs::read_to_string("/etc/passwd")
        .map_err(|error| Failure::new(format!("/etc/passwd cannot be read: {error}")))?;
    accounts.iter().find_map(|name| account(&passwd, name)).ok_or_else(|| {
        let what = "the database server is not run as root, and there is no account";
        Failure::new(format!("{what} {}", accounts.join(" or "))).hint("run the demo as another user")
    })
}

fn account(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(account(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(account(passwd, "nobody"), None);
    }

    #[test]
    fn random_texts_differ() {
        let (one, other) = (random_text().unwrap(), random_text().unwrap());
        assert_eq!(one.len(), 48);
        assert_ne!(one, other);
    }
}
