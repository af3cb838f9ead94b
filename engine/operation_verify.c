/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Verify: compares the sources of a relationship with its targets (compare.h), and
 * changes nothing but what it says of that.
 *
 *   begun      the job is durable and running, rel->verify set; the write is answered
 *   opened     by a worker: a handle of each source and target, which no user sees
 *   comparing  all pairs at once
 *   over       the last pair's has ended: `verified` of each pair says what was found, and
 *              nothing is open any more; the job's end is to be recorded, which is tried
 *              at each tick until it can be
 *   ended      the job
 *
 * Whatever gives the relationship another job, or ends it, stops a Verify first: it lets
 * go of the relationship at once, and is freed when nothing of it is under way any more.
 * A restart does not go on with it.
 */

#include "engine/compare.h"
#include "engine/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/strbuf.h"
#include "conf/timefmt.h"

/* Of a pair. */
struct member {
	struct verify_call *call;
	uint64_t ids[2]; /* of source and target */
	char names[2][NAME_ELEMENT_MAX_LEN + 1];
	struct volume *volumes[2]; /* with a reference; or NULL */
	struct image *image;	   /* of a Snapshot: the same */
	struct point *point;
	uint64_t size;
	struct engine_handle *handles[2]; /* until the comparison has them */
	struct compare *compare;	  /* with a reference; NULL: not begun */
};

struct verify_call {
	struct message m;
	struct work work;
	struct engine *engine;
	struct relationship *rel; /* NULL once it was stopped */
	int result;		  /* of the opening */
	char reason[COMPARE_REASON_MAX];
	int64_t begun_ms;
	unsigned n_comparing; /* atomic */
	bool over;	      /* nothing is under way, and rel->verify has it */
	size_t n;
	struct member members[];
};

/* ---- what it says ---------------------------------------------------------------- */

static void describe(const struct member *m, const struct compare_result *res,
		     int64_t begun_ms, int64_t ended_ms, struct strbuf *b)
{
	strbuf_adds(b, "begun ");
	timefmt_add(b, begun_ms);
	if (ended_ms) {
		strbuf_adds(b, "\nended ");
		timefmt_add(b, ended_ms);
	}
	strbuf_addf(b,
		    "\nbytes_total %" PRIu64 "\nbytes_compared %" PRIu64
		    "\nbytes_different %" PRIu64 "\nranges %" PRIu64 "\n",
		    m->size, res->bytes_compared, res->bytes_different, res->n_ranges);
	for (size_t i = 0; i < res->n_ranges && i < COMPARE_MAX_RANGES; i++)
		strbuf_addf(b, "%" PRIu64 " %" PRIu64 "\n", res->ranges[i].offset,
			    res->ranges[i].length);
	if (res->error)
		strbuf_addf(b, "error %s\n", res->reason);
}

void pair_describe_verified(const struct pair *p, struct strbuf *b)
{
	const struct verify_call *call = p->rel->verify;
	struct compare_result res = { 0 };

	if (!call || call->over) {
		strbuf_adds(b, p->verified ? p->verified : "");
		return;
	}
	if (call->members[p->n - 1].compare)
		compare_get_result(call->members[p->n - 1].compare, &res);
	describe(&call->members[p->n - 1], &res, call->begun_ms, 0, b);
}

void relation_verify_progress(const struct relationship *rel, struct image_progress *ret)
{
	const struct verify_call *call = rel->verify;

	*ret = (struct image_progress){ 0 };
	for (size_t i = 0; i < call->n; i++) {
		struct compare_result res = { 0 };

		if (call->members[i].compare)
			compare_get_result(call->members[i].compare, &res);
		ret->bytes_total += call->members[i].size;
		ret->bytes_present += res.bytes_compared;
		ret->bytes_copied += res.bytes_compared - res.bytes_skipped;
		ret->bytes_skipped += res.bytes_skipped;
	}
}

