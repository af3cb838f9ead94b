/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CHECKSUM_H
#define LUNFS_CHECKSUM_H

/*
 * The SHA-256 of the bytes of an element, read while it is in use: of one content only if
 * nobody changed it meanwhile, which is the caller's to find out.
 *
 * A device that is away is waited for; any other error ends it.
 *
 * Thread safe; reference counted.
 */

#include <stdint.h>

#include "engine/dataop.h"
#include "engine/volume.h"

struct checksum;

enum {
	CHECKSUM_HEX_SIZE = 65, /* with the NUL */
	CHECKSUM_REASON_MAX = 384,
};

struct checksum_result {
	uint64_t bytes_total, bytes_done;
	char hex[CHECKSUM_HEX_SIZE]; /* "" until the end, and with an error */
	int error;		   /* why it ended early; -ECANCELED: checksum_cancel() */
	char reason[CHECKSUM_REASON_MAX]; /* the same, as a sentence */
};

struct checksum_params {
	struct dataops *dataops;
	/* Opened to read; it becomes the digest's, which closes it at its end. */
	struct engine_handle *handle;
	const char *name; /* of the element, for messages; copied */
	/* The volumes whose devices are read; a reference is taken; may be NULL. */
	struct volume *volumes[2];
	uint64_t size; /* bytes */
	/* Called once when all has ended and the handle is closed, by any thread, with no
	 * lock held. */
	void (*done)(void *opaque);
	void *opaque;
};

/* 0: done will be called.  -ENOMEM: the handle is still the caller's. */
int checksum_start(const struct checksum_params *params, struct checksum **ret_digest);
void checksum_unref(struct checksum *digest); /* takes NULL */
/* It ends soon; what is under way is waited for, at most io_timeout.  done is called. */
void checksum_cancel(struct checksum *digest);
void checksum_get_result(struct checksum *digest, struct checksum_result *ret);

#endif
