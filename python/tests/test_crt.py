"""The AWS CRT, which asks for credentials from threads of its own."""

from __future__ import annotations

import http.server
import threading

import boto3.crt
import pytest


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.host)])
def session(make, request):
    return make(engine=request.param)


@pytest.fixture
def s3():
    """Keeps the Authorization of each request."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def test_the_credentials_provider_of_s3transfer(session, sts):
    from s3transfer.crt import BotocoreCRTCredentialsWrapper

    provider = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    assert provider.get_credentials().result(20).access_key_id == sts.key(1)
    session.refresh()
    assert provider.get_credentials().result(20).access_key_id == sts.key(2)


def test_boto3_takes_the_credentials_for_its_crt(session, sts):
    wrapper = boto3.crt.BotocoreCRTCredentialsWrapper(session.get_credentials())
    assert wrapper().access_key_id == sts.key(1)


def test_an_upload_by_the_crt(session, sts, s3):
    from s3transfer.crt import BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client

    url, seen = s3
    arguments = {"region_name": "us-east-1", "endpoint_url": url, "config": boto3.session.Config(s3={"addressing_style": "path"})}
    client = create_s3_crt_client(
        region="us-east-1",
        crt_credentials_provider=BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider(),
        use_ssl=False,
    )
    import io

    for _ in range(2):
        with CRTTransferManager(client, BotocoreCRTRequestSerializer(session._session, arguments)) as manager:
            manager.upload(io.BytesIO(b"data"), "bucket", "key").result()
        session.refresh()
    assert sts.key(1) in seen[0] and sts.key(2) in seen[1]


@pytest.mark.program
@pytest.mark.parametrize(("lifetime", "seen"), [(3600, 1), (330, 1), (290, 2)])
def test_the_default_chain_keeps_a_set_until_five_minutes_before_its_expiry(make, sts, lifetime, seen):
    """It asks the endpoint of the export. The C runtime names its host without the port there."""
    from awscrt import auth, io

    sts.lifetime = lifetime
    session = make()
    with session.export():
        bootstrap = io.ClientBootstrap.get_or_create_static_default()
        provider = auth.AwsCredentialsProvider.new_default_chain(bootstrap)
        assert provider.get_credentials().result(20).access_key_id == sts.key(1)
        session.refresh()
        found = provider.get_credentials().result(20)
        assert found.access_key_id == sts.key(seen)
        assert found.session_token == f"token-of-{sts.key(seen)}"
