/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Domain XML as virt-install and libvirt write it, read and edited. */

#include <errno.h>
#include <stdio.h>

#include "domain-xml.h"
#include "test.h"
#include "xml.h"

/* A domain around some NICs, with much that uservm does not know. */
#define DOMAIN(nics)                                                                               \
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"            \
        "  <name>debian &amp; Söhne</name>\n"                                                     \
        "  <uuid>9DF8DC55-a2ae-4cc8-b6a3-08285338803f</uuid>\n"                                    \
        "  <metadata>\n"                                                                           \
        "    <libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'" \
        ">\n"                                                                                      \
        "      <libosinfo:os id='http://debian.org/debian/13'/>\n"                                 \
        "    </libosinfo:libosinfo>\n"                                                             \
        "    <vm:vm xmlns:vm='urn:org.uservm1' uuid='9df8dc55-a2ae-4cc8-b6a3-08285338803f'>\n"     \
        "      <vm:storage path='/home/u/a &amp; b.qcow2'/>\n"                                     \
        "      <vm:storage path='/home/u/ü.qcow2'/>\n"                                            \
        "      <storage path='/home/u/not-ours.qcow2'/>\n"                                         \
        "      <vm:storage/>\n"                                                                    \
        "    </vm:vm>\n"                                                                           \
        "  </metadata>\n"                                                                          \
        "  <memory unit='KiB'>2097152</memory>\n"                                                  \
        "  <currentMemory unit='KiB'>1048576</currentMemory>\n"                                    \
        "  <vcpu placement='static' current='2'>4</vcpu>\n"                                        \
        "  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type><boot dev='hd'/></os>\n"        \
        "  <!-- kept -->\n"                                                                        \
        "  <devices>\n"                                                                            \
        "    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n" nics                              \
        "    <memballoon model='virtio'/>\n"                                                       \
        "  </devices>\n"                                                                           \
        "  <qemu:commandline>\n    <qemu:arg value='-ünusual'/>\n  </qemu:commandline>\n"         \
        "</domain>\n"

#define BRIDGE                                                                                     \
        "    <interface type='bridge'>\n"                                                          \
        "      <mac address='52:54:00:00:00:01'/>\n"                                               \
        "      <source bridge='br0'/>\n"                                                           \
        "    </interface>\n"

#define SLIRP                                                                                      \
        "    <interface type='user'>\n"                                                            \
        "      <mac address='52:54:00:00:00:02'/>\n"                                               \
        "      <model type='virtio'/>\n"                                                           \
        "    </interface>\n"

#define PASST_START                                                                                \
        "    <interface type='user'>\n"                                                            \
        "      <mac address='52:54:00:AB:cd:03'/>\n"                                               \
        "      <source dev='enp1s0'/>\n"                                                           \
        "      <ip address='172.17.2.0' family='ipv4' prefix='24'/>\n"

#define RULE_SSH                                                                                   \
        "      <portForward proto='tcp' address='127.0.0.1'>\n"                                    \
        "        <range start='2222' to='22'/>\n"                                                  \
        "      </portForward>\n"

#define RULE_MANY                                                                                  \
        "      <portForward proto='tcp' address='2001:db8::7' dev='eth0' future='yes'>\n"          \
        "        <range start='8080' end='8090' to='80'/>\n"                                       \
        "        <range start='7000' end='8081' exclude='yes'/>\n"                                 \
        "        <range start='9000' exclude='no'/>\n"                                             \
        "        <range start='8085' exclude='yes'/>\n"                                            \
        "      </portForward>\n"

#define RULE_DNS                                                                                   \
        "      <portForward proto='udp'>\n"                                                        \
        "        <range start='5353' to='53'/>\n"                                                  \
        "      </portForward>\n"

#define PASST_END                                                                                  \
        "      <model type='virtio'/>\n"                                                           \
        "      <backend type='passt' logFile='/tmp/p.log'/>\n"                                     \
        "      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>\n"      \
        "    </interface>\n"

#define PASST PASST_START RULE_SSH RULE_MANY RULE_DNS PASST_END

static Forward forward(const char *spec) {
        _cleanup_free_ char *reason = NULL;
        Forward f = {};

        if (forward_parse(spec, &f, &reason) < 0)
                printf("# %s\n", reason);
        return f;
}

