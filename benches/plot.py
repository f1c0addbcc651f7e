"""Draws plots from the output of the benches. Every value comes from the files: this program has none of its own.

usage: plot.py FOLDER FILE…

FILE is the output of `cargo bench`, of `tests/interop/run`, of `prefork_server --json`, or of the example `fleet`. FOLDER gets one SVG file
for each plot whose values are in the files. See docs/BENCHMARKS.md.
"""

import json
import math
import pathlib
import re
import sys
from html import escape

NANOSECONDS = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}
VALUE = re.compile(r"^([\d.]+)(?: (\S+))?$")
BESIDE = re.compile(r"^(.+): ([\d.]+)(?: (\S+))?$")
CALLS = re.compile(r"^STS calls with (a session|the SDK alone), (\d+) workers$")
SCALE = "| workers | calls of the source |"
PROCESSES = re.compile(r"^\| (\d+) processes \| alone \|")
COLD = re.compile(r"^(\d+) workers of botocore, (alone|shmcreds exec): (\d+) calls")

# The rows of a plot: what a bench calls it (the beginning of its row), and what the plot calls it.
READ_COST = [
    ("`reader()`, a borrow", "shmcreds: reader()", True),
    ("`credentials()`", "shmcreds: credentials()", True),
    ("`provide_credentials().await`", "shmcreds: provide_credentials().await", True),
    ("mmap-sync, a read", "mmap-sync, does not check the expiry", False),
    ("memcpy of 1,200 bytes", "memcpy of 1,200 bytes", False),
    ("`clock_gettime(CLOCK_REALTIME)`", "one clock_gettime()", False),
    ("the SDK's lazy identity cache, a hit", "the SDK's own cache, a hit", False),
    ("JSON file in /dev/shm, read and parsed", "a JSON file in /dev/shm", False),
]
REFRESH_LATENCY = [
    ("`credentials()`", "a read, no refresh", True),
    ("first read of a generation: that, and the SDK's object made and kept", "the first read of a new set", True),
    ("a read beside a writer, p50 on the CPU", "a read beside a writer, p50 *", True),
    ("a read beside a writer, p99.9 on the CPU", "a read beside a writer, p99.9 *", True),
    ("a read beside a writer, slowest", "a read beside a writer, slowest *", True),
    ("a clone of a private set in turn, slowest", "a clone of a private set, slowest *", False),
    ("the longest wait of a read", "the longest wait during refreshes", True),
    ("the source's answer seen by a sleeper, p50", "from the answer to a sleeping reader, p50", True),
    ("cold, one worker", "one cold worker: a call of STS", False),
]

STYLE = """
.surface { fill: #fcfcfb } .title { fill: #0b0b0b; font-weight: 600 } .text { fill: #0b0b0b }
.note { fill: #52514e } .grid { stroke: #e1e0d9 } .axis { stroke: #c3c2b7 }
.ours { fill: #2a78d6 } .other { fill: #eb6834 } .ours-line { stroke: #2a78d6 } .other-line { stroke: #eb6834 }
.ring { stroke: #fcfcfb }
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif } .title { font-size: 15px } .note { font-size: 12px }
@media (prefers-color-scheme: dark) {
.surface { fill: #1a1a19 } .title, .text { fill: #ffffff } .note { fill: #c3c2b7 }
.grid { stroke: #2c2c2a } .axis { stroke: #383835 }
.ours { fill: #3987e5 } .other { fill: #d95926 } .ours-line { stroke: #3987e5 } .other-line { stroke: #d95926 }
.ring { stroke: #1a1a19 }
}
"""
WIDTH = 760


