/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading a domain, and editing its forwards. A line with the spec of a forward, then the domain's
 * XML. */

#include <errno.h>

#include "domain-xml.h"
#include "fuzz.h"
#include "message.h"
#include "passt.h"
#include "xml.h"

/* Of so many forwards of a NIC all is looked at. */
#define LISTED_MAX 3
#define RANGE_MAX 1000

static void check_info(const DomainInfo *info) {
        INVARIANT(info->name && message_can_carry(info->name));
        INVARIANT(strlen(info->uuid) == 36);
        INVARIANT(strspn(info->uuid, "0123456789abcdef-") == 36);

        for (size_t i = 0; i < info->n_nics; i++) {
                const ForwardList *forwards = &info->nics[i].forwards;

                INVARIANT(info->nics[i].mac);
                for (size_t j = 0; j < forwards->n; j++) {
                        const Forward *f = &forwards->items[j];

                        INVARIANT(f->host.start > 0 && f->host.start <= f->host.end);
                        INVARIANT(f->guest.start > 0);
                        INVARIANT(message_can_carry(f->interface));
                        INVARIANT(f->host.end - f->host.start == f->guest.end - f->guest.start);
                        for (size_t k = 0; k < f->n_exclude; k++) {
                                INVARIANT(f->exclude[k].start >= f->host.start);
                                INVARIANT(f->exclude[k].start <= f->exclude[k].end);
                                INVARIANT(f->exclude[k].end <= f->host.end);
                        }
                }
        }
}

/* All that an edit of forwards must leave alone. */
static void check_rest_is_same(const DomainInfo *a, const DomainInfo *b) {
        INVARIANT(streq(a->name, b->name) && streq(a->uuid, b->uuid));
        INVARIANT(a->memory == b->memory && a->vcpus == b->vcpus && a->n_nics == b->n_nics);
        for (size_t i = 0; i < a->n_nics; i++)
                INVARIANT(streq(a->nics[i].mac, b->nics[i].mac));
        INVARIANT(a->n_storage == b->n_storage && a->n_disks == b->n_disks);
        for (size_t i = 0; i < a->n_storage; i++)
                INVARIANT(streq(a->storage[i].path, b->storage[i].path));
        for (size_t i = 0; i < a->n_disks; i++)
                INVARIANT(streq_ptr(a->disks[i].path, b->disks[i].path));
}

/* Whether they are the same forwards in the same order. */
static bool lists_equal(const ForwardList *a, const ForwardList *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (!forward_equal(&a->items[i], &b->items[i]))
                        return false;
        return true;
}

/* The NIC whose forwards are not the same in the two; NULL if there is none. */
static const DomainNic *find_changed(const DomainInfo *a, const DomainInfo *b) {
        const DomainNic *changed = NULL;

        for (size_t i = 0; i < a->n_nics; i++)
                if (!lists_equal(&a->nics[i].forwards, &b->nics[i].forwards)) {
                        INVARIANT(!changed);
                        changed = &b->nics[i];
                }
        return changed;
}

static bool has_host_side(const DomainInfo *info, const Forward *f) {
        for (size_t i = 0; i < info->n_nics; i++)
                if (forward_list_find_host_side(&info->nics[i].forwards, f))
                        return true;
        return false;
}

/* The domain's text as it is printed when nothing has been changed. */
static char *print(const char *xml) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        char *text;

        INVARIANT(xml_parse(xml, "domain", &doc) == 0);
        INVARIANT(xml_print(xmlDocGetRootElement(doc), /* indent= */ false, &text) == 0);
        return text;
}

/* What was added is the last of a NIC with passt, and what is taken out of it leaves no trace. */
static void check_added(const char *xml, const DomainInfo *info, const char *added,
                        const Forward *f) {
        _cleanup_(domain_info_freep) DomainInfo *info_added = NULL, *info_removed = NULL;
        _cleanup_free_ char *removed = NULL, *unchanged = NULL, *again = NULL;
        const DomainNic *nic;

        INVARIANT(domain_info_parse(added, &info_added) == 0);
        check_info(info_added);
        check_rest_is_same(info, info_added);
        nic = find_changed(info, info_added);
        INVARIANT(nic && nic->passt && nic->forwards.n > 0);
        INVARIANT(forward_equal(&nic->forwards.items[nic->forwards.n - 1], f));
        INVARIANT(domain_xml_add_forward(added, f, &again) == -EEXIST);

        INVARIANT(domain_xml_remove_forward(added, f, &removed) == 0);
        INVARIANT(domain_info_parse(removed, &info_removed) == 0);
        check_rest_is_same(info, info_removed);
        INVARIANT(!find_changed(info, info_removed));
        unchanged = print(xml);
        if (info->nics[nic - info_added->nics].passt)
                INVARIANT(streq(removed, unchanged));
}

static void check_add(const char *xml, const DomainInfo *info, const Forward *f, char **ret) {
        int r = domain_xml_add_forward(xml, f, ret);

        if (f->host.start == 0)
                INVARIANT(r == -EINVAL);
        else if (has_host_side(info, f))
                INVARIANT(r == -EEXIST);
        else if (info->n_nics == 0)
                INVARIANT(r == -ENODEV);
        else {
                INVARIANT(r == 0);
                check_added(xml, info, *ret, f);
        }
}

