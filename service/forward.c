/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Port forwards as values.
 *
 * A spec is taken apart from its ends inwards: the protocol behind the last slash, then the address
 * in front, then one or two port ranges. Numbers are read strictly (digits only, no leading zero),
 * because what strtoul(3) and atoi(3) let through (" 80", "+80", "0x50", "080") is either a typing
 * mistake or means something else to the next program that reads it. Each mistake has a sentence of
 * its own, which quotes the spec in printable ASCII, as it may come from anywhere.
 *
 * IPv4 addresses written as IPv6 (::ffff:192.0.2.1) become plain IPv4: that is what passt listens
 * on, and so the two notations of one address are one forward.
 *
 * Not done here: host names. A name may resolve differently, or to several addresses, tomorrow, and
 * resolving it would be I/O. */

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "forward.h"

/* The longest sensible spec is some 80 bytes: a full IPv6 address, two ranges and a protocol. */
#define SPEC_MAX 100

#define PRINTABLE_MAX 64
#define PORT_LAST 65535U

/* A spec while it is taken apart; the parts point into buffer. */
typedef struct SpecParser {
        const char *spec;
        char **ret_reason;
        char buffer[SPEC_MAX + 1];
        char *address; /* NULL if not given */
        bool bracketed;
        char *host;
        char *guest; /* NULL if not given */
} SpecParser;

/* Makes text of any origin fit for an error message: printable ASCII, not too long. */
static const char *printable(const char *s, char buffer[static PRINTABLE_MAX + 8]) {
        size_t n = 0;

        for (; *s && n < PRINTABLE_MAX; s++) {
                unsigned char c = (unsigned char) *s;

                if (c >= ' ' && c < 0x7f && c != '"' && c != '\\')
                        buffer[n++] = (char) c;
                else
                        n += (size_t) sprintf(buffer + n, "\\x%02x", c);
        }
        strcpy(buffer + n, *s ? "..." : "");
        return buffer;
}

/* Says why a spec is refused. Returns -EINVAL, or -ENOMEM. */
_printf_(2, 3) static int refuse(const SpecParser *p, const char *format, ...) {
        _cleanup_free_ char *detail = NULL;
        char quoted[PRINTABLE_MAX + 8], *reason;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&detail, format, ap);
        va_end(ap);
        if (n < 0) {
                detail = NULL;
                return -ENOMEM;
        }

        if (asprintf(&reason, "Port forward \"%s\": %s", printable(p->spec, quoted), detail) < 0)
                return -ENOMEM;

        *p->ret_reason = reason;
        return -EINVAL;
}

static int parse_protocol(SpecParser *p, ForwardProtocol *ret) {
        char quoted[PRINTABLE_MAX + 8], *slash = strchr(p->buffer, '/');

        if (!slash || streq(slash, "/tcp"))
                *ret = FORWARD_TCP;
        else if (streq(slash, "/udp"))
                *ret = FORWARD_UDP;
        else
                return refuse(p,
                              "the protocol \"%s\" is not known; end it in \"/tcp\" or \"/udp\", "
                              "or leave that out for tcp.",
                              printable(slash + 1, quoted));

        if (slash)
                *slash = '\0';
        return 0;
}

/* In "X:Y", whether X is meant to be an address rather than a host port. */
static bool looks_like_address(const char *s) {
        return streq(s, "*") || strchr(s, '.') || (*s >= 'a' && *s <= 'z') ||
               (*s >= 'A' && *s <= 'Z');
}

static size_t count(const char *s, char c) {
        size_t n = 0;

        for (; *s; s++)
                n += *s == c;
        return n;
}

/* Splits "[ADDRESS]:HOST:GUEST" where the address is in brackets. */
static int split_bracketed(SpecParser *p) {
        char *close = strchr(p->buffer, ']');

        if (!close)
                return refuse(p, "the closing bracket after the IPv6 address is missing; "
                                 "expected something like \"[::1]:8080:80\".");
        if (close[1] != ':')
                return refuse(p, "a colon and the host port must follow the address in brackets, "
                                 "as in \"[::1]:8080:80\".");

        *close = '\0';
        p->address = p->buffer + 1;
        p->bracketed = true;
        p->host = close + 2;
        return 0;
}

