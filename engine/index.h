/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_INDEX_H
#define LUNFS_INDEX_H

/* An ordered index of things by a key that lies in them: tsearch(3) with types. */

#include <stddef.h>
#include <stdint.h>

struct index {
	void *root;
	int (*compare)(const void *a, const void *b);
	size_t n;
};

#define INDEX_INIT(fn)                                                           \
	(struct index)                                                           \
	{                                                                        \
		.compare = (fn)                                                  \
	}

/* 0, -EEXIST, -ENOMEM. */
int index_add(struct index *index, void *thing);
void index_remove(struct index *index, const void *thing);
/* key: something that compares equal to it. */
void *index_find(const struct index *index, const void *key);
/* In order; fn must not change the index. */
void index_each(const struct index *index, void (*fn)(void *thing, void *opaque),
		void *opaque);
/* Forgets all, calling fn for each. */
void index_clear(struct index *index, void (*fn)(void *thing));

#endif
