/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Asks the programs themselves. That KVM works for this user is libvirt's judgement: it lists a
 * domain type in its capabilities only after it has tried the emulator with it. */

#include "host.h"

#include <errno.h>
#include <stdio.h>

#include "domain-xml.h"
#include "error.h"
#include "passt.h"
#include "process.h"

/* libvirt 9.0.0 documents <backend type='passt'/> and refuses it (libvirt issue 462). */
#define LIBVIRT_WITH_PASST 9001000UL

/* libvirt packs a version as 1000000 * major + 1000 * minor + release. */
static int format_version(unsigned long version, char **ret) {
        if (asprintf(ret, "%lu.%lu.%lu", version / 1000000, version / 1000 % 1000, version % 1000) <
            0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

static int read_qemu_version(virConnectPtr conn, char **ret) {
        unsigned long version;

        if (virConnectGetVersion(conn, &version) >= 0)
                return format_version(version, ret);
        *ret = strdup("");
        return *ret ? 0 : -ENOMEM;
}

/* "passt 0.0~git20260728..." is the first line of passt's --version; "" if there is no passt. */
static int read_passt_version(char **ret) {
        const char *const argv[] = { "passt", "--version", NULL };
        _cleanup_free_ char *output = NULL;
        const char *version;
        int r;

        r = process_run(argv, &output, NULL);
        if (r == -ENOMEM)
                return r;
        version = r == 0 ? startswith(output, "passt ") : NULL;
        *ret = strndup(version ?: "", strcspn(version ?: "", "\n"));
        return *ret ? 0 : -ENOMEM;
}

static int read_passt(virConnectPtr conn, bool *ret, sd_bus_error *error) {
        _cleanup_free_ char *passt = NULL;
        unsigned long version;
        int r;

        if (virConnectGetLibVersion(conn, &version) < 0)
                return error_from_libvirt(error, "ask libvirt for its version");
        r = read_passt_version(&passt);
        if (r < 0)
                return r;
        *ret = version >= LIBVIRT_WITH_PASST && !isempty(passt);
        return 0;
}

static int read_capabilities(virConnectPtr conn, char **ret_arch, char ***ret_types, bool *ret_q35,
                             sd_bus_error *error) {
        _cleanup_free_ char *xml = NULL;
        int r;

        xml = virConnectGetCapabilities(conn);
        if (!xml)
                return error_from_libvirt(error, "ask libvirt for its capabilities");
        r = capabilities_parse(xml, ret_arch, ret_types, ret_q35);
        if (r == -ENODEV) {
                (void) sd_bus_error_set(error, USERVM_ERROR_NOT_SUPPORTED,
                                        "libvirt finds no QEMU on this host; install it "
                                        "(qemu-system-x86 on Debian, qemu-kvm on Fedora)");
                return r;
        }
        if (r < 0)
                return error_from_errno(error, -r, "understand libvirt's capabilities");
        return 0;
}

static int add_feature(Host *host, const char *feature) {
        size_t n = 0;

        while (host->features[n])
                n++;
        host->features[n] = strdup(feature);
        return host->features[n] ? 0 : -ENOMEM;
}

static bool has_place_for_sockets(void) {
        _cleanup_(passt_paths_done) PasstPaths paths = {};

        return passt_paths("00000000-0000-0000-0000-000000000000", "00:00:00:00:00:00", &paths) >=
               0;
}

/* Managed networking also needs libvirt to store the rules of passt. */
static int read_network_features(Host *host, bool passt) {
        bool vhost_user, control;
        int r;

        r = passt_features(&vhost_user, &control, &host->native_reason);
        if (r < 0)
                return r;
        host->managed = passt && vhost_user && control && has_place_for_sockets();
        if (!host->native_reason)
                host->native_reason =
                        strdup(host->managed ? ""
                               : passt       ? "XDG_RUNTIME_DIR is not set, or too long for "
                                               "the path of a UNIX socket below it."
                                             : "libvirt is older than 9.1 and cannot use passt.");
        if (!host->native_reason)
                return -ENOMEM;

        r = passt ? add_feature(host, "passt") : 0;
        if (r >= 0 && vhost_user)
                r = add_feature(host, "vhost-user");
        if (r >= 0 && host->managed)
                r = add_feature(host, "live-forwards");
        return r;
}

/* QEMU may be installed later: what else there is shall be known then. */
static int read_features(virConnectPtr conn, Host *host, sd_bus_error *error) {
        _cleanup_(strv_freep) char **types = NULL;
        _cleanup_free_ char *arch = NULL;
        bool q35, passt;
        int r;

        r = read_capabilities(conn, &arch, &types, &q35, error);
        if (r == -ENODEV)
                sd_bus_error_free(error);
        else if (r < 0)
                return r;
        r = read_passt(conn, &passt, error);
        if (r < 0)
                return r;

        host->features = new0(char *, 5);
        if (!host->features)
                return -ENOMEM;
        r = strv_contains(types, "kvm") ? add_feature(host, "kvm") : 0;
        return r < 0 ? r : read_network_features(host, passt);
}

int host_read(virConnectPtr conn, Host **ret, sd_bus_error *error) {
        _cleanup_(host_freep) Host *host = new0(Host, 1);
        unsigned long libvirt;
        int r;

        if (!host)
                return -ENOMEM;
        if (virConnectGetLibVersion(conn, &libvirt) < 0)
                return error_from_libvirt(error, "ask libvirt for its version");
        r = format_version(libvirt, &host->libvirt_version);
        if (r < 0)
                return r;
        r = read_qemu_version(conn, &host->qemu_version);
        if (r < 0)
                return r;
        r = read_passt_version(&host->passt_version);
        if (r < 0)
                return r;
        r = read_features(conn, host, error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(host);
        return 0;
}

Host *host_free(Host *host) {
        if (!host)
                return NULL;
        free(host->libvirt_version);
        free(host->qemu_version);
        free(host->passt_version);
        strv_free(host->features);
        free(host->native_reason);
        free(host);
        return NULL;
}

/* The preferred domain type; a libvirt that offers neither (its test driver) has one of its own. */
static const char *choose_type(char **types, const char *accelerator) {
        if (!streq(accelerator, "tcg") && strv_contains(types, "kvm"))
                return "kvm";
        if (streq(accelerator, "kvm"))
                return NULL;
        return strv_contains(types, "qemu") ? "qemu" : types[0];
}

int host_guest_read(virConnectPtr conn, const char *accelerator, HostGuest *ret,
                    sd_bus_error *error) {
        _cleanup_(strv_freep) char **types = NULL;
        _cleanup_free_ char *arch = NULL;
        const char *type;
        bool q35, passt;
        int r;

        r = read_capabilities(conn, &arch, &types, &q35, error);
        if (r < 0)
                return r;
        type = choose_type(types, accelerator);
        if (!type)
                return sd_bus_error_set(error, USERVM_ERROR_NOT_SUPPORTED,
                                        "KVM does not work here for this user: /dev/kvm is missing "
                                        "or not accessible; use the accelerator 'auto' or 'tcg'");
        r = read_passt(conn, &passt, error);
        if (r < 0)
                return r;

        *ret = (HostGuest){
                .type = strdup(type), .arch = TAKE_PTR(arch), .q35 = q35, .passt = passt
        };
        if (!ret->type) {
                host_guest_done(ret);
                return -ENOMEM;
        }
        return 0;
}

void host_guest_done(HostGuest *guest) {
        free(guest->type);
        free(guest->arch);
        *guest = (HostGuest){};
}
