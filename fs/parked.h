/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_PARKED_H
#define LUNFS_PARKED_H

/*
 * A FUSE request that waits for a command of the engine, without a thread.
 */

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>

#include "fs/face.h"

struct parked {
	struct engine_command cmd; /* its done and opaque are this module's */
	struct fs *fs;
	fuse_req_t req;
	bool was_submitted; /* for done: false when a signal was faster */

	/* Answers req and ends with parked_free(); called once, by a thread of
	 * the engine, or by parked_submit()'s caller within it. */
	void (*done)(struct parked *p);
	void *opaque;

	pthread_mutex_t lock;
	bool is_submitted, is_interrupted; /* lock */
};

/* With the pid of the request's process in cmd.  NULL: no memory. */
struct parked *parked_new(struct fs *fs, fuse_req_t req);
void parked_free(struct parked *p);

/* Gives cmd to the engine.  With is_interruptible a signal to the process ends
 * the wait with EINTR (engine_interrupt()).  p may be gone on return. */
void parked_submit(struct parked *p, bool is_interruptible);

#endif
