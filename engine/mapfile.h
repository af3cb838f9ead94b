/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_MAPFILE_H
#define LUNFS_MAPFILE_H

/*
 * A mapfile of GNU ddrescue: which bytes of a copy have arrived.  In whole chunks, in
 * order and without gaps: + has arrived, ? has not, - cannot be read.
 *
 * It has at most MAPFILE_MAX_LINES lines.  What is in more pieces is told in larger units,
 * of which one is + only if all of it has arrived: ? may have arrived, + has.
 *
 * Pure functions, but for what `run` does.
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "conf/strbuf.h"

enum {
	MAPFILE_MAX_LINES = 16384, /* of blocks: about 600 KiB */
};

struct mapfile_params {
	uint64_t size;	     /* bytes */
	uint32_t chunk_size; /* bytes */
	/* As chunkmap_run(): the length of the run of equal bits from chunk on, at most
	 * max; -EAGAIN: not known now, up to the next multiple of unknown_chunks, which
	 * counts as not set.  Called about MAPFILE_MAX_LINES times. */
	int64_t (*run)(void *opaque, uint64_t chunk, uint64_t max, bool *ret_set);
	void *opaque;
	uint64_t unknown_chunks;
	uint64_t bad_offset, bad_length; /* bytes that cannot be read; 0 = none */
};

void mapfile_render(const struct mapfile_params *params, struct strbuf *b);

/* What a pair's error says of a medium error, after the name of the element; for printf()
 * and, as the error is what is kept of it, for sscanf(). */
#define MAPFILE_MEDIUM_ERROR \
	": medium error: bytes %" PRIu64 " to %" PRIu64 " cannot be read"
/* The range in such an error; false: it is about something else. */
bool mapfile_parse_error(const char *error, uint64_t *ret_offset, uint64_t *ret_length);

#endif
