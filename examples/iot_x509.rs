//! A device that shows a certificate: the role behind a role alias of AWS IoT Core, for all the device's
//! processes.
//!
//! `cargo run --example iot_x509` asks a local stand-in, with a certificate that it makes. With
//! `cargo run --example iot_x509 -- ENDPOINT ROLE_ALIAS CERTIFICATE_FILE KEY_FILE THING` it asks AWS.

#[path = "stand_in/iot.rs"]
mod iot;

use std::{net::TcpListener, sync::Arc};

use shmcreds::{IotCore, Pem, SharedSession};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let source = match &arguments[..] {
        [endpoint, alias, certificate, key, thing] => {
            IotCore::new(endpoint, alias, Pem::file(certificate), Pem::file(key)).thing_name(thing)
        }
        [] => local()?,
        _ => {
            return Err(
                "expected ENDPOINT ROLE_ALIAS CERTIFICATE_FILE KEY_FILE THING, or nothing".into()
            );
        }
    };
    let session = SharedSession::builder("example-iot").source(source).create()?;
    println!("the session's source: {}", session.status()?.source());
    for _ in 0..2 {
        println!("fetched the set of key {}", session.refresh()?.access_key_id());
    }
    Ok(())
}

fn local() -> std::io::Result<IotCore> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = listener.local_addr()?.to_string();
    println!("no endpoint given: asking a stand-in at {endpoint}");
    let authority = Arc::new(iot::Authority::new());
    let device = authority.device(iot::Key::Ec);
    let ca = Pem::text(authority.certificate());
    std::thread::spawn(move || iot::serve(listener, &authority, "sensor-1"));
    let (certificate, key) = (Pem::text(device.certificate), Pem::text(device.key));
    Ok(IotCore::new(endpoint, "app", certificate, key).ca(ca).thing_name("sensor-1"))
}
