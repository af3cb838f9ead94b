/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_FACE_H
#define LUNFS_FACE_H

/*
 * struct fs, as the files of the FUSE face share it.  Its fields are set by
 * fs_new(), fs_set_session() and fs_set_daemon() and do not change while there
 * are threads; each part has its own locks.
 *
 * Threads.  FUSE threads run the handlers; none of them waits for a disk, a LUN
 * or another request.  What cannot be answered at once is parked, and answered
 * by an engine thread (commands, data) or by the notifier (reads of wait/).
 * Events come from the engine's threads and are only noted there; the notifier
 * (watch.c) wakes polls and waits, the invalidator (inval.c) makes the kernel
 * forget, the touch threads (touch.c) have helper processes make inotify speak.
 * The last two may sleep, on a lock in the kernel that a parked request holds:
 * so nothing waits for them.
 *
 * Locks, in this order where one is taken with another held: a request's own
 * (libfuse's, in an interrupt function) -> a parked request's, or one of the
 * parts', or an open file's -> the engine's.  No notification and no done function
 * is called with a lock held.
 */

#include "fs/fs.h"

struct content;
struct ctl;
struct data_files;
struct waits;
struct touch;
struct inval;
struct watch;

struct fs {
	struct engine *engine;
	const struct config *config;
	char *mountpoint;
	int64_t start_ms;
	struct fuse_session *session;
	struct fs_daemon daemon;

	struct content *content;
	struct ctl *ctl;
	struct data_files *data_files;
	struct waits *waits;
	struct touch *touch;
	struct inval *inval;
	struct watch *watch;
};

#endif
