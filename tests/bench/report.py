# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was measured, as a table for people and as JSON for tools.

A figure is a list of values of one thing; shown is the median with the smallest and the largest, as
the distributions have long tails on one side. A peer's is also given as a multiple of ours. A bar
is what uservm wants to reach; it is said whether it was, and nothing fails if not: how fast a
machine is today is no property of the code."""

import json
import statistics

WIDTH = 52


def pretty(value):
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


class Figure:
    def __init__(self, what, unit, values, ours):
        self.what = what
        self.unit = unit
        self.values = values
        self.median = statistics.median(values)
        self.ratio = self.median / ours.median if ours and ours.median else None

    def spread(self):
        if len(self.values) == 1:
            return ""
        return f"{pretty(min(self.values))} .. {pretty(max(self.values))}"

    def as_dict(self):
        return {"what": self.what, "unit": self.unit, "n": len(self.values), "median": self.median,
                "min": min(self.values), "max": max(self.values), "ratio": self.ratio,
                "values": self.values}


class Group:

    def __init__(self, title, how):
        self.title = title
        self.how = how
        self.figures = []

    def add(self, what, unit, values, ours=None):
        """`ours` is the figure that this one is a peer of."""
        self.figures.append(Figure(what, unit, list(values), ours))
        return self.figures[-1]

    def lines(self):
        yield f"{self.title:{WIDTH}}{'median':>14}   {'min .. max':<18}{'n':>4}{'ratio':>9}"
        for figure in self.figures:
            times = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
            value = f"{pretty(figure.median)} {figure.unit}".rstrip()
            yield (f"  {figure.what:{WIDTH - 2}}{value:>14}   "
                   f"{figure.spread():<18}{len(figure.values):>4}{times:>9}").rstrip()
        yield f"  ({self.how})"

    def as_dict(self):
        return {"title": self.title, "how": self.how,
                "figures": [figure.as_dict() for figure in self.figures]}


class Report:
    def __init__(self, machine):
        self.machine = machine
        self.groups = []
        self.bars = []

    def group(self, title, how):
        self.groups.append(Group(title, how))
        return self.groups[-1]

    def _bar(self, what, value, sign, limit, met):
        self.bars.append({"bar": what, "value": value, "limit": f"{sign} {limit}", "met": met})

    def at_least(self, what, value, limit):
        self._bar(what, value, ">=", limit, value >= limit)

    def at_most(self, what, value, limit):
        self._bar(what, value, "<=", limit, value <= limit)

    def text(self):
        yield ", ".join(f"{key} {value}" for key, value in self.machine.items())
        for group in self.groups:
            yield ""
            yield from group.lines()
        yield ""
        yield f"{'Bars':{WIDTH + 14}}{'value':>9}{'bar':>10}"
        for bar in self.bars:
            yield (f"  {bar['bar']:{WIDTH + 12}}{pretty(bar['value']):>9}{bar['limit']:>10}   "
                   f"{'met' if bar['met'] else 'NOT MET'}")

    def json(self):
        return json.dumps({"machine": self.machine,
                           "groups": [group.as_dict() for group in self.groups],
                           "bars": self.bars}, indent=2)
