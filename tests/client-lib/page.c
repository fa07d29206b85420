/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the lab compiles against the installed library: a VM, a forward that is added while it runs,
 * the guest's page through it, the change that is told of, and no VM any more. */

#include <stdio.h>
#include <stdlib.h>
#include <uservm.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static void on_change(uservm_watch *watch, const uservm_change *change, void *userdata) {
        if (change->event == USERVM_EVENT_VM_CHANGED && change->changed & USERVM_CHANGED_FORWARDS)
                *(uservm_forward **) userdata = uservm_forward_ref(change->vm->forwards[0]);
}

static int create(uservm *u, const char *kernel, const char *initrd) {
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;

        if (uservm_settings_new("page", &s) < 0 || uservm_settings_set_memory_text(s, "256M") < 0 ||
            uservm_settings_set_kernel(s, kernel, initrd, "console=ttyS0 quiet") < 0)
                return -1;
        return uservm_create(u, s, NULL);
}

static int use(uservm *u) {
        _cleanup_(uservm_forward_unrefp) uservm_forward *added = NULL, *seen = NULL;
        char command[256];

        if (uservm_watch_start(u, on_change, &seen, NULL) < 0 ||
            uservm_add_forward(u, "page", "0:80", 0, &added) < 0)
                return -1;
        while (!seen)
                if (uservm_process(u) < 0 || uservm_wait(u, 100 * 1000) < 0)
                        return -1;
        printf("added %s, which is %s\n", seen->spec, uservm_forward_state_to_string(seen->state));
        fflush(stdout);
        (void) snprintf(command, sizeof(command),
                        "curl --silent --fail --max-time 5 --retry 90 --retry-delay 1 "
                        "--retry-all-errors http://127.0.0.1:%u/",
                        added->host_port);
        return system(command) == 0 && added->host_port == seen->host_port ? 0 : -1;
}

int main(int argc, char *argv[]) {
        _cleanup_(uservm_closep) uservm *u = NULL;
        int r;

        if (argc != 3 || uservm_open(NULL, &u) < 0)
                return 1;
        r = create(u, argv[1], argv[2]);
        if (r >= 0)
                r = use(u);
        if (r < 0 && uservm_error_message(u))
                fprintf(stderr, "%s\n", uservm_error_message(u));
        return uservm_delete(u, "page", USERVM_DELETE_FORCE, NULL) < 0 || r < 0;
}
