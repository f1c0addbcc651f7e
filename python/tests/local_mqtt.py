"""A broker on 127.0.0.1 that accepts each MQTT client, over TLS and over WebSockets, and then hears it out."""

from __future__ import annotations

import base64
import hashlib
import socketserver
import ssl
import threading
from typing import Any

_CONNACK = b"\x20\x02\x00\x00"
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class MqttBroker:
    """Start it with ``with``."""

    def __init__(self, authority: Any, folder: Any) -> None:
        #: The name in each client's certificate; None where it gave none.
        self.certificates: list[str | None] = []
        #: The first packet of each client.
        self.connects: list[bytes] = []
        #: The path of each WebSocket.
        self.paths: list[str] = []
        certificate, key = authority.issue("localhost")
        pem = folder / "broker.pem"
        pem.write_bytes(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.load_verify_locations(cadata=authority.pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        broker = self

        class Client(socketserver.StreamRequestHandler):
            def setup(self) -> None:
                self.request = context.wrap_socket(self.request, server_side=True)
                super().setup()

            def handle(self) -> None:
                subject = dict(pair for (pair,) in (self.request.getpeercert() or {}).get("subject", ()))
                broker.certificates.append(subject.get("commonName"))
                first = self.rfile.peek(1)[:1]
                if first == b"G":
                    broker._open_websocket(self)
                    broker.connects.append(_frame(self.rfile))
                    self.wfile.write(b"\x82" + bytes([len(_CONNACK)]) + _CONNACK)
                else:
                    broker.connects.append(_packet(self.rfile))
                    self.wfile.write(_CONNACK)
                self.rfile.read()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Client)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]

    def __enter__(self) -> MqttBroker:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _open_websocket(self, client: Any) -> None:
        self.paths.append(client.rfile.readline().decode().split()[1])
        headers = {}
        for line in iter(client.rfile.readline, b"\r\n"):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        digest = hashlib.sha1((headers["sec-websocket-key"] + _GUID).encode()).digest()
        client.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )


def _packet(file: Any) -> bytes:
    """One MQTT packet that is shorter than 16 KiB."""
    head = file.read(2)
    length = head[1] & 0x7F
    if head[1] & 0x80:
        head += file.read(1)
        length += head[2] << 7
    return bytes(head + file.read(length))


def _frame(file: Any) -> bytes:
    """The payload of one masked frame that is shorter than 64 KiB."""
    length = file.read(2)[1] & 0x7F
    if length == 126:
        length = int.from_bytes(file.read(2), "big")
    mask = file.read(4)
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(file.read(length)))
