"""The credentials provider of AWS IoT on 127.0.0.1, with mutual TLS."""

from __future__ import annotations

import datetime
import http.server
import json
import ssl
import threading


class IotServer:
    def __init__(self, authority, tmp_path):
        self.status, self.body, self.paths, self.things, self.durations = 200, None, [], [], []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.paths.append(self.path)
                server.things.append(self.headers.get("x-amzn-iot-thingname"))
                server.durations.append(self.headers.get("x-amzn-iot-credential-duration-seconds"))
                body = json.dumps(server.body or server.given()).encode()
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_): ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = authority.issue("localhost")
        (tmp_path / "server.pem").write_bytes(certificate + key)
        context.load_cert_chain(tmp_path / "server.pem")
        context.load_verify_locations(cadata=authority.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.endpoint = f"localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def given(self):
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        return {
            "credentials": {
                "accessKeyId": "ASIAIOT", "secretAccessKey": "s", "sessionToken": "t",
                "expiration": expires.isoformat(),
            }
        }

    def close(self):
        self._server.shutdown()
        self._server.server_close()
