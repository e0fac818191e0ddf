//! Where the admin socket and the node file are.

use std::path::{Path, PathBuf};

use crate::cli::failure::{Failure, Outcome};
use crate::config::NodeConfig;

const NODE_FILES: [&str; 2] = ["tidegate.toml", "/etc/tidegate/tidegate.toml"];

/// The socket as named, else the one of the node file.
pub fn socket(named: Option<PathBuf>, config: Option<&Path>) -> Outcome<PathBuf> {
    match named {
        Some(path) => Ok(path),
        None => Ok(node_config(config)?.admin.socket),
    }
}

/// The node file as named, else the first usual one that is there.
pub fn node_file(named: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    NODE_FILES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        Failure::new(format!("there is no node file: neither ./{} nor {}", NODE_FILES[0], NODE_FILES[1]))
            .hint("name it with --config FILE, or the admin socket with --socket PATH")
    })
}

/// Reads and checks the node file.
pub fn node_config(named: Option<&Path>) -> Outcome<NodeConfig> {
    let path = node_file(named)?;
    NodeConfig::load(&path).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        Failure::new(lines.join("\nerror: "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_wins() {
        let socket = socket(Some("a.sock".into()), Some(Path::new("/nonexistent.toml")));
        assert_eq!(socket, Ok(PathBuf::from("a.sock")));
        assert_eq!(node_file(Some(Path::new("x.toml"))), Ok(PathBuf::from("x.toml")));
    }
}
