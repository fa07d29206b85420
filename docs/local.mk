# Manual pages and examples, which are installed, and how uservm is built inside.

dist_man_MANS += docs/uservmd.8 docs/uservm@.service.8 docs/libuservm.3

dist_doc_DATA = README.md
EXTRA_DIST += docs/architecture.md docs/reliability.md docs/security.md

examplesdir = $(docdir)/examples
dist_examples_DATA = docs/examples/forward.py docs/examples/glib-main-loop.c
