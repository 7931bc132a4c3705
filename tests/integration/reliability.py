"""Writes what test_faults.py measured into the table of a page (pytest's --reliability FILE)."""

from pathlib import Path

import pytest

from faults import FAULTS

BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->"
COLUMNS = ["fault", "source", "detected, s", "restored, s", "published", "lost", "lost untold",
           "doubled", "swapped", "gaps told / with a loss", "disconnected", "closed as asked",
           "RSS, MiB, before / after"]


class Table:
    """Collects the rows of a run, those of xdist's workers too."""

    def __init__(self, page):
        self.page, self.rows = Path(page), []
        if END not in self.page.read_text().partition(BEGIN)[2]:
            raise pytest.UsageError(f"{page} has no lines {BEGIN.strip()} and {END}")

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.rows += [value for name, value in report.user_properties if name == "reliability"]

    def pytest_sessionfinish(self, session):
        if not self.rows or hasattr(session.config, "workerinput"):
            return
        head, _, rest = self.page.read_text().partition(BEGIN)
        old, _, tail = rest.partition(END)
        self.page.write_text(head + BEGIN + self.text(old) + END + tail)

    def text(self, old):
        """The table, a line for each fault and source; what was not run now stays as it is."""
        rows = {tuple(cells[:2]): cells for cells in map(self.cells, old.splitlines()[2:])}
        rows.update({tuple(row[:2]): [str(cell) for cell in row] for row in self.rows})
        order = [(fault.name, source) for fault in FAULTS for source in fault.on]
        lines = [COLUMNS, ["---"] * len(COLUMNS), *[rows[key] for key in order if key in rows]]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    @staticmethod
    def cells(line):
        return [cell.strip() for cell in line.strip().strip("|").split("|")]
