/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_PROCESS_H
#define LUNFS_PROCESS_H

/* What makes a process a daemon, apart from its work. */

/* Closes what a script that started us has open; before anything is opened that
 * is to stay, but for `keep`. */
void process_close_inherited(int keep);

/*
 * Limits, directory, and signals: SIGTERM, SIGINT and SIGHUP arrive at the
 * signalfd that is returned, SIGPIPE and SIGUSR1 are ignored.  Before there are
 * threads: they inherit it.  -1 with errno.
 */
int process_set_up(void);

/* Gives terminal, session and stdio up; messages go to syslog from then on. */
void process_leave_terminal(void);

/* sd_notify(3), in a build with libsystemd. */
void process_tell_systemd(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