/* Cuts the buffer, which has no protocol any more, into address, host ports and guest ports. */
static int split(SpecParser *p) {
        char *colon;
        int r;

        p->host = p->buffer;
        if (p->buffer[0] == '[') {
                r = split_bracketed(p);
                if (r < 0)
                        return r;
        }

        colon = strchr(p->host, ':');
        if (!colon)
                return 0;
        if (!p->bracketed && (strstr(p->buffer, "::") || count(p->buffer, ':') > 2))
                return refuse(p, "there are too many colons; an IPv6 address must stand in "
                                 "brackets, as in \"[::1]:8080:80\".");

        *colon = '\0';
        p->guest = colon + 1;
        if (p->address)
                return 0;

        colon = strchr(p->guest, ':');
        if (!colon && !looks_like_address(p->host))
                return 0;

        p->address = p->host;
        p->host = p->guest;
        p->guest = NULL;
        if (colon) {
                *colon = '\0';
                p->guest = colon + 1;
        }
        return 0;
}

static int parse_address(const SpecParser *p, Forward *f) {
        char quoted[PRINTABLE_MAX + 8];

        if (!p->address) {
                f->family = AF_INET;
                f->address.in.s_addr = htonl(INADDR_LOOPBACK);
                return 0;
        }

        if (!*p->address)
                return refuse(p, "the address is empty; leave it out together with its colon for "
                                 "127.0.0.1, or write \"*\" for every address.");
        if (streq(p->address, "localhost"))
                return refuse(p, "\"localhost\" is a name, not an address; write 127.0.0.1 (or "
                                 "[::1] for IPv6).");
        if (strchr(p->address, '%'))
                return refuse(p, "an address with a zone (\"%%\") is not supported; write the "
                                 "address without it, as in \"[fe80::1]:8080:80\".");

        (void) forward_set_address(f, NULL);
        if (streq(p->address, "*") && !p->bracketed)
                return 0;
        if (streq(p->address, "*") || forward_set_address(f, p->address) < 0 ||
            p->bracketed != !!strchr(p->address, ':'))
                return refuse(p, "\"%s\" is not %s; host names are not accepted.",
                              printable(p->address, quoted),
                              p->bracketed
                                      ? "an IPv6 address"
                                      : "an IPv4 address, \"*\" or an IPv6 address in brackets");
        return 0;
}

/* Reads one port number, 0 included. */
static int parse_port(const SpecParser *p, const char *side, const char *s, uint16_t *ret) {
        char quoted[PRINTABLE_MAX + 8];
        size_t length = strspn(s, "0123456789");
        unsigned long port;

        if (!*s)
                return refuse(p, "a %s port is missing; expected a number from 1 to 65535.", side);
        if (s[length])
                return refuse(p,
                              "the %s port \"%s\" is not a decimal number; expected 1 to 65535, "
                              "or a range like \"8080-8090\".",
                              side, printable(s, quoted));
        if (*s == '0' && length > 1)
                return refuse(p,
                              "the %s port \"%s\" starts with a zero; write the number without "
                              "leading zeros.",
                              side, printable(s, quoted));

        port = length <= 5 ? strtoul(s, NULL, 10) : PORT_LAST + 1;
        if (port > PORT_LAST)
                return refuse(p, "the %s port %s is too high; ports end at 65535.", side,
                              printable(s, quoted));

        *ret = (uint16_t) port;
        return 0;
}

/* Reads "PORT" or "PORT-END"; cuts s at the dash. A lone 0 is left to the caller. */
static int parse_range(const SpecParser *p, const char *side, char *s, PortRange *ret) {
        char *dash = strchr(s, '-');
        int r;

        if (dash)
                *dash = '\0';

        r = parse_port(p, side, s, &ret->start);
        if (r < 0)
                return r;
        if (!dash) {
                ret->end = ret->start;
                return 0;
        }

        r = parse_port(p, side, dash + 1, &ret->end);
        if (r < 0)
                return r;
        if (ret->start == 0)
                return refuse(p,
                              "the %s port range starts at 0; a range is of ports from 1 to "
                              "65535.",
                              side);
        if (ret->end < ret->start)
                return refuse(p, "the %s port range %u-%u is reversed; write the lower port first.",
                              side, ret->start, ret->end);
        return 0;
}