class Figures:
    """What the files say."""

    def __init__(self):
        self.times = {}  # label: nanoseconds
        self.calls = {"ours": {}, "other": {}}  # workers: calls
        self.fleets = {}  # fleet and policy: calls in each minute
        self.refreshes = {"asleep": {}, "waiting": {}}  # workers: milliseconds of CPU of all of them

    def read(self, text):
        processes, scale = None, False
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            scale = line.startswith(SCALE) or (scale and line.startswith("|"))
            heading = PROCESSES.match(line)
            cold = COLD.match(line)
            if heading:
                processes = int(heading[1])
            elif cold:
                series = "other" if cold[2] == "alone" else "ours"
                self.count(series, int(cold[1]), int(cold[3]))
            elif line.startswith("{"):
                self.summary(line)
            elif not line.startswith("|"):
                processes = None
            elif scale:
                self.scale(cells)
            elif processes and len(cells) == 4 and all(cell.isdigit() for cell in cells[1:]):
                self.count("other", processes, int(cells[1]))
                self.count("ours", processes, int(cells[2]))
            elif len(cells) >= 4:
                self.row(cells)

    def scale(self, cells):
        """A row of the bench `scale`: workers, …, the CPU of a refresh while they sleep, and while they wait."""
        if cells[0].isdigit():
            for series, cell in zip(self.refreshes, cells[4:6], strict=True):
                value = VALUE.match(cell)
                self.refreshes[series][int(cells[0])] = float(value[1]) * NANOSECONDS[value[2]] / 1e6

    def row(self, cells):
        """A row of a bench's table: what, measured, limit, ratio, verdict."""
        value = VALUE.match(cells[1])
        calls = CALLS.match(cells[0])
        if value and calls:
            self.count("ours" if calls[1] == "a session" else "other", int(calls[2]), float(value[1]))
        elif value:
            self.time(cells[0], value[1], value[2])
        beside = BESIDE.match(cells[2])
        if beside:
            self.time(beside[1], beside[2], beside[3])

    def summary(self, line):
        """The last line of `prefork_server --json`, or a line of the example `fleet`."""
        try:
            summary = json.loads(line)
        except json.JSONDecodeError:
            return
        if {"fleet", "policy", "calls_by_minute"} <= summary.keys():
            self.fleets[summary["fleet"], summary["policy"]] = summary["calls_by_minute"]
        if {"workers", "source_calls"} <= summary.keys():
            self.count("ours", summary["workers"], summary["source_calls"])

    def time(self, label, number, unit):
        if unit in NANOSECONDS:
            self.times.setdefault(label, float(number) * NANOSECONDS[unit])

    def count(self, series, workers, calls):
        """Of several measurements the worst for us counts: most calls of ours, fewest of the others."""
        worst = max if series == "ours" else min
        known = self.calls[series].get(workers, calls)
        self.calls[series][workers] = worst(known, calls)

    def named(self, rows):
        """Of the rows those that were measured: name, nanoseconds, whether it is ours."""
        found = []
        for label, name, ours in rows:
            measured = [time for key, time in self.times.items() if key.startswith(label)]
            if measured:
                found.append((name, measured[0], ours))
        return found