/* "db0: 8192 bytes differ, in 2 ranges; db1: equal", or the first error. */
static void sum_up(const struct verify_call *call, struct strbuf *b, int *ret_error)
{
	*ret_error = call->result;
	if (call->result < 0)
		strbuf_adds(b, call->reason);
	for (size_t i = 0; i < call->n && !*ret_error; i++) {
		struct compare_result res;

		compare_get_result(call->members[i].compare, &res);
		*ret_error = res.error;
		if (res.error) {
			strbuf_reset(b);
			strbuf_adds(b, res.reason);
		} else if (res.n_ranges) {
			strbuf_addf(b, "%s%s: %" PRIu64 " bytes differ, in %" PRIu64 " range%s",
				    b->len ? "; " : "", call->members[i].names[0],
				    res.bytes_different, res.n_ranges,
				    res.n_ranges == 1 ? "" : "s");
		}
	}
}

/* ---- the end --------------------------------------------------------------------- */

/* Lets go of all but what was found. */
static void call_close(struct verify_call *call)
{
	for (size_t i = 0; i < call->n; i++)
		for (int k = 0; k < 2; k++) {
			if (call->members[i].handles[k])
				engine_data_close(move_ptr(call->members[i].handles[k]));
			volume_unref(move_ptr(call->members[i].volumes[k]));
		}
	for (size_t i = 0; i < call->n; i++) {
		image_unref(move_ptr(call->members[i].image));
		point_unref(move_ptr(call->members[i].point));
	}
	engine_work_done(call->engine);
}

/* A closed one. */
static void call_free(struct verify_call *call)
{
	for (size_t i = 0; i < call->n; i++)
		compare_unref(call->members[i].compare);
	free(call);
}

void relation_stop_verify(struct relationship *rel)
{
	struct verify_call *call = rel->verify;

	if (!call)
		return;
	engine_lock(call->engine);
	rel->verify = NULL;
	engine_unlock(call->engine);
	if (call->over) {
		call_free(call);
		return;
	}
	call->rel = NULL;
	for (size_t i = 0; i < call->n; i++)
		if (call->members[i].compare)
			compare_cancel(call->members[i].compare);
}

/* What each pair's comparison found, where it began at all. */
static void keep_results(struct verify_call *call)
{
	int64_t now = timefmt_now_ms();

	for (size_t i = 0; i < call->n; i++) {
		struct member *m = &call->members[i];
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
		struct compare_result res;
		char *text;

		if (!m->compare)
			continue;
		compare_get_result(m->compare, &res);
		describe(m, &res, call->begun_ms, now, &b);
		text = strdup(b.s); /* NULL: better nothing than what was found before */
		engine_lock(call->engine);
		free(call->rel->pairs[i]->verified);
		call->rel->pairs[i]->verified = text;
		engine_unlock(call->engine);
	}
}

void relation_record_verified(struct engine *e, struct relationship *rel)
{
	const struct verify_call *call = rel->verify;
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	struct draft d;
	int error, r;

	if (!call->over)
		return;
	sum_up(call, &b, &error);
	r = draft_begin(&d, rel);
	if (r >= 0) {
		d.job_state = error ? CIM_JOB_EXCEPTION : CIM_JOB_COMPLETED;
		d.job_error_code = error ? outcome_code_of_errno(-error) : 0;
		d.job_error = b.len ? b.s : "";
		/* It stops this Verify, as any end of its job does. */
		r = draft_commit(e, &d);
	}
	if (r < 0)
		log_error("%s: cannot record the end of Verify: %s; it is tried again",
			  rel->row.name, strerror(-r));
	else
		relation_tell(e, rel, FILE_BIT(GROUP_CONTROL));
}

static void finish(struct engine *e, struct verify_call *call)
{
	struct relationship *rel = call->rel;

	keep_results(call);
	engine_lock(e);
	call->over = true;
	engine_unlock(e);
	for (size_t i = 0; i < rel->n_pairs; i++)
		engine_event(e, ENGINE_EVENT_CHANGED, ENGINE_PAIR,
			     rel->pairs[i]->obj.id, FILE_BIT(PAIR_VERIFIED));
	relation_record_verified(e, rel);
}

static void take_end(struct engine *e, struct message *m)
{
	struct verify_call *call = (struct verify_call *)m;

	call_close(call);
	if (call->rel && !engine_is_stopping(e)) {
		finish(e, call);
		return;
	}
	if (call->rel)
		relation_stop_verify(call->rel);
	call_free(call);
}

