"""Draws the plots of the README from the output of measure.py.

    bench/plot.py FOLDER FILE
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches"))

import plot  # noqa: E402

_CALLS = re.compile(r"STS calls, (\d+) workers")


def plots(figures: list[dict[str, object]]) -> dict[str, str]:
    """The content of each file whose values are there."""
    drawn = {}
    reads = [
        (str(figure["who"]), float(figure["value"]) * 1000, figure["who"] == "shmcreds")
        for figure in figures
        if figure["what"] == "get_frozen_credentials"
    ]
    if reads:
        title = "The time of get_frozen_credentials(), which botocore calls for each signature"
        subtitle = "Logarithmic. Blue: shmcreds. Orange: others."
        drawn["read-cost.svg"] = plot.dots(title, subtitle, sorted(reads, key=lambda row: row[1]))
    calls: dict[str, dict[int, float]] = {}
    for figure in figures:
        found = _CALLS.match(str(figure["what"]))
        if found:
            calls.setdefault(str(figure["who"]), {})[int(found[1])] = float(figure["value"])
    if calls:
        series = [
            (name, calls[who], who == "shmcreds")
            for who, name in (("shmcreds", "shmcreds"), ("RefreshableCredentials", "botocore"))
            if who in calls
        ]
        drawn["sts-calls.svg"] = plot.curves("Calls of STS for the first set and three refreshes", "Fewer is better.", series)
    return drawn


def main(folder: str, file: str) -> None:
    figures = [json.loads(line) for line in Path(file).read_text().splitlines() if line.startswith("{")]
    drawn = plots(figures)
    if not drawn:
        sys.exit("plot.py: this file holds no figures of measure.py")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, content in drawn.items():
        (Path(folder) / name).write_text(content)
        print(Path(folder) / name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
