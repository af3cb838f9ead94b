/* SPDX-License-Identifier: BSD-2-Clause */

/* What is derived of a relationship's pairs: the group's states, its progress,
 * its rate, and why nothing moves. */

#include "engine/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "conf/timefmt.h"
#include "engine/restore.h"

unsigned relation_copy_state(const struct relationship *rel)
{
	unsigned value = rel->n_pairs ? rel->pairs[0]->copy_state : 0;

	for (size_t i = 1; i < rel->n_pairs; i++)
		if (rel->pairs[i]->copy_state != value)
			return CIM_COPY_MIXED;
	return value;
}

unsigned pair_progress_status(const struct pair *p)
{
	if (p->rel->row.detaching)
		return CIM_PROGRESS_DETACHING;
	return p->copy_state == CIM_COPY_SUSPENDED ? CIM_PROGRESS_DORMANT :
						     p->progress_status;
}

unsigned relation_progress_status(const struct relationship *rel)
{
	unsigned value = rel->n_pairs ? pair_progress_status(rel->pairs[0]) : 0;

	for (size_t i = 1; i < rel->n_pairs; i++)
		if (pair_progress_status(rel->pairs[i]) != value)
			return CIM_PROGRESS_MIXED;
	return value;
}

void pair_progress(const struct pair *p, struct image_progress *ret)
{
	const struct element *target = p->target;

	/* That of a complete one goes with its last handle, whenever that is. */
	if (target->image && !target->complete)
		image_progress(target->image, ret);
	else
		*ret = (struct image_progress){ .bytes_total = pair_size(p) };
	if (target->complete)
		ret->bytes_present = ret->bytes_total;
	ret->bytes_copied += p->bytes_copied;
	ret->bytes_skipped += p->bytes_skipped;
}

void pair_reserve(struct pair *p)
{
	struct image_progress progress;
	bool copying = pair_reads_point(p) && (p->rel->row.sync_type == CIM_SYNC_CLONE ||
					       p->rel->row.detaching);

	/* What is reserved is allocated. */
	if (!copying || !p->target->pool || p->target->reserved)
		return;
	pair_progress(p, &progress);
	p->target->pool->reserving += progress.bytes_total - progress.bytes_present;
}

void relation_progress(const struct relationship *rel, struct image_progress *ret)
{
	*ret = (struct image_progress){ 0 };
	if (relation_is_restoring(rel)) {
		relation_restore_progress(rel, ret);
		return;
	}
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct image_progress p;

		pair_progress(rel->pairs[i], &p);
		ret->bytes_total += p.bytes_total;
		ret->bytes_present += p.bytes_present;
		ret->bytes_copied += p.bytes_copied;
		ret->bytes_skipped += p.bytes_skipped;
		if (p.last_progress_ms > ret->last_progress_ms)
			ret->last_progress_ms = p.last_progress_ms;
	}
}

/* Rounded down; 100 only when all is there and durable. */
static unsigned percent_of(const struct image_progress *p, bool complete)
{
	unsigned percent;

	if (complete || !p->bytes_total)
		return complete ? 100 : 0;
	percent = (unsigned)((__uint128_t)p->bytes_present * 100 / p->bytes_total);
	return percent < 100 ? percent : 99;
}

static bool all_complete(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (!rel->pairs[i]->target->complete)
			return false;
	return true;
}

/* A Snapshot is all there from its instant on. */
static bool is_there(const struct relationship *rel)
{
	return rel->row.sync_type == CIM_SYNC_SNAPSHOT && rel->row.when_synchronized;
}

unsigned pair_percent(const struct pair *p)
{
	struct image_progress progress;

	if (is_there(p->rel))
		return 100;
	pair_progress(p, &progress);
	return percent_of(&progress, p->target->complete);
}

unsigned relation_percent(const struct relationship *rel)
{
	struct image_progress p;

	if (is_there(rel))
		return 100;
	relation_progress(rel, &p);
	return percent_of(&p, all_complete(rel));
}

void relation_job_progress(const struct relationship *rel, struct image_progress *ret)
{
	if (rel->verify)
		relation_verify_progress(rel, ret);
	else if (rel->digests.n)
		relation_digest_progress(rel, ret);
	else
		relation_progress(rel, ret);
}

unsigned relation_job_percent(const struct relationship *rel)
{
	struct image_progress p;

	relation_job_progress(rel, &p);
	return percent_of(&p, !relation_is_read(rel) && !relation_is_restoring(rel) &&
				      all_complete(rel));
}

static uint64_t state_files(void)
{
	return FILE_BIT(GROUP_COPY_STATE) | FILE_BIT(GROUP_REQUESTED_COPY_STATE) |
	       FILE_BIT(GROUP_CONTROL) | FILE_BIT(GROUP_CONSISTENCY_STATE) |
	       FILE_BIT(GROUP_CONSISTENCY_STATUS);
}

static void describe_device(const struct element *el, char *buf, size_t size)
{
	uint64_t seconds =
		(timefmt_monotonic_ns() - el->status.since_ns) / UINT64_C(1000000000);
	char why[700];

	*buf = '\0';
	if (element_is_ready(el, why, sizeof(why)))
		return;
	if (el->status.state == BD_AWAY)
		snprintf(buf, size, "%s: no connection for %" PRIu64 " s%s%.300s%s",
			 el->obj.name, seconds, *el->status.error ? " (" : "",
			 element_device_error(el), *el->status.error ? ")" : "");
	else
		snprintf(buf, size, "%.600s", why);
}

static void describe_restore(const struct pair *p, char *buf, size_t size)
{
	struct restore_progress progress = { 0 };

	describe_device(p->source, buf, size);
	if (*buf || !p->restore)
		return;
	restore_progress(p->restore, &progress);
	snprintf(buf, size, "%s", progress.error);
}

