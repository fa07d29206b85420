/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* uservm(1): the table of commands, and how one is found in it. What a command does is in
 * command-*.c, one file for those that belong together; all of them reach the service through
 * libuservm, and none talks to D-Bus or libvirt itself. */

#include <limits.h>
#include <stdio.h>

#include "arguments.h"
#include "commands.h"
#include "config.h"
#include "output.h"
#include "session.h"

#define NAME_COLUMN 30

static int command_help(const Arguments *arguments);

/* In the order in which they are listed. */
const Command commands[] = {
        { "list", "", 0, 0, 0, options_list, "List all VMs", command_list },
        { "show", "VM", 1, 1, 0, options_json, "Show all about a VM", command_show },
        { "create", "NAME", 0, 1, 0, options_create, "Create a VM and start it", command_create },
        { "delete", "VM...", 1, UINT_MAX, 0, options_delete,
          "Delete VMs and the disks that uservm made for them", command_delete },
        { "rename", "VM NAME", 2, 2, 0, NULL, "Give a VM another name", command_rename },
        { "set", "VM", 1, 1, 0, options_set, "Set the memory or virtual CPUs of a VM",
          command_set },
        { "disk list", "VM", 1, 1, 0, options_json, "List the disks of a VM", command_disk_list },
        { "disk resize", "VM DISK SIZE", 3, 3, 0, NULL, "Make a disk of a VM larger",
          command_disk_resize },
        { "start", "VM...", 1, UINT_MAX, 0, NULL, "Start VMs", command_start },
        { "shutdown", "VM...", 1, UINT_MAX, 0, NULL, "Ask guests to shut down", command_shutdown },
        { "poweroff", "VM...", 1, UINT_MAX, 0, NULL, "Pull the power plug of VMs",
          command_poweroff },
        { "reboot", "VM...", 1, UINT_MAX, 0, NULL, "Ask guests to reboot", command_reboot },
        { "reset", "VM...", 1, UINT_MAX, 0, NULL, "Press the reset button of VMs", command_reset },
        { "pause", "VM...", 1, UINT_MAX, 0, NULL, "Stop the CPUs of VMs for a while",
          command_pause },
        { "resume", "VM...", 1, UINT_MAX, 0, NULL, "Let paused VMs go on", command_resume },
        { "save", "VM...", 1, UINT_MAX, 0, NULL, "Write the memory of VMs to disk and stop them",
          command_save },
        { "autostart", "on|off VM...", 2, UINT_MAX, 0, NULL, "Start VMs at login, or do not",
          command_autostart },
        { "forward add", "VM SPEC...", 2, UINT_MAX, 0, options_forward_add,
          "Forward host ports to a VM", command_forward_add },
        { "forward remove", "VM SPEC...", 2, UINT_MAX, 0, options_forward_remove,
          "Stop forwarding host ports to a VM", command_forward_remove },
        { "forward list", "[VM]", 0, 1, 0, options_forward_list, "List port forwards",
          command_forward_list },
        { "ssh", "VM [[--] COMMAND...]", 1, UINT_MAX, 1, options_ssh,
          "Log in to a guest, or run a command there", command_ssh },
        { "wait", "VM", 1, 1, 0, options_wait, "Wait until a guest answers or a state is reached",
          command_wait },
        { "monitor", "[VM...]", 0, UINT_MAX, 0, options_json, "Show changes as they happen",
          command_monitor },
        { "version", "", 0, 0, 0, options_json, "Show versions, and what this host can do",
          command_version },
        { "help", "[COMMAND]", 0, 2, 0, NULL, "Show how a command is used", command_help },
        {},
};

/* What the same is called elsewhere: virsh(1), podman(1), machinectl(1), and our first words. */
static const struct {
        const char *other, *ours;
} other_names[] = {
        { "blockresize", "disk resize" },
        { "define", "create" },
        { "destroy", "poweroff" },
        { "disks", "disk list" },
        { "domblklist", "disk list" },
        { "dominfo", "show" },
        { "domrename", "rename" },
        { "enable", "autostart" },
        { "events", "monitor" },
        { "event", "monitor" },
        { "exec", "ssh" },
        { "info", "show" },
        { "init", "create" },
        { "inspect", "show" },
        { "kill", "poweroff" },
        { "login", "ssh" },
        { "ls", "list" },
        { "managedsave", "save" },
        { "mv", "rename" },
        { "port", "forward list" },
        { "ports", "forward list" },
        { "ps", "list" },
        { "publish", "forward add" },
        { "remove", "delete" },
        { "resize", "disk resize" },
        { "restart", "reboot" },
        { "rm", "delete" },
        { "run", "create" },
        { "setmem", "set" },
        { "setvcpus", "set" },
        { "shell", "ssh" },
        { "status", "show" },
        { "stop", "shutdown" },
        { "suspend", "pause" },
        { "terminate", "poweroff" },
        { "undefine", "delete" },
        { "unpause", "resume" },
};

