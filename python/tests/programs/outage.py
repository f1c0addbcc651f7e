"""Reads until a read fails. Tells the first key, and then the error, and whether it came before the set had expired."""

import logging
import time

import botocore.exceptions
from reading import session, tell

logging.disable()  # Of the failures while the set is valid.
made = session()
credentials, store = made.get_credentials(), made._obtainer.store
tell(credentials.access_key)
while True:
    began = time.time()
    try:
        key = credentials.access_key
    except botocore.exceptions.ClientError as error:
        # Two clocks: a tenth is neither early nor late.
        tell({"code": error.response["Error"]["Code"], "early": time.time() < store.look().expires - 0.1})
        break
    look = store.look()
    assert look.frozen.access_key != key or began < look.expires + 0.1, "an expired set was given"
    time.sleep(0.02)
