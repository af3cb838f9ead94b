/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_COMPARE_H
#define LUNFS_COMPARE_H

/*
 * Compares the bytes of two elements while both are in use (Verify): what differs at
 * the moment that it is read.  Of each piece the source is read first.  Nothing is read
 * where both have a hole, and, of a Snapshot, where its bytes are the source's own.
 * Nothing is changed.
 *
 * A device that is away is waited for; any other error ends the comparison.
 *
 * Thread safe; reference counted.
 */

#include <stdint.h>

#include "engine/chain.h"
#include "engine/dataop.h"
#include "engine/image.h"
#include "engine/volume.h"

struct compare;

enum {
	COMPARE_BLOCK = 4096,	 /* bytes: differences are told in whole blocks */
	COMPARE_MAX_RANGES = 64, /* the first ones are told one by one */
	COMPARE_REASON_MAX = 384,
};

struct compare_range {
	uint64_t offset, length; /* bytes */
};

struct compare_result {
	uint64_t bytes_total;
	uint64_t bytes_compared;  /* of the two from the beginning on */
	uint64_t bytes_skipped;	  /* of these: those that nothing was read of */
	uint64_t bytes_different; /* in whole blocks, but for the end of the element */
	uint64_t n_ranges;	  /* that do not touch each other */
	struct compare_range ranges[COMPARE_MAX_RANGES]; /* the first of them */
	int error;		  /* why it ended early; -ECANCELED: compare_cancel() */
	char reason[COMPARE_REASON_MAX]; /* the same, as a sentence */
};

struct compare_params {
	struct dataops *dataops;
	/* Source and target, opened to read; they become the comparison's, which
	 * closes them at its end. */
	struct engine_handle *handles[2];
	const char *names[2]; /* of the elements, for messages; copied */
	/* The volumes whose devices are read; a reference is taken; may be NULL. */
	struct volume *volumes[2];
	/* Of a target that is a Snapshot's: what its store and its point do not hold is
	 * the source's own.  References are taken; NULL: it is none. */
	struct image *image;
	struct point *point;
	uint64_t size; /* bytes; that of the target */
	/* Called once when all has ended and the handles are closed, by any thread, with
	 * no lock held. */
	void (*done)(void *opaque);
	void *opaque;
};

/* 0: done will be called.  -ENOMEM: the handles are still the caller's. */
int compare_start(const struct compare_params *params, struct compare **ret_compare);
void compare_unref(struct compare *compare); /* takes NULL */
/* It ends soon; what is under way is waited for, at most io_timeout.  done is called. */
void compare_cancel(struct compare *compare);
void compare_get_result(struct compare *compare, struct compare_result *ret);

#endif
