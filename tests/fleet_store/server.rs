//! A redis-server of a test.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::support::until;

/// The program must be there: without it nothing here is tested.
const MISSING: &str =
    "redis-server and redis-cli are needed for these tests: apt-get install redis-server";

/// A server on a Unix socket, which ends with the value.
pub struct Server {
    process: Child,
    pub folder: TempDir,
}

impl Server {
    pub fn start() -> Self {
        Server::with(&[])
    }

    pub fn with(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = spawn(folder.path(), settings);
        let server = Server { process, folder };
        server.wait_until_it_answers();
        server
    }

    /// A Sentinel on this port. It watches the service `web`, whose primary is on the other port.
    pub fn sentinel(port: &str, primary: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nunixsocket socket\nsentinel monitor web 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds web 1500\nsentinel failover-timeout web 10000\n{settings}"
        );
        fs::write(folder.path().join("sentinel.conf"), settings).unwrap();
        let mut command = Command::new("redis-server");
        command.args(["sentinel.conf", "--sentinel"]).current_dir(folder.path());
        let process = command.stdout(Stdio::null()).spawn().expect(MISSING);
        let server = Server { process, folder };
        server.wait_until_it_answers();
        server
    }

    /// Kills it, and starts an empty one in its place.
    pub fn restart_empty(&mut self) {
        self.kill();
        self.process = spawn(self.folder.path(), &[]);
        self.wait_until_it_answers();
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Lets another path lead to this server.
    pub fn stands_at(&self, path: &Path) {
        let _ = fs::remove_file(path);
        symlink(self.socket(), path).unwrap();
    }

    /// A command's answer, as redis-cli prints it.
    pub fn run(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        let output = cli.arg("-s").arg(self.socket()).args(command).output().expect(MISSING);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The same; the answer must be this.
    pub fn say(&self, command: &[&str], expected: &str) {
        assert_eq!(self.run(command), expected, "{command:?}");
    }

    /// All that the server keeps, as it writes it to a disk.
    pub fn dump(&self) -> Vec<u8> {
        self.say(&["SAVE"], "OK");
        fs::read(self.folder.path().join("dump.rdb")).unwrap()
    }

    fn wait_until_it_answers(&self) {
        until("the server answers", || {
            matches!(self.run(&["PING"]).as_str(), "PONG" | "NOAUTH Authentication required.")
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Nothing is compressed, so that a dump shows what is in it.
fn spawn(folder: &Path, settings: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--rdbcompression", "no"])
        .args(["--appendonly", "no", "--repl-diskless-sync-delay", "0"])
        .args(settings)
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect(MISSING)
}
