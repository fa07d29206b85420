# SPDX-License-Identifier: LGPL-2.1-or-later
# Fuzz targets. `make check` runs each over what is in corpus/; configured with --enable-fuzzing,
# which needs clang, `make fuzz-targets` links them with libFuzzer instead, for tests/fuzz/run.

FUZZ_TARGETS = \
	tests/fuzz/fuzz-capabilities \
	tests/fuzz/fuzz-domain-build \
	tests/fuzz/fuzz-domain-live \
	tests/fuzz/fuzz-domain-xml \
	tests/fuzz/fuzz-forward \
	tests/fuzz/fuzz-guest-setup \
	tests/fuzz/fuzz-image-info \
	tests/fuzz/fuzz-passt-table \
	tests/fuzz/fuzz-passt-words \
	tests/fuzz/fuzz-settings
check_PROGRAMS += $(FUZZ_TARGETS)

SOURCES_FUZZ = \
	tests/fuzz/fuzz.c tests/fuzz/fuzz.h \
	tests/fuzz/message.c tests/fuzz/message.h
if FUZZING
LDFLAGS_FUZZ = -fsanitize=fuzzer
SOURCES_FUZZ_XML = $(SOURCES_FUZZ) tests/fuzz/mutate-xml.c
else
LDFLAGS_FUZZ =
SOURCES_FUZZ += tests/fuzz/main.c
SOURCES_FUZZ_XML = $(SOURCES_FUZZ)
endif

tests_fuzz_fuzz_capabilities_SOURCES = tests/fuzz/fuzz-capabilities.c $(SOURCES_FUZZ_XML)
tests_fuzz_fuzz_capabilities_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_capabilities_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_domain_build_SOURCES = tests/fuzz/fuzz-domain-build.c $(SOURCES_FUZZ)
tests_fuzz_fuzz_domain_build_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_domain_build_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_domain_live_SOURCES = tests/fuzz/fuzz-domain-live.c $(SOURCES_FUZZ_XML)
tests_fuzz_fuzz_domain_live_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_domain_live_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_domain_xml_SOURCES = tests/fuzz/fuzz-domain-xml.c $(SOURCES_FUZZ_XML)
tests_fuzz_fuzz_domain_xml_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_domain_xml_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_forward_SOURCES = tests/fuzz/fuzz-forward.c $(SOURCES_FUZZ)
tests_fuzz_fuzz_forward_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_forward_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_guest_setup_SOURCES = tests/fuzz/fuzz-guest-setup.c $(SOURCES_FUZZ)
tests_fuzz_fuzz_guest_setup_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_guest_setup_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_image_info_SOURCES = tests/fuzz/fuzz-image-info.c $(SOURCES_FUZZ)
tests_fuzz_fuzz_image_info_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_image_info_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_passt_table_SOURCES = tests/fuzz/fuzz-passt-table.c $(SOURCES_FUZZ)
tests_fuzz_fuzz_passt_table_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_passt_table_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_passt_words_SOURCES = tests/fuzz/fuzz-passt-words.c $(SOURCES_FUZZ)
tests_fuzz_fuzz_passt_words_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_passt_words_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)
tests_fuzz_fuzz_settings_SOURCES = tests/fuzz/fuzz-settings.c $(SOURCES_FUZZ)
tests_fuzz_fuzz_settings_LDADD = $(LDADD_UNIT)
tests_fuzz_fuzz_settings_LDFLAGS = $(AM_LDFLAGS) $(LDFLAGS_FUZZ)

.PHONY: fuzz-targets
fuzz-targets: $(FUZZ_TARGETS)

EXTRA_DIST += \
	tests/fuzz/corpus \
	tests/fuzz/native \
	tests/fuzz/run \
	tests/fuzz/run-bus \
	tests/fuzz/run-lab \
	tests/fuzz/run-target
