/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* uservm ssh: replaces itself with ssh(1), so that the terminal, signals and the exit status are
 * ssh's own.
 *
 * A VM that is made anew has a new host key behind an old port, and for ssh that is an attack. So
 * keys are kept in a file of uservm's, under a name made from the VM's UUID, which no other VM ever
 * has; the key of a VM that is seen for the first time is accepted, and one that changes is not.
 * The user's own known_hosts is neither read nor written for it. A connection that ssh shares
 * (ControlPath) goes by address and port as well, and could lead to a VM that is gone: not here.
 * Nor does it go by another machine, to which 127.0.0.1 is its own: of ProxyCommand and ProxyJump
 * ssh takes the one that it sees first.
 *
 * A forward that is added lasts as long as the VM runs. Where networking is native it could be had
 * only by cutting the guest's connections, which is for the user to decide. */

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "commands.h"
#include "guest.h"
#include "output.h"
#include "session.h"

#define SSH_PORT 22
#define TIMEOUT_DEFAULT_SEC 120
#define TIMEOUT_MAX_SEC (24UL * 60 * 60)

const Option options_ssh[] = {
        { "login", 'l', "USER", "the user in the guest" },
        { "timeout", 't', "SECONDS", "wait this long for the guest (default: 120)" },
        {},
};

static bool runs(const uservm_vm *vm) {
        return vm->state == USERVM_STATE_RUNNING || vm->state == USERVM_STATE_PAUSED ||
               vm->state == USERVM_STATE_STARTING;
}

/* Sees to it that there is a forward to the guest's SSH; whether it works shows later. */
static Exit ensure_forward(uservm *u, const uservm_vm *vm) {
        _cleanup_(task_done) Task task = {
                .progress = { .doing = "adding a forward to", .vm = vm->name },
        };
        _cleanup_free_ char *name = NULL;
        const uservm_forward *other;
        Endpoint endpoint;
        Exit e;
        int r;

        if (!runs(vm) || endpoint_find(vm, SSH_PORT, &endpoint, &other) || other)
                return EXIT_OK; /* what is wrong with it is said when it is waited for */
        if (vm->network == USERVM_NETWORK_NATIVE) {
                _cleanup_free_ char *quoted = shell_quote(vm->name);

                if (!quoted)
                        return session_failed(u, -ENOMEM);
                complain("no port forward of '%s' leads to its port 22, and with native networking "
                         "one takes effect at the next start (uservm forward add %s 0:22), or now "
                         "at the cost of the guest's connections (uservm forward add --disruptive "
                         "%s 0:22)",
                         vm->name, quoted, quoted);
                return EXIT_FAILED;
        }
        r = uservm_add_forward_async(u, vm->uuid, "0:22", USERVM_FORWARD_THIS_RUN, task_finished,
                                     &task, NULL);
        e = task_wait(u, r, &task);
        name = printable(vm->name);
        if (e == EXIT_OK && name && isatty(STDERR_FILENO))
                fprintf(stderr, "Added the forward %s, for as long as '%s' runs.\n",
                        task.forward->spec, name);
        return e;
}

/* Makes a directory with all those above it. */
static int make_directories(char *path) {
        for (char *s = path + 1; (s = strchr(s, '/')); s++) {
                *s = '\0';
                if (mkdir(path, 0700) < 0 && errno != EEXIST && access(path, F_OK) < 0)
                        return -errno;
                *s = '/';
        }
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}

/* uservm's directory below $XDG_STATE_HOME, see the XDG Base Directory Specification. */
static int state_directory(char **ret_path) {
        const char *base = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        _cleanup_free_ char *path = NULL;
        int r;

        if (base && base[0] == '/')
                r = asprintf(&path, "%s/uservm", base);
        else if (home && home[0] == '/')
                r = asprintf(&path, "%s/.local/state/uservm", home);
        else
                return -ENOENT;
        if (r < 0)
                return -ENOMEM;
        r = make_directories(path);
        if (r < 0)
                return r;
        *ret_path = TAKE_PTR(path);
        return 0;
}

