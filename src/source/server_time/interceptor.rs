//! An interceptor of the SDK that reads the server's time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{
                BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
            },
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

use super::{Asked, Seen, parse};

/// Keeps the `Date` header of the last answer, and when the request was sent and the header read.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct ServerTime(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    asked: Option<Asked>,
    seen: Option<Seen>,
}

impl ServerTime {
    pub(in crate::source) fn get(&self) -> Option<Seen> {
        self.times().seen.take()
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "shmcreds::ServerTime"
    }

    /// The SDK calls it once for each attempt.
    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.times() = Times { asked: Some(Asked::now()), seen: None };
        Ok(())
    }

    /// The headers have arrived. The body may still be missing.
    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(parse);
        let mut times = self.times();
        times.seen = times.asked.take().map(|asked| asked.answered(date));
        Ok(())
    }
}
