//! One-time codes for `AssumeRole`.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{
    FingerprintEncoder, SourceError, SourceErrorClass, portable::Device, program::Program,
    source_error::Cause,
};

type Asking = Pin<Box<dyn Future<Output = Result<String, SourceError>> + Send>>;

/// An MFA device, and how to get its codes.
#[derive(Clone)]
pub(super) struct Mfa {
    pub(super) serial_number: String,
    from: CodeFrom,
}

#[derive(Clone)]
enum CodeFrom {
    Closure(Arc<dyn Fn() -> Asking + Send + Sync>, Duration),
    Program(Program),
}

/// The default time for a code.
const CODE_TIMEOUT: Duration = Duration::from_secs(30);

impl Mfa {
    pub(super) fn closure<F, Fut, E>(serial_number: String, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Cause>,
    {
        let ask = move || -> Asking {
            let code = ask();
            Box::pin(async {
                code.await.map_err(|error| SourceError::from_error("the MFA code", &*error.into()))
            })
        };
        Mfa { serial_number, from: CodeFrom::Closure(Arc::new(ask), CODE_TIMEOUT) }
    }

    pub(super) fn program<S: Into<String>>(
        serial_number: String,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        Mfa { serial_number, from: CodeFrom::Program(Program::new(argv, CODE_TIMEOUT)) }
    }

    /// The device and the program; `None` for a closure.
    pub(super) fn portable(&self) -> Option<Device> {
        let CodeFrom::Program(program) = &self.from else { return None };
        let (serial_number, argv) = (self.serial_number.clone(), program.argv().to_vec());
        Some(Device { serial_number, argv, timeout: program.timeout })
    }

    pub(super) fn timeout(&self) -> Duration {
        match &self.from {
            CodeFrom::Closure(_, timeout) => *timeout,
            CodeFrom::Program(program) => program.timeout,
        }
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        match &mut self.from {
            CodeFrom::Closure(_, own) => *own = timeout,
            CodeFrom::Program(program) => program.timeout = timeout,
        }
    }

    /// Adds the device, and the program that prints its codes. A closure has no identity.
    pub(super) fn encode(&self, encoder: FingerprintEncoder) -> FingerprintEncoder {
        let Mfa { serial_number, from } = self;
        let encoder = encoder.text("mfa-serial-number", serial_number);
        match from {
            CodeFrom::Closure(_, _) => encoder.text("mfa-by", "closure"),
            CodeFrom::Program(program) => program.encode("mfa-by", encoder),
        }
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        match &self.from {
            CodeFrom::Closure(_, timeout) => {
                super::validate::timeout("mfa_timeout", Some(*timeout))
            }
            CodeFrom::Program(program) => program.validate("mfa_command"),
        }
    }

    /// Asks for a code, once.
    pub(super) async fn code(&self) -> Result<String, SourceError> {
        let written = match &self.from {
            CodeFrom::Program(program) => {
                let answer = program.run("the MFA command", has_code).await;
                let written = answer.map_err(without_codes)?;
                String::from_utf8_lossy(&written).into_owned()
            }
            CodeFrom::Closure(ask, limit) => {
                tokio::time::timeout(*limit, ask()).await.map_err(|_| {
                    let text = format!("the MFA code did not come within {limit:?}");
                    SourceError::new(SourceErrorClass::Transient, text)
                })??
            }
        };
        last_code(&written).map(str::to_owned).ok_or_else(|| {
            let text = "no MFA code: the answer contains no six-digit number as a separate word";
            SourceError::new(SourceErrorClass::Transient, text)
        })
    }
}

impl fmt::Debug for Mfa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mfa").field(&self.serial_number).finish()
    }
}

fn has_code(written: &[u8]) -> bool {
    last_code(&String::from_utf8_lossy(written)).is_some()
}

/// A program that fails may have printed a code.
fn without_codes(failure: SourceError) -> SourceError {
    let message = failure.message().to_owned();
    codes(&message).fold(failure, |failure, code| failure.without(code))
}

/// The last separate number of six digits.
fn last_code(text: &str) -> Option<&str> {
    codes(text).last()
}

fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_separate_code_is_taken() {
        for (text, code) in [
            ("123456", Some("123456")),
            ("Your code: 123456.\n", Some("123456")),
            ("111111 then 222222\nsince 2026", Some("222222")),
            ("1234567 a123456 12345 123456b", None),
            ("", None),
        ] {
            assert_eq!(last_code(text), code, "{text}");
        }
    }

    #[tokio::test]
    async fn a_closure_is_asked_and_its_error_kept() {
        let ask = || async { Ok::<_, SourceError>("code 654321".to_owned()) };
        assert_eq!(Mfa::closure("x".into(), ask).code().await.unwrap(), "654321");
        let ask = || async { Err::<String, _>("the device is gone") };
        let failure = Mfa::closure("x".into(), ask).code().await.unwrap_err();
        assert!(failure.message().ends_with("the device is gone"), "{failure}");
        let script = "echo 'device: 123456 refused' >&2; exit 1";
        let device = Mfa::program("x".into(), ["/bin/sh", "-c", script]);
        let failure = device.code().await.unwrap_err();
        assert!(failure.message().ends_with("device: [redacted] refused"), "{failure}");
        let mut mfa = Mfa::closure("x".into(), std::future::pending::<Result<String, SourceError>>);
        mfa.set_timeout(Duration::from_millis(1));
        assert!(mfa.code().await.unwrap_err().message().contains("within 1ms"));
    }
}
