/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_DAEMON_H
#define LUNFS_DAEMON_H

#include "fs/options.h"

enum {
	DAEMON_END_TIMEOUT_S = 60, /* the bound of an orderly end */
};

/*
 * Mounts and serves until the end.  Returns the exit code: in the parent, once
 * the mount is ready (0) or has failed (1); in the daemon itself, and with -f,
 * after the end.  All problems have been logged.  The process must have one
 * thread.
 */
int daemon_run(const struct options *options);

#endif
