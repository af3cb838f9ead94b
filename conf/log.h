/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_LOG_H
#define LUNFS_LOG_H

/*
 * Messages for the administrator: to stderr until log_to_syslog() is called,
 * then to syslog (facility daemon).  A message is a sentence,
 * `<object>: <what was tried>: <reason>`, without a newline at its end; each
 * line of a text of several lines is a message of its own.  Any thread.  errno
 * stays as it was.
 */

/* For a daemon that gives its stderr away. */
void log_to_syslog(void);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
