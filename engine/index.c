/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/index.h"

#include <errno.h>
#include <search.h>

int index_add(struct index *index, void *thing)
{
	void *const *slot = tsearch(thing, &index->root, index->compare);

	if (!slot)
		return -ENOMEM;
	if (*slot != thing)
		return -EEXIST;
	index->n++;
	return 0;
}

void index_remove(struct index *index, const void *thing)
{
	if (tdelete(thing, &index->root, index->compare))
		index->n--;
}

void *index_find(const struct index *index, const void *key)
{
	void *const *slot = tfind(key, &index->root, index->compare);

	return slot ? *slot : NULL;
}

struct walk {
	void (*fn)(void *thing, void *opaque);
	void *opaque;
};

static void visit(const void *node, VISIT which, void *closure)
{
	const struct walk *walk = closure;

	if (which == postorder || which == leaf)
		walk->fn(*(void *const *)node, walk->opaque);
}

void index_each(const struct index *index, void (*fn)(void *thing, void *opaque),
		void *opaque)
{
	struct walk walk = { fn, opaque };

	twalk_r(index->root, visit, &walk);
}

static void nothing(void *thing)
{
	(void)thing;
}

void index_clear(struct index *index, void (*fn)(void *thing))
{
	tdestroy(index->root, fn ? fn : nothing);
	index->root = NULL;
	index->n = 0;
}
