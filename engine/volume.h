/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_VOLUME_H
#define LUNFS_VOLUME_H

/*
 * A volume: the bytes of an element that has a device of its own (a LUN, a
 * file).  Between its users (requests for `data`, copiers) and the block device it
 * adds what a device does not do: any alignment, waiting while the device is away,
 * a bound on what one volume has in flight, deadlines, the order of overlapping
 * changes, copy before write (chain.h), and fences.
 *
 * Thread safe; reference counted.  The device may be taken away and replaced
 * (volume_detach, volume_attach) while requests wait.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine/blockdev.h"
#include "engine/dataop.h"

struct chain;
struct restore;
struct volume;

/* Who wants to know that a device has become ready (copiers, images with
 * parked reads).  fn is called by any thread with no lock held. */
struct volume_listener {
	void (*fn)(struct volume_listener *listener);
	TAILQ_ENTRY(volume_listener) link;
	bool listening;
};

int volume_new(struct dataops *dataops, struct volume **ret_volume);
void volume_ref(struct volume *volume);
void volume_unref(struct volume *volume); /* takes NULL */

/* Gives the volume its device, or takes it away: afterwards the volume submits
 * nothing to it any more, and what it has under way there is answered.  The
 * caller opens and closes the device. */
void volume_attach(struct volume *volume, struct blockdev *bd);
struct blockdev *volume_detach(struct volume *volume);

/* To be called when the device's state has changed. */
void volume_kick(struct volume *volume);

bool volume_is_ready(struct volume *volume);
bool volume_get_info(struct volume *volume, struct bd_info *ret_info);
/* How often its device has logged in; 0 without a device. */
unsigned volume_logins(struct volume *volume);
/* All zero without a device. */
void volume_get_geometry(struct volume *volume, struct bd_geometry *ret);
struct chain *volume_chain(struct volume *volume);
struct dataops *volume_dataops(struct volume *volume);

/* A user's request: any offset and length, timeout_ms until -EIO.  Answered through
 * io->done. */
void volume_io(struct volume *volume, struct engine_io *io, unsigned timeout_ms);

/*
 * A change of an image whose store the volume is: any range, in order with all other
 * changes that it overlaps.  It waits for no connection, has no deadline, and ends when
 * nothing of it is at the device any more.  Not counted in volume_changed_ms().
 */
struct volume_put {
	/* Set by the caller. */
	bool zero;		 /* the range reads as zeros afterwards; no buf */
	bool durable;		 /* when it is answered (FUA) */
	bool copies;		 /* one of many: in pieces of opt_copy */
	uint64_t offset, length; /* bytes; of a write at most 1 MiB */
	void *buf;		 /* left alone until done */
	/* Called once, by any thread, no lock held, also from within volume_put(): 0;
	 * -ENOTCONN: no connection, or it was lost, and it may have been carried out or
	 * not, in part too; or as bd_req.done. */
	void (*done)(struct volume_put *put, int error);
	void *opaque;
};
void volume_put(struct volume *volume, struct volume_put *put);

/* The restore that is under way, with a reference; NULL: none. */
struct restore *volume_get_restore(struct volume *volume);
bool volume_is_restoring(const struct volume *volume);
void volume_set_restore(struct volume *volume, struct restore *restore);

/* Each change is durable when it is answered (FUA), for a device that may lose its
 * cache: `write_cache = through`. */
void volume_set_write_through(struct volume *volume, bool through);

/* CLOCK_REALTIME ms of the last change that was answered; 0 = none by this
 * process. */
uint64_t volume_changed_ms(struct volume *volume);

/* A request straight to the device, for who does his own waiting: -ENOTCONN
 * when there is none or it is not ready.  The done function is req's. */
void volume_submit(struct volume *volume, struct bd_req *req);

/*
 * A read of an aligned range of up to 1 MiB, in parts of what the device takes,
 * several at once.  The first error counts.
 */
enum { VOLUME_FETCH_PARTS = 4 };
struct volume_fetch {
	/* Set by the caller. */
	struct volume *volume;
	uint64_t offset, length; /* bytes */
	void *buf;
	void (*done)(struct volume_fetch *fetch, int error); /* as bd_req.done */
	void *opaque;

	/* Set before done: the part that failed; with -ENODATA its bad range. */
	uint64_t bad_offset, bad_length;

	/* The volume's. */
	uint64_t part, next_part; /* the second atomic */
	unsigned n_pending;	  /* atomic */
	int error;		  /* atomic */
	struct bd_req parts[VOLUME_FETCH_PARTS];
};
void volume_fetch(struct volume_fetch *fetch);

void volume_listen(struct volume *volume, struct volume_listener *listener);
/* After it, fn is not called, and not running. */
void volume_unlisten(struct volume *volume, struct volume_listener *listener);

/*
 * A fence: no new change is begun, and what has begun ends; then drained() is called
 * once, by any thread, with no lock held, also from within volume_close_fence().
 * Several may be closed at once; the volume goes on when all are open.  After
 * volume_open_fence(), which waits for it and so is not for within drained(), it is
 * not called any more.
 */
struct volume_fence {
	void (*drained)(struct volume_fence *fence);
	void *opaque;
	TAILQ_ENTRY(volume_fence) link;
	bool told;
};
void volume_close_fence(struct volume *volume, struct volume_fence *fence);
void volume_open_fence(struct volume *volume, struct volume_fence *fence);

#endif
