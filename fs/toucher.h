/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TOUCHER_H
#define LUNFS_TOUCHER_H

/*
 * One helper process that touches files by path, and the way to speak with it.
 *
 * It is a process and not a thread because it makes system calls on the mount
 * that its own daemon serves.  When the daemon is killed or dumps core within
 * such a call, a thread would sleep for ever, and with it keep /dev/fuse open,
 * without whose closing nothing ends its sleep.  The helper holds nothing but
 * its socket; when the daemon goes, the call fails and the socket is at its end.
 */

#include <stdbool.h>
#include <sys/types.h>

struct toucher;

/* Forks: while the process has one thread.  -errno. */
int toucher_new(struct toucher **ret_toucher);

/* Takes NULL.  The process ends, at once unless it sleeps in the kernel. */
void toucher_free(struct toucher *toucher);

pid_t toucher_pid(const struct toucher *toucher);

/* The open handler's: this helper's open has come to us. */
void toucher_was_opened(struct toucher *toucher);

/*
 * Touches a file, and waits for it.  The byte is written only if
 * toucher_was_opened() is called in between: once the mount is gone, the path
 * leads elsewhere.  -EPIPE: the helper has gone, or toucher_stop() was called.
 */
int toucher_touch(struct toucher *toucher, const char *path);

/* Ends a wait in toucher_touch(), and the helper; from any thread. */
void toucher_stop(struct toucher *toucher);

#endif
