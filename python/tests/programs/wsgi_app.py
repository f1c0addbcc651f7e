"""A WSGI application that tells which set its worker has."""

import json
import os
import time

from reading import session

made = session()


def application(environ, start_response):
    # So long that other requests go to other workers.
    time.sleep(0.05)
    key = made.get_credentials().access_key
    body = json.dumps({"pid": os.getpid(), "key": key, **made.status()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
