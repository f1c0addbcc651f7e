#!/usr/bin/env python3
"""A pickled session in the workers of dask and ray, over rotations: one call for each set, and none signed late.

    clusters.py [--workers 4] [--life 12] [--sets 4] [dask|ray…]

The workers get the session as an argument of a task. They read from a stand-in for S3 that refuses expired keys.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import libraries  # noqa: E402
import local_sts  # noqa: E402

import shmcreds  # noqa: E402


def work(session, url, end):
    """Reads in a worker until there is that file. Gives its process, and how many reads worked."""
    client = session.client("s3", endpoint_url=url, region_name=libraries.REGION)
    reads = 0
    while not os.path.exists(end):
        client.get_object(Bucket="b", Key="x.csv")["Body"].read()
        reads += 1
        time.sleep(0.1)
    return os.getpid(), reads


def by_dask(session, url, workers, end):
    from dask.distributed import Client, LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            tasks = [client.submit(work, session, url, end, pure=False) for _ in range(workers)]
            return client.gather(tasks)


def by_ray(session, url, workers, end):
    import ray

    paths = os.pathsep.join(sys.path[:2] + [os.environ.get("PYTHONPATH", "")])
    ray.init(
        num_cpus=workers, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )  # fmt: skip
    try:
        task = ray.remote(num_cpus=1)(work)
        return ray.get([task.remote(session, url, end) for _ in range(workers)])
    finally:
        ray.shutdown()


def end_when_seen(objects, sets, path):
    """Lets the workers end when so many sets have signed."""
    deadline = time.monotonic() + 240
    while len(objects.keys) < sets and time.monotonic() < deadline:
        time.sleep(0.1)
    Path(path).touch()


CLUSTERS = {"dask": by_dask, "ray": by_ray}


def tried(name: str, given: argparse.Namespace) -> bool:
    with local_sts.LocalSts() as sts:
        sts.lifetime = given.life
        objects = libraries.Objects(sts.expires, given.life)
        session = shmcreds.RefreshableSession(
            assume_role_kwargs={"RoleArn": local_sts.ROLE}, sts_client_kwargs=sts.client, region_name=libraries.REGION
        )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "end")
            threading.Thread(target=end_when_seen, args=(objects, given.sets, path), daemon=True).start()
            told = CLUSTERS[name](session, objects.url, given.workers, path)
        objects.close()
        processes, reads = {pid for pid, _ in told}, sum(count for _, count in told)
        ends = sorted(sts.expires.values())
        apart = min((later - earlier for earlier, later in zip(ends, ends[1:], strict=False)), default=0.0)
        good = len(processes) == given.workers and os.getpid() not in processes and objects.late == 0
        good = good and len(objects.keys) >= given.sets and apart > 0.45 * given.life and set(sts.callers) == {"AKIABASE"}
        print(
            f"{'OK   ' if good else 'FAULT'} {name}: {len(processes)} processes, {reads} reads, signed late {objects.late}, "
            f"keys {len(objects.keys)}, calls {len(sts.calls)}, at least {apart:.1f} s apart",
            flush=True,
        )
        return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--life", type=float, default=12.0)
    parser.add_argument("--sets", type=int, default=4, help="three rotations by default")
    parser.add_argument("clusters", nargs="*", choices=[[], *CLUSTERS], metavar="dask|ray")
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(AWS_ACCESS_KEY_ID="AKIABASE", AWS_SECRET_ACCESS_KEY="s", AWS_EC2_METADATA_DISABLED="true")
    os.environ.update(AWS_REGION=libraries.REGION, AWS_DEFAULT_REGION=libraries.REGION)
    sys.exit(not all([tried(name, given) for name in given.clusters or CLUSTERS]))


if __name__ == "__main__":
    main()
