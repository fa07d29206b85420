/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Enabling goes through systemd, which knows where unit files and links belong and reloads itself.
 * Reading looks for the link that enabling leaves: it is one system call, where asking systemd
 * would be a round trip for every VM. The bus connection of a worker is its own, as sd-bus
 * connections belong to one thread. */

#include "autostart.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "error.h"
#include "log.h"
#include "util.h"

/* systemd.unit(5), "String escaping for inclusion in unit names": everything but ASCII letters,
 * digits, ':', '_' and '.' (not in front) is \xNN, and '/' is '-'. */
static char *escape(const char *name) {
        char *escaped = new0(char, 4 * strlen(name) + 1), *t = escaped;

        for (const char *s = name; escaped && *s; s++) {
                if (*s == '/')
                        *t++ = '-';
                else if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                         (*s >= '0' && *s <= '9') || *s == ':' || *s == '_' ||
                         (*s == '.' && s != name))
                        *t++ = *s;
                else
                        t += sprintf(t, "\\x%02x", (unsigned char) *s);
        }
        return escaped;
}

int autostart_unit_name(const char *name, char **ret) {
        _cleanup_free_ char *escaped = escape(name);

        if (!escaped || asprintf(ret, "uservm@%s.service", escaped) < 0)
                return -ENOMEM;
        return 0;
}

bool autostart_enabled(const char *name) {
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
        _cleanup_free_ char *unit = NULL, *path = NULL;

        if (autostart_unit_name(name, &unit) < 0)
                return false;
        if (!isempty(config)
                    ? asprintf(&path, "%s/systemd/user/default.target.wants/%s", config, unit) < 0
                    : asprintf(&path, "%s/.config/systemd/user/default.target.wants/%s", home ?: "",
                               unit) < 0) {
                path = NULL;
                return false;
        }
        return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int call_systemd(sd_bus *bus, sd_bus_error *error, const char *method, const char *unit,
                        bool enable) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, "org.freedesktop.systemd1",
                                           "/org/freedesktop/systemd1",
                                           "org.freedesktop.systemd1.Manager", method);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "asb", 1, unit, false); /* runtime: no */
        if (r < 0)
                return r;
        if (enable) {
                r = sd_bus_message_append(m, "b", false); /* force: no */
                if (r < 0)
                        return r;
        }
        return sd_bus_call(bus, m, 0, error, NULL);
}

/* Where systemd is installed and not running, the bus knows the name, and that it cannot start it
 * (org.freedesktop.systemd1.service runs /bin/false). */
static bool is_systemd_missing(const sd_bus_error *error) {
        return sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
               sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER) ||
               (error->name && startswith(error->name, "org.freedesktop.DBus.Error.Spawn."));
}

int autostart_set(const char *name, bool enable, sd_bus_error *error) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error failure = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *unit = NULL;
        int r;

        r = autostart_unit_name(name, &unit);
        if (r < 0)
                return r;
        r = sd_bus_open_user(&bus);
        if (r < 0)
                return error_from_errno(error, -r, "reach the session bus");

        r = call_systemd(bus, &failure, enable ? "EnableUnitFiles" : "DisableUnitFiles", unit,
                         enable);
        if (r < 0) {
                if (is_systemd_missing(&failure))
                        return sd_bus_error_setf(
                                error, USERVM_ERROR_NOT_SUPPORTED,
                                "Autostart needs a systemd user manager, and there "
                                "is none on this session bus");
                return sd_bus_error_setf(error, SD_BUS_ERROR_FAILED, "Could not %s %s: %s",
                                         enable ? "enable" : "disable", unit,
                                         failure.message ?: strerror(-r));
        }

        /* The link is there, or gone, and that is what counts. */
        r = sd_bus_call_method(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                               "org.freedesktop.systemd1.Manager", "Reload", &failure, NULL, NULL);
        if (r < 0)
                log_write(LOG_WARNING, &(LogSubject){ .vm = name },
                          "VM '%s': systemd did not reload its units: %s", name,
                          failure.message ?: strerror(-r));
        return 0;
}