static bool any_suspended(const struct relationship *rel)
{
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->copy_state == CIM_COPY_SUSPENDED)
			return true;
	return false;
}

static void describe_wait(struct relationship *rel, char *buf, size_t size)
{
	unsigned state = relation_copy_state(rel);

	*buf = '\0';
	if (state == CIM_COPY_INITIALIZED || state == CIM_COPY_INACTIVE ||
	    state == CIM_COPY_PREPARED)
		snprintf(buf, size, "Activate: write it to control");
	else if (rel->job && rel->job->state == CIM_JOB_SUSPENDED)
		snprintf(buf, size, "job %" PRIu64 " is suspended: write Start to "
				    "jobs/%" PRIu64 "/control",
			 rel->job->obj.id, rel->job->obj.id);
	else if (any_suspended(rel))
		snprintf(buf, size, "the copy is suspended: write Resume to control");
	for (size_t i = 0; i < rel->n_pairs && !*buf; i++)
		if (rel->pairs[i]->restore_sequence)
			describe_restore(rel->pairs[i], buf, size);
		else if (relation_is_read(rel) ||
			 rel->pairs[i]->copy_state == CIM_COPY_UNSYNCHRONIZED ||
			 (rel->row.detaching && !rel->pairs[i]->target->complete)) {
			describe_device(rel->pairs[i]->source, buf, size);
			if (!*buf && element_is_lun(rel->pairs[i]->target))
				describe_device(rel->pairs[i]->target, buf, size);
		}
}

uint64_t relation_note_locked(struct engine *e, struct relationship *rel)
{
	struct group *g = rel->group;
	unsigned copy_state = relation_copy_state(rel);
	unsigned status = relation_progress_status(rel), percent = relation_percent(rel);
	uint64_t files = 0;

	if (g->copy_state != copy_state) {
		/* A state is never shown with what the one before waited for. */
		describe_wait(rel, rel->waiting_for, sizeof(rel->waiting_for));
		g->copy_state = copy_state;
		g->entered[copy_state] = ++e->sequence;
		files |= state_files();
	}
	if (g->progress_status != status) {
		g->progress_status = status;
		files |= FILE_BIT(GROUP_PROGRESS_STATUS);
	}
	if (g->percent != percent) {
		g->percent = percent;
		files |= FILE_BIT(GROUP_PERCENT_SYNCED);
	}
	return files;
}

void relation_tell(struct engine *e, struct relationship *rel, uint64_t files)
{
	engine_lock(e);
	files |= relation_note_locked(e, rel);
	engine_unlock(e);
	if (files)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_GROUP, rel->group->obj.id,
			     files);
}

/* ---- once a second ------------------------------------------------------------ */

static void measure_rate(struct relationship *rel, int64_t now_ms)
{
	struct image_progress p;
	int64_t ms = now_ms - rel->last_rate_ms;

	relation_job_progress(rel, &p);
	if (rel->last_rate_ms && ms > 0 && p.bytes_present >= rel->last_present) {
		uint64_t rate = (p.bytes_present - rel->last_present) * 1000 / (uint64_t)ms;

		rel->rate = rel->rate ? (rel->rate * 2 + rate) / 3 : rate;
	}
	if (p.last_progress_ms)
		rel->last_progress_ms = (int64_t)p.last_progress_ms;
	rel->last_rate_ms = now_ms;
	rel->last_present = p.bytes_present;
}

static void tell_percent(struct engine *e, struct relationship *rel)
{
	unsigned before = rel->group->percent, percent;

	relation_tell(e, rel, 0);
	percent = rel->group->percent;
	if (rel->job && (percent != before || relation_is_read(rel) ||
			 relation_is_restoring(rel)))
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_JOB, rel->job->obj.id,
			     FILE_BIT(JOB_PERCENT_COMPLETE));
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];
		unsigned now = pair_percent(p);

		if (p->percent == now)
			continue;
		p->percent = now;
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_PAIR, p->obj.id,
			     FILE_BIT(PAIR_PERCENT_SYNCED) | FILE_BIT(PAIR_MAP));
	}
}

void relation_tick(struct engine *e, struct relationship *rel, int64_t now_ms)
{
	unsigned state = relation_copy_state(rel);
	char waiting_for[sizeof(rel->waiting_for)];

	describe_wait(rel, waiting_for, sizeof(waiting_for));
	engine_lock(e);
	memcpy(rel->waiting_for, waiting_for, sizeof(waiting_for));
	engine_unlock(e);
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->written_wanted)
			pair_written(e, rel->pairs[i]);
	for (size_t i = 0; i < rel->n_pairs; i++)
		pair_check_digest(e, rel->pairs[i]);
	for (size_t i = 0; i < rel->n_pairs; i++)
		if (rel->pairs[i]->restored)
			pair_record_restored(e, rel->pairs[i]);
	if (rel->verify)
		relation_record_verified(e, rel);
	job_finish_again(e, rel);
	if (state != CIM_COPY_UNSYNCHRONIZED && state != CIM_COPY_SUSPENDED &&
	    state != CIM_COPY_MIXED && rel->row.sync_type != CIM_SYNC_SNAPSHOT &&
	    !relation_is_read(rel) && !relation_is_restoring(rel))
		return;
	engine_lock(e);
	measure_rate(rel, now_ms);
	engine_unlock(e);
	tell_percent(e, rel);
	for (size_t i = 0; i < rel->n_pairs; i++) {
		struct pair *p = rel->pairs[i];

		if (!p->watched)
			continue;
		image_checkpoint_soon(p->target->image);
		if (pair_is_copying(p))
			image_start_copy(p->target->image);
	}
}
