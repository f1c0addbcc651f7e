"""A worker of a cluster: gets a pickled session in the FILE, and reads an object at URL until the file END is there."""

import os
import pickle
import sys
import time

from reading import tell

file, url, end = sys.argv[1:]
with open(file, "rb") as given:
    session = pickle.load(given)
client = session.client("s3", endpoint_url=url, region_name="us-east-1")
reads = 0
while not os.path.exists(end):
    assert client.get_object(Bucket="b", Key="x")["Body"].read() == b"body"
    reads += 1
    time.sleep(0.05)
tell(reads)
