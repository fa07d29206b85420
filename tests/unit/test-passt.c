/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The part of passt.h that needs no passt: paths, the command line, the table as pesto prints it,
 * and control sockets that passt would not be so rude as to have. The tables are what pesto
 * 2026-07-28 printed. The rest is in test-passt-real.c. */

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "passt.h"
#include "test-files.h"

#define UUID "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
#define MAC "52:54:00:aa:bb:0c"
#define FOLDER "/run/user/1000/libvirt/qemu/run/passt/"
#define NAME "uservm-4dea22b31d52d8f32516782e98ab3fa0-525400aabb0c"

#define _cleanup_paths_ _cleanup_(passt_paths_done)

static void use_runtime_directory(const char *path) {
        setenv("XDG_RUNTIME_DIR", path, 1);
}

/* Paths */

TEST(paths_lie_where_policy_allows_them) {
        _cleanup_paths_ PasstPaths paths = {};

        use_runtime_directory("/run/user/1000");
        CHECK_INT(passt_paths(UUID, MAC, &paths), 0);
        CHECK_STR(paths.socket, FOLDER NAME ".sock");
        CHECK_STR(paths.control, FOLDER NAME ".ctl");
        CHECK_STR(paths.pid_file, FOLDER NAME ".pid");
}

TEST(case_makes_no_difference) {
        _cleanup_paths_ PasstPaths paths = {};

        use_runtime_directory("/run/user/1000");
        CHECK_INT(passt_paths("4DEA22B3-1D52-D8F3-2516-782E98AB3FA0", "52:54:00:AA:BB:0C", &paths),
                  0);
        CHECK_STR(paths.socket, FOLDER NAME ".sock");
}

TEST(what_is_no_uuid_or_mac_is_refused) {
        PasstPaths paths;

        use_runtime_directory("/run/user/1000");
        CHECK_INT(passt_paths("../../../../etc/passwd", MAC, &paths), -EINVAL);
        CHECK_INT(passt_paths("", MAC, &paths), -EINVAL);
        CHECK_INT(passt_paths(UUID "0", MAC, &paths), -EINVAL);
        CHECK_INT(passt_paths(UUID, "52:54:00:aa:bb", &paths), -EINVAL);
        CHECK_INT(passt_paths(UUID, MAC ":00", &paths), -EINVAL);
        CHECK_INT(passt_paths(UUID, "52:54:00:aa:bb:0/", &paths), -EINVAL);
}

TEST(a_socket_path_fits_for_every_user_number) {
        _cleanup_paths_ PasstPaths paths = {};

        use_runtime_directory("/run/user/4294967294");
        CHECK_INT(passt_paths(UUID, MAC, &paths), 0);
        use_runtime_directory("/home/somebody/with/a/long/name/run");
        CHECK_INT(passt_paths(UUID, MAC, &paths), -ENAMETOOLONG);
}

TEST(without_a_runtime_directory_there_are_none) {
        PasstPaths paths;

        unsetenv("XDG_RUNTIME_DIR");
        CHECK_INT(passt_paths(UUID, MAC, &paths), -ENXIO);
        CHECK_INT(passt_owns_socket(FOLDER NAME ".sock"), 0);
        use_runtime_directory("relative");
        CHECK_INT(passt_paths(UUID, MAC, &paths), -ENXIO);
}

TEST(our_sockets_are_ours) {
        use_runtime_directory("/run/user/1000");
        CHECK_INT(passt_owns_socket(FOLDER NAME ".sock"), 1);
}

TEST(other_sockets_are_not_ours) {
        static const char *const others[] = {
                "",
                "uservm",
                NAME ".sock",
                FOLDER NAME ".ctl",
                FOLDER NAME ".sock.repair",
                FOLDER NAME,
                FOLDER "1-web-net0-passt.socket",
                FOLDER "uservm-4dea22b3-525400aabb0c.sock",
                FOLDER "uservm-4DEA22B31D52D8F32516782E98AB3FA0-525400aabb0c.sock",
                FOLDER "../" NAME ".sock",
                "/tmp/" NAME ".sock",
                "/run/user/1001/libvirt/qemu/run/passt/" NAME ".sock",
        };

        use_runtime_directory("/run/user/1000");
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {

                CHECK_INT(passt_owns_socket(others[i]), 0);
        }
}

