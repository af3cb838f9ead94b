/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "conf/log.h"
#include "conf/strbuf.h"

void process_close_inherited(int keep)
{
	if (keep > 3)
		close_range(3, (unsigned)keep - 1, 0);
	close_range((unsigned)keep + 1, ~0u, 0);
}

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("raising the limit of open files: %s", strerror(errno));
}

int process_set_up(void)
{
	sigset_t signals;

	raise_file_limit();
	/* Memory reclaim must not wait for what this process serves.  It takes
	 * CAP_SYS_RESOURCE; without, it goes as far as it goes. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	if (chdir("/") < 0)
		log_warn("/: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

void process_leave_terminal(void)
{
	int null;

	setsid();
	log_to_syslog();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return;
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
}

void process_tell_systemd(const char *fmt, ...)
{
#ifdef HAVE_LIBSYSTEMD
	CLEANUP_STRBUF struct strbuf text = STRBUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	strbuf_vaddf(&text, fmt, ap);
	va_end(ap);
	sd_notify(0, text.s);
#else
	(void)fmt;
#endif
}
