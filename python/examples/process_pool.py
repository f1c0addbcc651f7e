import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from shmcreds import RefreshableSession


def key(session):
    return session.credentials["access_key"]


if __name__ == "__main__":
    session = RefreshableSession(
        assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"}
    )
    # A session can be pickled. So "fork", "spawn" and "forkserver" all work.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        print(len(set(pool.map(key, [session] * 4))), "key")
