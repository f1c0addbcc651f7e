"""The examples behind moto: the URLs that the prefork server's workers sign are accepted for S3, threads
upload, and every input of AssumeRole arrives as it was given.

usage: behind_moto.py MOTO_SERVER EXAMPLES
"""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.parse

import boto3

from moto_aws import LIMIT, ROLE, Moto, get

def lines_of(process):
    """The lines of the process's output, as they come."""
    lines = queue.Queue()

    def pump():
        for line in process.stdout:
            print("  server:", line, end="", flush=True)
            lines.put(line)

    threading.Thread(target=pump, daemon=True).start()
    return lines


def check(server_url, aws):
    body = b"what the bucket holds"
    s3 = boto3.client("s3", endpoint_url=aws)
    s3.create_bucket(Bucket="interop")
    s3.put_object(Bucket="interop", Key="some/key", Body=body)

    keys, pids = set(), set()
    for _ in range(20):
        url = get(f"{server_url}/presign?bucket=interop&key=some/key").decode().strip()
        assert url.startswith(aws), url
        assert get(url) == body
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
        keys.add(query["X-Amz-Credential"][0].split("/")[0])
        token = query["X-Amz-Security-Token"][0]
        status = json.loads(get(f"{server_url}/status"))
        pids.add(status["pid"])
        assert (status["source_calls"], status["generation"]) == (1, 1), status
    assert len(keys) == 1, keys
    key = keys.pop()
    assert key.startswith("ASIA") and key.endswith(status["access_key_tail"]), key
    print(f"20 objects read with one key, signed by {len(pids)} workers; token of {len(token)} bytes")

    try:
        get(f"{server_url}/presign?bucket=interop")
        sys.exit("a request without a key was answered")
    except urllib.error.HTTPError as error:
        assert error.code == 400, error


def check_inputs(every_input, moto):
    forms = moto.recorded(lambda: subprocess.run([every_input], check=True, timeout=LIMIT))
    [sent] = [form for form in forms if form.get("Action") == "AssumeRole"]
    expected = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "every-input",
        "DurationSeconds": "1800",
        "ExternalId": "tenant-42",
        "Policy": '{"Version":"2012-10-17","Statement":[]}',
        "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess",
        "PolicyArns.member.2.arn": "arn:aws:iam::123456789012:policy/narrow",
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "storage + more",
        "Tags.member.2.Key": "stage",
        "Tags.member.2.Value": "",
        "TransitiveTagKeys.member.1": "team",
        "SourceIdentity": "alice",
        "ProvidedContexts.member.1.ProviderArn": "arn:aws:iam::aws:contextProvider/IdentityCenter",
        "ProvidedContexts.member.1.ContextAssertion": "signed assertion",
        "SerialNumber": "arn:aws:iam::123456789012:mfa/alice",
        "TokenCode": "271828",
    }
    assert sent == expected, (sent, expected)
    print(f"{len(expected)} inputs of AssumeRole arrived as given")


def check_threads(threads, aws):
    s3 = boto3.client("s3", endpoint_url=aws)
    s3.create_bucket(Bucket="threads")
    subprocess.run([threads, "threads", ROLE], check=True, timeout=LIMIT)
    found = s3.list_objects_v2(Bucket="threads")["KeyCount"]
    assert found == 160, found
    print(f"{found} objects uploaded by threads are there")


def main():
    moto_server, examples = sys.argv[1:]
    server = None
    with Moto(moto_server) as moto:
        aws = moto.url
        os.environ.update(
            AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE",
            AWS_SECRET_ACCESS_KEY="any",
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ENDPOINT_URL_STS=aws,
            AWS_ENDPOINT_URL_S3=aws,
            AWS_EC2_METADATA_DISABLED="true",
        )
        check_inputs(f"{examples}/every_input", moto)
        check_threads(f"{examples}/threads", aws)
        command = [f"{examples}/prefork_server", "--listen", "127.0.0.1:0", "--role-arn", ROLE]
        try:
            server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            lines = lines_of(server)
            listening = None
            while listening is None:
                listening = re.search(r"listening on (http://\S+)", lines.get(timeout=LIMIT))
            check(listening[1], aws)
            server.send_signal(signal.SIGTERM)
            assert server.wait(LIMIT) == 0, server.returncode
            left = [name for name in os.listdir("/dev/shm") if f"prefork-{server.pid}" in name]
            assert not left, left
            print("ended by SIGTERM, nothing left behind")
        finally:
            if server and server.poll() is None:
                server.kill()
                server.wait()


main()
