//! Each encoding of a role, byte for byte. Processes of several versions share a session by the fingerprint, and a pool by
//! the key; the inputs of a role cross between programs as JSON.

use std::time::Duration;

use aws_credential_types::Credentials;
use sha2::{Digest, Sha256};

use super::{AssumeRole, Inputs, every_input};
use crate::{
    hexadecimal,
    source::{Source, to_json},
};

/// A role with a value for each input.
fn full() -> AssumeRole {
    AssumeRole::new("arn:aws:iam::123456789012:role/path/full")
        .session_name("full-session")
        .duration(Duration::from_millis(900_500))
        .external_id("tenant-42")
        .policy("{}")
        .policy_arn("arn:aws:iam::aws:policy/B")
        .policy_arn("arn:aws:iam::aws:policy/A")
        .tag("team", "storage")
        .tag("stage", "test")
        .transitive_tag_key("team")
        .transitive_tag_key("stage")
        .source_identity("alice")
        .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "assertion")
        .provided_context("arn:aws:iam::aws:contextProvider/Another", "another")
        .region("eu-central-1")
        .regions(["us-west-2", "eu-west-1"])
        .endpoint_url("https://full.example")
        .ca_bundle("/etc/ca.pem")
        .proxy("http://me:hush@proxy:3128")
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_millis(3_500))
        .max_attempts(4)
        .profile("app")
}

fn with(change: impl FnOnce(&mut Inputs)) -> AssumeRole {
    let mut role = full();
    change(&mut role.inputs);
    role
}

/// Roles that differ from [`every_input::plain`]. Together they have each input, alone.
fn roles() -> Vec<(&'static str, AssumeRole)> {
    let plain = every_input::plain;
    let second = Duration::from_nanos(1_000_000_001);
    let more = [
        ("ca bundle", plain().ca_bundle("/etc/ca.pem")),
        ("proxy", plain().proxy("http://me:hush@proxy:3128")),
        ("connect timeout", plain().connect_timeout(second)),
        ("read timeout", plain().read_timeout(second)),
        ("operation timeout", plain().operation_timeout(second)),
        ("attempts", plain().max_attempts(300)),
        ("all", full()),
    ];
    every_input::each_input_alone().into_iter().chain(more).collect()
}

/// In hexadecimal; of long bytes a digest.
fn shown(bytes: &[u8]) -> String {
    match bytes.len() {
        ..=32 => hexadecimal::text(bytes),
        long => format!("{long}:{}", hexadecimal::text(&Sha256::digest(bytes)[..8])),
    }
}

/// What the role is, in each encoding: the start of its key in a pool, and its inputs as they are packed and handed over.
fn encodings(role: &AssumeRole) -> [String; 3] {
    let key = role.pool_key(&[1; 32], &[2; 32]).unwrap();
    let packed = role.packed(&every_input::plain());
    [hexadecimal::text(&key[..8]), shown(packed.bytes()), shown(&to_json(&role.inputs).unwrap())]
}

#[test]
fn each_input_has_the_same_bytes_as_ever() {
    let lines = roles().into_iter().map(|(what, role)| {
        let [key, packed, handed_over] = encodings(&role);
        format!("{what}: {key} {packed} {handed_over}\n")
    });
    assert_eq!(lines.collect::<String>(), EVER);
}

