/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/ctltext.h"

#include <stdlib.h>

void ctltext_done(struct ctltext *t)
{
	free(t->snapshot);
	free(t->own);
	*t = (struct ctltext){ 0 };
}

void ctltext_set_snapshot(struct ctltext *t, char *text, size_t len)
{
	free(t->snapshot);
	t->snapshot = text;
	t->snapshot_len = len;
}

void ctltext_set_own(struct ctltext *t, char *text, size_t len)
{
	free(t->own);
	t->own = text;
	t->own_len = len;
	t->own_is_fresh = true;
}

/* Whether a read at this offset goes on with the result. */
static bool is_in_own(const struct ctltext *t, uint64_t offset)
{
	return t->own && (t->own_is_fresh ||
			  (offset > t->own_base && offset - t->own_base <= t->own_len));
}

bool ctltext_wants_snapshot(struct ctltext *t, uint64_t offset)
{
	if (is_in_own(t, offset))
		return false;
	free(t->own);
	t->own = NULL;
	return !offset || !t->snapshot;
}

static size_t slice(const char *text, size_t len, uint64_t offset, size_t size,
		    const char **ret_bytes)
{
	if (offset >= len)
		return 0;
	*ret_bytes = text + offset;
	return len - offset < size ? len - (size_t)offset : size;
}

size_t ctltext_read(struct ctltext *t, uint64_t offset, size_t size,
		    const char **ret_bytes)
{
	*ret_bytes = "";
	if (!is_in_own(t, offset))
		return slice(t->snapshot, t->snapshot_len, offset, size, ret_bytes);
	if (t->own_is_fresh) {
		t->own_is_fresh = false;
		t->own_base = offset;
	}
	return slice(t->own, t->own_len, offset - t->own_base, size, ret_bytes);
}