static void print_help(void) {
        char left[64];

        printf("uservm COMMAND [OPTION...] [ARGUMENT...]\n"
               "\n"
               "Virtual machines without root, and port forwards that change while they run.\n"
               "\n");
        for (const Command *c = commands; c->name; c++) {
                snprintf(left, sizeof(left), "  %s %s", c->name, c->words);
                printf("%-*s %s\n", NAME_COLUMN, left, c->summary);
        }
        printf("\n"
               "  -h, --help                   show this help; after COMMAND, that command's\n"
               "      --version                show the version of this program\n"
               "\n"
               "VM is a name or a UUID. A port forward is\n"
               "[ADDRESS:]HOSTPORT[-END][:GUESTPORT[-END]][/tcp|/udp]. See uservm(1).\n");
}

/* The command whose name is the first of the words, or the first two. */
static const Command *find_command(char *const words[], int n_words, int *ret_n_taken) {
        const char *rest;

        for (const Command *c = commands; c->name; c++) {
                if (streq(c->name, words[0])) {
                        *ret_n_taken = 1;
                        return c;
                }
                rest = startswith(c->name, words[0]);
                if (n_words > 1 && rest && *rest == ' ' && streq(rest + 1, words[1])) {
                        *ret_n_taken = 2;
                        return c;
                }
        }
        return NULL;
}

static bool is_group(const char *word) {
        for (const Command *c = commands; c->name; c++) {
                const char *rest = startswith(c->name, word);

                if (rest && *rest == ' ')
                        return true;
        }
        return false;
}

/* What there is of a group: "add, remove, list". */
static const char *group_text(const char *group) {
        static char text[64];
        size_t n = 0;

        for (const Command *c = commands; c->name; c++) {
                const char *rest = startswith(c->name, group);

                if (rest && *rest == ' ')
                        n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s",
                                               n > 0 ? ", " : "", rest + 1);
        }
        return text;
}

static Exit complain_no_command(char *const words[], int n_words) {
        if (is_group(words[0])) {
                if (n_words > 1)
                        complain("%s: there is no '%s %s'; there is %s", words[0], words[0],
                                 words[1], group_text(words[0]));
                else
                        complain("%s: which one of %s? See uservm --help", words[0],
                                 group_text(words[0]));
                return EXIT_USAGE;
        }
        for (size_t i = 0; i < ELEMENTSOF(other_names); i++)
                if (streq(other_names[i].other, words[0])) {
                        complain("there is no command '%s'; see uservm %s --help", words[0],
                                 other_names[i].ours);
                        return EXIT_USAGE;
                }
        complain("there is no command '%s'; see uservm --help", words[0]);
        return EXIT_USAGE;
}

static void print_group_help(const char *group) {
        for (const Command *c = commands; c->name; c++) {
                const char *rest = startswith(c->name, group);

                if (rest && *rest == ' ')
                        print_usage(c);
        }
}

static int command_help(const Arguments *arguments) {
        const Command *command;
        int n_taken;

        if (arguments->n_words == 0) {
                print_help();
                return EXIT_OK;
        }
        command = find_command(arguments->words, (int) arguments->n_words, &n_taken);
        if (command && (size_t) n_taken == arguments->n_words) {
                print_command_help(command);
                return EXIT_OK;
        }
        if (!command && arguments->n_words == 1 && is_group(arguments->words[0])) {
                print_group_help(arguments->words[0]);
                return EXIT_OK;
        }
        return complain_no_command(arguments->words, (int) arguments->n_words);
}

static Exit run_command(int argc, char *argv[]) {
        Arguments arguments __attribute__((cleanup(arguments_done))) = {};
        const Command *command;
        int n_taken;
        Exit e;

        command = find_command(argv + 1, argc - 1, &n_taken);
        if (!command) {
                if (argc > 2 && is_group(argv[1]) &&
                    (streq(argv[2], "--help") || streq(argv[2], "-h"))) {
                        print_group_help(argv[1]);
                        return EXIT_OK;
                }
                return complain_no_command(argv + 1, argc - 1);
        }
        e = arguments_parse(command, argc - n_taken, argv + n_taken, &arguments);
        if (e != EXIT_OK)
                return e;
        if (arguments.help) {
                print_command_help(command);
                return EXIT_OK;
        }
        return (Exit) command->run(&arguments);
}

int main(int argc, char *argv[]) {
        Exit e;
        int r;

        output_init();
        if (argc < 2) {
                complain("a command is missing; see uservm --help");
                return EXIT_USAGE;
        }
        if (streq(argv[1], "--help") || streq(argv[1], "-h")) {
                print_help();
                e = EXIT_OK;
        } else if (streq(argv[1], "--version")) {
                puts(PACKAGE_STRING);
                e = EXIT_OK;
        } else if (argv[1][0] == '-') {
                complain("there is no option '%s' before the command; see uservm --help", argv[1]);
                e = EXIT_USAGE;
        } else {
                e = run_command(argc, argv);
        }
        r = output_flush();
        return e == EXIT_OK ? output_exit(r) : e;
}
