/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/ranges.h"

#include <stddef.h>

static bool overlap(const struct range *a, const struct range *b)
{
	return a->begin < b->end && b->begin < a->end;
}

bool ranges_enter(struct range_list *list, struct range *range, uint64_t begin,
		  uint64_t end)
{
	struct range *r;

	*range = (struct range){ .begin = begin, .end = end };
	TAILQ_FOREACH(r, list, link)
		if (overlap(r, range))
			range->n_before++;
	TAILQ_INSERT_TAIL(list, range, link);
	return !range->n_before;
}

struct range *ranges_leave(struct range_list *list, struct range *range)
{
	struct range *first = NULL, **last = &first, *r;

	for (r = TAILQ_NEXT(range, link); r; r = TAILQ_NEXT(r, link)) {
		if (!overlap(r, range) || --r->n_before)
			continue;
		*last = r;
		last = &r->next;
	}
	TAILQ_REMOVE(list, range, link);
	return first;
}
