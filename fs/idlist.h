/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_IDLIST_H
#define LUNFS_IDLIST_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

/* The ids of all objects of a class at this moment, in order, to be freed.
 * 0 or -ENOMEM. */
int idlist_get(struct engine *e, enum engine_class class, uint64_t **ret_ids,
	       size_t *ret_n);

#endif