/* The text as libxml2 prints it, which differs from libvirt's in the kind of quotes. */
static char *printed(const char *xml) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        char *text = NULL;

        if (xml_parse(xml, "domain", &doc) < 0 ||
            xml_print(xmlDocGetRootElement(doc), false, &text) < 0)
                return NULL;
        return text;
}

/* Adds (or removes) a forward and compares all of the outcome. */
static bool edit_gives(int (*edit)(const char *, const Forward *, char **), const char *xml,
                       const char *spec, const char *expected) {
        _cleanup_free_ char *is = NULL, *should_be = printed(expected);
        Forward f = forward(spec);
        int r;

        r = edit(xml, &f, &is);
        if (r < 0 || !should_be || !streq(is, should_be)) {
                printf("# %d\n%s\nshould be\n%s\n", r, is ? is : "", should_be);
                return false;
        }
        return true;
}

static int edit_result(int (*edit)(const char *, const Forward *, char **), const char *xml,
                       const char *spec) {
        _cleanup_free_ char *is = NULL;
        Forward f = forward(spec);

        return edit(xml, &f, &is);
}

static bool is_forward(const Forward *f, const char *interface, const char *canonical) {
        _cleanup_free_ char *text = NULL;

        return forward_format(f, &text) >= 0 && streq(text, canonical) &&
               streq(f->interface, interface);
}

TEST(files_of_a_VM_that_this_is_a_clone_of_are_not_its_own) {
        _cleanup_free_ char *clone = strdup(DOMAIN(SLIRP));
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;

        memcpy(strstr(clone, "9DF8DC55"), "00000000", 8);
        CHECK_INT(domain_info_parse(clone, &info), 0);
        CHECK_INT(info->n_storage, 2);
        CHECK(!info->storage[0].is_own && !info->storage[1].is_own);
}

TEST(reads_a_domain) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;

        CHECK_INT(domain_info_parse(DOMAIN(BRIDGE SLIRP PASST), &info), 0);
        CHECK_STR(info->name, "debian & Söhne");
        CHECK_STR(info->uuid, "9df8dc55-a2ae-4cc8-b6a3-08285338803f");
        CHECK_INT(info->memory, 2ULL << 30);
        CHECK_INT(info->vcpus, 2);
        CHECK_INT(info->n_storage, 2);
        CHECK_STR(info->storage[0].path, "/home/u/a & b.qcow2");
        CHECK_STR(info->storage[1].path, "/home/u/ü.qcow2");
        CHECK(info->storage[0].is_own && info->storage[1].is_own);

        CHECK_INT(info->n_nics, 2);
        CHECK_STR(info->nics[0].mac, "52:54:00:00:00:02");
        CHECK(!info->nics[0].passt);
        CHECK_INT(info->nics[0].forwards.n, 0);
        CHECK_STR(info->nics[1].mac, "52:54:00:ab:cd:03");
        CHECK(info->nics[1].passt);
}

TEST(reads_forwards) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        const Forward *f;

        CHECK_INT(domain_info_parse(DOMAIN(PASST), &info), 0);
        CHECK_INT(info->n_nics, 1);
        CHECK_INT(info->nics[0].forwards.n, 4);
        f = info->nics[0].forwards.items;
        CHECK(is_forward(&f[0], "", "127.0.0.1:2222:22/tcp"));
        CHECK(f[0].persistent);
        CHECK_INT(f[0].state, FORWARD_INACTIVE);

        CHECK(is_forward(&f[1], "eth0", "[2001:db8::7]:8080-8090:80-90/tcp"));
        CHECK_INT(f[1].n_exclude, 2);
        CHECK_INT(f[1].exclude[0].start, 8080);
        CHECK_INT(f[1].exclude[0].end, 8081);
        CHECK_INT(f[1].exclude[1].start, 8085);
        CHECK_INT(f[1].exclude[1].end, 8085);

        CHECK(is_forward(&f[2], "eth0", "[2001:db8::7]:9000:9000/tcp"));
        CHECK_INT(f[2].n_exclude, 0);
        CHECK(is_forward(&f[3], "", "*:5353:53/udp"));
}