/// By name: key, packed, handed over.
const EVER: &str = "\
nothing: 427b81790ee5ee01 00 441:716dfce48d7eb3e6
role: 0cf3131eb8b667fb 01220132 442:494df42a6bff65ba
long role: b505a9392fa6ef25 306:04dc94d517c66703 743:bdfa40b719b1dc92
long role too: d5a328bb7c941b57 306:49ceb2276b7d909f 743:e55212d11ab65f13
session name: 96326bfce1584e14 020003617069 441:9b906166d7ba26ec
duration: c70b192067b17fd8 0401840700 459:ca7fef804ab5847b
another duration: 1c70f78fb8be7eeb 0401850700 459:ef275ea01ba1c3c5
external id: b3d0f76d93e9d973 080100036f6e65 442:faeb150679349024
another external id: 06ae6cab5512b94c 0801000374776f 442:413489d21193feb4
a longer external id: 78e23d6de24a9c28 080100046f6e6531 443:f700283818857aa6
an empty external id: 3ea6448064a692a4 08010000 439:e0e9013dd5fcd8f6
policy: eceadfbfa8cd501b 100100027b7d 441:81dfed7acb0f1af9
another policy: 49bdd7c556e1ba17 100100037b207d 442:e450f4c282aa8dbe
an empty policy: 41e50ba73f0136a7 10010000 439:6ecd2e9d6263a7d9
policy arn: d5a39f9a8ae7271b 2001001961726e3a6177733a69616d3a3a6177733a706f6c6963792f41 468:8e62860ac1df3e79
two policy arns: 4c593813853a4318 2002001961726e3a6177733a69616d3a3a6177733a706f6c6963792f41000178 472:cef39b9f3d722101
one policy arn twice: 3ef6559d09646489 56:34373ca30b774756 496:e9f9566e79bd405f
transitive: 42c63bf9e0d361af 800101001961726e3a6177733a69616d3a3a6177733a706f6c6963792f41 468:3dc2dec38a4e58be
transitive tag: c2b0018402d656a0 80010100026162 445:d3e5e95729cedace
tag: 45e2d740986062b9 400100026162000163 451:ff56c2e29ceb8378
the same letters: 306082ad1db440ba 400100016100026263 451:31dac6be771547eb
an empty value: a30c30c3f8c34700 4001000261620000 450:eb13692d5859cd38
two tags: 950ca2fa597e6347 400200026162000163000164000165 461:fc9beb04ce5c7539
a tag that is transitive: 5eee9e48a3211ed5 c00101000261620001630100026162 455:981f3bb8d470a77f
a context like a tag: 1465ca11e14c7ae0 80040100026162000163 451:846cda661d31e63b
context: da591f1417ef55ce 63:73d2e013344b6b8e 504:3c3ce6a3491d7fc6
another context: 1c1ebb5fa22a6557 64:dc23ec9220e8e99d 505:bea24f7fa4f6a17d
source identity: 92b62254f1293b09 800201000764656661756c74 446:dd562e46c0734227
another source identity: 1e42f7adfa47d0a6 80020100046e6f6e65 443:46c36221e7c8f978
region: 300de0a57a009194 800801000975732d656173742d31 438:b98dfee585c36768
the default region: 31d104d3ae6448dc 800801000764656661756c74 436:cabd543d2e949b85
no region: 484a5afd04dcd7c1 800800 431:c00a132a5288a35f
regions: 875a500c14dafaac 801002000975732d656173742d31000975732d776573742d32 464:a0cce8abff19d8f4
one region in a list: 5b939f32d0c7c65d 801001000975732d656173742d31 452:5e9e774de48135af
regions in another order: 53cb328678b8a488 801002000975732d776573742d32000975732d656173742d31 464:9124193151c1880c
endpoint: ebb5d95427debe7a 802001040c3a2f2f6c6f63616c686f7374 438:68037c19ddc2ad90
no endpoint: 5749a5c9d7f9e4ec 802000 424:8600a804d8fcd2d0
profile: 3aa569606b266e04 808020010003617070 442:222e45106f1f5f64
ca bundle: 427b81790ee5ee01 804001000b2f6574632f63612e70656d 450:c8eba3b87b0dc911
proxy: 427b81790ee5ee01 808001010019687474703a2f2f6d653a687573684070726f78793a33313238 464:f3905c907378b9c4
connect timeout: 427b81790ee5ee01 808002010101 457:441424dbc497d905
read timeout: 427b81790ee5ee01 808004010101 457:b76c1108ae56dd8e
operation timeout: 427b81790ee5ee01 8080080101 440:9ea49ac58d144d4a
attempts: 427b81790ee5ee01 80801001ac02 440:acca0162f76d3937
all: 9f601d8237c07191 371:9714b919007b4a47 807:d7ce96a1fca0d6cd
";

#[test]
fn a_fingerprint_is_the_same_as_ever() {
    let of = |role: &AssumeRole| hexadecimal::text(&role.fingerprint());
    let of_provider = full().credentials_provider("mine", std::future::pending::<Credentials>);
    let keys = Credentials::new("AKIA", "secret", Some("token".into()), None, "test");
    assert_eq!(
        of(&of_provider),
        "a94358447842705ee99811f5f5c0104c4ea1c4058e784c43c0f99427f224f458"
    );
    assert_eq!(
        of(&full().base_keys(keys.clone())),
        "091e405d56c1b17d6bac4ffede7513f453615dbaa525a20a33b6f7b5168079a0"
    );
    let hub = every_input::plain().base_keys(keys);
    assert_eq!(
        of(&full().base_source(hub).mfa_command("123456789", ["/no/such/program"])),
        "ee1ca581357b3828f3c034cc0ed2223263ade8119a05183d3de01427ca9ed8c4"
    );
}

