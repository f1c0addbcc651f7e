//! A stand-in for the credentials provider of AWS IoT Core: it gives sets for the role alias `app`, to
//! devices whose certificates its authority has signed.

use std::{
    io,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_smithy_types::{DateTime, date_time::Format};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate authority of its own.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Device {
    pub certificate: String,
    pub key: String,
}

/// The kinds of a device's key, and how it is written.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// EC, in PKCS#8.
    Ec,
    /// EC, in SEC 1.
    EcSec1,
    /// RSA, in PKCS#8.
    Rsa,
    /// RSA, in PKCS#1.
    RsaPkcs1,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a stand-in's authority");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new device.
    pub fn device(&self, kind: Key) -> Device {
        let algorithm = match kind {
            Key::Ec | Key::EcSec1 => &PKCS_ECDSA_P256_SHA256,
            Key::Rsa | Key::RsaPkcs1 => &PKCS_RSA_SHA256,
        };
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let inner = |label| {
            let der = key.serialize_der();
            let info = pkcs8::PrivateKeyInfoRef::try_from(&*der).expect("PKCS#8");
            pem::encode(&pem::Pem::new(label, info.private_key.as_bytes()))
        };
        let written = match kind {
            Key::Ec | Key::Rsa => key.serialize_pem(),
            Key::EcSec1 => inner("EC PRIVATE KEY"),
            Key::RsaPkcs1 => inner("RSA PRIVATE KEY"),
        };
        Device { certificate: self.sign("device", &key), key: written }
    }

    fn sign(&self, name: &str, key: &KeyPair) -> String {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.signed_by(key, &self.issuer).expect("a certificate").pem()
    }

    /// How its servers speak TLS: to devices with a certificate of its.
    pub fn server(&self) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let parse = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let certificate = parse(&self.sign("127.0.0.1", &key));
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(parse(&self.certificate)).expect("an authority");
        let devices = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(devices.build().expect("a verifier"))
            .with_single_cert(vec![certificate], key)
            .expect("a certificate and its key")
    }
}

/// Serves the devices of `authority` for good; only those of the thing `thing`.
pub fn serve(listener: TcpListener, authority: &Authority, thing: &str) {
    let acceptor = TlsAcceptor::from(Arc::new(authority.server()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let calls = Arc::new(AtomicU32::new(0));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(acceptor.clone(), stream, thing.to_owned(), calls.clone()));
        }
    });
}

async fn connection(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    thing: String,
    calls: Arc<AtomicU32>,
) {
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => {
            let answer = service_fn(|request| {
                let answer = respond(&request, &thing, &calls);
                async { Ok::<_, io::Error>(answer) }
            });
            // A client that goes away early misses the answer.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
        Err((_, mut stream)) => {
            // The alert arrives only if nothing that was sent to us stays unread.
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        }
    }
}

fn respond<B>(request: &Request<B>, thing: &str, calls: &AtomicU32) -> Response<Full<Bytes>> {
    let named = request.headers().get("x-amzn-iot-thingname").and_then(|name| name.to_str().ok());
    let busy = request.uri().path() == "/role-aliases/busy/credentials";
    let (status, kind, body) = if busy {
        (429, "ThrottlingException", r#"{"message":"slow down"}"#.to_owned())
    } else if request.uri().path() != "/role-aliases/app/credentials" {
        (404, "ResourceNotFoundException", r#"{"message":"no such role alias"}"#.to_owned())
    } else if named != Some(thing) {
        (403, "AccessDeniedException", r#"{"message":"another thing"}"#.to_owned())
    } else {
        (200, "", set(1 + calls.fetch_add(1, Ordering::Relaxed)))
    };
    let mut response = Response::builder().status(status);
    if busy {
        response = response.header("retry-after", "7");
    }
    response
        .header("x-amzn-errortype", kind)
        .header("x-amzn-requestid", "01234567-89ab-cdef-0123-456789abcdef")
        .body(Full::from(body))
        .expect("a response")
}

fn set(number: u32) -> String {
    let hour = SystemTime::now() + Duration::from_secs(3600);
    let seconds = hour.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expiration = DateTime::from_secs(seconds as i64).fmt(Format::DateTime).expect("a time");
    format!(
        r#"{{"credentials":{{"accessKeyId":"ASIA{number}","secretAccessKey":"any",
        "sessionToken":"any","expiration":"{expiration}"}}}}"#
    )
}
