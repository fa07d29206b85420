/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The live XML against the stored one: what changes, and that nothing else does. */

#include <errno.h>
#include <stdio.h>

#include "domain-live.h"
#include "test.h"
#include "xml.h"

/* A domain with much that uservm does not know, secrets among it. */
#define DOMAIN(memory, nics)                                                                       \
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"            \
        "  <name>web &amp; Söhne.test!</name>\n"                                                  \
        "  <uuid>9df8dc55-a2ae-4cc8-b6a3-08285338803f</uuid>\n"                                    \
        "  <metadata><vm:vm xmlns:vm='urn:org.uservm1'>\n"                                         \
        "    <memoryBacking/><interface type='user'><backend type='passt'/></interface>\n"         \
        "  </vm:vm></metadata>\n"                                                                  \
        "  <memory unit='KiB'>2097152</memory>\n" memory                                           \
        "  <vcpu placement='static' current='2'>4</vcpu>\n"                                        \
        "  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>\n"                        \
        "  <future a='1' b=' &lt;&#9;&#10;&amp;&quot; '>text &lt; <![CDATA[ <raw> ]]></future>\n"  \
        "  <!-- kept -->\n"                                                                        \
        "  <devices>\n" nics                                                                       \
        "    <graphics type='vnc' port='-1' autoport='yes' passwd='s&apos;cret'/>\n"               \
        "    <memballoon model='virtio'/>\n"                                                       \
        "  </devices>\n"                                                                           \
        "  <seclabel type='dynamic' model='apparmor' relabel='yes'/>\n"                            \
        "  <qemu:commandline>\n    <qemu:arg value='-ünusual'/>\n  </qemu:commandline>\n"         \
        "</domain>\n"

#define BRIDGE                                                                                     \
        "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>"        \
        "<mtu size='9000'/><model type='virtio'/></interface>\n"

#define SLIRP                                                                                      \
        "<interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/>"          \
        "</interface>\n"

#define E1000                                                                                      \
        "<interface type='user'><mac address='52:54:00:00:00:03'/><portForward proto='tcp'>"       \
        "<range start='99'/></portForward><model type='e1000e'/><backend type='passt'/>"           \
        "</interface>\n"

#define IOMMU                                                                                      \
        "<interface type='user'><mac address='52:54:00:00:00:04'/><model type='virtio'/>"          \
        "<driver iommu='on'/><backend type='passt'/></interface>\n"

#define NO_MODEL                                                                                   \
        "<interface type='user'><mac address='52:54:00:00:00:05'/><backend type='passt'/>"         \
        "</interface>\n"

#define NOT_MANAGED BRIDGE SLIRP E1000 IOMMU NO_MODEL

/* The parts of a NIC that passt has to do with, and those that stay. */
#define FOR_PASST_1                                                                                \
        "<source dev='enp1s0'/><ip address='192.0.2.3' family='ipv4' prefix='24'/>"                \
        "<ip address='2001:db8::3' family='ipv6'/>"                                                \
        "<portForward proto='tcp' address='127.0.0.1'><range start='2222' to='22'/>"               \
        "<range start='8000' end='8009'/><range start='8004' exclude='yes'/></portForward>"        \
        "<portForward proto='udp'><range start='53'/></portForward>"
#define FOR_PASST_2 "<mtu size='1400'/><backend type='passt' logFile='/tmp/p &amp; q.log'/>"
#define KEPT_1 "<mac address='52:54:00:AB:cd:06'/>"
#define KEPT_2                                                                                     \
        "<target dev='mine'/><guest dev='eth0'/><model type='virtio-non-transitional'/>"           \
        "<driver name='qemu' rx_queue_size='512' packed='on'><host csum='off'/></driver>"          \
        "<filterref filter='clean-traffic'/><tune><sndbuf>0</sndbuf></tune><link state='down'/>"   \
        "<bandwidth><inbound average='1000'/></bandwidth><teaming type='persistent'/>"             \
        "<coalesce><rx><frames max='7'/></rx></coalesce><vlan><tag id='3'/></vlan>"                \
        "<boot order='2'/><rom enabled='no'/><acpi index='7'/><alias name='ua-net'/><!-- c -->"    \
        "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/><future/>"