/* The command line */

static int append(ForwardList *list, const char *spec) {
        _cleanup_forward_ Forward f = {};
        _cleanup_free_ char *reason = NULL;
        int r;

        r = forward_parse(spec, &f, &reason);
        return r < 0 ? r : forward_list_append(list, &f);
}

/* The command line but for its program name and the files, joined by spaces. */
static int command_line(const PasstConfig *config, char **ret) {
        static const char files[] = "passt --vhost-user --one-off --socket S --conf-path C --pid P "
                                    "--repair-path none ";
        const PasstPaths paths = { .socket = (char[]){ "S" },
                                   .control = (char[]){ "C" },
                                   .pid_file = (char[]){ "P" } };
        _cleanup_(strv_freep) char **arguments = NULL;
        char text[4096];
        size_t n = 0;
        int r;

        r = passt_arguments(&paths, config, &arguments);
        if (r < 0)
                return r;
        for (char **a = arguments; *a; a++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s", n > 0 ? " " : "", *a);
        if (!startswith(text, files))
                return -EBADMSG;
        *ret = strdup(text + strlen(files));
        return 0;
}

TEST(a_plain_start_asks_for_little) {
        _cleanup_free_ char *line = NULL;

        CHECK_INT(command_line(&(PasstConfig){ .forwards = &(ForwardList){} }, &line), 0);
        CHECK_STR(line, "--quiet");
}

TEST(everything_asked_for_is_on_the_command_line) {
        _cleanup_forward_list_ ForwardList forwards = {};
        _cleanup_free_ char *line = NULL;
        const PasstConfig config = {
                .hostname = "web",
                .mtu = 1500,
                .addresses =
                        (char *[]){ (char[]){ "192.0.2.3/24" }, (char[]){ "2001:db8::3" }, NULL },
                .interface = "eth0",
                .log_file = "/tmp/passt.log",
                .forwards = &forwards,
        };

        CHECK_INT(append(&forwards, "8080:80"), 0);
        CHECK_INT(append(&forwards, "*:5000-5002:6000-6002/udp"), 0);
        CHECK_INT(append(&forwards, "[::1]:8443:443"), 0);
        CHECK_INT(command_line(&config, &line), 0);
        CHECK_STR(line, "--log-file /tmp/passt.log --hostname web --mtu 1500 --interface eth0 "
                        "--address 192.0.2.3/24 --address 2001:db8::3 "
                        "--tcp-ports 127.0.0.1/8080:80 --udp-ports 5000-5002:6000-6002 "
                        "--tcp-ports ::1/8443:443");
}

TEST(a_value_that_looks_like_an_option_stays_a_value) {
        _cleanup_free_ char *line = NULL;

        CHECK_INT(command_line(&(PasstConfig){ .hostname = "--foreground",
                                               .forwards = &(ForwardList){} },
                               &line),
                  0);
        CHECK_STR(line, "--quiet --hostname --foreground");
}

/* The table */

#define TITLE "passt/pasta configuration (/run/user/1000/a.ctl)\n  HOST\n"

static const char real_table[] = TITLE "    TCP [127.0.0.1]:9080  =>  80 \n"
                                       "    TCP [0.0.0.0]:9101  =>  81 \n"
                                       "    TCP [*]:9102  =>  82 \n"
                                       "    UDP [::1]:9103-9105  =>  83-85 \n"
                                       "    TCP [127.0.0.1]%lo:9110-9114  =>  110-114 \n"
                                       "    TCP [127.0.0.1]%lo:9116-9117  =>  116-117 \n"
                                       "    TCP [127.0.0.1]%lo:9120  =>  120 \n"
                                       "    UDP [*]%lo:9200  =>  9200 \n"
                                       "    TCP [::]:9301  =>  9301 \n"
                                       "    TCP [127.0.0.2]:1-32767  =>  1-32767  (best effort)\n";

TEST(reads_a_real_table) {
        static const char *const expected[] = {
                "127.0.0.1:9080:80/tcp",
                "0.0.0.0:9101:81/tcp",
                "*:9102:82/tcp",
                "[::1]:9103-9105:83-85/udp",
                "127.0.0.1:9110-9114:110-114/tcp",
                "127.0.0.1:9116-9117:116-117/tcp",
                "127.0.0.1:9120:120/tcp",
                "*:9200:9200/udp",
                "[::]:9301:9301/tcp",
                "127.0.0.2:1-32767:1-32767/tcp",
        };
        _cleanup_forward_list_ ForwardList list = {};

        CHECK_INT(passt_parse_table(real_table, &list), 0);
        CHECK_INT(list.n, ELEMENTSOF(expected));
        for (size_t i = 0; i < list.n; i++) {
                _cleanup_free_ char *spec = NULL;

                CHECK_INT(forward_format(&list.items[i], &spec), 0);
                CHECK_STR(spec, expected[i]);
        }
        CHECK_STR(list.items[0].interface, "");
        CHECK_STR(list.items[4].interface, "lo");
        CHECK_STR(list.items[7].interface, "lo");
}

TEST(reads_an_empty_table) {
        _cleanup_forward_list_ ForwardList list = {};

        CHECK_INT(passt_parse_table(TITLE, &list), 0);
        CHECK_INT(list.n, 0);
}

TEST(reads_the_host_side_alone) {
        _cleanup_forward_list_ ForwardList list = {};

        CHECK_INT(passt_parse_table("passt/pasta configuration (x)\n"
                                    "  SPLICE\n"
                                    "    TCP [127.0.0.1]:1  =>  1 \n"
                                    "    SCTP whatever\n"
                                    "  HOST\n"
                                    "    TCP [127.0.0.1]:2  =>  2 \n"
                                    "  SPLICE\n"
                                    "    TCP [127.0.0.1]:3  =>  3 ",
                                    &list),
                  0);
        CHECK_INT(list.n, 1);
        CHECK_INT(list.items[0].host.start, 2);
}

TEST(reads_past_the_address_of_a_guest) {
        _cleanup_forward_list_ ForwardList list = {};

        CHECK_INT(passt_parse_table(TITLE "    TCP [0.0.0.0]:90-91  =>  192.0.2.3:80-81 \n"
                                          "    UDP [::]:92  =>  2001:db8::3:53 \n",
                                    &list),
                  0);
        CHECK_INT(list.n, 2);
        CHECK_INT(list.items[0].guest.start, 80);
        CHECK_INT(list.items[0].guest.end, 81);
        CHECK_INT(list.items[1].guest.start, 53);
}

TEST(what_is_no_table_is_refused) {
        static const char *const bad[] = {
                "",
                "\n",
                "passt/pasta configuration (x)\n",
                "Usage: pesto [OPTION]... PATH\n",
                TITLE "    \n",
                TITLE "    SCTP [127.0.0.1]:1  =>  1 \n",
                TITLE "    TCP 127.0.0.1:1  =>  1 \n",
                TITLE "    TCP []:1  =>  1 \n",
                TITLE "    TCP [127.0.0.1:1  =>  1 \n",
                TITLE "    TCP [localhost]:1  =>  1 \n",
                TITLE "    TCP [0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1  =>  1 \n",
                TITLE "    TCP [127.0.0.1]%:1  =>  1 \n",
                TITLE "    TCP [127.0.0.1]%waytoolongname16:1  =>  1 \n",
                TITLE "    TCP [127.0.0.1]%lo\n",
                TITLE "    TCP [127.0.0.1]\n",
                TITLE "    TCP [127.0.0.1]:\n",
                TITLE "    TCP [127.0.0.1]:0  =>  1 \n",
                TITLE "    TCP [127.0.0.1]:65536  =>  1 \n",
                TITLE "    TCP [127.0.0.1]:99999999999999999999  =>  1 \n",
                TITLE "    TCP [127.0.0.1]:-1  =>  1 \n",
                TITLE "    TCP [127.0.0.1]:1-  =>  1 \n",
                TITLE "    TCP [127.0.0.1]:2-1  =>  2-1 \n",
                TITLE "    TCP [127.0.0.1]:1-2-3  =>  1-2-3 \n",
                TITLE "    TCP [127.0.0.1]:1-2  =>  1 \n",
                TITLE "    TCP [127.0.0.1]:1-2  =>  1-3 \n",
                TITLE "    TCP [127.0.0.1]:1\n",
                TITLE "    TCP [127.0.0.1]:1  =>  \n",
                TITLE "    TCP [127.0.0.1]:1  =>  x\n",
                TITLE "    TCP [127.0.0.1]:1  =>  1 more\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ForwardList list = {};
                int r = passt_parse_table(bad[i], &list);

                if (r != -EBADMSG)
                        printf("# accepted: %s\n", bad[i]);
                CHECK_INT(r, -EBADMSG);
                CHECK_INT(list.n, 0);
        }
}

/* Damages each byte of a real table in turn: whatever comes of it, nothing is read astray. */
TEST(survives_damage) {
        static const char damage[] = { '\0', ' ', '\n', '[', ']', ':', '-', '%', '9', '(', '\xff' };

        for (size_t i = 0; i < sizeof(real_table) - 1; i++)
                for (size_t j = 0; j < ELEMENTSOF(damage); j++) {
                        _cleanup_forward_list_ ForwardList list = {};
                        _cleanup_free_ char *copy = strdup(real_table);
                        int r;

                        copy[i] = damage[j];
                        r = passt_parse_table(copy, &list);
                        CHECK(r == 0 || r == -EBADMSG);
                }
}

/* Forwards in a table */

static int exclude(Forward *f, uint16_t start, uint16_t end) {
        f->exclude = reallocarray(f->exclude, f->n_exclude + 1, sizeof(*f->exclude));
        if (!f->exclude)
                return -ENOMEM;
        f->exclude[f->n_exclude++] = (PortRange){ start, end };
        return 0;
}

TEST(takes_a_forward_out_of_a_table) {
        _cleanup_forward_list_ ForwardList table = {};
        _cleanup_forward_ Forward f = {};
        char *reason;

        CHECK_INT(passt_parse_table(real_table, &table), 0);
        CHECK_INT(forward_parse("9080:80", &f, &reason), 0);
        CHECK(passt_table_take(&table, &f));
        CHECK_INT(table.n, 9);
        CHECK(!passt_table_take(&table, &f));
        CHECK_INT(table.n, 9);
}

TEST(puts_the_parts_of_a_forward_together) {
        _cleanup_forward_list_ ForwardList table = {};
        _cleanup_forward_ Forward f = {};
        char *reason;

        CHECK_INT(passt_parse_table(real_table, &table), 0);
        CHECK_INT(forward_parse("9110-9120:110-120", &f, &reason), 0);
        strcpy(f.interface, "lo");
        CHECK(!passt_table_take(&table, &f));

        CHECK_INT(exclude(&f, 9115, 9115), 0);
        CHECK(!passt_table_take(&table, &f));
        CHECK_INT(exclude(&f, 9118, 9119), 0);
        CHECK(passt_table_take(&table, &f));
        CHECK_INT(table.n, 7);
        CHECK_STR(table.items[4].interface, "lo");
        CHECK_INT(table.items[4].host.start, 9200);
}

TEST(takes_nothing_that_differs) {
        static const char *const others[] = {
                "9080:81",         "9080:80/udp",
                "*:9080:80",       "127.0.0.2:9080",
                "9079-9080:79-80", "[::1]:9103-9105:83-85",
                "*:9101:81",       "[::1]:9103-9104:83-84/udp",
                "*:9200/udp",      "*:9301",
        };

        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                _cleanup_forward_list_ ForwardList table = {};
                _cleanup_forward_ Forward f = {};
                bool one_family = streq(others[i], "*:9101:81") || streq(others[i], "*:9301");
                char *reason;

                CHECK_INT(passt_parse_table(real_table, &table), 0);
                CHECK_INT(forward_parse(others[i], &f, &reason), 0);
                /* On a host with one family alone, that is what passt makes of every address. */
                CHECK_INT(passt_table_take(&table, &f), one_family);
        }
}