TEST(reads_rules_without_ranges_as_all_ports) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        const Forward *f;

        CHECK_INT(
                domain_info_parse(DOMAIN(PASST_START "<portForward proto='tcp' address='0.0.0.0'/>"
                                                     "<portForward proto='udp'>"
                                                     "<range start='1' end='1023' exclude='yes'/>"
                                                     "</portForward>" PASST_END),
                                  &info),
                0);
        CHECK_INT(info->nics[0].forwards.n, 2);
        f = info->nics[0].forwards.items;
        CHECK(is_forward(&f[0], "", "0.0.0.0:1-65535:1-65535/tcp"));
        CHECK(is_forward(&f[1], "", "*:1-65535:1-65535/udp"));
        CHECK_INT(f[1].n_exclude, 1);
        CHECK_INT(f[1].exclude[0].end, 1023);
}

TEST(leaves_out_rules_it_does_not_understand) {
        static const char *const rules[] = {
                "<portForward><range start='1'/></portForward>",
                "<portForward proto='sctp'><range start='1'/></portForward>",
                "<portForward proto='tcp' address='example.com'><range start='1'/></portForward>",
                "<portForward proto='tcp' dev='much-too-long-a-name'><range start='1'/>"
                "</portForward>",
                "<portForward proto='tcp'><range/></portForward>",
                "<portForward proto='tcp'><range start='0'/></portForward>",
                "<portForward proto='tcp'><range start='-1'/></portForward>",
                "<portForward proto='tcp'><range start='x'/></portForward>",
                "<portForward proto='tcp'><range start='65536'/></portForward>",
                "<portForward proto='tcp'><range start='2' end='1'/></portForward>",
                "<portForward proto='tcp'><range start='1' end='9' to='65530'/></portForward>",
        };

        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                _cleanup_(domain_info_freep) DomainInfo *info = NULL;
                _cleanup_free_ char *xml = NULL, *edited = NULL;
                Forward f = forward("8080:80");

                CHECK(asprintf(&xml, "%s%s%s",
                               "<domain><name>x</name>"
                               "<uuid>9df8dc55-a2ae-4cc8-b6a3-08285338803f</uuid>"
                               "<memory>1</memory><devices><interface type='user'>"
                               "<mac address='52:54:00:00:00:01'/><backend type='passt'/>",
                               rules[i], "</interface></devices></domain>") > 0);
                CHECK_INT(domain_info_parse(xml, &info), 0);
                CHECK_INT(info->nics[0].forwards.n, 0);
                CHECK_INT(domain_xml_add_forward(xml, &f, &edited), 0);
                CHECK(strstr(edited, "<portForward"));
        }
}

TEST(takes_a_zone_for_the_interface) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;

        CHECK_INT(domain_info_parse(DOMAIN(PASST_START
                                           "<portForward proto='tcp' address='fe80::1%eth0'>"
                                           "<range start='80'/></portForward>" PASST_END),
                                    &info),
                  0);
        CHECK_INT(info->nics[0].forwards.n, 1);
        CHECK(is_forward(&info->nics[0].forwards.items[0], "eth0", "[fe80::1]:80:80/tcp"));
}

TEST(lists_vhostuser_only_with_passt) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;

        CHECK_INT(domain_info_parse(
                          DOMAIN("<interface type='vhostuser'>"
                                 "<mac address='52:54:00:00:00:05'/><backend type='passt'/>"
                                 "</interface>"
                                 "<interface type='vhostuser'>"
                                 "<mac address='52:54:00:00:00:06'/>"
                                 "<source type='unix' path='/x' mode='client'/></interface>"),
                          &info),
                  0);
        CHECK_INT(info->n_nics, 1);
        CHECK_STR(info->nics[0].mac, "52:54:00:00:00:05");
}