#define RICH                                                                                       \
        "<interface type='user' trustGuestRxFilters='no'>" KEPT_1 FOR_PASST_1 KEPT_2 FOR_PASST_2   \
        "</interface>\n"
#define RICH_SOURCE                                                                                \
        "<source type='unix' path='/run/&lt;52:54:00:ab:cd:06&gt;.sock' mode='client'>"            \
        "<reconnect enabled='yes' timeout='1'/></source>"
#define RICH_LIVE                                                                                  \
        "<interface type='vhostuser' trustGuestRxFilters='no'>" KEPT_1 KEPT_2 RICH_SOURCE          \
        "</interface>\n"

#define VHOSTUSER                                                                                  \
        "<interface type='vhostuser'><mac address='52:54:00:00:00:07'/>"                           \
        "<source type='unix' path='/old' mode='server' dev='eth7'/><model type='virtio'/>"         \
        "<backend type='passt'/></interface>\n"
#define VHOSTUSER_LIVE                                                                             \
        "<interface type='vhostuser'><mac address='52:54:00:00:00:07'/><model type='virtio'/>"     \
        "<source type='unix' path='/run/&lt;52:54:00:00:00:07&gt;.sock' mode='client'>"            \
        "<reconnect enabled='yes' timeout='1'/></source></interface>\n"

#define MEMFD "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\n"

/* ---- comparing ---- */

static char *socket_for(const char *mac, void *userdata) {
        unsigned *calls = userdata;
        char *path;

        if (calls)
                ++*calls;
        return asprintf(&path, "/run/<%s>.sock", mac) < 0 ? NULL : path;
}

static char *no_socket(const char *mac, void *userdata) {
        (void) mac;
        (void) userdata;
        return NULL;
}

/* Takes out the white space between elements, which is layout. */
static void strip_layout(xmlNode *parent) {
        xmlNode *node = parent->children, *next;

        for (; node; node = next) {
                next = node->next;
                strip_layout(node);
                if (xmlIsBlankNode(node)) {
                        xmlUnlinkNode(node);
                        xmlFreeNode(node);
                }
        }
}

/* Moves <memoryBacking> to the end, where a derived one is. */
static void move_backing(xmlNode *domain) {
        xmlNode *backing = xml_child(domain, "memoryBacking");

        if (backing) {
                xmlUnlinkNode(backing);
                xmlAddChild(domain, backing);
        }
}

/* Takes out what tells the guest the MTU, which has a test of its own. */
static void remove_mtu(xmlNode *node) {
        for (xmlNode *child = node->children, *next; child; child = next) {
                _cleanup_xml_string_ xmlChar *name = NULL;

                next = child->next;
                if (child->type != XML_ELEMENT_NODE)
                        continue;
                name = xml_attribute(child, "name");
                if (streq((const char *) child->name, "override") ||
                    (name && startswith((const char *) name, "ua-uservm-"))) {
                        xmlUnlinkNode(child);
                        xmlFreeNode(child);
                } else
                        remove_mtu(child);
        }
}

/* The text of a domain such that two that are equal to libvirt have the same. */
static char *canonical(const char *xml) {
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        char *text = NULL;
        xmlNode *domain;

        if (!xml || xml_parse(xml, "domain", &doc) < 0)
                return NULL;
        domain = xmlDocGetRootElement(doc);
        strip_layout(domain);
        move_backing(domain);
        remove_mtu(domain);
        return xml_print(domain, /* indent= */ false, &text) < 0 ? NULL : text;
}

