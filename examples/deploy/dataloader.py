"""A PyTorch DataLoader whose worker processes read objects from S3 with one shared set of credentials:

    shmcreds exec --role-arn ARN -- python dataloader.py BUCKET KEY…

Without torch the standard library's processes take the DataLoader's place, by the same functions.
"""

import multiprocessing
import os
import sys

import boto3

s3 = None


def connect(worker=None):
    """Gives this process a client of its own: a DataLoader's `worker_init_fn`. Neither connections nor clients
    may come from before a fork, and none can be pickled for `spawn` and `forkserver`."""
    global s3
    s3 = boto3.client("s3")


class Objects:
    """A dataset of S3 objects. Holds names only, so that it can be sent to workers of every start method."""

    def __init__(self, bucket, keys):
        self.bucket, self.keys = bucket, keys

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        return s3.get_object(Bucket=self.bucket, Key=self.keys[index])["Body"].read()


def load(dataset, workers, context):
    """The dataset's items, read by that many processes; `context` is "fork", "spawn" or "forkserver"."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        with multiprocessing.get_context(context).Pool(workers, connect) as pool:
            yield from pool.imap(dataset.__getitem__, range(len(dataset)))
        return
    options = {"multiprocessing_context": context, "worker_init_fn": connect, "collate_fn": list}
    for batch in DataLoader(dataset, num_workers=workers, **options):
        yield from batch


if __name__ == "__main__":
    bucket, *keys = sys.argv[1:]
    context = os.environ.get("START_METHOD", "forkserver")
    print(sum(len(item) for item in load(Objects(bucket, keys), 8, context)), "bytes")
