# libuservm's tests. The library is linked as others would, with its header alone. The example of
# the manual page is compiled as it stands there.

LIBRARY_TESTS = tests/client-lib/test-images tests/client-lib/test-libuservm
LIBRARY_TEST_SOURCES = tests/client-lib/private-bus.c tests/client-lib/private-bus.h \
                       tests/client-lib/pump.h tests/unit/test.h
LIBRARY_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/client-lib -I$(top_srcdir)/tests
check_PROGRAMS += $(LIBRARY_TESTS)
tests_client_lib_test_images_SOURCES = tests/client-lib/test-images.c $(LIBRARY_TEST_SOURCES)
tests_client_lib_test_images_CPPFLAGS = $(LIBRARY_TEST_CPPFLAGS)
tests_client_lib_test_images_LDADD = libuservm.la $(SYSTEMD_LIBS)
tests_client_lib_test_libuservm_SOURCES = tests/client-lib/test-libuservm.c $(LIBRARY_TEST_SOURCES)
tests_client_lib_test_libuservm_CPPFLAGS = $(LIBRARY_TEST_CPPFLAGS)
tests_client_lib_test_libuservm_LDADD = libuservm.la $(SYSTEMD_LIBS)

LIBRARY_EXAMPLES = tests/client-lib/manual-example
EXTRA_PROGRAMS = tests/client-lib/manual-example tests/client-lib/glib-example
CLEANFILES += $(EXTRA_PROGRAMS) tests/client-lib/manual-example.c
nodist_tests_client_lib_manual_example_SOURCES = tests/client-lib/manual-example.c
tests_client_lib_manual_example_CPPFLAGS = -I$(top_srcdir)/client-lib
tests_client_lib_manual_example_LDADD = libuservm.la

tests/client-lib/manual-example.c: docs/libuservm.3
	$(AM_V_GEN)$(MKDIR_P) tests/client-lib && \
	$(SED) -n -e '1,/^\.Sh EXAMPLES/d' \
		-e '/^\.Bd -literal/,/^\.Ed/{/^\./d;s/^\\&//;s/\\e/\\/g;p}' \
		$(srcdir)/docs/libuservm.3 >$@

if HAVE_GLIB
LIBRARY_EXAMPLES += tests/client-lib/glib-example
endif
tests_client_lib_glib_example_SOURCES = docs/examples/glib-main-loop.c
tests_client_lib_glib_example_CPPFLAGS = -I$(top_srcdir)/client-lib
tests_client_lib_glib_example_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS)
tests_client_lib_glib_example_LDADD = libuservm.la $(GLIB_LIBS)

TESTS += tests/client-lib/test-symbols tests/client-lib/test-threads
$(LIBRARY_TESTS:%=%.log) tests/client-lib/test-threads.log: uservmd $(LIBRARY_EXAMPLES)

EXTRA_DIST += \
	tests/client-lib/page.c \
	tests/client-lib/test-symbols \
	tests/client-lib/test-threads