/* Derives, and compares all of the outcome. */
static bool derives(const char *stored, const char *expected) {
        _cleanup_free_ char *live = NULL, *is = NULL, *should_be = canonical(expected);
        int r;

        r = domain_live_derive(stored, socket_for, NULL, &live);
        is = canonical(live);
        if (r < 0 || !is || !should_be || !streq(is, should_be)) {
                printf("# %d\n%s\nshould be\n%s\n", r, is ? is : "", should_be ? should_be : "");
                return false;
        }
        return true;
}

static int derive_result(const char *stored) {
        _cleanup_free_ char *live = NULL;

        return domain_live_derive(stored, socket_for, NULL, &live);
}

#define MEMORY_DERIVES(stored, live) derives(DOMAIN(stored, RICH), DOMAIN(live, RICH_LIVE))

/* ---- the NICs ---- */

TEST(tells_what_passt_needs) {
        _cleanup_(domain_live_nics_done) LiveNics nics = {};
        LiveNic *nic;

        CHECK_INT(domain_live_nics(DOMAIN("", NOT_MANAGED RICH VHOSTUSER), &nics), 0);
        CHECK_INT(nics.n, 2);

        nic = &nics.items[0];
        CHECK_STR(nic->mac, "52:54:00:ab:cd:06");
        CHECK_STR(nic->hostname, "web-S-hne.test");
        CHECK_INT(nic->mtu, 1400);
        CHECK_STR(nic->addresses[0], "192.0.2.3/24");
        CHECK_STR(nic->addresses[1], "2001:db8::3");
        CHECK(!nic->addresses[2]);
        CHECK_STR(nic->interface, "enp1s0");
        CHECK_STR(nic->log_file, "/tmp/p & q.log");
        CHECK_INT(nic->forwards.n, 3);
        CHECK_INT(nic->forwards.items[0].guest.start, 22);
        CHECK_INT(nic->forwards.items[1].n_exclude, 1);
        CHECK_INT(nic->forwards.items[2].protocol, FORWARD_UDP);

        nic = &nics.items[1];
        CHECK_STR(nic->mac, "52:54:00:00:00:07");
        CHECK_INT(nic->mtu, 0);
        CHECK(!nic->addresses[0]);
        CHECK_STR(nic->interface, "eth7");
        CHECK(!nic->log_file);
        CHECK_INT(nic->forwards.n, 0);
}

TEST(lists_no_nic_that_cannot_be_managed) {
        _cleanup_(domain_live_nics_done) LiveNics nics = {};

        CHECK_INT(domain_live_nics(DOMAIN("", NOT_MANAGED), &nics), 0);
        CHECK_INT(nics.n, 0);
        CHECK_INT(derive_result(DOMAIN("", NOT_MANAGED)), -ENODEV);
        CHECK_INT(derive_result(DOMAIN("", "")), -ENODEV);
}

static bool hostname_is(const char *name, const char *hostname) {
        _cleanup_(domain_live_nics_done) LiveNics nics = {};
        _cleanup_free_ char *xml = NULL;

        if (asprintf(&xml, "<domain><name>%s</name><devices>" VHOSTUSER "</devices></domain>",
                     name) < 0)
                return false;
        return domain_live_nics(xml, &nics) == 0 && streq(nics.items[0].hostname, hostname);
}

TEST(makes_a_host_name_of_any_name) {
        CHECK(hostname_is("debian", "debian"));
        CHECK(hostname_is("Debian-13.example.org", "Debian-13.example.org"));
        CHECK(hostname_is("my vm  (old)", "my-vm-old"));
        CHECK(hostname_is("-.--a.-b_c--.", "a.b-c"));
        CHECK(hostname_is("虚拟机", "guest"));
        CHECK(hostname_is("", "guest"));
#define TEN "123456789-"
        CHECK(hostname_is(TEN TEN TEN TEN TEN TEN "abcde", TEN TEN TEN TEN TEN TEN "abc"));
        CHECK(hostname_is(TEN TEN TEN TEN TEN TEN "ab.cd", TEN TEN TEN TEN TEN TEN "ab"));
#undef TEN
}