/* The option that names the file of keys. ssh takes several files, so one whose name has spaces is
 * quoted; and "%" begins what it replaces, see ssh_config(5). */
static int known_hosts_option(char **ret_option) {
        _cleanup_free_ char *directory = NULL, *quoted = NULL;
        char *end;
        int r;

        r = state_directory(&directory);
        if (r < 0)
                return r;
        quoted = malloc(2 * strlen(directory) + 1);
        if (!quoted)
                return -ENOMEM;
        end = quoted;
        for (const char *s = directory; *s; s++) {
                if (*s == '%')
                        *end++ = '%';
                else if (*s == '"' || *s == '\\')
                        *end++ = '\\';
                *end++ = *s;
        }
        *end = '\0';
        return asprintf(ret_option, "UserKnownHostsFile=\"%s/known_hosts\"", quoted) < 0 ? -ENOMEM
                                                                                         : 0;
}

/* Returns only if it fails. */
static int run_ssh(const Arguments *arguments, const char *uuid, const Endpoint *endpoint) {
        char address[ENDPOINT_TEXT_MAX], port[8], alias[64];
        _cleanup_free_ char *known_hosts = NULL;
        _cleanup_free_ const char **argv = NULL;
        const char *user = option_value(arguments, "login");
        size_t n = 0;
        int r;

        r = known_hosts_option(&known_hosts);
        if (r < 0) {
                complain("cannot make a directory for the keys of VMs in $XDG_STATE_HOME or "
                         "~/.local/state: %s",
                         strerror(-r));
                return EXIT_FAILED;
        }
        argv = new0(const char *, arguments->n_words + 20);
        if (!argv) {
                complain("out of memory");
                return EXIT_FAILED;
        }
        snprintf(port, sizeof(port), "%u", endpoint_format(endpoint, address));
        snprintf(alias, sizeof(alias), "HostKeyAlias=uservm-%s", uuid);

        argv[n++] = "ssh";
        argv[n++] = "-p";
        argv[n++] = port;
        argv[n++] = "-o";
        argv[n++] = known_hosts;
        argv[n++] = "-o";
        argv[n++] = alias;
        argv[n++] = "-o";
        argv[n++] = "StrictHostKeyChecking=accept-new";
        argv[n++] = "-o";
        argv[n++] = "ControlPath=none";
        argv[n++] = "-o";
        argv[n++] = "ProxyCommand=none";
        if (user) {
                argv[n++] = "-l";
                argv[n++] = user;
        }
        argv[n++] = "--";
        argv[n++] = address;
        for (size_t i = 1; i < arguments->n_words; i++)
                argv[n++] = arguments->words[i];
        output_flush();
        execvp(argv[0], (char **) argv);
        if (errno == ENOENT)
                complain("ssh is not installed; on Debian and Ubuntu: apt install openssh-client");
        else
                complain("cannot run ssh: %s", strerror(errno));
        return EXIT_FAILED;
}

int command_ssh(const Arguments *arguments) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        _cleanup_(uservm_vm_unrefp) uservm_vm *vm = NULL;
        uint64_t timeout = TIMEOUT_DEFAULT_SEC;
        Endpoint endpoint;
        Exit e;
        int r;

        e = option_number(arguments, "timeout", 1, TIMEOUT_MAX_SEC, &timeout);
        if (e == EXIT_OK)
                e = session_open(&u);
        if (e != EXIT_OK)
                return e;
        r = uservm_get_vm(u, arguments->words[0], &vm);
        if (r < 0)
                return session_failed(u, r);
        e = ensure_forward(u, vm);
        if (e == EXIT_OK)
                e = guest_wait_answer(u, arguments->words[0], SSH_PORT, PROBE_SSH,
                                      now_usec() + timeout * USEC_PER_SEC, &endpoint);
        return e == EXIT_OK ? run_ssh(arguments, vm->uuid, &endpoint) : (int) e;
}