/* A removal takes one forward out of one NIC. */
static void check_remove(const char *xml, const DomainInfo *info, const Forward *f) {
        _cleanup_(domain_info_freep) DomainInfo *after = NULL;
        _cleanup_free_ char *removed = NULL;
        const DomainNic *nic;
        int r = domain_xml_remove_forward(xml, f, &removed);

        if (r < 0) {
                INVARIANT(r == -ENOENT || r == -ENOTUNIQ);
                INVARIANT(!has_host_side(info, f));
                return;
        }
        INVARIANT(domain_info_parse(removed, &after) == 0);
        check_rest_is_same(info, after);
        nic = find_changed(info, after);
        INVARIANT(nic);
        INVARIANT(nic->forwards.n + 1 == info->nics[nic - after->nics].forwards.n);
}

/* A re-plugged NIC is the same one, with the forwards that are stored. */
static void check_replugged(const char *attach, const char *mac, const DomainNic *stored) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        _cleanup_free_ char *xml = NULL;

        INVARIANT(asprintf(&xml,
                           "<domain><name/><uuid>00000000-0000-4000-8000-000000000001</uuid>"
                           "<memory>1</memory><devices>%s</devices></domain>",
                           attach) > 0);
        INVARIANT(domain_info_parse(xml, &info) == 0);
        INVARIANT(info->n_nics == 1 && streq(info->nics[0].mac, mac));
        INVARIANT(info->nics[0].passt == stored->passt);
        INVARIANT(lists_equal(&info->nics[0].forwards, &stored->forwards));
}

static void check_replug(const char *live, const char *stored) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        char *none;

        INVARIANT(domain_info_parse(stored, &info) == 0);
        INVARIANT(domain_xml_replug(live, stored, "no MAC", &none, &none) == -ENODEV);
        for (size_t i = 0; i < info->n_nics; i++) {
                _cleanup_free_ char *detach = NULL, *attach = NULL;
                size_t first = 0;

                while (!streq(info->nics[first].mac, info->nics[i].mac))
                        first++;
                INVARIANT(domain_xml_replug(live, stored, info->nics[i].mac, &detach, &attach) ==
                          0);
                check_replugged(attach, info->nics[i].mac, &info->nics[first]);
        }
}

/* What can be listed can be written down, in a domain as here, and is read back the same. */
static void check_written(const Forward *f) {
        static const char empty[] =
                "<domain><name/><uuid>00000000-0000-4000-8000-000000000001</uuid>"
                "<memory>1</memory><devices><interface type='user'>"
                "<mac address='52:54:00:00:00:01'/><backend type='passt'/></interface></devices>"
                "</domain>";
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        _cleanup_free_ char *xml = NULL;

        INVARIANT(domain_xml_add_forward(empty, f, &xml) == 0);
        INVARIANT(domain_info_parse(xml, &info) == 0);
        INVARIANT(info->nics[0].forwards.n == 1);
        INVARIANT(forward_equal(&info->nics[0].forwards.items[0], f));
}

static void append_rule(ForwardList *table, const Forward *f, unsigned first, unsigned last) {
        Forward rule = *f;

        if (first > last)
                return;
        rule.host = (PortRange){ (uint16_t) first, (uint16_t) last };
        rule.guest.start = (uint16_t) (f->guest.start + first - f->host.start);
        rule.guest.end = (uint16_t) (f->guest.start + last - f->host.start);
        rule.exclude = NULL;
        rule.n_exclude = 0;
        INVARIANT(forward_list_append(table, &rule) == 0);
}

/* passt makes a rule of each range of ports that are not excluded; they are found to be this
 * forward. Long ranges would take the time for a hundred others. */
static void check_rules(const Forward *f) {
        _cleanup_forward_list_ ForwardList table = {};
        unsigned first = f->host.start;
        bool any;

        if (f->host.end - f->host.start > RANGE_MAX)
                return;
        for (unsigned port = f->host.start; port <= f->host.end; port++) {
                if (forward_has_port(f, (uint16_t) port))
                        continue;
                append_rule(&table, f, first, port - 1);
                first = port + 1;
        }
        append_rule(&table, f, first, f->host.end);
        any = table.n > 0;
        INVARIANT(passt_table_take(&table, f) == any);
        INVARIANT(table.n == 0);
}

static void check_listed(const ForwardList *forwards) {
        for (size_t i = 0; i < forwards->n && i < LISTED_MAX; i++) {
                const Forward *f = &forwards->items[i];
                _cleanup_free_ char *rule = NULL;

                check_written(f);
                check_rules(f);
                INVARIANT(forward_format_passt(f, &rule) == 0 && *rule);
                for (size_t j = 0; j < i; j++)
                        INVARIANT(forward_conflicts(f, &forwards->items[j]) ==
                                  forward_conflicts(&forwards->items[j], f));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *spec = fuzz_line(&input), *xml = fuzz_rest(&input);
        _cleanup_free_ char *reason = NULL, *default_reason = NULL;
        _cleanup_free_ char *added = NULL, *removed = NULL;
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        _cleanup_forward_ Forward f = {};
        int r;

        r = domain_info_parse(xml, &info);
        INVARIANT(r == 0 || r == -EBADMSG);
        if (forward_parse(spec, &f, &reason) < 0)
                INVARIANT(forward_parse("8080:80", &f, &default_reason) == 0);
        if (r < 0) {
                (void) domain_xml_add_forward(xml, &f, &added);
                (void) domain_xml_remove_forward(xml, &f, &removed);
                return 0;
        }

        check_info(info);
        check_replug(xml, xml);
        for (size_t i = 0; i < info->n_nics; i++)
                check_listed(&info->nics[i].forwards);
        check_add(xml, info, &f, &added);
        check_remove(xml, info, &f);
        if (added) {
                check_replug(xml, added);
                check_replug(added, xml);
        }
        return 0;
}