/* Checks what the two ranges mean together, and completes the guest's. */
static int parse_ranges(const SpecParser *p, Forward *f) {
        unsigned length, last;
        int r;

        r = parse_range(p, "host", p->host, &f->host);
        if (r < 0)
                return r;

        if (!p->guest) {
                if (f->host.start == 0)
                        return refuse(p, "host port 0 (pick a free port) needs a guest port, as in "
                                         "\"0:80\".");
                f->guest = f->host;
                return 0;
        }

        r = parse_range(p, "guest", p->guest, &f->guest);
        if (r < 0)
                return r;
        if (f->guest.start == 0)
                return refuse(p, "the guest port cannot be 0; expected a number from 1 to 65535.");
        if (f->host.start == 0 && f->guest.start != f->guest.end)
                return refuse(p, "host port 0 (pick a free port) takes a single guest port, not a "
                                 "range.");

        length = (unsigned) f->host.end - f->host.start;
        last = f->guest.start + length;
        if (last == f->guest.end)
                return 0;
        if (last > PORT_LAST)
                return refuse(p,
                              "the guest range must be as long as the host range, %u ports, but "
                              "from %u on there are not that many.",
                              length + 1, f->guest.start);
        if (length == 0)
                return refuse(p, "the guest range must be as long as the host range, one port.");
        return refuse(p, "the guest range must be as long as the host range: %u-%u.",
                      f->guest.start, last);
}

int forward_parse(const char *spec, Forward *ret, char **ret_reason) {
        SpecParser p = { .spec = spec, .ret_reason = ret_reason };
        Forward f = { .persistent = true, .state = FORWARD_INACTIVE };
        int r;

        *ret_reason = NULL;
        if (!*spec)
                return refuse(&p, "it is empty; expected HOSTPORT:GUESTPORT, as in \"8080:80\".");
        if (strnlen(spec, SPEC_MAX + 1) > SPEC_MAX)
                return refuse(&p, "it is too long; expected something like "
                                  "\"127.0.0.1:8080:80/tcp\".");
        strcpy(p.buffer, spec);

        r = parse_protocol(&p, &f.protocol);
        if (r < 0)
                return r;
        r = split(&p);
        if (r < 0)
                return r;
        r = parse_address(&p, &f);
        if (r < 0)
                return r;
        r = parse_ranges(&p, &f);
        if (r < 0)
                return r;

        *ret = f;
        return 0;
}

int forward_parse_host_side(const char *spec, Forward *ret, char **ret_reason) {
        Forward f;
        int r;

        r = forward_parse(spec, &f, ret_reason);
        if (r < 0)
                return r;
        if (f.host.start == 0)
                return refuse(&(SpecParser){ .spec = spec, .ret_reason = ret_reason },
                              "host port 0 does not name a forward; write the host port it got, a "
                              "number from 1 to 65535.");

        *ret = f;
        return 0;
}

#define RANGE_TEXT_MAX sizeof("65535-65535")

static const char *range_to_string(PortRange range, char buffer[RANGE_TEXT_MAX]) {
        if (range.start == range.end)
                snprintf(buffer, RANGE_TEXT_MAX, "%u", range.start);
        else
                snprintf(buffer, RANGE_TEXT_MAX, "%u-%u", range.start, range.end);
        return buffer;
}

int forward_format(const Forward *f, char **ret) {
        char address[INET6_ADDRSTRLEN], host[RANGE_TEXT_MAX], guest[RANGE_TEXT_MAX];

        if (asprintf(ret, f->family == AF_INET6 ? "[%s]:%s:%s/%s" : "%s:%s:%s/%s",
                     forward_address_to_string(f, address, sizeof(address)),
                     range_to_string(f->host, host), range_to_string(f->guest, guest),
                     forward_protocol_to_string(f->protocol)) < 0)
                return -ENOMEM;
        return 0;
}