TEST(changes_passt_nics_and_nothing_else) {
        CHECK(derives(DOMAIN("", NOT_MANAGED RICH SLIRP VHOSTUSER),
                      DOMAIN(MEMFD, NOT_MANAGED RICH_LIVE SLIRP VHOSTUSER_LIVE)));
}

/* Without the NIC and the memory backing the derived text is the stored one to the byte. */
static char *without_changes(const char *xml) {
        static const char *const names[] = { "devices", "memoryBacking" };
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        char *text = NULL;

        if (xml_parse(xml, "domain", &doc) < 0)
                return NULL;
        remove_mtu(xmlDocGetRootElement(doc));
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                xmlNode *node = xml_child(xmlDocGetRootElement(doc), names[i]);

                if (i == 0)
                        node = xml_child(node, "interface");
                if (node) {
                        xmlUnlinkNode(node);
                        xmlFreeNode(node);
                }
        }
        return xml_print(xmlDocGetRootElement(doc), /* indent= */ false, &text) < 0 ? NULL : text;
}

TEST(keeps_layout_and_secrets_around_the_changes) {
        _cleanup_free_ char *live = NULL, *before = NULL, *after = NULL;
        const char *stored = DOMAIN("", RICH);

        CHECK_INT(domain_live_derive(stored, socket_for, NULL, &live), 0);
        before = without_changes(stored);
        after = without_changes(live);
        CHECK(before && after);
        CHECK_STR(after, before);
        CHECK(strstr(after, "passwd=\"s'cret\""));
        CHECK(strstr(after, "<![CDATA[ <raw> ]]>"));
}

#define HOST_MTU(alias, mtu)                                                                       \
        "<qemu:device alias=\"" alias "\"><qemu:frontend><qemu:property name=\"host_mtu\" "        \
        "type=\"unsigned\" value=\"" mtu "\"/></qemu:frontend></qemu:device>"

TEST(tells_the_guest_its_mtu) {
        _cleanup_free_ char *live = NULL, *overridden = NULL, *stored = NULL;
        const char *rich = DOMAIN("", RICH);
        /* What the user overrides already stays as it is. */
        const char *own = "<qemu:override><qemu:device alias=\"ua-net\"/></qemu:override>";

        CHECK_INT(domain_live_derive(DOMAIN("", RICH VHOSTUSER), socket_for, NULL, &live), 0);
        CHECK(strstr(live, "<qemu:override>" HOST_MTU("ua-net", "1400") HOST_MTU(
                                   "ua-uservm-52-54-00-00-00-07", "65520") "</qemu:override>"));
        CHECK(strstr(live, "<alias name=\"ua-uservm-52-54-00-00-00-07\"/>"));

        stored = strndup(rich, (size_t) (strstr(rich, "</domain>") - rich));
        CHECK(asprintf(&overridden, "%s%s</domain>", stored, own) > 0);
        free(live);
        live = NULL;
        CHECK_INT(domain_live_derive(overridden, socket_for, NULL, &live), 0);
        CHECK(strstr(live, own));
}

TEST(asks_for_a_socket_once_a_nic) {
        _cleanup_free_ char *live = NULL;
        unsigned calls = 0;

        CHECK_INT(domain_live_derive(DOMAIN("", NOT_MANAGED RICH VHOSTUSER), socket_for, &calls,
                                     &live),
                  0);
        CHECK_INT(calls, 2);
        CHECK_INT(domain_live_derive(DOMAIN("", RICH), no_socket, NULL, &live), -ENOMEM);
}

#define NIC(type, mac, rest)                                                                       \
        "<interface type='" type "'><mac address='" mac "'/><model type='virtio'/>" rest           \
        "</interface>\n"
#define PASST_NIC(mac, rest) NIC("user", mac, "<backend type='passt'/>" rest)
#define LIVE_NIC(mac)                                                                              \
        NIC("vhostuser", mac,                                                                      \
            "<source type='unix' path='/run/&lt;" mac "&gt;.sock' mode='client'>"                  \
            "<reconnect enabled='yes' timeout='1'/></source>")

