//! Answers of the scripts. A server may answer anything: each number is checked.

use std::time::Duration;

use redis::Value;

use super::super::store::{
    Acquired, Claim, Lead, Permit, Publication, StoreError, StoredSet, Turn,
};

/// The largest set in the store, encrypted. A session token may have 16 KiB.
const LARGEST_SET: usize = 32 * 1024;
/// The longest wait that counts.
const LONGEST_WAIT: u64 = 60;
/// The longest lease of another host that counts: a day and a minute.
const LONGEST_LEASE: u64 = 86_460;
/// The store counts tokens in microseconds since 1970, in numbers that are exact below this.
const LARGEST_NUMBER: u64 = 1 << 53;

pub(super) fn permit(value: &Value) -> Result<Permit, StoreError> {
    let Value::Array(parts) = value else { return Err(odd()) };
    let [granted, wait] = &parts[..] else { return Err(odd()) };
    let wait = Duration::from_micros(number(wait)?).min(Duration::from_secs(LONGEST_WAIT));
    match number(granted)? {
        1 => Ok(Permit::Granted(wait)),
        0 => Ok(Permit::Refused(wait)),
        _ => Err(odd()),
    }
}

pub(super) fn acquired(value: Value, claim: &Claim) -> Result<Acquired, StoreError> {
    let Value::Array(parts) = value else { return Err(odd()) };
    let [turn, now, value, failures, set @ ..] = &parts[..] else { return Err(odd()) };
    let (now, value) = (number(now)?, number(value)?);
    let set = match set {
        [] => None,
        [expires, fresh_until, Value::BulkString(sealed)] if sealed.len() <= LARGEST_SET => {
            let (expires, fresh_until) = (number(expires)?, number(fresh_until)?);
            Some(StoredSet { expires, fresh_until, sealed: sealed.clone() })
        }
        _ => return Err(odd()),
    };
    let lease = Duration::from_millis(value).min(Duration::from_secs(LONGEST_LEASE));
    let turn = match number(turn)? {
        0 if set.is_some() => Turn::Nobody,
        1 => {
            let lead = Lead { set: claim.set.clone(), owner: claim.owner, token: value };
            Turn::Caller(lead, number(failures)?)
        }
        2 => Turn::Another(lease),
        3 => Turn::Paused(lease.min(Duration::from_secs(LONGEST_WAIT))),
        _ => return Err(odd()),
    };
    Ok(Acquired { turn, set, now })
}

pub(super) fn publication(value: &Value) -> Result<Publication, StoreError> {
    match number(value)? {
        1 => Ok(Publication::Stored),
        0 => Ok(Publication::Fenced),
        2 => Ok(Publication::NotLater),
        _ => Err(odd()),
    }
}

/// A number that is not negative. Numbers that do not fit an integer of the protocol are texts.
fn number(value: &Value) -> Result<u64, StoreError> {
    let found = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
        }
        _ => None,
    };
    found.filter(|number| *number < LARGEST_NUMBER).ok_or_else(odd)
}

fn odd() -> StoreError {
    StoreError::wrong("the store gave an answer that the script cannot give")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> Claim {
        let lease = Duration::from_secs(1);
        Claim { set: "web".into(), owner: 7, lease, newer_than: 0, except: 0 }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn odd_permits_are_refused() {
        let answer = |granted, wait| permit(&Value::Array(vec![Value::Int(granted), wait]));
        assert_eq!(answer(1, Value::Int(5)), Ok(Permit::Granted(Duration::from_micros(5))));
        let minute = Duration::from_secs(60);
        assert_eq!(answer(0, Value::Int(1 << 52)), Ok(Permit::Refused(minute)));
        for wait in [Value::Int(-1), Value::Int(i64::MAX), text("nan"), text("-0"), Value::Nil] {
            assert_eq!(answer(1, wait.clone()), Err(odd()), "{wait:?}");
        }
        assert_eq!(answer(2, Value::Int(5)), Err(odd()));
        assert_eq!(permit(&Value::Double(f64::NAN)), Err(odd()));
        assert_eq!(permit(&Value::Array(vec![])), Err(odd()));
    }

    #[test]
    fn odd_sets_are_refused() {
        let answer = |turn, set: Vec<Value>| {
            let mut parts = vec![Value::Int(turn), text("10"), text("20"), Value::Int(0)];
            parts.extend(set);
            acquired(Value::Array(parts), &claim())
        };
        let set = |sealed| vec![text("1"), text("2"), sealed];
        assert!(answer(0, set(text("sealed"))).unwrap().set.is_some());
        assert_eq!(answer(0, vec![]), Err(odd()), "a set is promised");
        assert_eq!(answer(4, vec![]), Err(odd()));
        assert_eq!(answer(1, set(Value::Int(1))), Err(odd()));
        assert_eq!(answer(1, set(Value::BulkString(vec![0; LARGEST_SET + 1]))), Err(odd()));
        assert_eq!(answer(1, vec![text("1e300"), text("2"), text("sealed")]), Err(odd()));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            any::<i64>().prop_map(Value::Int),
            (0i64..4).prop_map(Value::Int),
            any::<f64>().prop_map(Value::Double),
            "[0-9]{1,20}".prop_map(|text| Value::BulkString(text.into_bytes())),
            any::<Vec<u8>>().prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(2, 16, 8, |inner| {
            prop::collection::vec(inner, 0..8).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn no_answer_panics_or_waits_for_long(value in any_value()) {
            let minute = Duration::from_secs(60);
            if let Ok(Permit::Granted(wait) | Permit::Refused(wait)) = permit(&value) {
                prop_assert!(wait <= minute);
            }
            if let Ok(Acquired { turn: Turn::Paused(wait), .. }) = acquired(value.clone(), &claim()) {
                prop_assert!(wait <= minute);
            }
            let _ = publication(&value);
        }
    }
}
