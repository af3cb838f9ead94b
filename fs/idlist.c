/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/idlist.h"

#include <errno.h>
#include <stdlib.h>

struct ids {
	uint64_t *ids;
	size_t n, size;
	bool failed;
};

static void note_id(void *opaque, const char *name, uint64_t id)
{
	struct ids *ids = opaque;

	(void)name;
	if (ids->n == ids->size) {
		size_t size = ids->size ? 2 * ids->size : 64;
		uint64_t *more = realloc(ids->ids, size * sizeof(*more));

		if (!more) {
			ids->failed = true;
			return;
		}
		ids->ids = more;
		ids->size = size;
	}
	ids->ids[ids->n++] = id;
}

int idlist_get(struct engine *e, enum engine_class class, uint64_t **ret_ids,
	       size_t *ret_n)
{
	struct ids ids = { 0 };

	engine_list(e, class, 0, note_id, &ids);
	if (ids.failed) {
		free(ids.ids);
		return -ENOMEM;
	}
	*ret_ids = ids.ids;
	*ret_n = ids.n;
	return 0;
}
