# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every wrong call gets its own clear error and leaves nothing behind."""

import unittest

import client
import daemon
import malformed
import tap


class Malformed(unittest.TestCase):
    """One uservmd for all of them, as their effects must not add up either."""

    daemon = None
    messages = {}  # of the calls so far, with the cause

    @classmethod
    def setUpClass(cls):
        cls.bus = client.Client()
        cls.addClassCleanup(cls.bus.close)
        cls.daemon = daemon.Daemon(domains=[
            daemon.domain("web", 1, devices=daemon.USER_NIC),
            daemon.domain("bare", 2)])
        cls.addClassCleanup(cls.daemon.remove)
        cls.daemon.start(cls.bus)
        cls.world = malformed.World("web")
        cls.addClassCleanup(cls.world.close)
        cls.features = daemon.Case.features(cls)
        cls.before = cls.everything()
        cls.bus.take_signals()

    @classmethod
    def tearDownClass(cls):
        status = cls.daemon.stop()
        if status != 0:
            raise AssertionError(f"uservmd ended with {status}:\n{cls.daemon.log()}")

    @classmethod
    def everything(cls):
        return (cls.bus.manager("ListVMs"), client.lasting(cls.bus.managed_objects()),
                cls.bus.manager("ListForwards", "(s)", ""), daemon.Case.files(cls))

    def check(self, call):
        if call.passt and "passt" not in self.features:
            self.skipTest("this libvirt has no passt, which came with 9.1")
        with self.assertRaises(client.Error) as caught:
            self.world.run(self.bus, call)
        message = caught.exception.message
        self.assertEqual(caught.exception.name, call.error, message)
        self.assertTrue(message.strip())
        for words in self.world.fill(call.says):
            self.assertIn(words, message)
        cause = call.cause or call.description
        self.assertEqual(self.messages.setdefault(message, cause), cause,
                         f"also the message of another cause: {message}")

    def test_999_nothing_is_left_behind(self):
        self.assertEqual(self.everything(), self.before)
        self.assertEqual(client.without_last_error(self.bus.take_signals()), [])

    def diagnostics(self):
        return "\n".join(self.daemon.log().splitlines()[-3:])


def add_test(number, call):
    def test(self):
        self.check(call)

    name = f"test_{number:03} {call.description}"
    setattr(Malformed, name, test)


for number, call in enumerate(malformed.CALLS, 1):
    add_test(number, call)

if __name__ == "__main__":
    tap.main()
