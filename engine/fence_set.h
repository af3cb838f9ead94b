/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_FENCE_SET_H
#define LUNFS_FENCE_SET_H

/*
 * A fence over several volumes (volume.h), for the engine's thread: closed, drained,
 * opened as one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;
struct fence_set;
struct volume;

/*
 * Closes the fences of n volumes (a volume may be there twice).  ready is called once
 * by the engine's thread, not from within this, when all are drained; or, with
 * -ETIMEDOUT, after timeout_ms.  0; -ENOMEM: nothing is closed.
 */
int fence_set_close(struct engine *e, struct volume *const *volumes, size_t n,
		    unsigned timeout_ms,
		    void (*ready)(struct fence_set *set, void *opaque, int error),
		    void *opaque, struct fence_set **ret_set);

/* Opens all, and frees the set.  ready is not called afterwards. */
void fence_set_open(struct fence_set *set);

/* Looks whether a deadline has passed. */
void fence_set_tick(struct engine *e);
/* The next one, CLOCK_MONOTONIC; UINT64_MAX: there is none. */
uint64_t fence_set_deadline_ns(const struct engine *e);

#endif
