"""A DataLoader of torch, of the kind KIND: eight workers, which read until GENERATION."""

import sys

from reading import read_until, session, tell
from torch.utils.data import DataLoader

WORKERS = 8


class Dataset:
    def __init__(self):
        self.session = session()

    def __len__(self):
        return WORKERS

    def __getitem__(self, index):
        return read_until(self.session, int(sys.argv[2]))


def _as_it_is(item):
    return item


if __name__ == "__main__":
    loader = DataLoader(
        Dataset(), batch_size=None, num_workers=WORKERS, collate_fn=_as_it_is, multiprocessing_context=sys.argv[1]
    )
    for found in loader:
        tell(found)
