"""A pool in the shape of torch's DataLoader, of the kind KIND: workers that stay get the dataset and a queue of indexes each,
and put what they have read into one queue."""

import multiprocessing
import sys

from reading import read_until, session, tell

WORKERS = 8


class Dataset:
    def __init__(self):
        self.session = session()

    def __getitem__(self, index):
        return read_until(self.session, int(sys.argv[2]))


def _worker(dataset, indexes, results):
    for index in iter(indexes.get, None):
        results.put(dataset[index])


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    dataset, results = Dataset(), context.Queue()
    queues = [context.Queue() for _ in range(WORKERS)]
    workers = [context.Process(target=_worker, args=(dataset, queue, results)) for queue in queues]
    for index, (worker, queue) in enumerate(zip(workers, queues, strict=True)):
        worker.start()
        queue.put(index)
        queue.put(None)
    for _ in workers:
        tell(results.get(timeout=60))
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
