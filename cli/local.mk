# The command uservm, and its completion for shells.

bin_PROGRAMS += uservm
uservm_SOURCES = \
	cli/arguments.c cli/arguments.h \
	cli/command-config.c \
	cli/command-create.c \
	cli/command-forward.c \
	cli/command-lifecycle.c \
	cli/command-list.c \
	cli/command-monitor.c \
	cli/command-ssh.c \
	cli/command-wait.c \
	cli/commands.h \
	cli/describe.c cli/describe.h \
	cli/guest.c cli/guest.h \
	cli/input.c cli/input.h \
	cli/interrupt.c cli/interrupt.h \
	cli/job.c cli/job.h \
	cli/main.c \
	cli/output.c cli/output.h \
	cli/progress.c cli/progress.h \
	cli/session.c cli/session.h \
	cli/settings.c cli/settings.h \
	service/guest-probe.c service/guest-probe.h \
	service/size.c service/size.h \
	service/utf8.c service/utf8.h
uservm_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/client-lib
uservm_LDADD = libuservm.la $(JSON_C_LIBS)

bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
fishcompletiondir = $(datadir)/fish/vendor_completions.d
dist_zshcompletion_DATA = cli/completion/_uservm
dist_fishcompletion_DATA = cli/completion/uservm.fish
dist_bashcompletion_DATA = cli/completion/uservm

dist_man_MANS += docs/uservm.1
