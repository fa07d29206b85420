# Manual pages, which are installed, and how uservm is built inside.

dist_man_MANS += docs/uservmd.8 docs/uservm@.service.8 docs/libuservm.3

EXTRA_DIST += docs/architecture.md