TEST(takes_all_ports_without_the_ephemeral_ones) {
        _cleanup_forward_list_ ForwardList table = {};
        _cleanup_forward_ Forward f = {};
        char *reason;

        CHECK_INT(passt_parse_table(TITLE
                                    "    TCP [*]:1-32767  =>  1-32767  (best effort)\n"
                                    "    TCP [*]:61000-65535  =>  61000-65535  (best effort)\n"
                                    "    UDP [*]:1-32767  =>  1-32767  (best effort)\n",
                                    &table),
                  0);
        CHECK_INT(forward_parse("*:1-65535", &f, &reason), 0);
        CHECK(passt_table_take(&table, &f));
        CHECK_INT(table.n, 1);
        CHECK_INT(table.items[0].protocol, FORWARD_UDP);
}

/* Control */

/* Stands in for passt: lets each client go, or sends it a byte now and then. */
static pid_t serve(const char *path, bool lets_go) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pid_t pid;

        strcpy(address.sun_path, path);
        if (bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 ||
            listen(listener, 1) < 0)
                abort();
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;) {
                        _cleanup_close_ int fd = accept(listener, NULL, NULL);

                        while (!lets_go && write(fd, "", 1) > 0)
                                usleep(100000);
                }
        }
        close(listener);
        return pid;
}

