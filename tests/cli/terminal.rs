//! A terminal that is none: a pseudo terminal, with an emulator that knows what a user would see.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZeroU16,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt, unix::process::CommandExt},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use nix::{
    fcntl::OFlag,
    libc,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::termios::{LocalFlags, tcgetattr},
};

use crate::support::until;

pub struct Terminal {
    pub child: Child,
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts `command` as the leader of a session in a terminal of so many columns and rows.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        set_size(&master, columns, rows);
        let path = ptsname_r(&master).unwrap();
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).unwrap()
        };
        command.env("TERM", "xterm-256color");
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
        let lead = || {
            nix::unistd::setsid()?;
            // SAFETY: a system call on a descriptor that is open.
            match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: between fork and exec it makes system calls and nothing else.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().unwrap();
        drop(command);
        let keyboard = File::from(std::os::fd::OwnedFd::from(master));
        let screen =
            Arc::new(Mutex::new(vt100::Parser::new(positive(rows), positive(columns), 1000)));
        watch(keyboard.try_clone().unwrap(), Arc::clone(&screen));
        Terminal { child, keyboard, screen }
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.emulator().screen_mut().set_size(positive(rows), positive(columns));
        set_size(&self.keyboard, columns, rows);
    }

    pub fn emulator(&self) -> MutexGuard<'_, vt100::Parser> {
        self.screen.lock().unwrap()
    }

    /// The lines of the screen, without the spaces at their ends.
    pub fn lines(&self) -> Vec<String> {
        let emulator = self.emulator();
        let (_, columns) = emulator.screen().size();
        emulator.screen().rows(0, columns.get()).map(|line| line.trim_end().to_owned()).collect()
    }

    /// Whether what is typed is shown, and read in lines: not while a program has the whole screen.
    pub fn is_cooked(&self) -> bool {
        let flags = tcgetattr(&self.keyboard).unwrap().local_flags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// Waits until a line of the screen contains `text`.
    pub fn shows(&self, text: &str) {
        let mut last = Vec::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(text, || {
                last = self.lines();
                last.iter().any(|line| line.contains(text))
            });
        }));
        assert!(found.is_ok(), "{text:?} is not on the screen:\n{}", last.join("\n"));
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the terminal's program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

/// Draws what is written on the terminal, until nobody has it open any more.
fn watch(mut output: File, screen: Arc<Mutex<vt100::Parser>>) {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            screen.lock().unwrap().process(&bytes[..count]);
        }
    });
}

fn positive(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn set_size(terminal: &impl AsRawFd, columns: u16, rows: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call reads the structure that it is given, and the descriptor is open.
    assert_eq!(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) }, 0);
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
