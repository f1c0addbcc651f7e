"""Tests of plot.py: python3 -m unittest benches/test_plot.py"""

import contextlib
import io
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import plot  # noqa: E402

# The lines are as the benches print them; the numbers are made up.
READ = """
| what | measured | limit | measured / limit | |
| --- | --- | --- | --- | --- |
| `credentials()` | 20.0 ns | `clock_gettime(CLOCK_REALTIME)`: 25.0 ns | 0.80 | reached |
| `credentials()` | 20.0 ns | 1/8 of the SDK's lazy cache: 31.2 ns | 0.64 | reached |
| `reader()`, a borrow | 6.0 ns | 1/4 of `clock_gettime`: 6.2 ns | 0.96 | reached |
| first read of a generation: that, and the SDK's object made and kept | 1600.0 ns | | | |
| the SDK's lazy identity cache, a hit | 250.0 ns | | | |
| JSON file in /dev/shm, read and parsed | 5000.0 ns | | | |
"""
PROCESSES = """
| STS calls with a session, 1 workers | 1.0  | | | |
| STS calls with the SDK alone, 1 workers | 1.0  | | | |
| STS calls with a session, 32 workers | 1.0  | | | |
| STS calls with the SDK alone, 32 workers | 32.0  | | | |
| cold, one worker | 103.0 ms | | | |
| a read beside a writer, p50 on the CPU | 0.9 µs | | | |
| a read beside a writer, slowest of 1,000,000 on the CPU, median of 5 | 90.0 µs | limit: 100.0 µs | 0.90 | reached |
"""
SCALE = """
| workers | calls of the source | failed reads | µs of CPU for a read with its sleep | CPU of a refresh, nobody waits \
(all together) | CPU of a refresh, all wait (all together) | worst read p50 | p99 | max | private memory of a worker | \
shared memory |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1 | 9 | 0 | 19.1 | 300 µs | 400 µs | 20 µs | 30 µs | 31 µs | 28 KiB | 64 KiB |
| 256 | 9 | 0 | 19.1 | 310 µs | 20000 µs | 20 µs | 30 µs | 31 µs | 28 KiB | 64 KiB |

| threads | ns of CPU for a read |
| --- | --- |
| 16 | 24.0 ns |
"""
REFRESHER = """
| the longest wait of a read, 16 readers flat out over 10 sets | 0.0 ms | limit: 1.0 ms | 0.00 | reached |
"""
PREFORK = '{"workers": 16, "requests": 1600, "source_calls": 1}\n{"workers": 2, "source_calls": 2}\n'
INTEROP = """
| 8 processes | alone | `shmcreds exec` | `credential_process` |
| --- | --- | --- | --- |
| AWS SDK for Rust | 8 | 1 | 1 |
| AWS CLI | 5 | 1 | 1 |
64 workers of botocore, alone: 64 calls, {'last_seconds': 2.5, 'keys': 64}
64 workers of botocore, shmcreds exec: 1 calls, {'last_seconds': 0.7, 'keys': 1}
"""
FLEET = "\n".join(
    f'{{"fleet":"started together","policy":"{policy}","calls_by_minute":{[6000] * 60 + [peak, 0] * 700}}}'
    for policy, peak in (("former", 1200), ("new", 600))
)


def figures(*texts):
    read = plot.Figures()
    for text in texts:
        read.read(text)
    return read


class Reading(unittest.TestCase):
    def test_times_are_read_in_their_units(self):
        times = figures(READ, PROCESSES, REFRESHER).times
        self.assertEqual(times["`credentials()`"], 20)
        self.assertEqual(times["`clock_gettime(CLOCK_REALTIME)`"], 25)
        self.assertEqual(times["cold, one worker"], 103e6)
        self.assertEqual(times["the longest wait of a read, 16 readers flat out over 10 sets"], 0)

    def test_calls_are_read_from_each_kind_of_output(self):
        calls = figures(PROCESSES, PREFORK, INTEROP).calls
        self.assertEqual(calls["ours"], {1: 1, 2: 2, 8: 1, 16: 1, 32: 1, 64: 1})
        self.assertEqual(calls["other"], {1: 1, 8: 5, 32: 32, 64: 64})

    def test_refreshes_are_read_by_workers(self):
        found = figures(SCALE)
        self.assertEqual(found.refreshes, {"asleep": {1: 0.3, 256: 0.31}, "waiting": {1: 0.4, 256: 20}})
        self.assertEqual([name for name, _ in plot.plots(found)], ["scale.svg"])
        sources = (pathlib.Path(__file__).parent / "scale.rs").read_text(encoding="utf-8")
        self.assertIn(plot.SCALE, sources)

    def test_rows_of_the_benches_exist(self):
        """Each label is one that a bench prints."""
        here = pathlib.Path(__file__).parent
        sources = "".join(path.read_text(encoding="utf-8") for path in here.rglob("*.rs"))
        for label, *_ in plot.READ_COST + plot.REFRESH_LATENCY:
            # The bench adds the words after the last comma to some labels.
            found = label in sources or label.rpartition(", ")[0] + ", {" in sources
            self.assertTrue(found, label)
        for label in ("STS calls with a session, {count} workers", "STS calls with the SDK alone, {count} workers"):
            self.assertIn(label, sources)