/* By any thread: a comparison has ended, or what counted as one. */
static void ended(void *opaque)
{
	struct verify_call *call = ((struct member *)opaque)->call;

	if (__atomic_sub_fetch(&call->n_comparing, 1, __ATOMIC_ACQ_REL))
		return;
	call->m.fn = take_end;
	engine_post(call->engine, &call->m);
}

/* ---- the beginning --------------------------------------------------------------- */

static int start_member(struct verify_call *call, struct member *m)
{
	struct compare_params params = {
		.dataops = &call->engine->dataops,
		.handles = { m->handles[0], m->handles[1] },
		.names = { m->names[0], m->names[1] },
		.volumes = { m->volumes[0], m->volumes[1] },
		.image = m->image,
		.point = m->point,
		.size = m->size,
		.done = ended,
		.opaque = m,
	};
	struct compare *compare;
	int r;

	__atomic_add_fetch(&call->n_comparing, 1, __ATOMIC_ACQ_REL);
	r = compare_start(&params, &compare);
	if (r < 0) {
		__atomic_sub_fetch(&call->n_comparing, 1, __ATOMIC_ACQ_REL);
		snprintf(call->reason, sizeof(call->reason), "%s: %s", m->names[0],
			 strerror(-r));
		return r;
	}
	m->handles[0] = m->handles[1] = NULL;
	engine_lock(call->engine);
	m->compare = compare;
	engine_unlock(call->engine);
	return 0;
}

static void take_open(struct engine *e, struct message *m)
{
	struct verify_call *call = (struct verify_call *)m;

	(void)e;
	if (!call->rel)
		call->result = -ECANCELED;
	/* One more, for this loop. */
	call->n_comparing = 1;
	for (size_t i = 0; i < call->n && !call->result; i++)
		call->result = start_member(call, &call->members[i]);
	for (size_t i = 0; i < call->n && call->result; i++)
		if (call->members[i].compare)
			compare_cancel(call->members[i].compare);
	ended(&call->members[0]);
}

/* By a worker. */
static void open_work(struct work *work)
{
	struct verify_call *call =
		(struct verify_call *)((char *)work - offsetof(struct verify_call, work));

	for (size_t i = 0; i < call->n && !call->result; i++)
		for (int k = 0; k < 2 && !call->result; k++) {
			struct member *m = &call->members[i];

			call->result = element_open_data(call->engine, m->ids[k],
							 &m->handles[k]);
			if (call->result < 0)
				snprintf(call->reason, sizeof(call->reason),
					 "%s: its data cannot be opened: %s", m->names[k],
					 strerror(-call->result));
		}
	call->m.fn = take_open;
	engine_post(call->engine, &call->m);
}

static void set_member(struct verify_call *call, size_t i)
{
	const struct pair *p = call->rel->pairs[i];
	const struct element *both[2] = { p->source, p->target };
	struct member *m = &call->members[i];

	m->call = call;
	m->size = pair_size(p);
	for (int k = 0; k < 2; k++) {
		m->ids[k] = both[k]->obj.id;
		snprintf(m->names[k], sizeof(m->names[k]), "%s", both[k]->obj.name);
		/* What a Snapshot has not kept is read from the source. */
		m->volumes[k] = both[k]->volume;
		if (m->volumes[k])
			volume_ref(m->volumes[k]);
	}
	if (!pair_reads_point(p) || !p->point || !p->point->point)
		return;
	m->image = p->target->image;
	m->point = p->point->point;
	image_ref(m->image);
	point_ref(m->point);
}

int operation_start_verify(struct engine *e, struct relationship *rel)
{
	struct verify_call *call =
		calloc(1, sizeof(*call) + rel->n_pairs * sizeof(call->members[0]));
	int r = call ? job_begin(e, rel, "Verify") : -ENOMEM;

	if (r < 0) {
		free(call);
		return r;
	}
	call->engine = e;
	call->rel = rel;
	call->n = rel->n_pairs;
	call->begun_ms = timefmt_now_ms();
	for (size_t i = 0; i < call->n; i++)
		set_member(call, i);
	engine_lock(e);
	rel->verify = call;
	engine_unlock(e);
	call->work.fn = open_work;
	engine_start_work(e, &call->work);
	relation_tell(e, rel, FILE_BIT(GROUP_CONTROL));
	return 0;
}
