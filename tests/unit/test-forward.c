/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Specs good and bad, conflicts, passt's notation, lists. */

#include <errno.h>

#include "forward.h"
#include "test.h"

/* Parses a spec that the test knows to be good; what it is not shows in the checks. */
static Forward forward(const char *spec) {
        _cleanup_free_ char *reason = NULL;
        Forward f = {};

        if (forward_parse(spec, &f, &reason) < 0)
                printf("# %s\n", reason);
        return f;
}

TEST(parses_good_specs) {
        static const struct {
                const char *spec, *canonical;
        } cases[] = {
                { "8080", "127.0.0.1:8080:8080/tcp" },
                { "8080:80", "127.0.0.1:8080:80/tcp" },
                { "8080:80/tcp", "127.0.0.1:8080:80/tcp" },
                { "5353:53/udp", "127.0.0.1:5353:53/udp" },
                { "1:65535", "127.0.0.1:1:65535/tcp" },
                { "65535:1", "127.0.0.1:65535:1/tcp" },
                { "0:80", "127.0.0.1:0:80/tcp" },
                { "127.0.0.1:0:80/udp", "127.0.0.1:0:80/udp" },
                { "8080-8082", "127.0.0.1:8080-8082:8080-8082/tcp" },
                { "8080-8082:80-82", "127.0.0.1:8080-8082:80-82/tcp" },
                { "8080-8080:80", "127.0.0.1:8080:80/tcp" },
                { "8080:80-80", "127.0.0.1:8080:80/tcp" },
                { "1-65535", "127.0.0.1:1-65535:1-65535/tcp" },
                { "*:8080:80", "*:8080:80/tcp" },
                { "*:8080", "*:8080:8080/tcp" },
                { "*:5000-5002:6000-6002/udp", "*:5000-5002:6000-6002/udp" },
                { "0.0.0.0:8080:80", "0.0.0.0:8080:80/tcp" },
                { "192.0.2.7:8080", "192.0.2.7:8080:8080/tcp" },
                { "192.0.2.7:8080-8081:80-81/udp", "192.0.2.7:8080-8081:80-81/udp" },
                { "[::1]:8080:80", "[::1]:8080:80/tcp" },
                { "[::1]:8080", "[::1]:8080:8080/tcp" },
                { "[::]:8080:80/udp", "[::]:8080:80/udp" },
                { "[2001:DB8:0:0::7]:8080:80", "[2001:db8::7]:8080:80/tcp" },
                { "[::ffff:127.0.0.1]:8080:80", "127.0.0.1:8080:80/tcp" },
                { "[1111:2222:3333:4444:5555:6666:7777:8888]:10000-10001:20000-20001/udp",
                  "[1111:2222:3333:4444:5555:6666:7777:8888]:10000-10001:20000-20001/udp" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *reason = NULL, *text = NULL, *again_reason = NULL;
                Forward f, again;

                if (forward_parse(cases[i].spec, &f, &reason) < 0)
                        printf("# %s\n", reason);
                CHECK(!reason);
                CHECK(f.persistent);
                CHECK_INT(f.state, FORWARD_INACTIVE);
                CHECK_INT(forward_format(&f, &text), 0);
                CHECK_STR(text, cases[i].canonical);
                CHECK_INT(forward_parse(text, &again, &again_reason), 0);
                CHECK(forward_equal(&f, &again));
        }
}

TEST(refuses_bad_specs_with_a_reason_each) {
        static const struct {
                const char *spec, *says;
        } cases[] = {
                { "", "is empty" },
                { ":", "host port is missing" },
                { "::", "too many colons" },
                { ":80", "host port is missing" },
                { "8080:", "guest port is missing" },
                { "/tcp", "host port is missing" },
                { ":8080:80", "address is empty" },
                { "[]:8080:80", "address is empty" },
                { "127.0.0.1:", "host port is missing" },
                { "127.0.0.1::80", "too many colons" },
                { "127.0.0.1:8080:", "guest port is missing" },
                { "127.0.0.1", "not a decimal number" },
                { "*", "not a decimal number" },
                { "8080:80:tcp", "is not an IPv4 address" },
                { "8080/tcp:80", "protocol \"tcp:80\" is not known" },
                { "8080:80/TCP", "protocol \"TCP\" is not known" },
                { "8080:80/sctp", "protocol \"sctp\" is not known" },
                { "8080:80/", "protocol \"\" is not known" },
                { "8080:80/tcp/udp", "protocol \"tcp/udp\" is not known" },
                { "8080:80/tcp ", "protocol \"tcp \" is not known" },
                { "+8080:80", "host port \"+8080\" is not a decimal number" },
                { " 8080:80", "host port \" 8080\" is not a decimal number" },
                { "8080 :80", "host port \"8080 \" is not a decimal number" },
                { "8080: 80", "guest port \" 80\" is not a decimal number" },
                { "8080:80\n", "guest port \"80\\x0a\" is not a decimal number" },
                { "0x50:80", "host port \"0x50\" is not a decimal number" },
                { "8080:0x50", "guest port \"0x50\" is not a decimal number" },
                { "8080:80,81", "guest port \"80,81\" is not a decimal number" },
                { "8080:http", "guest port \"http\" is not a decimal number" },
                { "8080:1e3", "not a decimal number" },
                { "08080:80", "starts with a zero" },
                { "8080:080", "starts with a zero" },
                { "00:80", "starts with a zero" },
                { "65536:80", "host port 65536 is too high" },
                { "8080:65536", "guest port 65536 is too high" },
                { "8080:99999999999999999999999", "is too high" },
                { "-80:80", "host port is missing" },
                { "80-:80", "host port is missing" },
                { "8080:80-", "guest port is missing" },
                { "1-2-3:4", "host port \"2-3\" is not a decimal number" },
                { "9000-8000", "host port range 9000-8000 is reversed" },
                { "8000-8001:91-90", "guest port range 91-90 is reversed" },
                { "80-0:80", "reversed" },
                { "8080:0", "guest port cannot be 0" },
                { "0", "needs a guest port" },
                { "*:0/udp", "needs a guest port" },
                { "0-5:80-85", "starts at 0" },
                { "0-0:80", "starts at 0" },
                { "0:80-81", "single guest port" },
                { "8080-8082:80", "as long as the host range: 80-82" },
                { "8080-8082:80-81", "as long as the host range: 80-82" },
                { "8080:80-81", "as long as the host range, one port" },
                { "8080-8082:65534", "there are not that many" },
                { "localhost:8080:80", "write 127.0.0.1" },
                { "localhost:8080", "write 127.0.0.1" },
                { "example.com:8080:80", "host names are not accepted" },
                { "host:8080", "host names are not accepted" },
                { "127.1:8080:80", "is not an IPv4 address" },
                { "127.0.0.01:8080:80", "is not an IPv4 address" },
                { "127.0.0.256:8080:80", "is not an IPv4 address" },
                { " 127.0.0.1:8080:80", "is not an IPv4 address" },
                { "2130706433:8080:80", "is not an IPv4 address" },
                { "::1:8080:80", "must stand in brackets" },
                { "fe80::1", "must stand in brackets" },
                { "1:2:3:4", "must stand in brackets" },
                { "[::1:8080:80", "closing bracket" },
                { "[::1]", "colon and the host port must follow" },
                { "[::1]8080:80", "colon and the host port must follow" },
                { "[::1]:", "host port is missing" },
                { "[::1]:8080:80:81", "guest port \"80:81\" is not a decimal number" },
                { "[127.0.0.1]:8080:80", "is not an IPv6 address" },
                { "[*]:8080:80", "is not an IPv6 address" },
                { "[[::1]]:8080:80", "colon and the host port must follow" },
                { "[fe80::1%eth0]:8080:80", "zone" },
                { "127.0.0.1%lo:8080:80", "zone" },
                { "8080:80\xff", "guest port \"80\\xff\"" },
                { "\"8080\":80", "host port \"\\x228080\\x22\"" },
                { "1111111111111111111111111111111111111111111111111111111111111111111111111111"
                  "1111111111111111111111111",
                  "too long" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *reason = NULL;
                Forward f;

                CHECK_INT(forward_parse(cases[i].spec, &f, &reason), -EINVAL);
                CHECK(reason);
                if (!strstr(reason, cases[i].says))
                        printf("# case %zu says: %s\n", i, reason);
                CHECK(strstr(reason, cases[i].says));
                CHECK(startswith(reason, "Port forward \""));
                CHECK(reason[strlen(reason) - 1] == '.');
                for (const char *c = reason; *c; c++)
                        CHECK(*c >= ' ' && *c < 0x7f);
        }
}

TEST(quotes_long_specs_in_part) {
        _cleanup_free_ char *reason = NULL, *binary_reason = NULL, *huge = malloc(1 << 20);
        Forward f;

        CHECK(huge);
        memset(huge, 'x', (1 << 20) - 1);
        huge[(1 << 20) - 1] = '\0';
        CHECK_INT(forward_parse(huge, &f, &reason), -EINVAL);
        CHECK(strlen(reason) < 200);
        CHECK(strstr(reason, "xxx...\""));

        memset(huge, 0x80, 1000);
        huge[1000] = '\0';
        CHECK_INT(forward_parse(huge, &f, &binary_reason), -EINVAL);
        CHECK(strlen(binary_reason) < 200);
}

TEST(parses_the_host_side) {
        _cleanup_free_ char *reason = NULL, *missing_reason = NULL, *zero_reason = NULL;
        Forward stored = forward("*:8080-8081:80-81/udp"), f;

        CHECK_INT(forward_parse_host_side("*:8080-8081/udp", &f, &missing_reason), 0);
        CHECK(forward_same_host_side(&stored, &f));
        CHECK_INT(forward_parse_host_side("*:8080-8081:1-2/udp", &f, &reason), 0);
        CHECK(forward_same_host_side(&stored, &f));
        CHECK(!forward_equal(&stored, &f));
        CHECK_INT(forward_parse_host_side("0:80", &f, &zero_reason), -EINVAL);
        CHECK(strstr(zero_reason, "does not name a forward"));
}

TEST(writes_passt_notation) {
        static const struct {
                const char *spec, *interface;
                PortRange exclude[2];
                const char *passt;
        } cases[] = {
                { "8080:80", "", {}, "127.0.0.1/8080:80" },
                { "*:8080:80/udp", "", {}, "8080:80" },
                { "*:8080-8081:80-81", "", {}, "8080-8081:80-81" },
                { "0.0.0.0:8080:80", "", {}, "0.0.0.0/8080:80" },
                { "[::1]:8080:80", "", {}, "::1/8080:80" },
                { "*:8080:80", "eth0", {}, "%eth0/8080:80" },
                { "8080-8081:80-81",
                  "lo",
                  { { 8081, 8081 } },
                  "127.0.0.1%lo/8080-8081:80-81,~8081" },
                { "*:1000-2000",
                  "",
                  { { 1500, 1500 }, { 1600, 1700 } },
                  "1000-2000:1000-2000,~1500,~1600-1700" },
                { "*:1-65535", "", {}, "all" },
                { "[::1]:1-65535", "", {}, "::1/all" },
                { "*:1-65535", "eth0", { { 22, 22 }, { 25, 26 } }, "%eth0/~22,~25-26" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = NULL;
                Forward f = forward(cases[i].spec);

                strcpy(f.interface, cases[i].interface);
                f.exclude = (PortRange *) cases[i].exclude;
                while (f.n_exclude < 2 && f.exclude[f.n_exclude].start > 0)
                        f.n_exclude++;
                CHECK_INT(forward_format_passt(&f, &text), 0);
                CHECK_STR(text, cases[i].passt);
        }
}

TEST(reads_addresses) {
        char text[INET6_ADDRSTRLEN];
        Forward f = {};

        CHECK_INT(forward_set_address(&f, "::1"), 0);
        CHECK_INT(f.family, AF_INET6);
        CHECK_STR(forward_address_to_string(&f, text, sizeof(text)), "::1");
        CHECK_INT(forward_set_address(&f, "bad"), -EINVAL);
        CHECK_INT(forward_set_address(&f, "[::1]"), -EINVAL);
        CHECK_INT(forward_set_address(&f, "::ffff:192.0.2.1"), 0);
        CHECK_INT(f.family, AF_INET);
        CHECK_STR(forward_address_to_string(&f, text, sizeof(text)), "192.0.2.1");
        for (const char *const *s = (const char *const[]){ "", "*", "end" }; !streq(*s, "end");
             s++) {
                CHECK_INT(forward_set_address(&f, "192.0.2.1"), 0);
                CHECK_INT(forward_set_address(&f, *s), 0);
                CHECK_INT(f.family, AF_UNSPEC);
                CHECK_INT(f.address.in.s_addr, 0);
        }
        CHECK_INT(forward_set_address(&f, NULL), 0);
        CHECK_STR(forward_address_to_string(&f, text, sizeof(text)), "*");
}

TEST(finds_conflicts) {
        static const struct {
                const char *a, *b;
                bool conflict;
        } cases[] = {
                { "8080:80", "8080:81", true },
                { "8080:80", "8081:80", false },
                { "8080:80", "8080:80/udp", false },
                { "8080:80", "127.0.0.2:8080:80", false },
                { "8080:80", "0.0.0.0:8080:80", true },
                { "8080:80", "*:8080:80", true },
                { "8080:80", "[::]:8080:80", false },
                { "8080:80", "[::1]:8080:80", false },
                { "[::1]:8080:80", "[::2]:8080:80", false },
                { "[::1]:8080:80", "[::1]:8080:80", true },
                { "[::1]:8080:80", "[::]:8080:80", true },
                { "[::1]:8080:80", "*:8080:80", true },
                { "0.0.0.0:8080:80", "[::]:8080:80", false },
                { "*:8080:80", "*:8080:80", true },
                { "8080-8090", "8090-8100", true },
                { "8080-8090", "8091-8100", false },
                { "8080-8090", "8085:80", true },
                { "1-65535", "65535", true },
                { "0:80", "0:80", false },
                { "0:80", "1-65535", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Forward a = forward(cases[i].a), b = forward(cases[i].b);

                if (forward_conflicts(&a, &b) != cases[i].conflict)
                        printf("# %s and %s\n", cases[i].a, cases[i].b);
                CHECK_INT(forward_conflicts(&a, &b), cases[i].conflict);
                CHECK_INT(forward_conflicts(&b, &a), cases[i].conflict);
        }
}

TEST(considers_exclusions_not_interfaces) {
        PortRange most = { 8081, 8090 };
        Forward range = forward("8080-8090"), free_port = forward("8085:80"),
                taken_port = forward("8080:80");

        range.exclude = &most;
        range.n_exclude = 1;
        strcpy(range.interface, "lo");
        CHECK(!forward_conflicts(&range, &free_port));
        CHECK(forward_conflicts(&range, &taken_port));
        CHECK(forward_has_port(&range, 8080));
        CHECK(!forward_has_port(&range, 8081));
        CHECK(!forward_has_port(&range, 8079));
        CHECK(!forward_has_port(&range, 8091));
}

TEST(tells_forwards_apart) {
        PortRange exclude = { 8080, 8080 };
        Forward a = forward("8080:80"), b = forward("8080:81"), c = forward("8080:80");

        CHECK(forward_same_host_side(&a, &b));
        CHECK(!forward_equal(&a, &b));
        c.persistent = false;
        c.state = FORWARD_ACTIVE;
        CHECK(forward_equal(&a, &c));
        strcpy(c.interface, "lo");
        CHECK(!forward_same_host_side(&a, &c));
        c = a;
        c.exclude = &exclude;
        c.n_exclude = 1;
        CHECK(forward_same_host_side(&a, &c));
        CHECK(!forward_equal(&a, &c));
}

TEST(copies_deeply) {
        _cleanup_forward_ Forward original = forward("8080-8090"), copy = {};

        original.exclude = new0(PortRange, 1);
        original.exclude[0] = (PortRange){ 8085, 8086 };
        original.n_exclude = 1;
        original.error = strdup("the port is taken");
        CHECK_INT(forward_copy(&original, &copy), 0);
        CHECK(forward_equal(&original, &copy));
        CHECK(copy.exclude != original.exclude);
        CHECK(copy.error != original.error);
        CHECK_STR(copy.error, original.error);
}

TEST(keeps_lists) {
        _cleanup_forward_list_ ForwardList list = {}, copy = {};
        static const char *const specs[] = { "8080:80", "*:9000-9010", "8080:80/udp" };
        Forward found;

        for (size_t i = 0; i < ELEMENTSOF(specs); i++) {
                Forward f = forward(specs[i]);

                CHECK_INT(forward_list_append(&list, &f), 0);
        }
        CHECK_INT(list.n, 3);
        CHECK_INT(forward_list_copy(&list, &copy), 0);

        found = forward("8080:1234/udp");
        CHECK(forward_list_find_host_side(&list, &found) == &list.items[2]);
        found = forward("9005:1");
        CHECK(!forward_list_find_host_side(&list, &found));
        CHECK(forward_list_find_conflict(&list, &found) == &list.items[1]);

        forward_list_remove(&list, 1);
        CHECK_INT(list.n, 2);
        CHECK(!forward_list_find_conflict(&list, &found));
        CHECK(forward_equal(&list.items[1], &copy.items[2]));
        forward_list_remove(&list, 1);
        forward_list_remove(&list, 0);
        CHECK_INT(list.n, 0);
        CHECK_INT(copy.n, 3);

        forward_list_done(&copy);
        CHECK_INT(copy.n, 0);
        CHECK_INT(forward_list_copy(&list, &copy), 0);
}

TEST(names_what_it_has) {
        CHECK_STR(forward_protocol_to_string(FORWARD_TCP), "tcp");
        CHECK_STR(forward_protocol_to_string(FORWARD_UDP), "udp");
        CHECK_STR(forward_state_to_string(FORWARD_ACTIVE), "active");
        CHECK_STR(forward_state_to_string(FORWARD_INACTIVE), "inactive");
        CHECK_STR(forward_state_to_string(FORWARD_PENDING), "pending");
        CHECK_STR(forward_state_to_string(FORWARD_REMOVING), "removing");
        CHECK_STR(forward_state_to_string(FORWARD_FAILED), "failed");
}

TEST_MAIN(parses_good_specs, refuses_bad_specs_with_a_reason_each, quotes_long_specs_in_part,
          parses_the_host_side, writes_passt_notation, reads_addresses, finds_conflicts,
          considers_exclusions_not_interfaces, tells_forwards_apart, copies_deeply, keeps_lists,
          names_what_it_has)
