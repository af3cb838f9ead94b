/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CTLTEXT_H
#define LUNFS_CTLTEXT_H

/*
 * What the reads of one open control file see: the snapshot of its content, or,
 * after a write through the same open, that write's own result.  The result
 * begins at whatever offset the first read after the write has (the
 * descriptor's offset has moved with the write), goes on from there, and is over
 * with a read anywhere else.  No locks, no engine.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ctltext {
	char *snapshot; /* NULL: not rendered */
	size_t snapshot_len;
	char *own; /* NULL: no result to be read */
	size_t own_len;
	bool own_is_fresh; /* not read yet */
	uint64_t own_base; /* the offset that its first read had */
};

void ctltext_done(struct ctltext *t);

/* Both take over a malloc'ed text. */
void ctltext_set_snapshot(struct ctltext *t, char *text, size_t len);
void ctltext_set_own(struct ctltext *t, char *text, size_t len);

/*
 * Whether a read at this offset needs a new snapshot first: one at offset 0, or
 * the first one, unless it reads the result.  Ends the result where it is over.
 */
bool ctltext_wants_snapshot(struct ctltext *t, uint64_t offset);

/* The bytes for a read, at most size of them; into *ret_bytes, which lives until
 * the next call.  Their number. */
size_t ctltext_read(struct ctltext *t, uint64_t offset, size_t size,
		    const char **ret_bytes);

#endif
