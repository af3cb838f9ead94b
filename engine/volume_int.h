/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_VOLUME_INT_H
#define LUNFS_VOLUME_INT_H

/*
 * What volume.c (life, device, listeners, fetches), volume_read.c (reads and seeks of
 * users) and volume_change.c (changes, flushes, fences) share.
 *
 * Locks: kick_lock and lock are never held together; lock, then a device's or the
 * chain's.
 */

#include <pthread.h>

#include "engine/volume.h"

struct change;
TAILQ_HEAD(change_list, change);
TAILQ_HEAD(fence_list, volume_fence);

struct volume {
	struct dataops *all;
	int refs; /* atomic */
	struct chain *chain;
	uint64_t changed_ms; /* atomic */
	bool write_through;  /* atomic */

	pthread_mutex_t kick_lock; /* protects these four */
	pthread_cond_t kicked;	   /* kicking became false */
	TAILQ_HEAD(, volume_listener) listeners;
	bool kicking, kick_again;

	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct blockdev *bd; /* NULL: none now */
	unsigned submitting;
	struct restore *restore; /* with a reference; also looked at without the lock */

	/* volume_read.c */
	struct dataop_list waiting;
	unsigned n_reads;
	unsigned n_lost;	    /* reads that had to wait again; goes round */
	struct bufpool_waiter bufs; /* set up once; queued by the pool */

	/* volume_change.c */
	struct change_list queued; /* in order of submission */
	struct change_list active; /* hold their ranges */
	struct change_list stuck;  /* lost their connection: of active ones and flushes */
	struct change_list parked; /* long ones, between two segments, while a fence is
				    * closed; not counted in n_active */
	unsigned n_active;
	struct fence_list fences;     /* those that are closed */
	unsigned n_fences;	      /* of them; also read without the lock */
	struct volume_fence *telling; /* its drained() is being called */
	struct dataop_retry retry;

	struct work destroy;
};

void volume_get_geometry_locked(const struct volume *volume, struct bd_geometry *ret);

/* volume_read.c */
void volume_reads_init(struct volume *volume);
void volume_reads_done(struct volume *volume);
void volume_reads_run(struct volume *volume); /* sends what can be sent */
void volume_read(struct volume *volume, struct engine_io *io, unsigned timeout_ms);
void volume_seek(struct volume *volume, struct engine_io *io, unsigned timeout_ms);

/* volume_change.c */
void volume_changes_init(struct volume *volume);
void volume_changes_done(struct volume *volume);
/* The device's state has changed: what is stuck goes on, what is queued begins. */
void volume_changes_kick(struct volume *volume);
/* WRITE, ZERO and FLUSH. */
void volume_change(struct volume *volume, struct engine_io *io, unsigned timeout_ms);

#endif
