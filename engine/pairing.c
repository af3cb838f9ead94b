/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Pairing Optimum (CIM_ReplicationSettingData): which member of a TargetGroup is whose
 * target.
 *
 * The order of the members, where each target takes its source.  Where one does not, the
 * sources are gone through from the smallest to the largest, and each gets the smallest
 * target that takes it and is free: that finds a place for all if there is one, as what
 * takes the larger takes the smaller, too.  (But for the size of blocks; where it finds
 * none, the order stays, and the check that follows names the member.)
 *
 * Then targets are exchanged, also for some that are not taken, as long as fewer pairs
 * have both sides behind one path after it: the portal of a LUN, or this host.
 */

#include "engine/replica.h"

#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"

static uint64_t size_of(const struct element *el)
{
	return el->have_info ? el->info.size : el->size;
}

/* Larger ones behind, those of equal size in their order. */
static int by_size(const void *a, const void *b)
{
	struct element *const *const *x = a, *const *const *y = b;

	if (size_of(**x) != size_of(**y))
		return size_of(**x) < size_of(**y) ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

/* Places in a list, by the sizes of what is there; NULL: out of memory. */
static struct element *const **sort(struct element *const *list, size_t n)
{
	struct element *const **sorted = calloc(n, sizeof(*sorted));

	for (size_t i = 0; sorted && i < n; i++)
		sorted[i] = &list[i];
	if (sorted)
		qsort(sorted, n, sizeof(*sorted), by_size);
	return sorted;
}

static bool order_fits(const struct replica_call *call)
{
	for (size_t i = 0; i < call->n; i++)
		if (!target_fits(call->targets[i], call->sources[i]))
			return false;
	return true;
}

/* Gives each source its target in `chosen`, and the rest behind them; false: one has
 * none. */
static bool choose_by_size(const struct replica_call *call, struct element **chosen)
{
	CLEANUP_FREE struct element *const **sources = sort(call->sources, call->n);
	CLEANUP_FREE struct element *const **targets =
		sort(call->targets, call->n_targets);
	size_t rest = call->n;

	for (size_t i = 0; sources && targets && i < call->n; i++) {
		size_t t = 0;

		while (t < call->n_targets &&
		       (!targets[t] || !target_fits(*targets[t], *sources[i])))
			t++;
		if (t == call->n_targets)
			return false;
		chosen[sources[i] - call->sources] = *targets[t];
		targets[t] = NULL;
	}
	for (size_t t = 0; sources && targets && t < call->n_targets; t++)
		if (targets[t])
			chosen[rest++] = *targets[t];
	return sources && targets;
}

/* "iscsi://PORTAL", or the scheme alone. */
static size_t path_len(const char *url)
{
	const char *iscsi = "iscsi://";
	size_t len = strlen(iscsi);

	return strncmp(url, iscsi, len) ? strcspn(url, ":") :
					  len + strcspn(url + len, "/");
}

/* Images are of this host, as files are. */
static bool same_path(const struct element *a, const struct element *b)
{
	const char *x = *a->url ? a->url : "file:", *y = *b->url ? b->url : "file:";

	return path_len(x) == path_len(y) && !strncmp(x, y, path_len(x));
}

/* Exchanges the targets of i and k (from n on: not taken) if that is better. */
static bool exchange(struct replica_call *call, size_t i, size_t k)
{
	struct element *a = call->targets[i], *b = call->targets[k];
	bool k_taken = k < call->n;
	const struct element *i_source = call->sources[i];
	const struct element *k_source = k_taken ? call->sources[k] : NULL;
	int before = same_path(a, i_source) + (k_taken && same_path(b, k_source));
	int after = same_path(b, i_source) + (k_taken && same_path(a, k_source));

	if (after >= before || !target_fits(b, i_source) ||
	    (k_taken && !target_fits(a, k_source)))
		return false;
	call->targets[i] = b;
	call->targets[k] = a;
	return true;
}

static void part_paths(struct replica_call *call)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < call->n; i++)
			for (size_t k = i + 1; k < call->n_targets; k++)
				again = exchange(call, i, k) || again;
	}
}

void pairing_choose(struct replica_call *call)
{
	CLEANUP_FREE struct element **chosen = calloc(call->n_targets, sizeof(*chosen));

	if (!chosen)
		return;
	if (!order_fits(call)) {
		if (!choose_by_size(call, chosen))
			return;
		memcpy(call->targets, chosen, call->n_targets * sizeof(*chosen));
	}
	part_paths(call);
}