/* The rule without ports of its own. passt treats it differently from 1-65535: ports that it cannot
 * bind are no failure then. */
static bool is_all_ports(const Forward *f) {
        return f->host.start == 1 && f->host.end == PORT_LAST && f->guest.start == 1;
}

int forward_format_passt(const Forward *f, char **ret) {
        _cleanup_free_ char *text = NULL;
        char address[INET6_ADDRSTRLEN], range[RANGE_TEXT_MAX];
        const char *comma = "";
        size_t size;
        FILE *out;

        out = open_memstream(&text, &size);
        if (!out)
                return -ENOMEM;

        if (f->family != AF_UNSPEC)
                fputs(forward_address_to_string(f, address, sizeof(address)), out);
        if (*f->interface)
                fprintf(out, "%%%s", f->interface);
        if (f->family != AF_UNSPEC || *f->interface)
                fputc('/', out);

        if (!is_all_ports(f)) {
                fprintf(out, "%s:", range_to_string(f->host, range));
                fputs(range_to_string(f->guest, range), out);
                comma = ",";
        } else if (f->n_exclude == 0)
                fputs("all", out);

        for (size_t i = 0; i < f->n_exclude; i++, comma = ",")
                fprintf(out, "%s~%s", comma, range_to_string(f->exclude[i], range));

        if (fclose(out) != 0)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

const char *forward_address_to_string(const Forward *f, char *buf, size_t size) {
        if (f->family == AF_UNSPEC)
                return "*";
        return inet_ntop(f->family, &f->address, buf, (socklen_t) size);
}

int forward_set_address(Forward *f, const char *address) {
        struct in_addr in;
        struct in6_addr in6;

        if (isempty(address) || streq(address, "*")) {
                f->family = AF_UNSPEC;
                memset(&f->address, 0, sizeof(f->address));
                return 0;
        }

        if (inet_pton(AF_INET6, address, &in6) == 1 && !IN6_IS_ADDR_V4MAPPED(&in6)) {
                f->family = AF_INET6;
                f->address.in6 = in6;
                return 0;
        }

        if (inet_pton(AF_INET6, address, &in6) == 1)
                memcpy(&in, in6.s6_addr + 12, sizeof(in));
        else if (inet_pton(AF_INET, address, &in) != 1)
                return -EINVAL;

        memset(&f->address, 0, sizeof(f->address));
        f->family = AF_INET;
        f->address.in = in;
        return 0;
}

static bool same_address(const Forward *a, const Forward *b) {
        if (a->family != b->family)
                return false;
        if (a->family == AF_INET)
                return a->address.in.s_addr == b->address.in.s_addr;
        if (a->family == AF_INET6)
                return IN6_ARE_ADDR_EQUAL(&a->address.in6, &b->address.in6);
        return true;
}

static bool same_range(PortRange a, PortRange b) {
        return a.start == b.start && a.end == b.end;
}

bool forward_same_host_side(const Forward *a, const Forward *b) {
        return a->protocol == b->protocol && same_address(a, b) &&
               streq(a->interface, b->interface) && same_range(a->host, b->host);
}

bool forward_equal(const Forward *a, const Forward *b) {
        if (!forward_same_host_side(a, b) || !same_range(a->guest, b->guest) ||
            a->n_exclude != b->n_exclude)
                return false;

        for (size_t i = 0; i < a->n_exclude; i++)
                if (!same_range(a->exclude[i], b->exclude[i]))
                        return false;
        return true;
}

static bool is_any_address(const Forward *f) {
        if (f->family == AF_INET)
                return f->address.in.s_addr == htonl(INADDR_ANY);
        if (f->family == AF_INET6)
                return IN6_IS_ADDR_UNSPECIFIED(&f->address.in6);
        return true;
}

static bool addresses_overlap(const Forward *a, const Forward *b) {
        if (a->family == AF_UNSPEC || b->family == AF_UNSPEC)
                return true;
        if (a->family != b->family)
                return false;
        return is_any_address(a) || is_any_address(b) || same_address(a, b);
}

bool forward_conflicts(const Forward *a, const Forward *b) {
        unsigned first, last;

        if (a->protocol != b->protocol || !addresses_overlap(a, b))
                return false;

        first = a->host.start > b->host.start ? a->host.start : b->host.start;
        last = a->host.end < b->host.end ? a->host.end : b->host.end;
        for (unsigned port = first; port <= last; port++)
                if (forward_has_port(a, (uint16_t) port) && forward_has_port(b, (uint16_t) port))
                        return true;
        return false;
}

bool forward_has_port(const Forward *f, uint16_t port) {
        if (port == 0 || port < f->host.start || port > f->host.end)
                return false;

        for (size_t i = 0; i < f->n_exclude; i++)
                if (port >= f->exclude[i].start && port <= f->exclude[i].end)
                        return false;
        return true;
}

const char *forward_protocol_to_string(ForwardProtocol p) {
        return p == FORWARD_UDP ? "udp" : "tcp";
}

const char *forward_state_to_string(ForwardState s) {
        static const char *const names[] = {
                [FORWARD_ACTIVE] = "active",   [FORWARD_INACTIVE] = "inactive",
                [FORWARD_PENDING] = "pending", [FORWARD_REMOVING] = "removing",
                [FORWARD_FAILED] = "failed",
        };

        return names[s];
}

int forward_copy(const Forward *f, Forward *ret) {
        _cleanup_free_ PortRange *exclude = NULL;
        _cleanup_free_ char *error = NULL;

        if (f->n_exclude > 0) {
                exclude = new0(PortRange, f->n_exclude);
                if (!exclude)
                        return -ENOMEM;
                memcpy(exclude, f->exclude, f->n_exclude * sizeof(*exclude));
        }
        if (f->error) {
                error = strdup(f->error);
                if (!error)
                        return -ENOMEM;
        }

        *ret = *f;
        ret->exclude = TAKE_PTR(exclude);
        ret->error = TAKE_PTR(error);
        return 0;
}

void forward_done(Forward *f) {
        free(f->exclude);
        free(f->error);
        *f = (Forward){};
}

int forward_list_append(ForwardList *list, const Forward *f) {
        Forward copy, *items;
        int r;

        r = forward_copy(f, &copy);
        if (r < 0)
                return r;

        items = reallocarray(list->items, list->n + 1, sizeof(*items));
        if (!items) {
                forward_done(&copy);
                return -ENOMEM;
        }

        list->items = items;
        list->items[list->n++] = copy;
        return 0;
}

int forward_list_extend(ForwardList *list, const ForwardList *more) {
        for (size_t i = 0; i < more->n; i++) {
                int r = forward_list_append(list, &more->items[i]);

                if (r < 0)
                        return r;
        }
        return 0;
}

int forward_list_copy(const ForwardList *list, ForwardList *ret) {
        _cleanup_forward_list_ ForwardList copy = {};
        int r;

        r = forward_list_extend(&copy, list);
        if (r < 0)
                return r;
        *ret = copy;
        copy = (ForwardList){};
        return 0;
}

void forward_list_remove(ForwardList *list, size_t i) {
        forward_done(&list->items[i]);
        list->n--;
        memmove(&list->items[i], &list->items[i + 1], (list->n - i) * sizeof(*list->items));
}

Forward *forward_list_find_host_side(const ForwardList *list, const Forward *f) {
        for (size_t i = 0; i < list->n; i++)
                if (forward_same_host_side(&list->items[i], f))
                        return &list->items[i];
        return NULL;
}

Forward *forward_list_find_conflict(const ForwardList *list, const Forward *f) {
        for (size_t i = 0; i < list->n; i++)
                if (forward_conflicts(&list->items[i], f))
                        return &list->items[i];
        return NULL;
}

void forward_list_done(ForwardList *list) {
        for (size_t i = 0; i < list->n; i++)
                forward_done(&list->items[i]);
        free(list->items);
        *list = (ForwardList){};
}
