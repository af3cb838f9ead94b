/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A volume tells that it is drained by whichever thread; the news goes to the engine's
 * thread as a message that is part of the set.  So the set lives until the messages
 * that are on their way have come, also when it was opened meanwhile.
 */

#include "engine/fence_set.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/timefmt.h"
#include "engine/model.h"

struct member {
	struct volume_fence fence;
	struct message m;
	struct fence_set *set;
	struct volume *volume; /* with a reference */
};

struct fence_set {
	struct engine *engine;
	TAILQ_ENTRY(fence_set) link; /* engine->fence_sets */
	void (*ready)(struct fence_set *set, void *opaque, int error);
	void *opaque;
	uint64_t deadline_ns;
	size_t n, n_drained;
	bool told, opened;
	struct member members[];
};

static void set_free(struct fence_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		volume_unref(set->members[i].volume);
	free(set);
}

static void take_drained(struct engine *e, struct message *m)
{
	struct member *member = (struct member *)((char *)m - offsetof(struct member, m));
	struct fence_set *set = member->set;

	(void)e;
	set->n_drained++;
	if (set->opened) {
		size_t n_told = 0;

		for (size_t i = 0; i < set->n; i++)
			n_told += set->members[i].fence.told;
		if (set->n_drained == n_told)
			set_free(set);
	} else if (set->n_drained == set->n && !set->told) {
		set->told = true;
		set->ready(set, set->opaque, 0);
	}
}

/* By any thread. */
static void drained(struct volume_fence *fence)
{
	struct member *member =
		(struct member *)((char *)fence - offsetof(struct member, fence));

	engine_post(member->set->engine, &member->m);
}

int fence_set_close(struct engine *e, struct volume *const *volumes, size_t n,
		    unsigned timeout_ms,
		    void (*ready)(struct fence_set *set, void *opaque, int error),
		    void *opaque, struct fence_set **ret_set)
{
	struct fence_set *set = calloc(1, sizeof(*set) + n * sizeof(set->members[0]));

	if (!set)
		return -ENOMEM;
	set->engine = e;
	set->ready = ready;
	set->opaque = opaque;
	set->deadline_ns = timefmt_monotonic_ns() + timeout_ms * UINT64_C(1000000);
	set->n = n;
	TAILQ_INSERT_TAIL(&e->fence_sets, set, link);
	for (size_t i = 0; i < n; i++) {
		struct member *member = &set->members[i];

		member->set = set;
		member->m.fn = take_drained;
		member->fence.drained = drained;
		member->volume = volumes[i];
		volume_ref(volumes[i]);
	}
	*ret_set = set;
	for (size_t i = 0; i < n; i++)
		volume_close_fence(volumes[i], &set->members[i].fence);
	return 0;
}

void fence_set_open(struct fence_set *set)
{
	size_t n_told = 0;

	TAILQ_REMOVE(&set->engine->fence_sets, set, link);
	for (size_t i = 0; i < set->n; i++)
		volume_open_fence(set->members[i].volume, &set->members[i].fence);
	set->opened = true;
	for (size_t i = 0; i < set->n; i++)
		n_told += set->members[i].fence.told;
	if (set->n_drained == n_told)
		set_free(set);
}

uint64_t fence_set_deadline_ns(const struct engine *e)
{
	const struct fence_set *set;
	uint64_t first = UINT64_MAX;

	TAILQ_FOREACH(set, &e->fence_sets, link)
		if (!set->told && set->deadline_ns < first)
			first = set->deadline_ns;
	return first;
}

void fence_set_tick(struct engine *e)
{
	uint64_t now = timefmt_monotonic_ns();
	struct fence_set *set, *next;

	for (set = TAILQ_FIRST(&e->fence_sets); set; set = next) {
		next = TAILQ_NEXT(set, link);
		if (set->told || now < set->deadline_ns)
			continue;
		set->told = true;
		set->ready(set, set->opaque, -ETIMEDOUT);
		/* It may have opened others too. */
		next = TAILQ_FIRST(&e->fence_sets);
	}
}
