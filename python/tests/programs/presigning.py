"""Forks WORKERS children, which presign at the same moment a URL that outlives the set. Tells the keys that signed."""

import os
import re
import sys
import time

from reading import session, tell

workers = int(sys.argv[1])
made = session(advisory_timeout=1, mandatory_timeout=1)
made.get_credentials().access_key
arrived, go, keys = os.pipe(), os.pipe(), os.pipe()
children = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        client = made.client("s3", region_name="us-east-1")
        os.close(go[1])
        os.write(arrived[1], b".")
        os.read(go[0], 1)  # Ends when the parent closes its end.
        url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}, ExpiresIn=20)
        os.write(keys[1], (re.search("ASIA[0-9]+", url).group() + "\n").encode())
        os._exit(0)
    children.append(pid)
seen = b""
while len(seen) < workers:
    seen += os.read(arrived[0], workers)
end = time.monotonic() + 20
while made._obtainer.store.look().expires - time.time() > 20:
    assert time.monotonic() < end
    time.sleep(0.01)
os.close(go[1])
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
os.close(keys[1])
with os.fdopen(keys[0]) as file:
    tell(file.read().split())
