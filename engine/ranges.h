/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RANGES_H
#define LUNFS_RANGES_H

/*
 * The order of overlapping changes: each waits for those before it that it
 * overlaps, all else runs in parallel.  The list, in order of submission, holds
 * those under way and those that wait.  Under the owner's lock.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct range {
	uint64_t begin, end; /* bytes */
	unsigned n_before;   /* in the list before it, and overlap it */
	TAILQ_ENTRY(range) link;
	struct range *next; /* of those that ranges_leave() lets go */
};

TAILQ_HEAD(range_list, range);

/* True: it may go at once.  Else a ranges_leave() will tell. */
bool ranges_enter(struct range_list *list, struct range *range, uint64_t begin,
		  uint64_t end);

/* Those that may go now, in order, linked by `next`; NULL: none. */
struct range *ranges_leave(struct range_list *list, struct range *range);

#endif