TEST(reads_memory_units) {
        static const struct {
                const char *memory;
                uint64_t bytes;
        } cases[] = {
                { "<memory>1024</memory>", 1048576 },
                { "<memory unit='b'>5</memory>", 5 },
                { "<memory unit='bytes'>4096</memory>", 4096 },
                { "<memory unit='KB'>3</memory>", 3000 },
                { "<memory unit='k'>3</memory>", 3072 },
                { "<memory unit='KiB'> 3\n</memory>", 3072 },
                { "<memory unit='MB'>3</memory>", 3000000 },
                { "<memory unit='M'>3</memory>", 3 << 20 },
                { "<memory unit='MiB'>3</memory>", 3 << 20 },
                { "<memory unit='mib'>3</memory>", 3 << 20 },
                { "<memory unit='GB'>3</memory>", 3000000000 },
                { "<memory unit='G' dumpCore='off'>3</memory>", 3ULL << 30 },
                { "<memory unit='TiB'>3</memory>", 3ULL << 40 },
                { "<memory unit='PiB'>3</memory>", 3ULL << 50 },
                { "<memory unit='E'>15</memory>", 15ULL << 60 },
                { "<memory unit='E'>16</memory>", 0 },
                { "<memory unit='XiB'>3</memory>", 0 },
                { "<memory unit='Kilo'>3</memory>", 0 },
                { "<memory unit=''>3</memory>", 0 },
                { "<memory>-3</memory>", 0 },
                { "<memory>3 4</memory>", 0 },
                { "<memory>99999999999999999999</memory>", 0 },
                { "<memory/>", 0 },
                { "", 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(domain_info_freep) DomainInfo *info = NULL;
                _cleanup_free_ char *xml = NULL;

                CHECK(asprintf(&xml,
                               "<domain><name>x</name>"
                               "<uuid>9df8dc55-a2ae-4cc8-b6a3-08285338803f</uuid>%s</domain>",
                               cases[i].memory) > 0);
                CHECK_INT(domain_info_parse(xml, &info), cases[i].bytes > 0 ? 0 : -EBADMSG);
                if (!info)
                        continue;
                CHECK_INT(info->memory, cases[i].bytes);
                CHECK_INT(info->vcpus, 1);
                CHECK_INT(info->n_nics, 0);
                CHECK_INT(info->n_storage, 0);
        }
}

TEST(refuses_what_is_no_domain) {
        static const char *const texts[] = {
                "",
                "domain",
                "<domain>",
                "<domain/>",
                "<network><name>x</name></network>",
                "<x:domain xmlns:x='urn:x'><name>x</name></x:domain>",
                "<domain><name>x</name><uuid>short</uuid><memory>1</memory></domain>",
                "<domain><name>x</name><uuid>9df8dc55xa2ae-4cc8-b6a3-08285338803f</uuid>"
                "<memory>1</memory></domain>",
                "<domain><uuid>9df8dc55-a2ae-4cc8-b6a3-08285338803f</uuid>"
                "<memory>1</memory></domain>",
                "<domain><name>x</name><uuid>9df8dc55-a2ae-4cc8-b6a3-08285338803f</uuid>"
                "<memory>1</memory><vcpu>many</vcpu></domain>",
                "<domain><name>x</name><uuid>9df8dc55-a2ae-4cc8-b6a3-08285338803f</uuid>"
                "<memory>1</memory><devices><interface type='user'/></devices></domain>",
                "<!DOCTYPE domain [<!ENTITY n SYSTEM 'file:///etc/passwd'>]>"
                "<domain><name>&n;</name><uuid>9df8dc55-a2ae-4cc8-b6a3-08285338803f</uuid>"
                "<memory>1</memory></domain>",
                "<domain><name>\xff</name></domain>",
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_(domain_info_freep) DomainInfo *info = NULL;

                CHECK_INT(domain_info_parse(texts[i], &info), -EBADMSG);
                CHECK(!info);
        }
}

TEST(refuses_huge_documents) {
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        size_t size = 32 << 20;
        _cleanup_free_ char *xml = malloc(size);

        CHECK(xml);
        memset(xml, ' ', size - 1);
        xml[size - 1] = '\0';
        memcpy(xml, "<domain>", 8);
        CHECK_INT(domain_info_parse(xml, &info), -EBADMSG);
}

TEST(adds_behind_the_rules_there_are) {
        CHECK(edit_gives(domain_xml_add_forward, DOMAIN(BRIDGE SLIRP PASST), "8080:80",
                         DOMAIN(BRIDGE SLIRP PASST_START RULE_SSH RULE_MANY RULE_DNS
                                "      <portForward proto='tcp' address='127.0.0.1'>\n"
                                "        <range start='8080' to='80'/>\n"
                                "      </portForward>\n" PASST_END)));
        CHECK(edit_gives(domain_xml_add_forward, DOMAIN(PASST_START RULE_SSH PASST_END),
                         "*:5000-5002/udp",
                         DOMAIN(PASST_START RULE_SSH "      <portForward proto='udp'>\n"
                                                     "        <range start='5000' end='5002'/>\n"
                                                     "      </portForward>\n" PASST_END)));
        CHECK(edit_gives(domain_xml_add_forward, DOMAIN(PASST_START RULE_SSH PASST_END),
                         "[::]:1-65535",
                         DOMAIN(PASST_START RULE_SSH
                                "      <portForward proto='tcp' address='::'/>\n" PASST_END)));
}

TEST(adds_the_first_rule_and_turns_the_nic_to_passt) {
        CHECK(edit_gives(domain_xml_add_forward, DOMAIN(BRIDGE SLIRP SLIRP),
                         "[::1]:8080-8082:80-82",
                         DOMAIN(BRIDGE "    <interface type='user'>\n"
                                       "      <mac address='52:54:00:00:00:02'/>\n"
                                       "      <model type='virtio'/>\n"
                                       "      <backend type='passt'/>\n"
                                       "      <portForward proto='tcp' address='::1'>\n"
                                       "        <range start='8080' end='8082' to='80'/>\n"
                                       "      </portForward>\n"
                                       "    </interface>\n" SLIRP)));
        CHECK(edit_gives(domain_xml_add_forward,
                         DOMAIN("<interface type='user'><mac address='52:54:00:00:00:01'/>"
                                "<backend logFile='/x'/><mtu size='1400'/></interface>"),
                         "80",
                         DOMAIN("<interface type='user'><mac address='52:54:00:00:00:01'/>"
                                "<backend logFile='/x' type='passt'/>"
                                "<portForward proto='tcp' address='127.0.0.1'>"
                                "<range start='80'/></portForward>"
                                "<mtu size='1400'/></interface>")));
        CHECK(edit_gives(domain_xml_add_forward, DOMAIN("<interface type='user'/>"), "80",
                         DOMAIN("<interface type='user'><backend type='passt'/>"
                                "<portForward proto='tcp' address='127.0.0.1'>"
                                "<range start='80'/></portForward></interface>")));
}

TEST(adds_interface_and_exclusions) {
        _cleanup_free_ char *xml = NULL;
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        Forward f = forward("*:8000-8100:9000-9100");
        PortRange exclude[] = { { 8001, 8001 }, { 8050, 8060 } };

        strcpy(f.interface, "wlan0");
        f.exclude = exclude;
        f.n_exclude = ELEMENTSOF(exclude);
        CHECK_INT(domain_xml_add_forward(DOMAIN(SLIRP), &f, &xml), 0);
        CHECK_INT(domain_info_parse(xml, &info), 0);
        CHECK_INT(info->nics[0].forwards.n, 1);
        CHECK(info->nics[0].passt);
        CHECK(forward_equal(&info->nics[0].forwards.items[0], &f));
}

TEST(refuses_to_add) {
        CHECK_INT(edit_result(domain_xml_add_forward, DOMAIN(BRIDGE), "8080:80"), -ENODEV);
        CHECK_INT(edit_result(domain_xml_add_forward, "<domain/>", "8080:80"), -ENODEV);
        CHECK_INT(edit_result(domain_xml_add_forward, DOMAIN(PASST), "2222:23"), -EEXIST);
        CHECK_INT(edit_result(domain_xml_add_forward, DOMAIN(PASST), "*:5353:1/udp"), -EEXIST);
        CHECK_INT(edit_result(domain_xml_add_forward, DOMAIN(PASST), "*:5353:53/tcp"), 0);
        CHECK_INT(edit_result(domain_xml_add_forward, DOMAIN(PASST), "0:80"), -EINVAL);
        CHECK_INT(edit_result(domain_xml_add_forward, "<domain", "8080:80"), -EBADMSG);
}

TEST(removes_whole_rules) {
        CHECK(edit_gives(domain_xml_remove_forward, DOMAIN(BRIDGE SLIRP PASST), "2222:1",
                         DOMAIN(BRIDGE SLIRP PASST_START RULE_MANY RULE_DNS PASST_END)));
        CHECK(edit_gives(domain_xml_remove_forward, DOMAIN(PASST), "*:5353/udp",
                         DOMAIN(PASST_START RULE_SSH RULE_MANY PASST_END)));
        CHECK(edit_gives(domain_xml_remove_forward,
                         DOMAIN(PASST_START RULE_SSH
                                "      <portForward proto='tcp'>\n"
                                "        <range start='1' end='1023' exclude='yes'/>\n"
                                "      </portForward>\n" PASST_END),
                         "*:1-65535", DOMAIN(PASST_START RULE_SSH PASST_END)));
}

TEST(removes_one_range_of_a_rule) {
        _cleanup_free_ char *once = NULL;
        Forward f = forward("[2001:db8::7]:9000");

        CHECK(edit_gives(domain_xml_remove_forward, DOMAIN(PASST), "[2001:db8::7]:9000",
                         DOMAIN(PASST_START RULE_SSH
                                "      <portForward proto='tcp' address='2001:db8::7' dev='eth0'"
                                " future='yes'>\n"
                                "        <range start='8080' end='8090' to='80'/>\n"
                                "        <range start='7000' end='8081' exclude='yes'/>\n"
                                "        <range start='8085' exclude='yes'/>\n"
                                "      </portForward>\n" RULE_DNS PASST_END)));

        /* Exclusions alone would forward everything else: they go with the last range. */
        CHECK_INT(domain_xml_remove_forward(DOMAIN(PASST), &f, &once), 0);
        CHECK(edit_gives(domain_xml_remove_forward, once, "[2001:db8::7]:8080-8090",
                         DOMAIN(PASST_START RULE_SSH RULE_DNS PASST_END)));
}

TEST(undoes_an_addition) {
        _cleanup_free_ char *added = NULL, *first = NULL;
        Forward f = forward("8080:80");

        CHECK_INT(domain_xml_add_forward(DOMAIN(PASST), &f, &added), 0);
        CHECK(edit_gives(domain_xml_remove_forward, added, "8080", DOMAIN(PASST)));
        CHECK(strstr(added, "ünusual"));
        CHECK(strstr(added, "<!-- kept -->"));
        CHECK_INT(domain_xml_add_forward(DOMAIN(SLIRP), &f, &first), 0);
        CHECK_INT(edit_result(domain_xml_remove_forward, first, "8080"), 0);
}

#define ON_INTERFACE(dev)                                                                          \
        "      <portForward proto='tcp' dev='" dev "'>\n"                                          \
        "        <range start='80'/>\n"                                                            \
        "      </portForward>\n"
#define ON_ANY                                                                                     \
        "      <portForward proto='tcp'>\n"                                                        \
        "        <range start='80'/>\n"                                                            \
        "      </portForward>\n"

TEST(removes_by_interface) {
        const char *both = DOMAIN(PASST_START ON_INTERFACE("a") ON_INTERFACE("b") PASST_END);
        _cleanup_free_ char *is = NULL, *none = NULL;
        Forward f = forward("*:80");

        CHECK_INT(edit_result(domain_xml_remove_forward, both, "*:80"), -ENOTUNIQ);
        CHECK(edit_gives(domain_xml_remove_forward,
                         DOMAIN(PASST_START ON_INTERFACE("a") ON_ANY ON_INTERFACE("b") PASST_END),
                         "*:80", both));

        strcpy(f.interface, "b");
        CHECK_INT(domain_xml_remove_forward(both, &f, &is), 0);
        CHECK(edit_gives(domain_xml_remove_forward, is, "*:80", DOMAIN(PASST_START PASST_END)));
        strcpy(f.interface, "c");
        CHECK_INT(domain_xml_remove_forward(both, &f, &none), -ENOENT);
}

TEST(refuses_to_remove) {
        CHECK_INT(edit_result(domain_xml_remove_forward, DOMAIN(PASST), "2223"), -ENOENT);
        CHECK_INT(edit_result(domain_xml_remove_forward, DOMAIN(PASST), "2222/udp"), -ENOENT);
        CHECK_INT(edit_result(domain_xml_remove_forward, DOMAIN(PASST), "*:2222"), -ENOENT);
        CHECK_INT(edit_result(domain_xml_remove_forward, DOMAIN(PASST), "[2001:db8::7]:8085"),
                  -ENOENT);
        CHECK_INT(edit_result(domain_xml_remove_forward, DOMAIN(BRIDGE), "2222"), -ENOENT);
        CHECK_INT(edit_result(domain_xml_remove_forward, "", "2222"), -EBADMSG);
}

#define LIVE_NIC                                                                                   \
        "<interface type='user'><mac address='52:54:00:ab:cd:03'/>"                                \
        "<source dev='enp1s0'/>"                                                                   \
        "<portForward proto='tcp' address='127.0.0.1'><range start='1'/></portForward>"            \
        "<target dev='x0'/><model type='virtio'/><mtu size='1400'/><link state='up'/>"             \
        "<boot order='2'/><backend type='passt'/><alias name='net0'/>"                             \
        "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></interface>"

TEST(finds_the_changed_nic) {
        _cleanup_free_ char *nic = NULL, *same = NULL, *edited = NULL, *back = NULL;
        Forward f = forward("8181:80");

        CHECK_INT(domain_xml_add_forward(DOMAIN(BRIDGE SLIRP PASST SLIRP), &f, &edited), 0);
        CHECK_INT(domain_xml_changed_nic(DOMAIN(BRIDGE SLIRP PASST SLIRP), edited, &nic), 0);
        CHECK(strstr(nic, "<interface") == nic && strstr(nic, "8181") && strstr(nic, "passt"));
        CHECK(!strstr(nic + 1, "<interface"));
        CHECK_INT(domain_xml_changed_nic(edited, DOMAIN(BRIDGE SLIRP PASST SLIRP), &back), 0);
        CHECK(strstr(back, "2222") && !strstr(back, "8181"));
        CHECK_INT(domain_xml_changed_nic(edited, edited, &same), -ENOENT);
        CHECK_INT(domain_xml_changed_nic(DOMAIN(BRIDGE), DOMAIN(BRIDGE PASST), &same), -ENOENT);
        CHECK_INT(domain_xml_changed_nic("<domain", edited, &same), -EBADMSG);
        CHECK_INT(domain_xml_changed_nic(edited, "<domain", &same), -EBADMSG);
}

TEST(replugs_a_nic) {
        _cleanup_free_ char *detach = NULL, *attach = NULL;

        CHECK_INT(domain_xml_replug(DOMAIN(SLIRP LIVE_NIC), DOMAIN(SLIRP PASST),
                                    "52:54:00:aB:CD:03", &detach, &attach),
                  0);
        CHECK(startswith(detach, "<interface type=\"user\"><mac address=\"52:54:00:ab:cd:03\"/>"));
        CHECK(strstr(detach, "<alias name=\"net0\"/>"));
        CHECK(strstr(detach, "<target dev=\"x0\"/>"));
        CHECK(strstr(detach, "<range start=\"1\"/>"));
        CHECK(!strstr(detach, "2222"));

        CHECK(startswith(attach, "<interface type=\"user\"><mac address=\"52:54:00:ab:cd:03\"/>"
                                 "<source dev=\"enp1s0\"/><model type=\"virtio\"/>"
                                 "<mtu size=\"1400\"/><link state=\"up\"/><boot order=\"2\"/>"
                                 "<address type=\"pci\" domain=\"0x0000\" bus=\"0x01\""));
        CHECK(strstr(attach, "<backend type=\"passt\" logFile=\"/tmp/p.log\"/>"));
        CHECK(strstr(attach, "<range start=\"2222\" to=\"22\"/>"));
        CHECK(strstr(attach, "<range start=\"7000\" end=\"8081\" exclude=\"yes\"/>"));
        CHECK(strstr(attach, "<range start=\"5353\" to=\"53\"/>"));
        CHECK(!strstr(attach, "<range start=\"1\"/>"));
}

TEST(replugs_only_what_is_in_both) {
        _cleanup_free_ char *detach = NULL, *attach = NULL;

        CHECK_INT(domain_xml_replug(DOMAIN(LIVE_NIC), DOMAIN(SLIRP), "52:54:00:ab:cd:03", &detach,
                                    &attach),
                  -ENODEV);
        CHECK_INT(domain_xml_replug(DOMAIN(SLIRP), DOMAIN(PASST), "52:54:00:ab:cd:03", &detach,
                                    &attach),
                  -ENODEV);
        CHECK_INT(domain_xml_replug(DOMAIN(BRIDGE), DOMAIN(BRIDGE), "52:54:00:00:00:01", &detach,
                                    &attach),
                  -ENODEV);
        CHECK_INT(domain_xml_replug("<", DOMAIN(PASST), "52:54:00:ab:cd:03", &detach, &attach),
                  -EBADMSG);
        CHECK(!detach && !attach);
}

#define GUEST(os, arch, rest)                                                                      \
        "<guest><os_type>" os "</os_type><arch name='" arch "'><wordsize>64</wordsize>" rest       \
        "</arch></guest>"
#define Q35 "<machine canonical='pc-q35-10.0' maxCpus='4096'>q35</machine>"
#define HOST(arch) "<host><uuid>x</uuid><cpu><arch>" arch "</arch></cpu></host>"

TEST(reads_capabilities) {
        static const struct {
                const char *xml;
                int r;
                const char *arch, *first_type, *second_type;
                bool q35;
        } cases[] = {
                { "<capabilities>" HOST("x86_64") GUEST("hvm", "aarch64", "<domain type='qemu'/>")
                          GUEST("hvm", "x86_64",
                                "<machine>pc</machine>" Q35
                                "<domain type='qemu'/><domain type='kvm'/>") "</capabilities>",
                  0, "x86_64", "qemu", "kvm", true },
                { "<capabilities>" HOST("x86_64")
                          GUEST("hvm", "i686", Q35 "<domain type='qemu'/>") "</capabilities>",
                  0, "i686", "qemu", NULL, true },
                { "<capabilities>" HOST("i686") GUEST("xen", "i686", "<domain type='xen'/>")
                          GUEST("hvm", "i686", "<domain type='test'/>") "</capabilities>",
                  0, "i686", "test", NULL, false },
                { "<capabilities>" GUEST("hvm", "s390x",
                                         "<machine>s390-ccw-virtio</machine>") "</capabilities>",
                  0, "s390x", NULL, NULL, false },
                { "<capabilities>" HOST("x86_64")
                          GUEST("exe", "x86_64", "<domain type='lxc'/>") "</capabilities>",
                  -ENODEV, NULL, NULL, NULL, false },
                { "<capabilities/>", -ENODEV, NULL, NULL, NULL, false },
                { "<domain/>", -EBADMSG, NULL, NULL, NULL, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *arch = NULL;
                _cleanup_(strv_freep) char **types = NULL;
                bool q35 = false;

                CHECK_INT(capabilities_parse(cases[i].xml, &arch, &types, &q35), cases[i].r);
                if (cases[i].r < 0)
                        continue;
                CHECK_STR(arch, cases[i].arch);
                CHECK(streq_ptr(types[0], cases[i].first_type));
                CHECK(!types[0] || streq_ptr(types[1], cases[i].second_type));
                CHECK_INT(q35, cases[i].q35);
        }
}

TEST_MAIN(reads_a_domain, files_of_a_VM_that_this_is_a_clone_of_are_not_its_own, reads_forwards,
          reads_rules_without_ranges_as_all_ports, leaves_out_rules_it_does_not_understand,
          takes_a_zone_for_the_interface, lists_vhostuser_only_with_passt, reads_memory_units,
          refuses_what_is_no_domain, refuses_huge_documents, adds_behind_the_rules_there_are,
          adds_the_first_rule_and_turns_the_nic_to_passt, adds_interface_and_exclusions,
          refuses_to_add, removes_whole_rules, removes_one_range_of_a_rule, undoes_an_addition,
          removes_by_interface, refuses_to_remove, finds_the_changed_nic, replugs_a_nic,
          replugs_only_what_is_in_both, reads_capabilities)
