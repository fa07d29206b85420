/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* virDomainDefineXML(3) would store all that was read, whatever has become of it since.
 * virDomainUpdateDeviceFlags(3) exchanges the NIC with the same MAC and place, and tells of a
 * changed definition as well. (On the live domain it is of no use for the forwards, see
 * vm-forward.c.)
 *
 * When libvirt's daemon dies over it, nobody knows whether it is stored. Then it is stored by the
 * next one, once more or after all. */

#include "nic-store.h"

#include <errno.h>
#include <libvirt/virterror.h>

#include "domain-xml.h"
#include "error.h"

/* libvirt's test driver stores whole definitions only. */
static bool is_unsupported(void) {
        int code = virGetLastErrorCode();

        return code == VIR_ERR_NO_SUPPORT || code == VIR_ERR_OPERATION_UNSUPPORTED;
}

static int update(virDomainPtr domain, const char *nic_xml, const char *xml) {
        _cleanup_domain_ virDomainPtr defined = NULL;

        if (virDomainUpdateDeviceFlags(domain, nic_xml, VIR_DOMAIN_AFFECT_CONFIG) >= 0)
                return 0;
        if (!is_unsupported())
                return -1;
        defined = virDomainDefineXML(virDomainGetConnect(domain), xml);
        return defined ? 0 : -1;
}

int nic_store(Connection *connection, virDomainPtr domain, const char *from_xml, const char *to_xml,
              sd_bus_error *error) {
        const char *name = virDomainGetName(domain);
        _cleanup_domain_ virDomainPtr again = NULL;
        _cleanup_free_ char *nic_xml = NULL;
        int r, q;

        r = domain_xml_changed_nic(from_xml, to_xml, &nic_xml);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_from_errno(error, -r, "understand the definition of VM '%s'", name);
        if (update(domain, nic_xml, to_xml) >= 0)
                return 0;
        r = error_from_libvirt(error, "store the forwards of VM '%s'", name);

        q = connection_find_again(connection, domain, &again, NULL);
        if (q <= 0)
                return r;
        sd_bus_error_free(error);
        return update(again, nic_xml, to_xml) >= 0
                       ? 0
                       : error_from_libvirt(error, "store the forwards of VM '%s'", name);
}
