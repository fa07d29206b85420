# SPDX-License-Identifier: LGPL-2.1-or-later
# `make check`: the unit tests, and the bus tests, which need dbus-test-runner and PyGObject. The
# lab tests are started by ./dev.

check_PROGRAMS += \
	tests/unit/test-disk \
	tests/unit/test-disk-check \
	tests/unit/test-domain-build \
	tests/unit/test-domain-files \
	tests/unit/test-domain-live \
	tests/unit/test-domain-xml \
	tests/unit/test-forward \
	tests/unit/test-guest-setup \
	tests/unit/test-host-port \
	tests/unit/test-image-info \
	tests/unit/test-passt \
	tests/unit/test-passt-real \
	tests/unit/test-process \
	tests/unit/test-runtime \
	tests/unit/test-seed-image \
	tests/unit/test-storage \
	tests/unit/test-utf8 \
	tests/unit/test-worker

LDADD_UNIT = service/libservice.a $(LIBS_SERVICE)

tests_unit_test_disk_SOURCES = tests/unit/test-disk.c tests/unit/test-files.h tests/unit/test.h
tests_unit_test_disk_LDADD = $(LDADD_UNIT)
tests_unit_test_disk_check_SOURCES = tests/unit/test-disk-check.c tests/unit/test-files.h \
	tests/unit/test.h
tests_unit_test_disk_check_LDADD = $(LDADD_UNIT)
tests_unit_test_domain_build_SOURCES = tests/unit/test-domain-build.c tests/unit/test.h
tests_unit_test_domain_build_LDADD = $(LDADD_UNIT)
tests_unit_test_domain_files_SOURCES = tests/unit/test-domain-files.c tests/unit/test-files.h \
	tests/unit/test.h
tests_unit_test_domain_files_LDADD = $(LDADD_UNIT)
tests_unit_test_domain_live_SOURCES = tests/unit/test-domain-live.c tests/unit/test.h
tests_unit_test_domain_live_LDADD = $(LDADD_UNIT)
tests_unit_test_domain_xml_SOURCES = tests/unit/test-domain-xml.c tests/unit/test.h
tests_unit_test_domain_xml_LDADD = $(LDADD_UNIT)
tests_unit_test_forward_SOURCES = tests/unit/test-forward.c tests/unit/test.h
tests_unit_test_forward_LDADD = $(LDADD_UNIT)
tests_unit_test_guest_setup_SOURCES = tests/unit/test-guest-setup.c tests/unit/test.h
tests_unit_test_guest_setup_LDADD = $(LDADD_UNIT)
tests_unit_test_host_port_SOURCES = tests/unit/test-host-port.c tests/unit/test.h
tests_unit_test_host_port_LDADD = $(LDADD_UNIT)
tests_unit_test_image_info_SOURCES = tests/unit/test-image-info.c tests/unit/test.h
tests_unit_test_image_info_LDADD = $(LDADD_UNIT)
tests_unit_test_passt_SOURCES = tests/unit/test-passt.c tests/unit/test-files.h tests/unit/test.h
tests_unit_test_passt_LDADD = $(LDADD_UNIT)
tests_unit_test_passt_real_SOURCES = tests/unit/test-passt-real.c tests/unit/test.h
tests_unit_test_passt_real_LDADD = $(LDADD_UNIT)
tests_unit_test_process_SOURCES = tests/unit/test-process.c tests/unit/test.h
tests_unit_test_process_LDADD = $(LDADD_UNIT)
tests_unit_test_runtime_SOURCES = tests/unit/test-runtime.c tests/unit/test-files.h tests/unit/test.h
tests_unit_test_runtime_LDADD = $(LDADD_UNIT)
tests_unit_test_seed_image_SOURCES = tests/unit/test-seed-image.c tests/unit/test.h
tests_unit_test_seed_image_LDADD = $(LDADD_UNIT)
tests_unit_test_storage_SOURCES = tests/unit/test-storage.c tests/unit/test-files.h tests/unit/test.h
tests_unit_test_storage_LDADD = $(LDADD_UNIT)
tests_unit_test_utf8_SOURCES = tests/unit/test-utf8.c tests/unit/test.h
tests_unit_test_utf8_LDADD = $(LDADD_UNIT)
tests_unit_test_worker_SOURCES = tests/unit/test-worker.c tests/unit/test.h
tests_unit_test_worker_LDADD = $(LDADD_UNIT)

BUS_TESTS = \
	tests/bus/test_contract.py \
	tests/bus/test_daemon.py \
	tests/bus/test_disks.py \
	tests/bus/test_forwards.py \
	tests/bus/test_fuzz.py \
	tests/bus/test_languages.py \
	tests/bus/test_lifecycle.py \
	tests/bus/test_malformed.py \
	tests/bus/test_manager.py \
	tests/bus/test_order.py

CLI_TESTS = \
	tests/cli/test_commands.py \
	tests/cli/test_completion.py \
	tests/cli/test_guest.py \
	tests/cli/test_images.py \
	tests/cli/test_usage.py

TESTS += $(check_PROGRAMS) $(BUS_TESTS) $(CLI_TESTS)
TEST_EXTENSIONS = .py
LOG_DRIVER = $(TEST_LOG_DRIVER)
PY_LOG_DRIVER = $(TEST_LOG_DRIVER)
PY_LOG_COMPILER = $(srcdir)/tests/bus/run
AM_TESTS_ENVIRONMENT = \
	USERVMD='$(abs_builddir)/uservmd'; \
	USERVM='$(abs_builddir)/uservm'; \
	BUS_INTERFACES='$(abs_srcdir)/bus-interfaces'; \
	FUZZ_CORPUS='$(abs_srcdir)/tests/fuzz/corpus'; \
	export USERVMD USERVM BUS_INTERFACES FUZZ_CORPUS;
$(BUS_TESTS:.py=.log): uservmd
$(CLI_TESTS:.py=.log): uservmd uservm

# Those of the library and the command that go through all of their code, under valgrind; not for a
# build with sanitizers. It is faster without much optimizing of what runs but for a moment; without
# any, valgrind does not know that a register xored with itself is 0.
VALGRIND = $(abs_builddir)/libtool --mode=execute valgrind --quiet --leak-check=full \
	--error-exitcode=99 --vex-iropt-level=1 --read-inline-info=no
VALGRIND_TESTS = $(LIBRARY_TESTS) tests/cli/test_commands.py tests/cli/test_guest.py
check-valgrind: all
	VALGRIND='$(VALGRIND)' $(MAKE) $(AM_MAKEFLAGS) check TESTS='$(VALGRIND_TESTS)' \
		LOG_COMPILER='$(VALGRIND)'
.PHONY: check-valgrind

EXTRA_DIST += \
	$(BUS_TESTS) \
	$(CLI_TESTS) \
	tests/cli/command.py \
	tests/bus/daemon.py \
	tests/bus/run \
	tests/bus/services/org.freedesktop.systemd1.service \
	tests/bus/session.conf \
	tests/client.py \
	tests/bench \
	tests/faults \
	tests/lab \
	tests/lint \
	tests/malformed.py \
	tests/rawbus.py \
	tests/tap.py
