/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The XML of new VMs, read back with libxml2 and with domain-xml. */

#include <errno.h>
#include <libxml/xpathInternals.h>
#include <stdio.h>

#include "domain-build.h"
#include "domain-xml.h"
#include "test.h"
#include "xml.h"

/* Its disk may be changed by each test, which gets it anew. */
static DomainBuildDisk disk;

static DomainBuild settings(void) {
        disk = (DomainBuildDisk){ .path = "/home/u/debian.qcow2", .format = "qcow2" };
        return (DomainBuild){
                .name = "debian",
                .uuid = "9df8dc55-a2ae-4cc8-b6a3-08285338803f",
                .type = "kvm",
                .arch = "x86_64",
                .q35 = true,
                .memory = 2ULL << 30,
                .vcpus = 2,
                .disks = &disk,
                .n_disks = 1,
                .passt = true,
        };
}

/* Builds, and evaluates an XPath expression on the outcome as a string. */
static char *built(const DomainBuild *b, const char *expression) {
        _cleanup_free_ char *xml = NULL;
        _cleanup_xml_doc_ xmlDoc *doc = NULL;
        _cleanup_xml_string_ xmlChar *text = NULL;
        xmlXPathContext *context;
        xmlXPathObject *object;

        if (domain_build(b, &xml) < 0 || xml_parse(xml, "domain", &doc) < 0)
                return NULL;
        context = xmlXPathNewContext(doc);
        xmlXPathRegisterNs(context, (const xmlChar *) "u", (const xmlChar *) DOMAIN_XML_NAMESPACE);
        xmlXPathRegisterNs(context, (const xmlChar *) "q",
                           (const xmlChar *) "http://libvirt.org/schemas/domain/qemu/1.0");
        object = xmlXPathEvalExpression((const xmlChar *) expression, context);
        text = xmlXPathCastToString(object);
        xmlXPathFreeObject(object);
        xmlXPathFreeContext(context);
        return strdup((const char *) text);
}

#define CHECK_BUILT(b, expression, expected)                                                       \
        do {                                                                                       \
                _cleanup_free_ char *_is = built(b, expression);                                   \
                                                                                                   \
                CHECK_STR(_is, expected);                                                          \
        } while (0)

TEST(builds_a_plain_vm) {
        DomainBuild b = settings();

        CHECK_BUILT(&b, "string(/domain/@type)", "kvm");
        CHECK_BUILT(&b, "string(/domain/name)", "debian");
        CHECK_BUILT(&b, "string(/domain/memory)", "2097152");
        CHECK_BUILT(&b, "string(/domain/memory/@unit)", "KiB");
        CHECK_BUILT(&b, "string(/domain/vcpu)", "2");
        CHECK_BUILT(&b, "string(/domain/os/type/@machine)", "q35");
        CHECK_BUILT(&b, "string(/domain/os/type/@arch)", "x86_64");
        CHECK_BUILT(&b, "count(/domain/os/@firmware)", "0");
        CHECK_BUILT(&b, "count(/domain/features/acpi) + count(/domain/features/apic)", "2");
        CHECK_BUILT(&b, "string(/domain/cpu/@mode)", "host-passthrough");
        CHECK_BUILT(&b, "count(/domain/devices/disk)", "1");
        CHECK_BUILT(&b, "string(//disk/source/@file)", "/home/u/debian.qcow2");
        CHECK_BUILT(&b, "string(//disk/driver/@type)", "qcow2");
        CHECK_BUILT(&b, "string(//disk/driver/@discard)", "unmap");
        CHECK_BUILT(&b, "string(//disk/target/@dev)", "vda");
        CHECK_BUILT(&b, "string(//disk/boot/@order)", "1");
        CHECK_BUILT(&b, "string(//interface/@type)", "user");
        CHECK_BUILT(&b, "string(//interface/backend/@type)", "passt");
        CHECK_BUILT(&b, "string(//graphics/listen/@type)", "socket");
        CHECK_BUILT(&b, "string(//channel/target/@name)", "org.qemu.guest_agent.0");
        CHECK_BUILT(&b, "count(/domain/metadata)", "0");
}

TEST(follows_the_settings) {
        DomainBuild b = settings();

        b.type = "qemu";
        b.memory = (1ULL << 30) + 1;
        b.q35 = false;
        b.uefi = true;
        b.cdrom = "/iso/debian.iso";
        disk.created = true;
        b.passt = false;
        CHECK_BUILT(&b, "string(/domain/cpu/@mode)", "maximum");
        CHECK_BUILT(&b, "string(/domain/memory)", "1048577");
        CHECK_BUILT(&b, "count(/domain/os/type/@machine)", "0");
        CHECK_BUILT(&b, "string(/domain/os/@firmware)", "efi");
        CHECK_BUILT(&b, "string(/domain/os/firmware/feature[@name='secure-boot']/@enabled)", "no");
        CHECK_BUILT(&b, "string(//disk[@device='cdrom']/source/@file)", "/iso/debian.iso");
        CHECK_BUILT(&b, "string(//disk[@device='cdrom']/boot/@order)", "2");
        CHECK_BUILT(&b, "count(//disk[@device='cdrom']/readonly)", "1");
        CHECK_BUILT(&b, "count(//disk[@type='file'])", "2");

        disk.block = b.cdrom_block = true;
        CHECK_BUILT(&b, "count(//disk[@type='block']/source[@file])", "0");
        CHECK_BUILT(&b, "string(//disk[@device='cdrom'][@type='block']/source/@dev)",
                    "/iso/debian.iso");
        CHECK_BUILT(&b, "string(//disk[@device='disk'][@type='block']/source/@dev)",
                    "/home/u/debian.qcow2");
        CHECK_BUILT(&b, "string(/domain/metadata/u:vm/u:storage/@path)", "/home/u/debian.qcow2");
        CHECK_BUILT(&b, "count(//interface/backend)", "0");

        b.n_disks = 0;
        CHECK_BUILT(&b, "count(//disk[@device='disk']) + count(/domain/metadata)", "0");
        b.type = "test";
        CHECK_BUILT(&b, "count(/domain/cpu)", "0");
        b.arch = "aarch64";
        CHECK_BUILT(&b, "count(/domain/features/apic)", "0");
        CHECK_BUILT(&b, "count(/domain/features/acpi)", "1");
        b.uefi = false;
        CHECK_BUILT(&b, "count(/domain/features)", "0");
}

TEST(several_disks_and_a_seed) {
        const DomainBuildDisk disks[] = {
                { "/i/web.qcow2", "qcow2", "/i/debian.qcow2", true },
                { "/i/data.raw", "raw", NULL, false },
                { "/i/web.disk3.qcow2", "qcow2", NULL, true },
        };
        DomainBuild b = settings();

        b.disks = disks;
        b.n_disks = ELEMENTSOF(disks);
        b.seed = "/i/web.seed.iso";
        CHECK_BUILT(&b, "count(//disk)", "4");
        CHECK_BUILT(&b, "string(//disk[target/@dev='vda']/source/@file)", "/i/web.qcow2");
        CHECK_BUILT(&b, "string(//disk[target/@dev='vdb']/driver/@type)", "raw");
        CHECK_BUILT(&b, "string(//disk[target/@dev='vdc']/source/@file)", "/i/web.disk3.qcow2");
        CHECK_BUILT(&b, "string(//disk[target/@dev='vdd']/source/@file)", "/i/web.seed.iso");
        CHECK_BUILT(&b, "count(//disk[target/@dev='vdd']/readonly)", "1");
        CHECK_BUILT(&b, "count(//disk/readonly)", "1");
        CHECK_BUILT(&b, "count(//disk[boot])", "1");
        CHECK_BUILT(&b, "string(//disk[boot]/target/@dev)", "vda");
        CHECK_BUILT(&b, "count(//u:storage)", "3");
        CHECK_BUILT(&b, "string(//u:storage[1]/@base)", "/i/debian.qcow2");
        CHECK_BUILT(&b, "count(//u:storage/@base)", "1");
        CHECK_BUILT(&b, "string(//u:storage[@setup='yes']/@path)", "/i/web.seed.iso");
}

TEST(credentials_in_files) {
        char *const credentials[] = { (char *) "/i/web.credential1", (char *) "/i/a,b", NULL };
        DomainBuild b = settings();

        b.credentials = credentials;
        CHECK_BUILT(&b, "count(/domain/q:commandline/q:arg)", "4");
        CHECK_BUILT(&b, "string(/domain/q:commandline/q:arg[1]/@value)", "-smbios");
        CHECK_BUILT(&b, "string(/domain/q:commandline/q:arg[2]/@value)",
                    "type=11,path=/i/web.credential1");
        CHECK_BUILT(&b, "string(/domain/q:commandline/q:arg[4]/@value)", "type=11,path=/i/a,,b");
        CHECK_BUILT(&b, "count(//u:storage[@setup='yes'])", "2");
}

TEST(boots_a_kernel) {
        DomainBuild b = settings();

        b.kernel = "/boot/vmlinuz";
        CHECK_BUILT(&b, "string(/domain/os/kernel)", "/boot/vmlinuz");
        CHECK_BUILT(&b, "count(/domain/os/initrd) + count(/domain/os/cmdline) + count(//boot)",
                    "0");
        b.initrd = "/boot/initrd";
        b.cmdline = "console=ttyS0 a=\"b c\"";
        CHECK_BUILT(&b, "string(/domain/os/initrd)", "/boot/initrd");
        CHECK_BUILT(&b, "string(/domain/os/cmdline)", "console=ttyS0 a=\"b c\"");
}

TEST(keeps_every_value_in_its_field) {
        static const char *const values[] = {
                "quotes ' and \"",
                "&amp; & &#10; &unknown;",
                "</name><devices/>",
                "'/><source file='/etc/shadow",
                "\"/><source file=\"/etc/shadow",
                "]]><!-- <![CDATA[ -->",
                "Übergröße \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x90\xa7",
                "line\nfeed, tab\t, return\r.",
                " spaces ",
        };

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                DomainBuild b = settings();

                b.name = b.cdrom = b.kernel = b.initrd = b.cmdline = disk.path = values[i];
                disk.created = true;
                CHECK_BUILT(&b, "string(/domain/name)", values[i]);
                CHECK_BUILT(&b, "string(//disk[1]/source/@file)", values[i]);
                CHECK_BUILT(&b, "string(//disk[2]/source/@file)", values[i]);
                CHECK_BUILT(&b, "string(/domain/metadata/u:vm/u:storage/@path)", values[i]);
                CHECK_BUILT(&b, "string(/domain/os/kernel)", values[i]);
                CHECK_BUILT(&b, "string(/domain/os/initrd)", values[i]);
                CHECK_BUILT(&b, "string(/domain/os/cmdline)", values[i]);
                CHECK_BUILT(&b, "count(/domain/name) + count(/domain/devices) + count(//source)",
                            "4");
        }
}

TEST(refuses_what_xml_cannot_carry) {
        static const char *const values[] = { "a\x01", "\x1b[31m",     "\xff",
                                              "a\xc3", "\xed\xa0\x80", "\xef\xbf\xbf" };

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                _cleanup_free_ char *xml = NULL;
                DomainBuild b = settings();

                b.name = values[i];
                CHECK_INT(domain_build(&b, &xml), -EINVAL);
                b = settings();
                b.kernel = "/boot/vmlinuz";
                b.cmdline = values[i];
                CHECK_INT(domain_build(&b, &xml), -EINVAL);
                CHECK(!xml);
        }
}

/* The XML with what libvirt fills in and domain_info_parse() relies on. */
static char *as_defined(const char *xml) {
        const char *model = strstr(xml, "<model type=\"virtio\"/>");
        char *defined;

        if (asprintf(&defined, "%.*s<mac address='52:54:00:00:00:01'/>%s", (int) (model - xml), xml,
                     model) < 0)
                return NULL;
        return defined;
}

TEST(can_be_read_back) {
        static const char *const specs[] = { "8080:80", "*:5000-5002:6000-6002/udp",
                                             "[::1]:2222:22", "0.0.0.0:1-65535" };
        _cleanup_forward_list_ ForwardList forwards = {};
        _cleanup_(domain_info_freep) DomainInfo *info = NULL;
        _cleanup_free_ char *xml = NULL, *defined = NULL;
        DomainBuild b = settings();

        for (size_t i = 0; i < ELEMENTSOF(specs); i++) {
                _cleanup_free_ char *reason = NULL;
                Forward f;

                CHECK_INT(forward_parse(specs[i], &f, &reason), 0);
                CHECK_INT(forward_list_append(&forwards, &f), 0);
        }
        b.forwards = &forwards;
        disk.created = true;
        CHECK_INT(domain_build(&b, &xml), 0);
        CHECK(strstr(xml, "\n      <portForward proto=\"tcp\" address=\"127.0.0.1\">\n"
                          "        <range start=\"8080\" to=\"80\"/>\n"
                          "      </portForward>\n"));

        defined = as_defined(xml);
        CHECK_INT(domain_info_parse(defined, &info), 0);
        CHECK_STR(info->name, "debian");
        CHECK_INT(info->memory, 2ULL << 30);
        CHECK_INT(info->vcpus, 2);
        CHECK_INT(info->n_storage, 1);
        CHECK_STR(info->storage[0].path, "/home/u/debian.qcow2");
        CHECK(info->storage[0].is_own);
        CHECK_INT(info->n_nics, 1);
        CHECK(info->nics[0].passt);
        CHECK_INT(info->nics[0].forwards.n, forwards.n);
        for (size_t i = 0; i < forwards.n; i++)
                CHECK(forward_equal(&info->nics[0].forwards.items[i], &forwards.items[i]));
}

TEST(refuses_forwards_it_cannot_store) {
        Forward items[2] = {
                { .family = AF_UNSPEC, .host = { 80, 80 }, .guest = { 80, 80 } },
                { .family = AF_UNSPEC, .host = { 80, 80 }, .guest = { 81, 81 } },
        };
        ForwardList forwards = { items, 1 };
        _cleanup_free_ char *xml = NULL;
        DomainBuild b = settings();

        b.forwards = &forwards;
        b.passt = false;
        CHECK_INT(domain_build(&b, &xml), -EINVAL);
        b.passt = true;
        forwards.n = 2;
        CHECK_INT(domain_build(&b, &xml), -EEXIST);
        forwards.n = 1;
        items[0].host = (PortRange){};
        CHECK_INT(domain_build(&b, &xml), -EINVAL);
        CHECK(!xml);

        b.passt = false;
        forwards.n = 0;
        CHECK_INT(domain_build(&b, &xml), 0);
}

TEST_MAIN(builds_a_plain_vm, follows_the_settings, several_disks_and_a_seed, credentials_in_files,
          boots_a_kernel, keeps_every_value_in_its_field, refuses_what_xml_cannot_carry,
          can_be_read_back, refuses_forwards_it_cannot_store)
