/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include "conf/cleanup.h"

static atomic_bool to_syslog;

void log_to_syslog(void)
{
	openlog("lunfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	to_syslog = true;
}

/* One system call a line, so that the lines of several threads do not mix. */
static void write_line(int priority, const char *line, size_t len)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)line, .iov_len = len },
		{ .iov_base = (void *)"\n", .iov_len = 1 },
	};
	ssize_t n;

	if (to_syslog) {
		syslog(priority, "%.*s", (int)len, line);
		return;
	}
	do {
		n = writev(STDERR_FILENO, iov, 2);
	} while (n < 0 && errno == EINTR);
}

static void log_lines(int priority, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void log_lines(int priority, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = NULL;
	int saved_errno = errno;
	const char *line;

	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	line = text ? text : fmt;
	while (*line) {
		size_t len = strcspn(line, "\n");

		if (len)
			write_line(priority, line, len);
		line += len;
		line += *line == '\n';
	}
	errno = saved_errno;
}

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_lines(LOG_ERR, fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_lines(LOG_WARNING, fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_lines(LOG_INFO, fmt, ap);
	va_end(ap);
}
