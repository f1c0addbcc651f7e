"""A small AWS for one client: STS that numbers the sets that it gives, and S3 that keeps objects and writes down who
signed each request."""

import datetime
import http.server
import re
import threading
import urllib.parse

XML = '<?xml version="1.0" encoding="UTF-8"?>'
ASSUMED = XML + """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:s</AssumedRoleId>
<Arn>arn:aws:sts::123456789012:assumed-role/app/s</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret-{key}</SecretAccessKey>
<SessionToken>token-{key}</SessionToken><Expiration>{expiry}</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""
S3 = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
BUCKETS = f"{XML}<ListAllMyBucketsResult {S3}><Owner><ID>o</ID></Owner><Buckets></Buckets></ListAllMyBucketsResult>"
IDENTITY = XML + """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>a</Arn><UserId>u</UserId><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""
LOCATION = f"{XML}<LocationConstraint {S3}/>"
ANONYMOUS = "anonymous"


class Aws(http.server.ThreadingHTTPServer):
    """One server for both services; each set lives for `life` seconds."""

    daemon_threads = True

    def __init__(self, life=3600):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.life, self.lock = life, threading.Lock()
        # Of STS: how many sets it gave. Of S3: who signed, and for which Region.
        self.calls, self.signed = 0, []
        self.objects = {}

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def keys(self):
        """The access keys in the order in which S3 saw them first."""
        return list(dict.fromkeys(key for key, _ in self.signed))

    def regions(self):
        return {region for _, region in self.signed}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.body().decode(errors="replace")
        if "Action=AssumeRole" not in body:
            return self.is_signed() and self.answer(200, IDENTITY)
        with self.server.lock:
            self.server.calls += 1
            key = f"ASIAEXAMPLE{self.server.calls:05}"
        expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.server.life)
        self.answer(200, ASSUMED.format(key=key, expiry=expiry.strftime("%Y-%m-%dT%H:%M:%SZ")))

    def do_GET(self):
        if not self.is_signed():
            return
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        if not bucket:
            self.answer(200, BUCKETS)
        elif "location" in query:
            self.answer(200, LOCATION)
        elif not key:
            self.answer(200, self.listing(bucket, query))
        elif (bucket, key) in self.server.objects:
            self.answer(200, self.server.objects[bucket, key])
        else:
            self.answer(404, f"{XML}<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.body()
        if self.is_signed():
            bucket, _, key = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/").partition("/")
            if key:
                self.server.objects[bucket, key] = body
            self.answer(200, b"")

    def do_DELETE(self):
        if self.is_signed():
            self.answer(204, b"")

    def listing(self, bucket, query):
        prefix = query.get("prefix", [""])[0]
        found = [(key, len(data)) for (of, key), data in self.server.objects.items() if of == bucket]
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>e</ETag>"
            f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key, size in found
            if key.startswith(prefix)
        )
        return (
            f"{XML}<ListBucketResult {S3}><Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>0</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        )

    def is_signed(self):
        """Notes who signed; refuses who did not."""
        said = self.headers.get("Authorization", "") + urllib.parse.unquote(self.path)
        by4 = re.search(r"Credential=([^/]+)/\d+/([^/]*)/", said)
        by2 = re.search(r"AWS ([A-Z0-9]+):|AWSAccessKeyId=([A-Z0-9]+)", said)
        signer = by4.groups() if by4 else ((by2[1] or by2[2]), "") if by2 else (ANONYMOUS, "")
        with self.server.lock:
            self.server.signed.append(signer)
        if signer[0] == ANONYMOUS:
            self.answer(403, f"{XML}<Error><Code>AccessDenied</Code><Message>not signed</Message></Error>")
        return signer[0] != ANONYMOUS

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status, body):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Type", "application/xml")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass
