# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of every kind at random moments of every operation of the API. After each, everything that
is listed, stored, running and listened on agrees, and with what the calls were answered; nothing is
lost, nothing is left, and whoever waited was told.

    test_faults.py [FAULTS [SEED [NAME]]]

NAME: only faults and operations with this in their names. One line of TAP a fault, a table at the
end."""

import collections
import contextlib
import os
import random
import re
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab"))
import lab  # noqa: E402  first: it says where the others are
import client  # noqa: E402
import faults  # noqa: E402
import libvirt  # noqa: E402
import operations  # noqa: E402
import population  # noqa: E402
import tap  # noqa: E402
import world as place  # noqa: E402

SHORT = 60  # faults
# Of calls that no fault disturbs.
UNEXPECTED = AssertionError, TimeoutError, client.Error, client.GLib.Error, libvirt.libvirtError


class Row:
    """Of the table: a kind of fault."""

    def __init__(self):
        self.answers = collections.Counter()
        self.seconds = []
        self.violations = collections.Counter()


class Suite:
    def __init__(self, number, seed, pattern):
        self.number = number
        self.rng = random.Random(seed)
        self.kinds = [kind for kind in faults.ALL if pattern in kind.name
                      and (number > SHORT or not kind.takes_long)]
        self.operations = [kind for kind in operations.ALL if pattern in kind.name]
        self.kinds = self.kinds or faults.ALL
        self.operations = self.operations or operations.ALL
        self.rows = collections.defaultdict(Row)
        self.durations = collections.defaultdict(lambda: 0.5)
        self.errors = collections.Counter()
        self.population = population.Population()
        self.reported = self.failed = 0

    def calibrate(self):
        """How long each operation takes when nothing goes wrong."""
        for kind in self.operations:
            operation = kind(self.population, self.rng)
            begin = time.monotonic()
            answer = operation.send().wait()
            self.durations[kind] = time.monotonic() - begin
            if answer != "done":
                raise AssertionError(f"{operation} was {answer}")
            violations, seconds = self.population.settle(lambda: operation.allowed("done"))
            if violations:
                raise AssertionError(f"after {operation}: {[*map(str, violations)]}")
            self.population.fill()
        lab.comment("without faults, ms: " + ", ".join(
            f"{kind.name} {1000 * seconds:.0f}" for kind, seconds in self.durations.items()))

    def choose(self):
        """An operation, and a fault for it, not injected yet."""
        while True:
            fault = self.rng.choices(self.kinds, [kind.weight for kind in self.kinds])[0]
            kind = self.rng.choice(self.operations)
            if kind is operations.Create and len(self.population.machines) > population.AT_MOST:
                kind = operations.Delete
            operation = kind(self.population, self.rng)
            try:
                return operation, fault(self.population, self.rng, operation)
            except faults.Nothing:
                continue

    def inject(self, operation, fault):
        """Returns the call, and when in the midst of it the fault came."""
        duration = self.durations[type(operation)]
        if fault.early and self.rng.random() < 0.5:
            fault.inject()
            begin = time.monotonic()
            return operation.send(), begin - time.monotonic()
        call = operation.send()
        begin = time.monotonic()
        time.sleep(self.rng.uniform(0, 1.1 * duration))
        at = time.monotonic() - begin
        try:
            fault.inject()
        except faults.Nothing:
            call.wait()
            raise
        return call, at

    def hold(self, fault, call):
        if not fault.until_answer:
            time.sleep(fault.hold)
            return
        with contextlib.suppress(TimeoutError):
            self.population.bus.wait(lambda: call.answer, "a reply", int(1000 * fault.hold))

    def step(self):
        """One fault, if there is something for it to hit."""
        operation, fault = self.choose()
        try:
            call, at = self.inject(operation, fault)
        except faults.Nothing:
            self.population.look()
            return
        try:
            self.hold(fault, call)
        finally:
            fault.heal()
        self.judge(operation, fault, call, at)
        operation.follow_up(call.answer)
        self.population.fill()

    def judge(self, operation, fault, call, at):
        answer = call.wait()
        self.population.reconnect()
        violations = self.judge_answer(call, answer)
        left, seconds = self.settle(operation, fault, answer)
        violations += left
        self.report(operation, fault, call, at, violations, seconds)

    def settle(self, operation, fault, answer):
        def allowed():
            return {uuid: fault.alter(machines)
                    for uuid, machines in operation.allowed(answer).items()}

        return self.population.settle(allowed, operation.unknown(answer), fault.verify,
                                      fault.comes_back)

    def judge_answer(self, call, answer):
        if answer == "refused":
            text = re.sub(r"'[^']*'|[0-9a-f-]{36}|\d+", "…", str(call.error))
            self.errors[text] += 1
            if not call.error.name.startswith(("org.uservm1.Error.",
                                               "org.freedesktop.DBus.Error.Failed")) \
                    or len(call.error.message) < 10:
                return [place.Violation("reply", f"no clear error: {call.error}")]
        return [place.Violation("reply", f"none came: {call.error}")] if answer == "late" else []

    def report(self, operation, fault, call, at, violations, seconds):
        row = self.rows[fault.name]
        row.answers[call.answer] += 1
        row.seconds.append(seconds)
        row.violations.update(violation.kind for violation in violations)
        if call.error:
            lab.comment(f"{call.error}")
        self.print_result(f"{fault}, {1000 * at:.0f} ms into {operation}: {call.answer}, right "
                          f"after {seconds:.1f} s", violations)

    def print_result(self, description, violations):
        """What is wrong, and what was logged of late, is in comments above the line."""
        for violation in violations:
            lab.comment(str(violation))
        if violations:
            self.failed += 1
            tap.comment(lab.run("journalctl", "--user", "--no-pager", "--lines=60",
                                "--output=short-precise", "--identifier=uservmd",
                                "--identifier=systemd", "--identifier=passt",
                                check=False))
        self.reported += 1
        print(f"{'not ok' if violations else 'ok'} {self.reported} - {description}", flush=True)
        if violations:
            self.population.start_over()

    def table(self):
        lab.comment(f"{'fault':46}{'n':>5}{'done':>6}{'refused':>8}{'cut':>5}"
                    f"{'median s':>9}{'max s':>7}  violations")
        total = Row()
        for name, row in sorted(self.rows.items()):
            self.print_row(name, row)
            total.answers += row.answers
            total.seconds += row.seconds
            total.violations += row.violations
        self.print_row("all", total)
        lab.comment(", ".join(f"{total.violations[kind]} {kind}" for kind in place.KINDS))
        for text, number in self.errors.most_common():
            lab.comment(f"{number} x {text}")

    @staticmethod
    def print_row(name, row):
        lab.comment(f"{name:46}{sum(row.answers.values()):5}{row.answers['done']:6}"
                    f"{row.answers['refused']:8}{row.answers['cut']:5}"
                    f"{statistics.median(row.seconds):9.2f}{max(row.seconds):7.1f}  "
                    f"{dict(row.violations) or ''}")

    def run(self):
        print(f"1..{self.number}", flush=True)
        self.population.begin()
        self.calibrate()
        while self.reported < self.number:
            try:
                self.step()
            except UNEXPECTED as error:
                self.print_result("between two faults", [place.Violation("reply", repr(error))])
        self.table()
        return self.failed == 0


def main(number=SHORT, seed=None, pattern=""):
    seed = int(seed) if seed else random.randrange(1 << 32)
    lab.comment(f"seed {seed}")
    place.make_place()
    sys.exit(0 if Suite(int(number), seed, pattern).run() else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
