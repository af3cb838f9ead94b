/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_FS_H
#define LUNFS_FS_H

/*
 * The FUSE face as the daemon (main.c, daemon.c) sees it: a struct fs between
 * one engine and one FUSE session, and the table of low-level operations whose
 * userdata it is.
 */

#include "conf/config.h"
#include "engine/engine.h"

struct fs;
struct fuse_lowlevel_ops;
struct fuse_session;

/* mountpoint: absolute.  Starts no thread, but forks (fs/toucher.h): while the
 * process has one thread and before the session is mounted.  -errno. */
int fs_new(struct engine *engine, const struct config *config, const char *mountpoint,
	   struct fs **ret_fs);

/* Takes NULL.  At the end, in this order: fs_shutdown(), engine_stop(), the
 * unmount, the end of the loop, fs_free(), fuse_session_destroy(), engine_free(). */
void fs_free(struct fs *fs);

extern const struct fuse_lowlevel_ops fs_ops; /* userdata: struct fs */

/* The session the notifications go to; before the loop starts. */
void fs_set_session(struct fs *fs, struct fuse_session *se);

/*
 * What the FUSE op init (threads run from then on) and a stop that was asked
 * for through the mount (setxattr user.lunfs.stop) call in the daemon.  on_init
 * must start the engine and signal readiness; on_stop only notes the wish and
 * returns at once.
 */
struct fs_daemon {
	void (*on_init)(void *opaque);
	void (*on_stop)(void *opaque);
	void *opaque;
};
void fs_set_daemon(struct fs *fs, const struct fs_daemon *daemon);

/*
 * Prepares the end: no more touches through the mount, every parked request
 * (reads of wait/, poll) is answered, new ones are refused with ENOTCONN where
 * they would park.  Control files still answer.  Call it before engine_stop(),
 * which answers parked writes and data requests.
 */
void fs_shutdown(struct fs *fs);

#endif
