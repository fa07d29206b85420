# SPDX-License-Identifier: LGPL-2.1-or-later
"""unittest whose results are lines of the Test Anything Protocol (testanything.org).

A test program ends with

    if __name__ == "__main__":
        tap.main()

Standard output has nothing but TAP, a line a test, planned in front: a program that dies half-way
has fewer than it promised. A failed test's traceback is in comments above its line, followed by
what the test's own diagnostics() returns, if it has such a method.
"""

import sys
import traceback
import unittest


def comment(text):
    for line in text.splitlines():
        print("#", line.rstrip(), flush=True)


def description(test):
    return test._testMethodName.removeprefix("test_").replace("_", " ").replace("#", "\\#")


class Result(unittest.TestResult):
    """Errors come as they happen, several of one test if its end fails too; the line comes last."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def startTest(self, test):
        super().startTest(test)
        self.failed = False
        self.skip_reason = None

    def stopTest(self, test):
        super().stopTest(test)
        self.number += 1
        skip = f" # SKIP {self.skip_reason}" if self.skip_reason and not self.failed else ""
        print(f"{'not ok' if self.failed else 'ok'} {self.number} - {description(test)}{skip}",
              flush=True)

    def explain(self, test, error):
        self.failed = True
        comment("".join(traceback.format_exception(*error)))
        if hasattr(test, "diagnostics"):
            comment(test.diagnostics())

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.explain(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.explain(test, error)
        if not isinstance(test, unittest.TestCase):  # what prepares a whole class
            print(f"Bail out! {test}", flush=True)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            comment(str(subtest))
            self.explain(test, error)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.skip_reason = reason


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    print(f"1..{suite.countTestCases()}", flush=True)
    result = Result()
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