#define MAC_A "52:54:00:00:00:0a"
#define MAC_A_UPPER "52:54:00:00:00:0A"
#define MAC_B "52:54:00:00:00:0b"

TEST(manages_one_nic_of_several_with_a_mac) {
        CHECK(derives(
                DOMAIN("", PASST_NIC(MAC_A, "") PASST_NIC(MAC_B, "") PASST_NIC(MAC_A_UPPER, "")),
                DOMAIN(MEMFD, LIVE_NIC(MAC_A) LIVE_NIC(MAC_B) PASST_NIC(MAC_A_UPPER, ""))));
}

/* ---- the memory ---- */

#define BACKING(content) "<memoryBacking>" content "</memoryBacking>\n"
#define NUMA(access0, access1)                                                                     \
        "<cpu><numa><cell id='0' cpus='0' memory='1'" access0 "/>"                                 \
        "<cell id='1' cpus='1' memory='1'" access1 "/></numa></cpu>\n"
#define SHARED_CELL " memAccess='shared'"
#define PRIVATE_CELL " memAccess='private'"

TEST(shares_the_memory) {
        CHECK(MEMORY_DERIVES("", MEMFD));
        CHECK(MEMORY_DERIVES(MEMFD, MEMFD));
        CHECK(MEMORY_DERIVES(BACKING(""), MEMFD));
        CHECK(MEMORY_DERIVES(BACKING("<access mode='private'/><source type='memfd'/>"),
                             BACKING("<access mode='shared'/><source type='memfd'/>")));
        CHECK(MEMORY_DERIVES(BACKING("<source type='anonymous'/><locked/>"),
                             BACKING("<source type='memfd'/><locked/><access mode='shared'/>")));
        CHECK(MEMORY_DERIVES(BACKING("<source type='file'/><discard/>"),
                             BACKING("<source type='file'/><discard/><access mode='shared'/>")));
        CHECK(MEMORY_DERIVES(BACKING("<hugepages><page size='2' unit='M'/></hugepages>"
                                     "<nosharepages/><allocation mode='immediate'/>"),
                             BACKING("<hugepages><page size='2' unit='M'/></hugepages>"
                                     "<nosharepages/><allocation mode='immediate'/>"
                                     "<source type='memfd'/><access mode='shared'/>")));
}

TEST(shares_numa_cells) {
        CHECK(MEMORY_DERIVES(NUMA("", ""), NUMA("", "") MEMFD));
        CHECK(MEMORY_DERIVES(NUMA(SHARED_CELL, PRIVATE_CELL),
                             NUMA(SHARED_CELL, SHARED_CELL) MEMFD));
}

#define DIMM(access) "<memory model='dimm'" access "><target><node>0</node></target></memory>\n"
#define NVDIMM(access)                                                                             \
        "<memory model='nvdimm'" access "><source><path>/nv</path></source>"                       \
        "<target><size>1</size><node>1</node></target></memory>\n"

TEST(shares_memory_devices) {
        CHECK(derives(DOMAIN("", DIMM("") DIMM(" access='private'") RICH),
                      DOMAIN(MEMFD, DIMM("") DIMM(" access='shared'") RICH_LIVE)));
}

TEST(shares_no_file_that_is_private) {
        CHECK_INT(derive_result(DOMAIN("", NVDIMM("") RICH)), -EOPNOTSUPP);
        CHECK_INT(derive_result(DOMAIN(MEMFD, NVDIMM(" access='private'") RICH)), -EOPNOTSUPP);
        CHECK_INT(derive_result(DOMAIN(NUMA(SHARED_CELL, ""), NVDIMM("") RICH)), -EOPNOTSUPP);
        CHECK_INT(derive_result(DOMAIN(MEMFD NUMA("", PRIVATE_CELL), NVDIMM("") RICH)),
                  -EOPNOTSUPP);

        CHECK(derives(DOMAIN("", NVDIMM(" access='shared'") RICH),
                      DOMAIN(MEMFD, NVDIMM(" access='shared'") RICH_LIVE)));
        CHECK(derives(DOMAIN(MEMFD, NVDIMM("") RICH), DOMAIN(MEMFD, NVDIMM("") RICH_LIVE)));
        CHECK(derives(DOMAIN(NUMA("", SHARED_CELL), NVDIMM("") RICH),
                      DOMAIN(NUMA("", SHARED_CELL) MEMFD, NVDIMM("") RICH_LIVE)));
}

