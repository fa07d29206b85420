/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Deriving the live definition of a domain, and reading it. The domain's XML. */

#include <ctype.h>
#include <errno.h>

#include "domain-live.h"
#include "domain-xml.h"
#include "fuzz.h"

static char *socket_for(const char *mac, void *userdata) {
        char *socket;

        return asprintf(&socket, "/run/%s.sock", mac) < 0 ? NULL : socket;
}

static void check_hostname(const char *name) {
        size_t n = strlen(name);

        INVARIANT(n >= 1 && n <= 63);
        INVARIANT(isalnum((unsigned char) name[0]) && isalnum((unsigned char) name[n - 1]));
        for (size_t i = 0; i + 1 < n; i++)
                INVARIANT(isalnum((unsigned char) name[i]) ||
                          (strchr("-.", name[i]) && isalnum((unsigned char) name[i + 1])));
}

static void check_nics(const LiveNics *nics) {
        for (size_t i = 0; i < nics->n; i++) {
                INVARIANT(nics->items[i].mac && nics->items[i].addresses);
                check_hostname(nics->items[i].hostname);
                for (size_t j = 0; j < i; j++)
                        INVARIANT(!streq(nics->items[i].mac, nics->items[j].mac));
        }
}

/* Each NIC that can be managed has got its socket, in order. */
static void check_sockets(const char *live, const LiveNics *nics) {
        _cleanup_(strv_freep) char **macs = NULL, **sockets = NULL;
        size_t n = 0;
        int r;

        r = domain_live_sockets(live, &macs, &sockets);
        INVARIANT(r == 0 || r == -EBADMSG);
        if (r < 0)
                return;

        for (size_t i = 0; macs[i]; i++) {
                _cleanup_free_ char *socket = socket_for(macs[i], NULL);

                INVARIANT(sockets[i]);
                if (n < nics->n && streq(macs[i], nics->items[n].mac) && streq(sockets[i], socket))
                        n++;
        }
        INVARIANT(n == nics->n);
}

/* No other NIC and nothing of what is shown of the VM is different. */
static void check_derived(const char *stored, const char *live, const LiveNics *nics) {
        _cleanup_(domain_info_freep) DomainInfo *before = NULL, *after = NULL;
        _cleanup_(domain_live_nics_done) LiveNics left = {};
        _cleanup_free_ char *again = NULL;
        int r;

        check_sockets(live, nics);
        r = domain_live_nics(live, &left);
        INVARIANT(r == 0 && left.n == 0);
        INVARIANT(domain_live_derive(live, socket_for, NULL, &again) == -ENODEV);

        if (domain_info_parse(stored, &before) < 0)
                return;
        INVARIANT(domain_info_parse(live, &after) == 0);
        INVARIANT(streq(before->name, after->name) && streq(before->uuid, after->uuid));
        INVARIANT(before->memory == after->memory && before->vcpus == after->vcpus);
        INVARIANT(before->n_nics == after->n_nics + nics->n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *xml = fuzz_rest(&input), *live = NULL;
        _cleanup_(strv_freep) char **macs = NULL, **sockets = NULL;
        _cleanup_(domain_live_nics_done) LiveNics nics = {};
        int r, derive_r;

        r = domain_live_sockets(xml, &macs, &sockets);
        INVARIANT(r == 0 || r == -EBADMSG);

        r = domain_live_nics(xml, &nics);
        INVARIANT(r == 0 || r == -EBADMSG);
        derive_r = domain_live_derive(xml, socket_for, NULL, &live);
        INVARIANT(derive_r == 0 || derive_r == -EBADMSG || derive_r == -ENODEV ||
                  derive_r == -EOPNOTSUPP);
        if (r < 0)
                return 0;

        check_nics(&nics);
        INVARIANT((nics.n == 0) == (derive_r == -ENODEV));
        if (derive_r == 0)
                check_derived(xml, live, &nics);
        return 0;
}
