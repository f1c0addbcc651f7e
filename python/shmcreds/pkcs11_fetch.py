"""The program that :mod:`shmcreds.pkcs11` runs: asks AWS IoT once, with a key in a PKCS#11 module.

It gets one JSON object on its standard input and prints one.
"""

import concurrent.futures
import json
import os
import sys
from typing import Any

_LONGEST_ANSWER = 64 * 1024


def _options(given: dict[str, Any]) -> Any:
    """The module is loaded here, and the token is logged in to."""
    from awscrt import io

    module = given["module"]
    options = io.TlsContextOptions.create_client_with_mtls_pkcs11(
        pkcs11_lib=io.Pkcs11Lib(file=module["pkcs11_lib"]),
        user_pin=module["user_pin"],
        slot_id=module["slot_id"],
        token_label=module["token_label"],
        private_key_label=module["private_key_label"],
        cert_file_contents=given["certificate"],
    )
    if given["ca"] is not None:
        options.override_default_trust_store(given["ca"].encode())
    options.verify_peer = given["verify_peer"]
    return io.ClientTlsContext(options).new_connection_options()


def _ask(given: dict[str, Any], options: Any) -> dict[str, Any]:
    from awscrt import http, io

    name, _, port = given["host"].partition(":")
    options.set_server_name(name)
    group = io.EventLoopGroup(1)
    bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
    connecting = http.HttpClientConnection.new(name, int(port or 443), bootstrap, tls_connection_options=options)
    connection = connecting.result(given["timeout"])
    request = http.HttpRequest("GET", given["target"])
    for header in {"host": given["host"], **given["headers"]}.items():
        request.headers.add(*header)
    body = bytearray()
    statuses: list[int] = []

    def on_response(*, status_code: int, **_: Any) -> None:
        statuses.append(status_code)

    def on_body(*, chunk: bytes, **_: Any) -> None:
        if len(body) < _LONGEST_ANSWER:
            body.extend(chunk)

    stream = connection.request(request, on_response, on_body)
    stream.activate()
    stream.completion_future.result(given["timeout"])
    return {"status": statuses[0], "body": body[:_LONGEST_ANSWER].decode("utf-8", "replace")}


def _told(given: dict[str, Any]) -> dict[str, Any]:
    try:
        options = _options(given)
    except Exception as error:
        return {"error": _text(error), "by": "module"}
    try:
        return _ask(given, options)
    except concurrent.futures.TimeoutError:
        # The TLS of the AWS CRT tells of a certificate that it refuses only after 10 to 30 s.
        problem = f"no answer within {given['timeout']:g} s; either it is slow, or its certificate is not trusted"
        return {"error": problem, "by": "server"}
    except Exception as error:
        return {"error": _text(error), "by": "server"}


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(". ")


def main() -> None:
    # A module that prints must not get between. What it says goes nowhere.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        given = json.load(sys.stdin)
        sys.path[:] = given["path"]
        json.dump(_told(given), out)
        out.flush()
    # The threads of the AWS CRT need no end of their own.
    os._exit(0)


if __name__ == "__main__":
    main()