#[test]
fn what_is_handed_over_is_the_same_as_ever() {
    let keys = Credentials::new("AKIA", "secret", Some("token".into()), None, "test");
    let hub = every_input::plain().base_keys(keys);
    let role = full().mfa_command("123456789", ["/bin/echo", "123456"]).base_source(hub);
    let json = |text: zeroize::Zeroizing<Vec<u8>>| String::from_utf8(text.to_vec()).unwrap();
    let asked = with(|inputs| (inputs.ca_bundle, inputs.proxy) = (None, None));
    assert_eq!(
        json(asked.asked().unwrap()),
        r#"{"role_arn":"arn:aws:iam::123456789012:role/path/full","session_name":"full-session","duration":{"secs":900,"nanos":500000000},"external_id":"tenant-42","policy":"{}","policy_arns":["arn:aws:iam::aws:policy/B","arn:aws:iam::aws:policy/A"],"tags":[["team","storage"],["stage","test"]],"transitive_tag_keys":["team","stage"],"source_identity":"alice","provided_contexts":[["arn:aws:iam::aws:contextProvider/IdentityCenter","assertion"],["arn:aws:iam::aws:contextProvider/Another","another"]],"region":"eu-central-1","regions":["us-west-2","eu-west-1"],"endpoint_url":"https://full.example","ca_bundle":null,"proxy":null,"connect_timeout":{"secs":1,"nanos":0},"read_timeout":{"secs":2,"nanos":0},"operation_timeout":{"secs":3,"nanos":500000000},"max_attempts":4,"profile":"app"}"#
    );
    assert_eq!(
        json(to_json(&role.portable().unwrap()).unwrap()),
        r#"{"AssumeRole":{"inputs":{"role_arn":"arn:aws:iam::123456789012:role/path/full","session_name":"full-session","duration":{"secs":900,"nanos":500000000},"external_id":"tenant-42","policy":"{}","policy_arns":["arn:aws:iam::aws:policy/B","arn:aws:iam::aws:policy/A"],"tags":[["team","storage"],["stage","test"]],"transitive_tag_keys":["team","stage"],"source_identity":"alice","provided_contexts":[["arn:aws:iam::aws:contextProvider/IdentityCenter","assertion"],["arn:aws:iam::aws:contextProvider/Another","another"]],"region":"eu-central-1","regions":["us-west-2","eu-west-1"],"endpoint_url":"https://full.example","ca_bundle":"/etc/ca.pem","proxy":"http://me:hush@proxy:3128","connect_timeout":{"secs":1,"nanos":0},"read_timeout":{"secs":2,"nanos":0},"operation_timeout":{"secs":3,"nanos":500000000},"max_attempts":4,"profile":"app"},"mfa":{"serial_number":"123456789","argv":["/bin/echo","123456"],"timeout":{"secs":30,"nanos":0}},"base":{"Source":{"AssumeRole":{"inputs":{"role_arn":"arn:aws:iam::123456789012:role/app","session_name":"web","duration":null,"external_id":null,"policy":null,"policy_arns":[],"tags":[],"transitive_tag_keys":[],"source_identity":null,"provided_contexts":[],"region":"eu-central-1","regions":[],"endpoint_url":"https://sts.example","ca_bundle":null,"proxy":null,"connect_timeout":null,"read_timeout":null,"operation_timeout":{"secs":15,"nanos":0},"max_attempts":null,"profile":null},"mfa":null,"base":{"Keys":{"id":"AKIA","secret":"secret","token":"token"}}}}}}}"#
    );
}

#[test]
fn a_description_is_the_same_as_ever() {
    let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "test");
    let role = full().mfa_command("123456789", ["/bin/true"]).base_keys(keys);
    assert_eq!(
        role.describe(),
        r#"assume-role "arn:aws:iam::123456789012:role/path/full" session-name="full-session" duration=900s region="us-west-2,eu-west-1" endpoint="https://full.example" source-identity="alice" mfa="123456789" base="keys …MPLE" inputs=6faad4cb97135097"#
    );
    let one_region = with(|inputs| inputs.regions.clear());
    assert_eq!(
        one_region.describe(),
        r#"assume-role "arn:aws:iam::123456789012:role/path/full" session-name="full-session" duration=900s region="eu-central-1" endpoint="https://full.example" source-identity="alice" mfa="none" base="default-chain" inputs=6faad4cb97135097"#
    );
    assert_eq!(
        every_input::plain().describe(),
        r#"assume-role "arn:aws:iam::123456789012:role/app" session-name="web" duration=default region="eu-central-1" endpoint="https://sts.example" source-identity="default" mfa="none" base="default-chain" inputs=878b5b56a031b43c"#
    );
}