def duration(nanoseconds):
    """A time as people write it."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def text(x, y, content, kind="text", anchor="start"):
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1, y1, x2, y2, kind, width=1):
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{kind}" stroke-width="{width}" {ends}/>'


def dot(x, y, ours, tip):
    kind = "ours" if ours else "other"
    circle = f'<circle class="{kind} ring" stroke-width="2" cx="{x:.1f}" cy="{y:.1f}" r="6">'
    return f"{circle}<title>{escape(tip)}</title></circle>"


def document(title, subtitle, height, parts):
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title, quote=True)}">'
    )
    frame = [
        opening,
        f"<style>{STYLE}</style>",
        f'<rect class="surface" width="{WIDTH}" height="{height}"/>',
        text(24, 30, title, "title"),
        text(24, 50, subtitle, "note"),
    ]
    return "\n".join([*frame, *parts, "</svg>", ""])


def dots(title, subtitle, rows):
    """One row for each value, on a logarithmic axis of times. A time of zero stands at the left edge."""
    left, right, top, step = 330, 90, 92, 30
    shown = [time for _, time, _ in rows if time > 0]
    low = math.floor(math.log10(min(shown)))
    high = max(math.ceil(math.log10(max(shown))), low + 1)
    bottom = top + step * len(rows) - 8

    def place(time):
        share = (math.log10(time) - low) / (high - low) if time > 0 else 0
        return left + share * (WIDTH - left - right)

    parts = []
    for power in range(low, high + 1):
        x = place(10.0**power)
        parts.append(line(x, top - 16, x, bottom, "grid"))
        if high - low <= 6 or (power - low) % 2 == 0:  # Else the labels would meet.
            parts.append(text(x, bottom + 18, duration(10.0**power), "note", "middle"))
    for index, (name, time, ours) in enumerate(rows):
        y = top + index * step
        value = duration(time) if time > 0 else "none"
        parts += [
            text(left - 14, y + 4, name, "text", "end"),
            line(left, y, place(time), y, "ours-line" if ours else "other-line", 2),
            dot(place(time), y, ours, f"{name}: {value}"),
            text(place(time) + 12, y + 4, value),
        ]
    return document(title, subtitle, bottom + 36, parts)


def ticks(most):
    """Round numbers from 0 to at least `most`."""
    step = 10 ** math.floor(math.log10(most))
    step = next(step * factor for factor in (0.25, 0.5, 1, 2, 5) if step * factor * 5 >= most)
    step = max(step, 1)
    return [step * index for index in range(math.ceil(most / step) + 1)]


def curves(title, subtitle, series, unit="calls"):
    """Calls, or another unit, by workers: one line for each series, with its name at its end."""
    left, right, top, bottom = 64, 150, 84, 360
    most = max(max(points.values()) for _, points, _ in series)
    widest = max(max(points) for _, points, _ in series)
    marks = ticks(most)

    def across(workers):
        return left + workers / widest * (WIDTH - left - right)

    def up(calls):
        return bottom - calls / marks[-1] * (bottom - top)

    parts = []
    for mark in marks:
        parts += [
            line(left, up(mark), WIDTH - right, up(mark), "grid" if mark else "axis"),
            text(left - 10, up(mark) + 4, f"{mark:g}", "note", "end"),
        ]
    for workers in sorted({one for _, points, _ in series for one in points}):
        if workers * 12 >= widest:  # The labels of small numbers would meet.
            parts.append(text(across(workers), bottom + 20, f"{workers}", "note", "middle"))
    parts.append(text((left + WIDTH - right) / 2, bottom + 42, "worker processes", "note", "middle"))
    for name, points, ours in series:
        places = sorted(points.items())
        path = " ".join(f"{across(workers):.1f},{up(calls):.1f}" for workers, calls in places)
        kind = "ours-line" if ours else "other-line"
        parts.append(f'<polyline class="{kind}" fill="none" stroke-width="2" points="{path}"/>')
        parts += [
            dot(across(workers), up(calls), ours, f"{name}: {calls:g} {unit} of {workers} workers")
            for workers, calls in places
        ]
        workers, calls = places[-1]
        parts.append(text(across(workers) + 14, up(calls) + 4, f"{name}: {calls:g}"))
    return document(title, subtitle, bottom + 60, parts)


def day(title, subtitle, series):
    """Calls a second over the hours of a day: one line for each series. The first hour, the cold start, is left out."""
    left, right, top, bottom = 64, 150, 84, 360
    series = [(name, [calls / 60 for calls in minutes[60 : 24 * 60]], ours) for name, minutes, ours in series]
    marks = ticks(max(max(rates) for _, rates, _ in series))

    def across(minute):
        return left + minute / (23 * 60) * (WIDTH - left - right)

    def up(rate):
        return bottom - rate / marks[-1] * (bottom - top)

    parts = []
    for mark in marks:
        parts += [
            line(left, up(mark), WIDTH - right, up(mark), "grid" if mark else "axis"),
            text(left - 10, up(mark) + 4, f"{mark:g}", "note", "end"),
        ]
    for hour in range(3, 25, 3):
        parts.append(text(across(hour * 60 - 60), bottom + 20, f"{hour}", "note", "middle"))
    parts.append(text((left + WIDTH - right) / 2, bottom + 42, "hours since the start", "note", "middle"))
    for name, rates, ours in series:
        path = " ".join(f"{across(minute):.1f},{up(rate):.1f}" for minute, rate in enumerate(rates))
        kind = "ours" if ours else "other"
        label = up(sum(rates) / len(rates) if ours else max(rates[-60:]))
        parts += [
            f'<polyline class="{kind}-line" fill="none" stroke-width="1.5" points="{path}"/>',
            line(WIDTH - right + 10, label, WIDTH - right + 24, label, f"{kind}-line", 2),
            text(WIDTH - right + 30, label + 4, name),
        ]
    return document(title, subtitle, bottom + 60, parts)


def plots(figures):
    """Name and content of each plot whose values are there."""
    read = figures.named(READ_COST)
    if any(ours for *_, ours in read):
        rows = sorted(read, key=lambda row: row[1])
        yield "read-cost.svg", dots("The time of one read", "Logarithmic. Blue: shmcreds. Orange: others.", rows)
    names = (("shmcreds", "ours"), ("the SDK alone", "other"))
    series = [(name, figures.calls[key], key == "ours") for name, key in names]
    if all(points for _, points, _ in series):
        title = "Calls of STS until each worker has its first credentials"
        yield "sts-calls.svg", curves(title, "Fewer is better.", series)
    together = [(policy, figures.fleets.get(("started together", policy)), policy == "new") for policy in ("former", "new")]
    if all(minutes for _, minutes, _ in together):
        title = "Calls of STS a second, by hosts that started together"
        yield "fleet.svg", day(title, "Simulated. Sets of one hour. Blue: the policy of shmcreds. Mean of each minute.", [
            (f"the {policy} policy", minutes, ours) for policy, minutes, ours in together
        ])
    names = (("all wait", "waiting"), ("none waits", "asleep"))
    series = [(name, figures.refreshes[key], key == "asleep") for name, key in names]
    if all(points for _, points, _ in series):
        title = "CPU time of one refresh, all workers together, in milliseconds"
        subtitle = "Linear in the workers that wait for the set, and the same for any number that do not."
        yield "scale.svg", curves(title, subtitle, series, "ms")
    latency = figures.named(REFRESH_LATENCY)
    if any(name.startswith("a read beside a writer") for name, *_ in latency):
        subtitle = "Logarithmic. Blue: shmcreds. Orange: for comparison. * Time on the CPU."
        yield "refresh-latency.svg", dots("How long reads take while sets are published", subtitle, latency)


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__.strip())
    folder, *files = map(pathlib.Path, arguments)
    figures = Figures()
    for file in files:
        figures.read(file.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for name, content in plots(figures):
        (folder / name).write_text(content, encoding="utf-8")
        print(folder / name)
        drawn += 1
    if not drawn:
        sys.exit("plot.py: these files hold no figures; see docs/BENCHMARKS.md for the commands that write them")


if __name__ == "__main__":
    main(sys.argv[1:])