/* ---- reading a live XML ---- */

TEST(finds_sockets) {
        _cleanup_(strv_freep) char **macs = NULL, **sockets = NULL;
        _cleanup_free_ char *live = NULL;

        CHECK_INT(domain_live_derive(DOMAIN("", BRIDGE RICH VHOSTUSER), socket_for, NULL, &live),
                  0);
        CHECK_INT(domain_live_sockets(live, &macs, &sockets), 0);
        CHECK_STR(macs[0], "52:54:00:ab:cd:06");
        CHECK_STR(sockets[0], "/run/<52:54:00:ab:cd:06>.sock");
        CHECK_STR(macs[1], "52:54:00:00:00:07");
        CHECK_STR(sockets[1], "/run/<52:54:00:00:00:07>.sock");
        CHECK(!macs[2] && !sockets[2]);
}

#define NO_PATH NIC("vhostuser", MAC_A, "<source mode='client'/>")

TEST(finds_no_sockets_where_there_are_none) {
        _cleanup_(strv_freep) char **macs = NULL, **sockets = NULL;
        const char *live = DOMAIN("", VHOSTUSER NO_PATH RICH BRIDGE); /* the first is a server */

        CHECK_INT(domain_live_sockets(live, &macs, &sockets), 0);
        CHECK(!macs[0] && !sockets[0]);
}

TEST(refuses_what_is_no_domain) {
        static const char *const bad[] = {
                "",
                "<domain>",
                "<network/>",
                "<!DOCTYPE domain [<!ENTITY e 'x'>]><domain/>",
                "<domain><name>x</name><devices><interface type='user'><model type='virtio'/>"
                "<backend type='passt'/></interface></devices></domain>",
        };
        LiveNics nics;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                CHECK_INT(domain_live_nics(bad[i], &nics), -EBADMSG);
                CHECK_INT(derive_result(bad[i]), -EBADMSG);
        }
}

TEST(refuses_nics_that_say_nonsense) {
        static const char *const bad[] = {
                DOMAIN("", PASST_NIC(MAC_A, "<mtu size='big'/>")),
                DOMAIN("", PASST_NIC(MAC_A, "<ip address='192.0.2.3'/><ip prefix='24'/>")),
        };
        LiveNics nics;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                CHECK_INT(domain_live_nics(bad[i], &nics), -EBADMSG);
}

TEST(refuses_a_live_xml_without_macs) {
        static const char *const bad[] = {
                "<domain>",
                "<domain><devices><interface type='vhostuser'>"
                "<source mode='client' path='/s'/></interface></devices></domain>",
        };
        char **macs, **sockets;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                CHECK_INT(domain_live_sockets(bad[i], &macs, &sockets), -EBADMSG);
}

TEST_MAIN(tells_what_passt_needs, lists_no_nic_that_cannot_be_managed,
          makes_a_host_name_of_any_name, changes_passt_nics_and_nothing_else,
          keeps_layout_and_secrets_around_the_changes, tells_the_guest_its_mtu,
          asks_for_a_socket_once_a_nic, manages_one_nic_of_several_with_a_mac, shares_the_memory,
          shares_numa_cells, shares_memory_devices, shares_no_file_that_is_private, finds_sockets,
          finds_no_sockets_where_there_are_none, refuses_what_is_no_domain,
          refuses_nics_that_say_nonsense, refuses_a_live_xml_without_macs)
