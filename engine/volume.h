/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_VOLUME_H
#define LUNFS_VOLUME_H

/*
 * A volume: the bytes of an element that has a device of its own (a LUN, a
 * file).  Between its users (reads of `data`, copiers) and the block device it
 * adds what a device does not do: reads of any alignment, waiting while the
 * device is away, a bound on what one volume has in flight, and deadlines.
 *
 * Thread safe; reference counted.  The device may be taken away and replaced
 * (volume_detach, volume_attach) while requests wait.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine/blockdev.h"
#include "engine/dataop.h"

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

/* A user's request: any offset and length, timeout_ms until -EIO.
 * Answered through io->done. */
void volume_io(struct volume *volume, struct engine_io *io, unsigned timeout_ms);

/* A request straight to the device, for who does his own waiting: -ENOTCONN
 * when there is none or it is not ready.  The done function is req's. */
void volume_submit(struct volume *volume, struct bd_req *req);

void volume_listen(struct volume *volume, struct volume_listener *listener);
/* After it, fn is not called, and not running. */
void volume_unlisten(struct volume *volume, struct volume_listener *listener);

#endif
