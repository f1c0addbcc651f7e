"""A pool of eight processes of the kind KIND; each gets the session and reads until GENERATION."""

import concurrent.futures
import multiprocessing
import sys

from reading import read_until, session, tell

WORKERS = 8


def _attach(made, barrier):
    global _made
    _made = made
    barrier.wait(60)


def _read(generation):
    return read_until(_made, generation)


def main():
    kind, generation = sys.argv[1], int(sys.argv[2])
    context = multiprocessing.get_context(kind)
    barrier = context.Barrier(WORKERS)
    with concurrent.futures.ProcessPoolExecutor(
        WORKERS, mp_context=context, initializer=_attach, initargs=(session(), barrier)
    ) as pool:
        for found in pool.map(_read, [generation] * WORKERS):
            tell(found)


if __name__ == "__main__":
    main()