class Drawing(unittest.TestCase):
    def drawn(self, *texts):
        return dict(plot.plots(figures(*texts)))

    def test_each_plot_is_sound_xml_for_light_and_dark(self):
        drawn = self.drawn(READ, PROCESSES, REFRESHER)
        self.assertEqual(set(drawn), {"read-cost.svg", "sts-calls.svg", "refresh-latency.svg"})
        for name, content in drawn.items():
            root = xml.fromstring(content)
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg", name)
            self.assertIn("prefers-color-scheme: dark", content, name)

    def test_values_are_those_of_the_files(self):
        words = texts(self.drawn(READ)["read-cost.svg"])
        self.assertLessEqual({"6 ns", "20 ns", "25 ns", "250 ns", "5 µs", "shmcreds: credentials()"}, words)
        other = texts(self.drawn(READ.replace("20.0 ns", "44.0 ns"))["read-cost.svg"])
        self.assertIn("44 ns", other)
        self.assertNotIn("20 ns", other)

    def test_a_dot_stands_where_its_value_is(self):
        """On a logarithmic axis: ten times the time is one decade further."""
        rows = [("one", 10.0, True), ("ten", 100.0, False), ("hundred", 1000.0, False), ("none", 0.0, True)]
        root = xml.fromstring(plot.dots("title", "subtitle", rows))
        one, ten, hundred, none = [float(dot.get("cx")) for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
        self.assertAlmostEqual(ten - one, hundred - ten, delta=0.2)
        self.assertEqual(none, one)

    def test_more_calls_stand_higher(self):
        root = xml.fromstring(self.drawn(PROCESSES)["sts-calls.svg"])
        lines = [line.get("points").split() for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
        height = {index: float(points[-1].split(",")[1]) for index, points in enumerate(lines)}
        self.assertGreater(height[0], height[1] + 100)

    def test_dots_and_their_texts_stay_within_the_picture(self):
        for name, content in self.drawn(READ, PROCESSES, REFRESHER, INTEROP).items():
            root = xml.fromstring(content)
            height = float(root.get("height"))
            for one in root.iter("{http://www.w3.org/2000/svg}circle"):
                self.assertTrue(0 < float(one.get("cx")) < plot.WIDTH, name)
                self.assertTrue(0 < float(one.get("cy")) < height, name)

    def test_a_day_leaves_out_the_cold_start(self):
        drawn = dict(plot.plots(figures(FLEET)))["fleet.svg"]
        lines = [line for line in xml.fromstring(drawn).iter() if line.tag.endswith("polyline")]
        self.assertEqual([line.get("class") for line in lines], ["other-line", "ours-line"])
        heights = [{float(point.split(",")[1]) for point in line.get("points").split()} for line in lines]
        # The bottom and one peak each: that of the former policy is twice as high.
        (former, bottom), (new, other) = map(sorted, heights)
        self.assertEqual(bottom, other)
        self.assertAlmostEqual(bottom - former, 2 * (bottom - new), delta=0.5)
        self.assertEqual(dict(plot.plots(figures(FLEET.splitlines()[0]))), {})

    def test_what_is_missing_is_not_drawn(self):
        self.assertEqual(set(self.drawn(READ)), {"read-cost.svg"})
        self.assertEqual(set(self.drawn(INTEROP)), {"sts-calls.svg"})
        self.assertEqual(self.drawn(PREFORK, "no figures at all\n{broken\n"), {})


class Running(unittest.TestCase):
    def test_files_become_plots(self):
        with tempfile.TemporaryDirectory() as folder:
            run = pathlib.Path(folder, "run.txt")
            run.write_text(READ + PROCESSES, encoding="utf-8")
            with contextlib.redirect_stdout(io.StringIO()) as said:
                plot.main([f"{folder}/plots", str(run)])
            names = sorted(path.name for path in pathlib.Path(folder, "plots").iterdir())
        self.assertEqual(names, ["read-cost.svg", "refresh-latency.svg", "sts-calls.svg"])
        self.assertEqual(len(said.getvalue().splitlines()), 3)

    def test_files_without_figures_are_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            run = pathlib.Path(folder, "run.txt")
            run.write_text("warming up\n", encoding="utf-8")
            with self.assertRaisesRegex(SystemExit, "no figures"):
                plot.main([folder, str(run)])
        with self.assertRaisesRegex(SystemExit, "usage"):
            plot.main([])


def texts(content):
    return {one.text for one in xml.fromstring(content).iter("{http://www.w3.org/2000/svg}text")}


if __name__ == "__main__":
    unittest.main()
