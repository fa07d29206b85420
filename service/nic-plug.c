/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Detach, wait for the guest to let go, attach. The guest has to cooperate (PCI hot-unplug), which
 * one that is still booting does not; then nothing has happened. If the new NIC cannot be attached,
 * the old one is put back. */

#include "nic-plug.h"

#include <errno.h>
#include <libvirt/virterror.h>

#include "domain-xml.h"
#include "error.h"
#include "log.h"

/* A guest that does not let go of its NIC within this time never will. */
#define REMOVAL_TIMEOUT_USEC (10 * 1000000ULL)

typedef struct Plug {
        virDomainPtr domain;
        const char *name;
        const char *mac;
        sd_bus_error *error;
} Plug;

static const DomainNic *find_nic(const DomainInfo *info, const char *mac) {
        for (size_t i = 0; i < info->n_nics; i++)
                if (streq(info->nics[i].mac, mac))
                        return &info->nics[i];
        return NULL;
}

static int nic_gone(void *userdata) {
        Plug *p = userdata;
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        _cleanup_free_ char *xml = NULL;
        int r;

        xml = virDomainGetXMLDesc(p->domain, 0);
        if (!xml)
                return error_from_libvirt(p->error, "read the NICs of VM '%s'", p->name);
        r = domain_info_parse(xml, &info);
        if (r < 0)
                return r;
        return !find_nic(info, p->mac);
}

static int detach(Connection *connection, Plug *p, const char *nic_xml) {
        int r;

        if (virDomainDetachDeviceFlags(p->domain, nic_xml, VIR_DOMAIN_AFFECT_LIVE) < 0)
                return error_from_libvirt(p->error, "take the NIC out of VM '%s'", p->name);
        r = connection_wait_removed(connection, REMOVAL_TIMEOUT_USEC, nic_gone, p);
        if (r == 0)
                return sd_bus_error_setf(p->error, USERVM_ERROR_BUSY,
                                         "The guest of VM '%s' does not let go of its NIC; is it "
                                         "still booting? Try again, or without 'disruptive'. (If "
                                         "it does later, it has none until its next start.)",
                                         p->name);
        return r;
}

static int attach_one(const Plug *p, const char *nic_xml, sd_bus_error *error) {
        if (virDomainAttachDeviceFlags(p->domain, nic_xml, VIR_DOMAIN_AFFECT_LIVE) < 0)
                return error_from_libvirt(error,
                                          "put the NIC of VM '%s' back with its new "
                                          "forwards",
                                          p->name);
        return 0;
}

/* If libvirt's daemon dies over it, the next one is asked. */
static int attach(Connection *connection, Plug *p, const char *new_nic, const char *old_nic) {
        _cleanup_domain_ virDomainPtr again = NULL;
        int r;

        r = attach_one(p, new_nic, p->error);
        if (r >= 0)
                return 0;
        if (connection_find_again(connection, p->domain, &again, NULL) > 0) {
                p->domain = again;
                sd_bus_error_free(p->error);
                if (nic_gone(p) == 0) /* it is there: the answer was lost */
                        return 0;
                r = attach_one(p, new_nic, p->error);
        }
        if (r < 0 && attach_one(p, old_nic, NULL) < 0)
                log_write(LOG_ERR, &(LogSubject){ .vm = p->name },
                          "VM '%s' is without its NIC until the next start", p->name);
        return r;
}

int nic_plug_again(Connection *connection, virDomainPtr domain, const char *mac,
                   const char *stored_xml, sd_bus_error *error) {
        _cleanup_free_ char *live_xml = NULL, *old_nic = NULL, *new_nic = NULL;
        const char *name = virDomainGetName(domain);
        Plug p = { .domain = domain, .name = name, .mac = mac, .error = error };
        int r;

        live_xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_SECURE);
        if (!live_xml)
                return error_from_libvirt(error, "read the live definition of VM '%s'", name);
        r = domain_xml_replug(live_xml, stored_xml, mac, &old_nic, &new_nic);
        if (r < 0)
                return error_from_errno(error, -r, "find the NIC of VM '%s'", name);

        r = detach(connection, &p, old_nic);
        if (r < 0)
                return r;
        return attach(connection, &p, new_nic, old_nic);
}
