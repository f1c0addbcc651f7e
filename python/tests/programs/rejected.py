"""Forks WORKERS children, which list the buckets at URL at once, when the set may be replaced. Tells how they ended: with 0
where the request was answered, with LATE where a child waited for as long as it may."""

import os
import sys
import time

import botocore.exceptions
from reading import session, tell

LATE = 3
workers, url = int(sys.argv[1]), sys.argv[2]
made = session()
made.get_credentials().access_key
fetched = time.monotonic()
arrived, go = os.pipe(), os.pipe()
children = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        client = made.client("s3", endpoint_url=url, region_name="us-east-1")
        made._sts_client  # Kept. To load it while others wait for the set would take too long on a busy machine.
        os.close(go[1])
        os.write(arrived[1], b".")
        os.read(go[0], 1)  # Ends when the parent closes its end.
        began = time.monotonic()
        try:
            client.list_buckets()
        except botocore.exceptions.ClientError as error:
            print(time.monotonic() - began, error, made.status(), file=sys.stderr)
            # A caller waits for 30 s at most, which a busy machine can exceed.
            os._exit(LATE if time.monotonic() - began > 25 else 1)
        os._exit(0)
    children.append(pid)
seen = b""
while len(seen) < workers:
    seen += os.read(arrived[0], workers)
# A set that is younger than 5 s is not replaced.
while time.monotonic() < fetched + 5.1:
    time.sleep(0.05)
os.close(go[1])
tell([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
