"""The module `mirt`, as a program in Python uses it: run by mirt-python."""

import gc
import json
import threading
import unittest

import mirt

DOMAINS = ["raw", "mem", "object"]


def blocks(snapshot, domain, size):
    return snapshot.get((domain, size), (0, 0))[0]


class Numbers(unittest.TestCase):
    def test_domains(self):
        self.assertTrue(mirt.installed)
        self.assertEqual(list(mirt.stats()), DOMAINS)
        self.assertEqual(list(mirt.tags()), DOMAINS)
        self.assertEqual(len(set(mirt.tags().values())), 3)

    def test_stats_fit_together(self):
        for domain, stats in mirt.stats().items():
            with self.subTest(domain):
                self.assertGreater(stats["live_blocks"], 0)
                self.assertGreaterEqual(stats["committed"], stats["live_bytes"])
                self.assertGreaterEqual(stats["peak"], stats["committed"])

    def test_report_is_a_table(self):
        lines = mirt.report().splitlines()
        self.assertEqual([line.split()[0] for line in lines[1:]], DOMAINS)
        self.assertTrue(all(len(line) <= 80 for line in lines))
        self.assertEqual(len({len(line) for line in lines}), 1)

    def test_large_blocks(self):
        before = mirt.snapshot()
        kept = [bytearray((1 << 20) + 1000 * i) for i in range(8)]
        change = mirt.compare(before, mirt.snapshot())
        large = [d for d in change if d.size > 1 << 20]
        self.assertEqual(sum(d.blocks_diff for d in large), len(kept))
        self.assertTrue(all(d.bytes_diff <= d.blocks_diff * d.size for d in large))

    def test_heap_map(self):
        self.assertIn("arenas", json.loads(mirt.heap_map()))

    def test_collect(self):
        kept = [bytes(100000) for _ in range(200)]
        committed = mirt.stats()["object"]["committed"]
        del kept
        self.assertGreaterEqual(mirt.collect(), 0)
        self.assertLess(mirt.stats()["object"]["committed"], committed - 10000000)


class Snapshots(unittest.TestCase):
    def test_exact_counts(self):
        gc.disable()
        self.addCleanup(gc.enable)
        before = mirt.snapshot()
        kept = [bytes(200) for _ in range(3000)]
        after = mirt.snapshot()
        size = next(d.size for d in mirt.compare(before, after) if d.size > 200)
        self.assertIn(size, range(233, 260))
        more = blocks(after, "object", size) - blocks(before, "object", size)
        self.assertIn(more, range(3000, 3020))
        del kept
        less = blocks(after, "object", size) - blocks(mirt.snapshot(), "object", size)
        self.assertIn(less, range(2980, 3020))

    def test_other_threads_count(self):
        ready, done = threading.Event(), threading.Event()

        def hold():
            kept = [bytes(300) for _ in range(1000)]
            ready.set()
            done.wait()
            return kept

        before = mirt.snapshot()
        thread = threading.Thread(target=hold)
        thread.start()
        ready.wait()
        top = mirt.compare(before, mirt.snapshot())[0]
        done.set()
        thread.join()
        self.assertEqual(top.domain, "object")
        self.assertGreaterEqual(top.blocks_diff, 1000)

    def test_compare_sorts_by_change(self):
        old = {("object", 16): (10, 160), ("mem", 64): (5, 320), ("raw", 32): (1, 32)}
        new = {("object", 16): (12, 192), ("raw", 32): (1, 32), ("object", 48): (1, 48)}
        found = mirt.compare(old, new)
        self.assertEqual(
            [tuple(d) for d in found],
            [
                ("mem", 64, 0, -5, 0, -320),
                ("object", 48, 1, 1, 48, 48),
                ("object", 16, 12, 2, 192, 32),
                ("raw", 32, 1, 0, 32, 0),
            ],
        )
        self.assertEqual(mirt.compare({}, {}), [])

    def test_compare_refuses_what_is_no_snapshot(self):
        for wrong in (None, {}), ([], {}), ({1: 2}, {}), ({("a", 1): 3}, {}):
            with self.subTest(wrong), self.assertRaises(TypeError):
                mirt.compare(*wrong)

    def test_compare_with_keys_that_run_code(self):
        class Clears:
            def __hash__(self):
                return hash(("object", 16))

            def __eq__(self, other):
                new.clear()
                return False

        old = {Clears(): (1, 16)}
        new = {("object", 16): (1, 16), ("object", 32): (1, 32)}
        with self.assertRaises(TypeError):
            mirt.compare(old, new)
        self.assertEqual(new, {})


if __name__ == "__main__":
    unittest.main()
