"""Forks WORKERS children, which list the buckets at URL at once, when the set may be replaced. Tells how they ended."""

import os
import sys
import time

from reading import session, tell

workers, url = int(sys.argv[1]), sys.argv[2]
made = session()
made.get_credentials().access_key
fetched = time.monotonic()
go = os.pipe()
children = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        client = made.client("s3", endpoint_url=url, region_name="us-east-1")
        os.close(go[1])
        os.read(go[0], 1)  # Ends when the parent closes its end.
        client.list_buckets()
        os._exit(0)
    children.append(pid)
# A set that is younger than 5 s is not replaced.
while time.monotonic() < fetched + 5.1:
    time.sleep(0.05)
os.close(go[1])
tell([os.waitpid(pid, 0)[1] for pid in children])
