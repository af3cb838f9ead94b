/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_HOOK_H
#define LUNFS_HOOK_H

/*
 * A command of the configuration, run once: `sh -c COMMAND`, in a process group
 * of its own, with nothing on its standard input and no descriptor of this
 * process, the environment of this process and LUNFS_GROUP and LUNFS_MEMBERS.
 * Past its time the whole group is killed.  What it leaves running when it ends
 * in time is left alone.
 *
 * A thread waits for it while it runs.
 */

#include <stddef.h>

enum { HOOK_LINE_MAX = 160, HOOK_FAILURE_MAX = HOOK_LINE_MAX + 96 };

struct hook {
	/* Set by the caller, and there until done. */
	const char *command;
	const char *group;   /* LUNFS_GROUP */
	const char *members; /* LUNFS_MEMBERS */
	unsigned timeout_ms;
	/* The end, from the thread that waited, which does not touch the hook any
	 * more. */
	void (*done)(struct hook *hook);
	void *opaque;

	/* Set before done: 0 for exit code 0, else -EIO (another one, a signal, or
	 * it could not be started) or -ETIMEDOUT, with what happened: `exit code 3:
	 * "no such volume"`, the last line of its output. */
	int error;
	char failure[HOOK_FAILURE_MAX];
};

/* 0: done will be called; -errno: it will not. */
int hook_start(struct hook *hook);

#endif
