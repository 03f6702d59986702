#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""suite_test.py: what the suite makes of samples, with samples made by hand: figures, targets, tables, the page, the comparison; and what the driver
makes of programs that fail, skip, or are not there. No test measures anything.
"""

import contextlib
import html.parser
import io
import json
import os
import re
import sys
import tempfile
import types
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import driver
import page
import plan
import plot
import report
import targets

MACHINE = {"machine": "2 CPUs, Test", "virtual": "?", "compiler": "gcc 12", "java": "?", "python": "3.11", "date": "2026-01-02", "commit": "abc"}


def sample(bench, peer, value, workers=2, unit="ns/task", foreign=0.0, number=0):
    return {"bench": bench, "peer": peer, "workers": workers, "unit": unit, "value": value, "round": number, "foreign": foreign, "quiet": foreign < 0.06}


def samples(bench, peer, values, **more):
    return [sample(bench, peer, value, number=i, **more) for i, value in enumerate(values)]


def distribution(bench, peer, values, workers=2, foreign=0.0):
    return {"bench": bench, "peer": peer, "workers": workers, "unit": "us", "quantiles": values, "round": 0, "foreign": foreign, "quiet": foreign < 0.06}


def run_of(*records):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps(record) + "\n" for record in [MACHINE, *records]))
        file.flush()
        return report.Run(file.name)


def answer(run, name, what):
    return next(a for a in targets.answers(run) if (a.name, a.what) == (name, what))


class Figures(unittest.TestCase):
    def test_a_figure_is_the_median_of_its_samples(self):
        figure = run_of(*samples("T1", "crew threads", [50, 10, 30, 20, 40])).get("T1", 2, "crew threads")
        self.assertEqual((figure.median, figure.low, figure.high, figure.best), (30, 20, 40, 10))

    def test_where_more_is_better_the_best_is_the_most(self):
        self.assertEqual(run_of(*samples("P3/1 MiB", "crew processes", [5, 9, 7], unit="GB/s")).get("P3/1 MiB", 2, "crew processes").best, 9)

    def test_disturbed_samples_are_dropped_where_three_are_quiet(self):
        records = samples("T1", "crew threads", [10, 20, 30]) + samples("T1", "crew threads", [1000, 2000], foreign=0.5)
        figure = run_of(*records).get("T1", 2, "crew threads")
        self.assertEqual((figure.median, len(figure.values), figure.all_quiet), (20, 3, True))
        self.assertNotIn("*", str(figure))

    def test_with_two_quiet_samples_all_count_and_the_figure_has_a_star(self):
        records = samples("T1", "crew threads", [10, 20]) + samples("T1", "crew threads", [90], foreign=0.5)
        figure = run_of(*records).get("T1", 2, "crew threads")
        self.assertEqual((figure.median, len(figure.values)), (20, 3))
        self.assertEqual(str(figure), "20* (15–55, 3, best 10)")

    def test_the_smallest_grain_is_where_the_medians_cross(self):
        def grains(*shares):
            records = [samples(f"T5/at {grain} us", "crew threads", list(values), unit="%") for grain, values in zip((0.5, 1, 2, 4), shares)]
            return run_of(*sum(records, [])).get("T5", 2, "crew threads")

        figure = grains((70, 80, 75), (85, 85, 85), (95, 20, 95), (97, 97, 97))  # one that was disturbed does not decide
        self.assertAlmostEqual(figure.median, 2 ** 0.5)
        self.assertEqual((figure.unit, len(figure.values)), ("us", 3))
        self.assertLessEqual(figure.low, figure.median)
        self.assertLessEqual(figure.median, figure.high)
        self.assertEqual(grains(*[(91, 92, 93)] * 4).median, 0.5)
        self.assertEqual(grains(*[(50, 51, 52)] * 4).median, 8)

    def test_the_best_peer_is_neither_crew_nor_a_limit(self):
        run = run_of(*samples("P2", "limit: pipe", [1], unit="us"), *samples("P2", "crew processes", [2], unit="us"),
                     *samples("P2", "socketpair pool", [7], unit="us"), *samples("P2", "Open MPI", [5], unit="us", workers=1))
        self.assertEqual([name for name, _ in run.peers("P2", 1, 2)], ["Open MPI", "socketpair pool"])
        self.assertEqual([name for name, _ in run.peers("P2", 2)], ["socketpair pool"])

    def test_a_curve_is_the_median_of_the_rounds_in_each_point(self):
        n = len(report.Curve.SHARES)
        run = run_of(*(distribution("T2", "crew threads", [factor * (i + 1) for i in range(n)]) for factor in (1, 2, 9)))
        curve = run.curves["T2", 2, "crew threads"]
        self.assertEqual(curve.points[0], (2, 0.0))
        self.assertEqual(curve.points[-3:], [(2 * (n - 1), 0.995), (2 * n, 0.999), (2 * 101, 1.0)])
        self.assertEqual(run.figures, {})


class Targets(unittest.TestCase):
    def t1(self, crew, java, **more):
        run = run_of(*samples("T1", "crew threads", [crew] * 3, **more), *samples("T1", targets.JAVA, [java] * 3))
        return answer(run, "T1", "one producer, 1 M tasks, a future each, 2 workers")

    def test_a_target_is_a_ratio_to_the_peer_of_the_same_run(self):
        self.assertEqual(self.t1(29, 100).met, "yes")
        self.assertEqual(self.t1(31, 100).met, "no")
        self.assertIn("= 30", self.t1(31, 100).target)
        self.assertEqual(self.t1(31, 100).ratio, "0.31")

    def test_a_verdict_on_disturbed_samples_has_a_star(self):
        self.assertEqual(self.t1(29, 100, foreign=0.9).met, "yes*")
        self.assertEqual(self.t1(31, 100, foreign=0.9).met, "no*")
        self.assertIn("best", self.t1(31, 100, foreign=0.9).ratio)

    def test_a_ratio_has_two_digits_and_no_exponent(self):
        self.assertEqual([targets.ratio(*pair) for pair in ((1, 3), (980, 10), (26248, 63.5), (1, 0))], ["0.33", "98", "413", "–"])

    def test_without_the_peer_nothing_is_said(self):
        run = run_of(*samples("T1", "crew threads", [29] * 3))
        self.assertEqual(answer(run, "T1", "one producer, 1 M tasks, a future each, 2 workers").met, "?")

    def test_where_more_is_better_the_target_is_a_least(self):
        run = run_of(*samples("P3/64 KiB", "crew processes", [6.5] * 3, unit="GB/s"))
        self.assertEqual(answer(run, "P3", "64 KiB in and out, by copy").met, "no")

    def test_a_program_that_failed_is_a_target_missed(self):
        argv = ["tree/bench/grain", "--backend", "threads", "--workers", "2"]
        run = run_of(*samples("T1", "mutex pool", [1]), {"failed": "T5", "argv": argv, "reason": "status 1", "text": "a wrong sum", "round": 0})
        a = answer(run, "T5", "smallest grain with 90 % efficiency")
        self.assertEqual((a.met, a.figure), ("no", "failed: status 1"))
        self.assertIn("a wrong sum", page.render(run))

    def test_every_question_of_a_target_is_in_the_plan(self):
        asked = {program.bench for program in plan.programs("build")} | {"P4/spare", "P4/server", "P4/spawn", "M1/server", "M2", "Z/allocations", "Z/locks", "Z/system calls"}
        asked |= {f"P3/shared/{size}" for size in plan.SIZES}
        self.assertEqual({row.bench for row in targets.ROWS} - asked, set())


class Tables(unittest.TestCase):
    def test_what_changed_counts_when_the_quartiles_do_not_touch(self):
        old = run_of(*samples("T1", "crew threads", [10, 11, 12]), *samples("T4", "crew threads", [10, 20, 30]))
        new = run_of(*samples("T1", "crew threads", [5, 6, 7]), *samples("T4", "crew threads", [9, 18, 29]))
        words = {row[0]: row[-2:] for row in report.comparison_rows(old, new)[1:]}
        self.assertEqual(words, {"T1": ["0.55", "better"], "T4": ["0.90", ""]})

    def test_questions_are_in_the_order_of_their_numbers(self):
        keys = [("T10", 2, "a"), ("T2", 16, "a"), ("T2", 2, "a"), ("T1/at 100000 tasks", 2, "a"), ("T1/at 1000 tasks", 2, "a")]
        self.assertEqual([key[0:2] for key in sorted(keys, key=report.natural)],
                         [("T1/at 1000 tasks", 2), ("T1/at 100000 tasks", 2), ("T2", 2), ("T2", 16), ("T10", 2)])

    def test_write_replaces_what_is_between_the_marks(self):
        run = run_of(*samples("T1", "crew threads", [31] * 3))
        with tempfile.NamedTemporaryFile("w+", suffix=".md") as file:
            file.write(f"before\n{report.MARKS[0]}\nold\n{report.MARKS[1]}\nafter\n")
            file.flush()
            for _ in range(2):
                report.write_tables(file.name, run, targets.table(run))
            with open(file.name, encoding="utf-8") as text:
                text = text.read()
        self.assertTrue(text.startswith("before\n") and text.endswith("\nafter\n"))
        self.assertNotIn("old\n", text)
        self.assertEqual(text.count("2026-01-02, commit abc. 2 CPUs, Test."), 1)


class Strict(html.parser.HTMLParser):
    """Fails on a tag that is not closed, and collects what a page would fetch."""
    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data + "\n"


def whole_run():
    records = []
    for n in (1, 2, 4, 16, 32):
        records += samples("T1", "crew threads", [31 + n] * 3, workers=n) + samples("T1", targets.JAVA, [131 + n] * 3, workers=n)
        records += samples("P1", "crew processes", [231 + n] * 3, workers=n)
    for n in plan.GROWTH:
        records += samples(f"T1/at {n} tasks", "crew threads", [431] * 3) + samples(f"P1/at {n} tasks", "crew processes", [531] * 3)
    for i, name in enumerate(plan.SIZES):
        records += samples(f"P3/{name}", "crew processes", [6.31 + i] * 3, unit="GB/s")
        records += samples(f"P3/shared/{name}", "crew processes", [0.731 + i] * 3, unit="us")
    for grain, share in (("0.2", 831 / 10), ("1", 931 / 10), ("32", 103.1)):
        records += samples(f"T5/at {grain} us", "crew threads", [share] * 3, unit="%")
    for bench, peer in (("T2", "crew threads"), ("T2/cold", "crew threads"), ("P2", "crew processes"), ("T10", "crew threads")):
        records += [distribution(bench, peer, [0.4 + i / 50 for i in range(103)]), distribution(bench, "limit", [0.3 + i / 70 for i in range(103)], workers=1)]
        records += [distribution(bench, f"peer <{i}>", [i + 1.5] * 103) for i in range(9)]
        records += samples(bench, peer, [0.41, 0.42, 0.43], unit="us")
    records += samples("T8", "crew threads", [0, 0, 0], unit="ms", workers=4)
    return run_of(*records, {"ended": "2026-01-02T03:04:05", "rounds": 7, "seconds": 1680})


class Page(unittest.TestCase):
    def setUp(self):
        self.run = whole_run()
        self.html = page.render(self.run)

    def test_every_figure_is_on_the_page(self):
        text = Strict(self.html).text
        for (bench, _, peer), figure in self.run.figures.items():
            self.assertIn(f"\n{bench}\n", text)
            self.assertIn(f"\n{peer}\n", text)
            self.assertIn(f"\n{report.number(figure.median)}\n", text)

    def test_the_page_needs_nothing_from_elsewhere(self):
        self.assertEqual(Strict(self.html).fetched, [])
        self.assertNotRegex(self.html, r"url\(|@import|<script|https?:")

    def test_machine_compiler_commit_date_and_rounds_are_named(self):
        for words in ("2 CPUs, Test", "gcc 12", "commit abc", "2026-01-02", "7 rounds in 28 minutes"):
            self.assertIn(words, self.html)

    def test_every_chart_is_well_formed_and_inside_its_frame(self):
        charts = re.findall(r"<svg viewBox.*?</svg>", self.html, re.S)
        self.assertEqual(len(charts), 4 + 4 + 3)
        for chart in charts:
            root = xml.etree.ElementTree.fromstring(chart)
            self.assertTrue(root.get("aria-label"))
            for line in root.iter("polyline"):
                for point in line.get("points").split():
                    x, y = map(float, point.split(","))
                    self.assertTrue(0 <= x <= plot.WIDTH and 0 <= y <= plot.HEIGHT, point)

    def test_both_axes_of_every_chart_have_titles_and_ticks(self):
        for chart in re.findall(r"<svg viewBox.*?</svg>", self.html, re.S):
            self.assertEqual(chart.count('class="title"'), 2)
            self.assertGreaterEqual(chart.count('class="tick"'), 5)

    def test_who_finds_no_room_in_a_chart_is_named_beneath_it(self):
        self.assertEqual(self.html.count("Not drawn: peer &lt;5&gt;, peer &lt;6&gt;, peer &lt;7&gt;, peer &lt;8&gt;."), 4)

    def test_a_disturbed_figure_has_its_star(self):
        run = run_of(*samples("T7", "crew threads", [47] * 3, unit="B/task", foreign=0.3))
        self.assertIn("<td>47*</td>", page.render(run))
        self.assertIn("✓ met*", page.render(run))

    def test_a_page_of_one_figure_is_a_page(self):
        Strict(page.render(run_of(*samples("T1", "crew threads", [1])))) 

    def test_a_comparison_is_on_the_page(self):
        new = run_of(*samples("T1", "crew threads", [5, 6, 7]))
        old = run_of(*samples("T1", "crew threads", [10, 11, 12]))
        self.assertIn("1 figures whose quartiles do not touch", page.render(new, old))


class Plots(unittest.TestCase):
    def test_ticks_enclose_what_is_drawn(self):
        for low, high in ((0.2, 0.9), (1, 1), (31, 183), (0.001, 99999), (5, 10)):
            ticks = plot.log_ticks(low, high)
            self.assertTrue(ticks[0] <= low * 1.001 and high <= ticks[-1] * 1.001 and len(ticks) > 1, (low, high, ticks))
            self.assertLessEqual(len(ticks), 13)

    def test_lines_of_one_colour_differ_by_dash_or_marker(self):
        names = ["crew threads", "crew threads, helping", "limit", "limit: pipe", "limit: eventfd", "Java ForkJoinPool", "Java fixed pool", "mutex pool", "oneTBB",
                 "Boost.Asio", "libuv", "GLib GThreadPool", "ThreadPoolExecutor", "OpenMP (gcc)", "OpenMP (clang)"]
        self.assertEqual(len({plot.look(name) for name in names}), len(names))
        names = ["crew processes", "limit", "socketpair pool", "socketpair pool, batched", "Open MPI", "multiprocessing.Pool", "ProcessPoolExecutor"]
        self.assertEqual(len({plot.look(name) for name in names}), len(names))


class Driver(unittest.TestCase):
    def drive(self, *commands, **options):
        driver.WAIT_FOR_QUIET_S = 0
        programs = [plan.Program(f"T{i}", f"peer {i}", ["/bin/sh", "-c", command]) for i, command in enumerate(commands)]
        settings = types.SimpleNamespace(**{"rounds": 2, "quick": False, "patience": 0, **options})
        records, failures = [], []
        with contextlib.redirect_stderr(io.StringIO()):
            driver.run_rounds(settings, programs, records.append, failures)
        return programs, records, failures

    def test_programs_take_turns(self):
        one, two = (f"echo '{json.dumps(sample(bench, 'a', 1))}'" for bench in ("T1", "T2"))
        _, records, failures = self.drive(one, two)
        self.assertEqual([(r["bench"], r["round"]) for r in records[:-1]], [("T1", 0), ("T2", 0), ("T1", 1), ("T2", 1)])
        self.assertEqual((failures, records[-1]["rounds"]), ([], 2))
        self.assertTrue(all(key in records[0] for key in ("foreign", "quiet", "load", "seconds")))

    def test_a_wrong_answer_fails_the_run_and_is_not_asked_again(self):
        programs, records, failures = self.drive("echo a sum is wrong >&2; exit 1")
        self.assertEqual([(r["reason"], r["text"]) for r in records[:-1]], [("status 1", "a sum is wrong")])
        self.assertEqual(len(failures), 1)
        self.assertTrue(programs[0].skipped)

    def test_a_line_that_is_no_sample_fails_the_program_and_not_the_run(self):
        good = json.dumps(sample("T1", "a", 1))
        _, records, failures = self.drive(f"echo '{good}'; echo hello", f"echo '{good}'")
        self.assertEqual([r.get("text", "good") for r in records[:-1]], ["good", "hello", "good", "good"])
        self.assertEqual(len(failures), 1)

    def test_status_77_skips_and_a_missing_program_is_absent(self):
        programs, records, failures = self.drive("exit 77", "exit 127")
        self.assertEqual((records[:-1], failures), ([], []))
        self.assertEqual([(p.skipped, p.absent) for p in programs], [(True, False), (True, True)])

    def test_what_is_seldom_asked_has_turns_in_three_rounds(self):
        program = plan.Program("T1", "a", [], turns=plan.SELDOM)
        self.assertEqual([number for number in range(7) if program.due(number, 7)], [0, 2, 4])
        self.assertTrue(program.due(7, 7))
        program.quiet_samples = 3
        self.assertFalse(program.due(7, 7))

    def test_a_round_that_would_end_too_late_is_not_begun(self):
        program = plan.Program("T1", "a", ["/bin/true"])
        settings, records = types.SimpleNamespace(rounds=0, quick=True, patience=0), []
        real, plan_seconds = driver.sample, driver.QUICK_S / 2 + 1

        def long_sample(asked, *_):
            asked.seconds = 2 * plan_seconds

        driver.sample = long_sample
        try:
            driver.run_rounds(settings, [program], records.append, [])
        finally:
            driver.sample = real
        self.assertEqual(records[-1]["rounds"], 1)


class Plan(unittest.TestCase):
    def test_every_program_of_the_plan_is_built_or_lies_here(self):
        here = os.path.dirname(os.path.abspath(__file__))
        with open(f"{here}/CMakeLists.txt", encoding="utf-8") as text:
            words = set(re.findall(r"\w+", text.read()))
        for program in plan.programs("BUILD"):
            for word in program.argv:
                if word.startswith("BUILD/tree/bench/"):
                    self.assertIn(word.rpartition("/")[2], words)
                if word.startswith("bench/"):
                    self.assertTrue(os.access(f"{here}/../{word}", os.R_OK), word)

    def test_no_command_stands_there_twice(self):
        commands = [(p.bench, *p.argv) for p in plan.programs("BUILD")]
        self.assertEqual(sorted(c for c in commands if commands.count(c) > 1), [])


if __name__ == "__main__":
    unittest.main()