/* Lists the forwards of such a passt, which fails within the time that it is given. */
static void no_answer(bool lets_go, const char *pesto) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        const PasstPaths paths = { .control = (char *) in_root(lets_go ? "mute" : "slow") };
        pid_t pid = serve(paths.control, lets_go);
        ForwardList list;
        int r;

        write_file(in_root("pesto"), pesto, strlen(pesto));
        CHECK_INT(chmod(in_root("pesto"), 0700), 0);
        alarm(30);
        r = passt_list_forwards(&paths, &list, &error);
        alarm(0);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        CHECK(r < 0);
        CHECK_STR(error.name, USERVM_ERROR_PASST_FAILED);
        CHECK_MENTIONS(error.message, "does not answer on its control socket: ");
}

TEST(a_pesto_that_gets_no_answer_is_ended) {
        _cleanup_free_ char *path = NULL;

        CHECK(asprintf(&path, "%s:%s", root, getenv("PATH")) > 0);
        setenv("PATH", path, 1);
        no_answer(true, "#!/bin/sh\nexec sleep 100\n");
}

TEST(a_byte_now_and_then_is_no_answer) {
        no_answer(false, "#!/bin/sh\necho it is not run\n");
}

TEST_MAIN(paths_lie_where_policy_allows_them, case_makes_no_difference,
          what_is_no_uuid_or_mac_is_refused, a_socket_path_fits_for_every_user_number,
          without_a_runtime_directory_there_are_none, our_sockets_are_ours,
          other_sockets_are_not_ours, a_plain_start_asks_for_little,
          everything_asked_for_is_on_the_command_line,
          a_value_that_looks_like_an_option_stays_a_value, reads_a_real_table, reads_an_empty_table,
          reads_the_host_side_alone, reads_past_the_address_of_a_guest, what_is_no_table_is_refused,
          survives_damage, takes_a_forward_out_of_a_table, puts_the_parts_of_a_forward_together,
          takes_nothing_that_differs, takes_all_ports_without_the_ephemeral_ones,
          begins_in_a_folder_of_its_own, a_pesto_that_gets_no_answer_is_ended,
          a_byte_now_and_then_is_no_answer, leaves_nothing_behind)
