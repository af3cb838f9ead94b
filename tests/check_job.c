/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Jobs (CIM_ConcreteJob) through the whole engine over files: every request from every
 * JobState, of all that a job can be at work on; how they end, and when they go.
 *
 * What these lines are for shows when they are broken; then these tests fail:
 *   load.c, find_lost(): without lacks_instant()             a_resync_that_was_lost_...
 *   suspend.c, relation_abort(): without point = NULL        every_request_from_...
 *   relation.c, pair_is_copying(): Suspended not looked at   every_request_from_...
 */

#include "tests/unit.h"

#include <errno.h>

#include "conf/cim.h"
#include "engine/store.h"
#include "tests/whole.h"

static unsigned char before[WHOLE_LUN], now[WHOLE_LUN];

/* Holds up the copy of element f. */
static const char slow_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				 "length = 65536\nstall = yes\n";
/* And writes of its chunk 50. */
static const char stuck_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				  "length = 65536\nstall = yes\n"
				  "[stuck]\nevent = write\noffset = 3276800\n"
				  "length = 65536\nstall = yes\n";
enum { SLOW = 32, STUCK = 50 };

static bool f_is_ready(void)
{
	struct element_info info;

	engine_element_info(engine, whole_element("f"), &info);
	return info.operational_status == CIM_STATUS_OK;
}

static struct engine_command ask(uint64_t job, unsigned file, const char *text)
{
	struct engine_command cmd = { .verb = ENGINE_WRITE,
				      .class = ENGINE_JOB,
				      .id = job,
				      .file = file,
				      .text = text,
				      .len = strlen(text) };

	whole_run(cmd, &cmd);
	return cmd;
}

static struct job_info info_of(uint64_t job)
{
	struct job_info info;

	ck_assert_int_eq(engine_job_info(engine, job, &info), 0);
	return info;
}

static void restart(void)
{
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
}

/* ---- the table ---------------------------------------------------------------------- */

enum work { CLONE, CLONE_AGAIN, CLONE_DETACHES, SNAPSHOT_DETACHES, RESTORE, INSTANT };

static const char *const work_names[] = { "Clone",
					  "ResyncReplica of a Clone",
					  "Clone, Detach",
					  "Snapshot, Detach",
					  "RestoreFromReplica",
					  "ResyncReplica, instant" };

/* What each request leads to from a JobState, of a job that copies; and the code of one
 * that does not. */
static const struct {
	unsigned state, request, code, next, other_code;
} table[] = {
	{ CIM_JOB_RUNNING, CIM_JOB_REQUEST_START, 4097, CIM_JOB_RUNNING, 4097 },
	{ CIM_JOB_RUNNING, CIM_JOB_REQUEST_SUSPEND, 0, CIM_JOB_SUSPENDED, 4099 },
	{ CIM_JOB_RUNNING, CIM_JOB_REQUEST_TERMINATE, 0, CIM_JOB_TERMINATED, 4099 },
	{ CIM_JOB_RUNNING, CIM_JOB_REQUEST_KILL, 0, CIM_JOB_KILLED, 4099 },
	{ CIM_JOB_RUNNING, CIM_JOB_REQUEST_SERVICE, 1, CIM_JOB_RUNNING, 1 },
	{ CIM_JOB_SUSPENDED, CIM_JOB_REQUEST_START, 0, CIM_JOB_RUNNING, 0 },
	{ CIM_JOB_SUSPENDED, CIM_JOB_REQUEST_SUSPEND, 4097, CIM_JOB_SUSPENDED, 0 },
	{ CIM_JOB_SUSPENDED, CIM_JOB_REQUEST_TERMINATE, 0, CIM_JOB_TERMINATED, 0 },
	{ CIM_JOB_SUSPENDED, CIM_JOB_REQUEST_KILL, 0, CIM_JOB_KILLED, 0 },
	{ CIM_JOB_SUSPENDED, CIM_JOB_REQUEST_SERVICE, 1, CIM_JOB_SUSPENDED, 0 },
};

/* A relationship "g" of f, whose job is at that work, and stays there. */
static uint64_t begin(enum work work)
{
	bool clone = work == CLONE || work == CLONE_AGAIN || work == CLONE_DETACHES;
	uint64_t g;

	whole_rules(work == CLONE || work == CLONE_DETACHES ? slow_rules : "");
	g = whole_replica("g",
			  clone ? "SourceElement=f SyncType=Clone" :
				  "SourceElement=f SyncType=Snapshot",
			  clone ? CIM_RETURN_JOB_STARTED : 0);
	if (work == CLONE_AGAIN) {
		whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
		whole_rules(slow_rules);
		whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
		whole_wait_state(g, CIM_COPY_UNSYNCHRONIZED);
	} else if (work == CLONE_DETACHES || work == SNAPSHOT_DETACHES) {
		whole_rules(slow_rules);
		whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	}
	return g;
}

static unsigned copy_state_of(enum work work, unsigned job_state)
{
	switch (job_state) {
	case CIM_JOB_RUNNING:
		return work == SNAPSHOT_DETACHES ? CIM_COPY_SYNCHRONIZED :
						   CIM_COPY_UNSYNCHRONIZED;
	case CIM_JOB_SUSPENDED:
		return CIM_COPY_SUSPENDED;
	default:
		return CIM_COPY_ABORTED;
	}
}

static unsigned progress_of(enum work work, unsigned job_state)
{
	bool over = job_state != CIM_JOB_RUNNING && job_state != CIM_JOB_SUSPENDED;

	if (over)
		return CIM_PROGRESS_DORMANT;
	if (work == CLONE_DETACHES || work == SNAPSHOT_DETACHES)
		return CIM_PROGRESS_DETACHING;
	return job_state == CIM_JOB_SUSPENDED ? CIM_PROGRESS_DORMANT :
	       work == CLONE_AGAIN	      ? CIM_PROGRESS_RESYNCING :
						CIM_PROGRESS_SYNCHRONIZING;
}

static void check_states(const char *row, enum work work, uint64_t g, uint64_t job,
			 unsigned state)
{
	struct job_info info = info_of(job);
	bool over = state == CIM_JOB_TERMINATED || state == CIM_JOB_KILLED;

	ROW_EQ(row, info.state, state);
	ROW_EQ(row, info.operational_status[0], over ? CIM_STATUS_ERROR : CIM_STATUS_OK);
	ROW_EQ(row, info.operational_status[1], over ? CIM_STATUS_COMPLETED : 0);
	ROW_EQ(row, info.error_code, over ? CIM_RETURN_FAILED : 0);
	ROW_HAS(row, info.error_description,
		state == CIM_JOB_TERMINATED ? "Terminate was written" :
		state == CIM_JOB_KILLED	    ? "Kill was written" :
					      "");
	ROW_EQ(row, !*info.error_description, !over);
	ROW_EQ(row, info.percent_complete < 100, true);
	ROW_EQ(row, info.bytes_total, WHOLE_LUN);
	if (state != CIM_JOB_RUNNING)
		ROW_EQ(row, info.seconds_left, -1);
	ROW_EQ(row, whole_info(g).job, job);
	ROW_EQ(row, whole_state(g), copy_state_of(work, state));
	ROW_EQ(row, whole_pair(g, 1).copy_state, copy_state_of(work, state));
	ROW_EQ(row, whole_info(g).progress_status, progress_of(work, state));
	ROW_EQ(row, whole_pair(g, 1).progress_status, progress_of(work, state));
	ROW_EQ(row, whole_info(g).requested_copy_state,
	       state == CIM_JOB_RUNNING && work != SNAPSHOT_DETACHES ?
		       CIM_COPY_SYNCHRONIZED :
		       CIM_COPY_NOT_APPLICABLE);
}

/* The image of what was aborted: that of a Clone has no point any more. */
static void check_aborted(const char *row, enum work work, uint64_t g)
{
	unsigned char buf[WHOLE_CHUNK];
	struct engine_handle *h;

	if (work == SNAPSHOT_DETACHES) {
		whole_is("g_1", before);
		whole_fill("f", 60, 60);
		whole_is("g_1", before);
		ROW_EQ(row, whole_info(g).consistency_state,
		       CIM_CONSISTENCY_STATE_CONSISTENT);
	} else {
		h = whole_open("g_1", false);
		ROW_EQ(row, whole_read(h, SLOW, buf), -EIO);
		engine_data_close(h);
		ROW_EQ(row, whole_info(g).consistency_state,
		       CIM_CONSISTENCY_STATE_INCONSISTENT);
		whole_until(whole_files("p") == 0);
	}
	ROW_STR_EQ(row, whole_list(ENGINE_GROUP, g, GROUP_CONTROL),
		   "Resync Replica\nReturn To ResourcePool\n");
	whole_content("f", now);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ROW_EQ(row, whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", now);
}

/* It stands still, over a tick, but what a reader wants comes. */
static void check_suspended(const char *row, uint64_t g, uint64_t job)
{
	uint64_t since = whole_pair(g, 1).bytes_copied;
	unsigned char buf[WHOLE_CHUNK];
	struct engine_handle *h;

	whole_until(strstr(whole_info(g).waiting_for, "suspended"));
	ck_assert_int_eq(ask(job, JOB_DELETE_ON_COMPLETION, "false\n").outcome.error, 0);
	whole_content("f", now); /* so long a copier would not have been idle */
	ROW_EQ(row, whole_pair(g, 1).bytes_copied, since);
	h = whole_open("g_1", false);
	ROW_EQ(row, whole_read(h, SLOW, buf), 0);
	ck_assert_mem_eq(buf, before + SLOW * WHOLE_CHUNK, WHOLE_CHUNK);
	engine_data_close(h);
	ROW_EQ(row, whole_state(g), CIM_COPY_SUSPENDED);
}

static void finish(const char *row, enum work work, uint64_t g, uint64_t job)
{
	bool detaches = work == CLONE_DETACHES || work == SNAPSHOT_DETACHES;
	struct job_info info;

	whole_until(info_of(job).state == CIM_JOB_COMPLETED);
	info = info_of(job);
	ROW_EQ(row, info.percent_complete, 100);
	ROW_EQ(row, info.error_code, 0);
	ROW_EQ(row, info.operational_status[0], CIM_STATUS_OK);
	ROW_EQ(row, info.operational_status[1], CIM_STATUS_COMPLETED);
	whole_wait_state(g, detaches ? CIM_COPY_NOT_APPLICABLE : CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
}

/* By name and by number. */
static const char *request_text(unsigned request)
{
	static unsigned n;
	static char text[32];

	if (n++ % 2)
		snprintf(text, sizeof(text), "%u\n", request);
	else
		snprintf(text, sizeof(text), "%s\n", cim_name(&cim_job_request, request));
	return text;
}

static void check_request(const char *row, uint64_t job, unsigned request, unsigned code)
{
	struct job_info was = info_of(job), is;
	struct engine_command cmd = ask(job, JOB_CONTROL, request_text(request));

	is = info_of(job);
	ROW_EQ(row, cmd.outcome.code, code);
	ROW_EQ(row, cmd.outcome.error,
	       code == 4097 ? EPERM :
	       code == 4099 ? EBUSY :
	       code == 1    ? EOPNOTSUPP :
			      0);
	ROW_EQ(row, is.result.outcome.code, code);
	if (!code)
		return;
	ROW_HAS(row, cmd.outcome.sentence, cim_name(&cim_job_request, request));
	if (code == 4097)
		ROW_HAS(row, cmd.outcome.sentence, cim_name(&cim_job_state, was.state));
	ROW_EQ(row, is.state, was.state);
	ROW_EQ(row, is.last_state_change, was.last_state_change);
}

static void check_row(enum work work, size_t i)
{
	unsigned next = table[i].next;
	uint64_t g, job;
	char row[128];

	snprintf(row, sizeof(row), "%s, %s, %s", work_names[work],
		 cim_name(&cim_job_state, table[i].state),
		 cim_name(&cim_job_request, table[i].request));
	whole_setup();
	whole_until(f_is_ready());
	whole_content("f", before);
	g = begin(work);
	job = whole_info(g).job;
	if (table[i].state == CIM_JOB_SUSPENDED)
		check_request(row, job, CIM_JOB_REQUEST_SUSPEND, 0);
	check_states(row, work, g, job, table[i].state);
	check_request(row, job, table[i].request, table[i].code);
	check_states(row, work, g, job, next);
	restart();
	whole_until(f_is_ready());
	check_states(row, work, g, job, next);
	whole_rules("");
	if (next == CIM_JOB_SUSPENDED)
		check_suspended(row, g, job);
	if (next == CIM_JOB_SUSPENDED)
		check_request(row, job, CIM_JOB_REQUEST_START, 0);
	if (next == CIM_JOB_SUSPENDED || next == CIM_JOB_RUNNING) {
		finish(row, work, g, job);
	} else {
		check_aborted(row, work, g);
		ROW_EQ(row, info_of(job).state, next);
	}
	for (unsigned r = CIM_JOB_REQUEST_START; r <= CIM_JOB_REQUEST_KILL; r++)
		check_request(row, job, r, 4097);
	check_request(row, job, CIM_JOB_REQUEST_SERVICE, 1);
	whole_teardown();
}

START_TEST(every_request_from_every_state_of_a_job_that_copies)
{
	for (enum work work = CLONE; work <= SNAPSHOT_DETACHES; work++)
		for (size_t i = 0; i < ROWS(table); i++)
			check_row(work, i);
}
END_TEST

START_TEST(a_job_that_takes_an_instant_or_restores_is_busy)
{
	for (enum work work = RESTORE; work <= INSTANT; work++) {
		struct engine_handle *h;
		struct whole_io w;
		uint64_t g, job;

		whole_setup();
		whole_until(f_is_ready());
		g = begin(work);
		if (work == RESTORE)
			whole_fill("g_1", STUCK, 0x55);
		whole_rules(stuck_rules);
		h = whole_open("f", true);
		if (work == INSTANT) /* the fence waits for it */
			whole_write_begin(&w, h, STUCK, 1);
		whole_control(
			g, work == RESTORE ? "RestoreFromReplica Force" : "ResyncReplica",
			CIM_RETURN_JOB_STARTED);
		job = whole_info(g).job;
		for (size_t i = 0; i < ROWS(table); i++)
			if (table[i].state == CIM_JOB_RUNNING)
				check_request(work_names[work], job, table[i].request,
					      table[i].other_code);
		whole_rules("");
		if (work == INSTANT)
			ck_assert_int_eq(whole_write_end(&w), 0);
		whole_until(info_of(job).state == CIM_JOB_COMPLETED);
		engine_data_close(h);
		whole_teardown();
	}
}
END_TEST

/* g of f, which is compared and stays at that. */
static uint64_t begin_verify(const char *sync_type)
{
	char spec[96];
	uint64_t g;

	whole_setup();
	whole_until(f_is_ready());
	snprintf(spec, sizeof(spec),
		 "SourceElement=f SyncType=%s WaitForCopyState=Synchronized", sync_type);
	g = whole_replica("g", spec, 0);
	/* What a Snapshot has of the source itself is not read. */
	whole_fill("g_1", SLOW, 0x55);
	whole_rules(slow_rules);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	return g;
}

START_TEST(the_job_of_a_verify_can_be_ended_and_nothing_else_changes)
{
	static const unsigned ends[] = { CIM_JOB_REQUEST_TERMINATE,
					 CIM_JOB_REQUEST_KILL };

	for (size_t i = 0; i < ROWS(ends); i++) {
		unsigned state = i ? CIM_JOB_KILLED : CIM_JOB_TERMINATED;
		uint64_t g = begin_verify("Clone"), job = whole_info(g).job;

		check_request("Verify", job, CIM_JOB_REQUEST_START, 4097);
		check_request("Verify", job, CIM_JOB_REQUEST_SUSPEND, 1);
		check_request("Verify", job, CIM_JOB_REQUEST_SERVICE, 1);
		check_request("Verify", job, ends[i], 0);
		ck_assert_uint_eq(info_of(job).state, state);
		ck_assert_uint_eq(info_of(job).error_code, CIM_RETURN_FAILED);
		ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
		for (unsigned r = CIM_JOB_REQUEST_START; r <= CIM_JOB_REQUEST_KILL; r++)
			check_request("Verify", job, r, 4097);
		whole_rules("");
		whole_teardown();
	}
}
END_TEST

START_TEST(a_detach_takes_the_place_of_a_verify)
{
	uint64_t g = begin_verify("Snapshot"), job = whole_info(g).job;

	whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	ck_assert_uint_eq(info_of(job).state, CIM_JOB_TERMINATED);
	ck_assert_str_eq(whole_job(g).name, "Detach g");
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_control(g, "Suspend", 0);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_SUSPENDED);
	whole_rules("");
	whole_teardown();
}
END_TEST

START_TEST(a_resync_that_was_lost_is_no_success)
{
	struct engine_handle *h;
	struct whole_io w;
	struct job_info info;
	uint64_t g, job;

	whole_setup();
	whole_until(f_is_ready());
	whole_content("f", before);
	g = begin(CLONE);
	whole_rules(stuck_rules);
	h = whole_open("f", true);
	whole_write_begin(&w, h, STUCK, 1);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	job = whole_info(g).job;
	ck_assert_uint_eq(info_of(job).state, CIM_JOB_RUNNING);
	/* The process ends before the instant; the copy of before goes on. */
	whole_stop();
	whole_write_end(&w);
	whole_rules(slow_rules);
	ck_assert_int_eq(whole_start(), 0);
	whole_until(f_is_ready());
	info = info_of(job);
	ck_assert_uint_eq(info.state, CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(info.error_code, CIM_RETURN_FAILED);
	ck_assert_uint_eq(info.operational_status[0], CIM_STATUS_ERROR);
	ck_assert_ptr_nonnull(strstr(info.error_description, "ended before"));
	/* It has no job any more; control stops and resumes it all the same. */
	ck_assert_uint_eq(whole_state(g), CIM_COPY_UNSYNCHRONIZED);
	whole_control(g, "Suspend", 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SUSPENDED);
	whole_until(strstr(whole_info(g).waiting_for, "write Resume to control"));
	ck_assert_uint_eq(info_of(job).state, CIM_JOB_EXCEPTION);
	whole_control(g, "Resume", 0);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
	ck_assert_uint_eq(info_of(job).state, CIM_JOB_EXCEPTION);
	for (unsigned r = CIM_JOB_REQUEST_START; r <= CIM_JOB_REQUEST_KILL; r++)
		check_request("Exception", job, r, 4097);
	whole_teardown();
}
END_TEST

START_TEST(what_is_no_request_is_refused)
{
	static const struct {
		const char *text;
		unsigned code;
		int error;
		const char *words;
	} rows[] = {
		{ "Nonsense\n", 5, EINVAL, "\"Nonsense\"" },
		{ "\n", 5, EINVAL, "Start, Suspend" },
		{ "7\n", 5, EINVAL, "\"7\"" },
		{ "0\n", 5, EINVAL, "\"0\"" },
		{ "Suspend now\n", 5, EINVAL, "\"Suspend now\"" },
		{ "Suspend Force\n", 5, EINVAL, "Suspend Force" },
		{ "Suspend 5\n", 4098, EINVAL, "without" },
		{ "Suspend 500ms\n", 4098, EINVAL, "Suspend is carried out at once" },
		{ "3 00000000000500.000000:000\n", 4098, EINVAL, "Suspend" },
		{ "Service\n", 1, EOPNOTSUPP, "Service" },
		/* No limit. */
		{ "Suspend 0\n", 0, 0, "" },
		{ "START  00000000000000.000000:000\n", 0, 0, "" },
		{ " s-u_s p\n", 5, EINVAL, "s p" },
		{ "s-u_spend", 0, 0, "" },
	};
	uint64_t g, job;

	whole_setup();
	whole_until(f_is_ready());
	g = begin(CLONE);
	job = whole_info(g).job;
	for (size_t i = 0; i < ROWS(rows); i++) {
		unsigned state = info_of(job).state;
		struct engine_command cmd = ask(job, JOB_CONTROL, rows[i].text);

		ROW_EQ(rows[i].text, cmd.outcome.code, rows[i].code);
		ROW_EQ(rows[i].text, cmd.outcome.error, rows[i].error);
		ROW_HAS(rows[i].text, cmd.outcome.sentence, rows[i].words);
		ROW_EQ(rows[i].text, info_of(job).state == state, rows[i].code != 0);
	}
	ck_assert_int_eq(ask(job, JOB_DELETE_ON_COMPLETION, "maybe\n").outcome.error,
			 EINVAL);
	ck_assert_int_eq(ask(job + 1000, JOB_CONTROL, "Start\n").outcome.error, ENODEV);
	whole_rules("");
	whole_teardown();
}
END_TEST

/* ---- by way of control ---------------------------------------------------------------- */

START_TEST(control_suspends_resumes_and_aborts_with_the_job)
{
	static const struct {
		enum work work;
		const char *running, *suspended;
	} rows[] = {
		{ CLONE, "Deactivate\nDetach\nDissolve\nSuspend\nAbort\nResync Replica\n",
		  "Deactivate\nResume\nAbort\nResync Replica\n" },
		{ CLONE_DETACHES, "Detach\nDissolve\nSuspend\nAbort\n",
		  "Resume\nAbort\n" },
		{ SNAPSHOT_DETACHES, "Detach\nDissolve\nSuspend\nAbort\n",
		  "Resume\nAbort\n" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		const char *row = work_names[rows[i].work];
		char list[160];
		uint64_t g, job;

		whole_setup();
		whole_until(f_is_ready());
		whole_content("f", before);
		g = begin(rows[i].work);
		job = whole_info(g).job;
		snprintf(list, sizeof(list), "%sReturn To ResourcePool\n",
			 rows[i].running);
		ROW_STR_EQ(row, whole_list(ENGINE_GROUP, g, GROUP_CONTROL), list);
		whole_forget();
		whole_control(g, "Suspend", 0);
		check_states(row, rows[i].work, g, job, CIM_JOB_SUSPENDED);
		ROW_EQ(row, whole_info(g).when_suspended != 0, true);
		whole_until(whole_events(ENGINE_JOB, job, JOB_STATE) >= 1 &&
			    whole_events(ENGINE_GROUP, g, GROUP_COPY_STATE) >= 1 &&
			    whole_events(ENGINE_GROUP, g, GROUP_CONTROL) >= 1 &&
			    whole_events(ENGINE_GROUP, g, GROUP_WHEN_SUSPENDED) >= 1);
		snprintf(list, sizeof(list), "%sReturn To ResourcePool\n",
			 rows[i].suspended);
		ROW_STR_EQ(row, whole_list(ENGINE_GROUP, g, GROUP_CONTROL), list);
		whole_control(g, "Suspend", CIM_RETURN_FAILED);
		whole_control(g, "16", 0); /* Resume */
		check_states(row, rows[i].work, g, job, CIM_JOB_RUNNING);
		whole_control(g, "Resume", CIM_RETURN_FAILED);
		whole_control(g, "Abort", 0);
		ROW_EQ(row, info_of(job).state, CIM_JOB_TERMINATED);
		ROW_HAS(row, info_of(job).error_description, "Abort was written");
		ROW_EQ(row, whole_state(g), CIM_COPY_ABORTED);
		restart();
		whole_until(f_is_ready());
		ROW_EQ(row, whole_state(g), CIM_COPY_ABORTED);
		whole_rules("");
		check_aborted(row, rows[i].work, g);
		whole_teardown();
	}
}
END_TEST

/* The image of a Snapshot needs its point, also then; that of a Clone has none. */
START_TEST(an_aborted_snapshot_breaks_with_its_member)
{
	for (int snapshot = 0; snapshot < 2; snapshot++) {
		struct engine_handle *h;
		unsigned char buf[WHOLE_CHUNK];
		uint64_t g;

		whole_setup();
		whole_until(f_is_ready());
		g = begin(snapshot ? SNAPSHOT_DETACHES : CLONE);
		whole_control(g, "Abort", 0);
		whole_rules("[it]\nstate = refused\n");
		whole_until(!f_is_ready());
		if (snapshot)
			whole_wait_state(g, CIM_COPY_BROKEN);
		else
			ck_assert_uint_eq(whole_state(g), CIM_COPY_ABORTED);
		h = whole_open("g_1", false);
		ck_assert_int_eq(whole_read(h, SLOW, buf), -EIO);
		engine_data_close(h);
		whole_rules("");
		whole_teardown();
	}
}
END_TEST

/* What an image is written while it is Suspended: Skewed when it goes on. */
START_TEST(a_suspended_snapshot_that_is_written_is_skewed_afterwards)
{
	uint64_t g;

	whole_setup();
	whole_until(f_is_ready());
	whole_content("f", before);
	g = begin(SNAPSHOT_DETACHES);
	whole_control(g, "Suspend", 0);
	whole_fill("g_1", 7, 7);
	memset(before + 7 * WHOLE_CHUNK, 7, WHOLE_CHUNK);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SUSPENDED);
	restart();
	whole_until(f_is_ready());
	whole_control(g, "Resume", 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_NOT_APPLICABLE);
	whole_is("g_1", before);
	whole_teardown();
}
END_TEST

/* ---- members that end at different times ------------------------------------------------ */

/* Of a and f, that of a is complete. */
static uint64_t begin_mixed(const char *spec)
{
	bool snapshot = strstr(spec, "Snapshot");
	char text[128];
	uint64_t g;

	whole_setup();
	whole_until(f_is_ready());
	whole_content("f", before);
	whole_content("a", now);
	whole_group("src", "a f");
	whole_rules(slow_rules);
	snprintf(text, sizeof(text), "SourceGroup=src %s", spec);
	g = whole_replica("g", text, snapshot ? 0 : CIM_RETURN_JOB_STARTED);
	if (snapshot)
		whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	whole_until(whole_pair(g, 1).bytes_copied + whole_pair(g, 1).bytes_skipped ==
			    WHOLE_LUN &&
		    whole_pair(g, 2).bytes_copied);
	whole_until(snapshot || whole_pair(g, 1).copy_state == CIM_COPY_SYNCHRONIZED);
	return g;
}

static void check_mixed(const char *spec, bool one_fate)
{
	bool snapshot = strstr(spec, "Snapshot");
	uint64_t g = begin_mixed(spec), job = whole_info(g).job;
	struct element_info el;

	whole_until(!engine_element_info(engine, whole_element("g_1"), &el) &&
		    el.self_contained);
	check_request(spec, job, CIM_JOB_REQUEST_SUSPEND, 0);
	ROW_EQ(spec, whole_pair(g, 1).copy_state, CIM_COPY_SYNCHRONIZED);
	ROW_EQ(spec, whole_pair(g, 2).copy_state, CIM_COPY_SUSPENDED);
	ROW_EQ(spec, whole_state(g), CIM_COPY_MIXED);
	ROW_HAS(spec, whole_list(ENGINE_GROUP, g, GROUP_CONTROL), "Resume\n");
	restart();
	whole_until(f_is_ready());
	ROW_EQ(spec, whole_pair(g, 2).copy_state, CIM_COPY_SUSPENDED);
	whole_control(g, "Resume", 0);
	ROW_EQ(spec, info_of(job).state, CIM_JOB_RUNNING);
	ROW_HAS(spec, whole_list(ENGINE_GROUP, g, GROUP_CONTROL), "Suspend\n");
	whole_control(g, "Suspend", 0);
	ROW_EQ(spec, whole_pair(g, 2).copy_state, CIM_COPY_SUSPENDED);
	check_request(spec, job, CIM_JOB_REQUEST_TERMINATE, 0);
	ROW_EQ(spec, whole_pair(g, 2).copy_state, CIM_COPY_ABORTED);
	ROW_EQ(spec, whole_state(g), one_fate ? CIM_COPY_ABORTED : CIM_COPY_MIXED);
	ROW_EQ(spec,
	       engine_wait_check(engine, g, CIM_COPY_SKEWED, engine_sequence(engine)),
	       -EIO);
	/* What is complete stays. */
	whole_is("g_1", now);
	restart();
	whole_until(f_is_ready());
	whole_rules("");
	ROW_EQ(spec, whole_state(g), one_fate ? CIM_COPY_ABORTED : CIM_COPY_MIXED);
	whole_is("g_1", now);
	if (snapshot)
		whole_is("g_2", before);
	whole_fill("a", 3, 3);
	whole_content("a", now);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ROW_EQ(spec, whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_fill("a", 4, 4);
	whole_is("g_1", now);
	whole_is("g_2", before);
	whole_control(g, "ReturnToResourcePool", 0);
	whole_until(whole_files("e") == 0 && whole_files("p") == 0);
	whole_teardown();
}

START_TEST(members_that_are_complete_have_the_fate_of_the_others_or_not)
{
	check_mixed("SyncType=Clone", true);
	check_mixed("SyncType=Clone Consistency=2", false);
	check_mixed("SyncType=Snapshot", true);
}
END_TEST

/* ---- how they end, and when they go ------------------------------------------------------ */

/* The job of a copy of f that ended in that way. */
static uint64_t end_by(const char *how)
{
	uint64_t g = begin(CLONE), job = whole_info(g).job;

	if (!strcmp(how, "broken")) {
		whole_rules("[it]\nstate = refused\n");
		whole_wait_state(g, CIM_COPY_BROKEN);
	} else if (!strcmp(how, "done")) {
		whole_rules("");
		whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	} else {
		whole_put(g, GROUP_CONTROL, how, NULL);
	}
	return job;
}

START_TEST(the_end_of_a_job_says_why_and_lasts)
{
	static const struct {
		const char *how;
		unsigned state, code;
		const char *words;
	} rows[] = {
		{ "done", CIM_JOB_COMPLETED, 0, "" },
		{ "broken", CIM_JOB_EXCEPTION, CIM_RETURN_FAILED, "the rules say so" },
		{ "Abort\n", CIM_JOB_TERMINATED, CIM_RETURN_FAILED, "Abort" },
		{ "Deactivate\n", CIM_JOB_TERMINATED, CIM_RETURN_FAILED, "Deactivate" },
		{ "ResyncReplica\n", CIM_JOB_TERMINATED, CIM_RETURN_FAILED,
		  "took its place" },
		{ "ReturnToResourcePool\n", CIM_JOB_TERMINATED, CIM_RETURN_FAILED,
		  "relationship was ended" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		bool completed = rows[i].state == CIM_JOB_COMPLETED;
		struct job_info info, again;
		uint64_t job;

		whole_setup();
		whole_until(f_is_ready());
		job = end_by(rows[i].how);
		info = info_of(job);
		ROW_EQ(rows[i].how, info.state, rows[i].state);
		ROW_EQ(rows[i].how, info.error_code, rows[i].code);
		ROW_HAS(rows[i].how, info.error_description, rows[i].words);
		ROW_EQ(rows[i].how, info.operational_status[0],
		       completed ? CIM_STATUS_OK : CIM_STATUS_ERROR);
		ROW_EQ(rows[i].how, info.operational_status[1], CIM_STATUS_COMPLETED);
		ROW_EQ(rows[i].how, info.elapsed_ms,
		       info.last_state_change - info.start_time);
		ROW_EQ(rows[i].how, info.time_before_removal_ms, 24 * 3600 * 1000);
		whole_rules("");
		restart();
		again = info_of(job);
		ROW_EQ(rows[i].how, again.state, info.state);
		ROW_EQ(rows[i].how, again.error_code, info.error_code);
		ROW_STR_EQ(rows[i].how, again.error_description, info.error_description);
		ROW_EQ(rows[i].how, again.last_state_change, info.last_state_change);
		ROW_EQ(rows[i].how, again.bytes_copied, info.bytes_copied);
		for (unsigned r = CIM_JOB_REQUEST_START; r <= CIM_JOB_REQUEST_KILL; r++)
			check_request(rows[i].how, job, r, 4097);
		whole_teardown();
	}
}
END_TEST

struct aging {
	uint64_t ids[16];
	int64_t ms;
	size_t n;
};

/* Rows are noted first: a row may not change while they are read. */
static int note_job(void *opaque, const struct store_job *row)
{
	struct aging *a = opaque;

	a->ids[a->n++] = row->id;
	return 0;
}

struct aged {
	struct store *store;
	uint64_t id;
	struct store_job row;
	char name[96], error[640];
};

static int take_job(void *opaque, const struct store_job *row)
{
	struct aged *a = opaque;

	if (row->id != a->id)
		return 0;
	a->row = *row;
	snprintf(a->name, sizeof(a->name), "%s", row->name);
	snprintf(a->error, sizeof(a->error), "%s", row->error_description);
	a->row.name = a->name;
	a->row.error_description = a->error;
	return 0;
}

/* All jobs ended that much earlier; the engine is stopped. */
static void make_older(int64_t ms)
{
	struct aging aging = { .ms = ms };
	struct store *store;
	char error[256];

	ck_assert_int_eq(store_open(whole_path("state"), &store, error, sizeof(error)),
			 0);
	ck_assert_int_eq(store_each_job(store, note_job, &aging), 0);
	for (size_t i = 0; i < aging.n; i++) {
		struct aged a = { .id = aging.ids[i] };

		ck_assert_int_eq(store_each_job(store, take_job, &a), 0);
		a.row.last_state_change -= ms;
		store_begin(store);
		store_job_update(store, &a.row);
		ck_assert_int_eq(store_commit(store), 0);
	}
	store_close(store);
}

static bool job_is_there(uint64_t job)
{
	struct job_info info;

	return engine_job_info(engine, job, &info) == 0;
}

START_TEST(a_finished_job_goes_when_its_time_has_come)
{
	uint64_t g, h, r, kept, deleted, running;

	whole_daemon("job_retention = 1h");
	whole_setup();
	whole_until(f_is_ready());
	g = whole_replica("kept", "SourceElement=a SyncType=Clone",
			  CIM_RETURN_JOB_STARTED);
	h = whole_replica("deleted", "SourceElement=b SyncType=Clone",
			  CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_wait_state(h, CIM_COPY_SYNCHRONIZED);
	r = begin(CLONE);
	kept = whole_info(g).job;
	deleted = whole_info(h).job;
	running = whole_info(r).job;
	whole_forget();
	ck_assert_int_eq(ask(deleted, JOB_DELETE_ON_COMPLETION, "true\n").outcome.error,
			 0);
	ck_assert_int_eq(ask(running, JOB_DELETE_ON_COMPLETION, "1\n").outcome.error, 0);
	whole_until(whole_events(ENGINE_JOB, deleted, JOB_DELETE_ON_COMPLETION) == 1 &&
		    whole_events(ENGINE_JOB, deleted, JOB_TIME_BEFORE_REMOVAL) == 1);
	ck_assert_int_eq(info_of(kept).time_before_removal_ms, 3600 * 1000);
	ck_assert_int_eq(info_of(deleted).time_before_removal_ms, 300 * 1000);
	ck_assert_int_eq(info_of(running).time_before_removal_ms, 300 * 1000);

	/* Both stay for five minutes, ... */
	whole_stop();
	make_older(290 * 1000);
	ck_assert_int_eq(whole_start(), 0);
	ck_assert(info_of(deleted).delete_on_completion);
	ck_assert(!info_of(kept).delete_on_completion);
	ck_assert(job_is_there(kept) && job_is_there(deleted) && job_is_there(running));
	/* ... then the one goes, ... */
	whole_stop();
	make_older(20 * 1000);
	ck_assert_int_eq(whole_start(), 0);
	whole_until(!job_is_there(deleted));
	ck_assert(job_is_there(kept) && job_is_there(running));
	ck_assert_uint_eq(whole_info(h).job, 0);
	ck_assert_uint_eq(whole_info(g).job, kept);
	ck_assert_uint_eq(whole_info(r).job, running);
	/* ... after an hour the other.  One that runs stays. */
	whole_stop();
	make_older(3600 * 1000);
	ck_assert_int_eq(whole_start(), 0);
	whole_until(!job_is_there(kept));
	ck_assert_uint_eq(whole_info(g).job, 0);
	ck_assert_uint_eq(info_of(running).state, CIM_JOB_RUNNING);
	/* A number is never used again. */
	whole_rules("");
	whole_wait_state(r, CIM_COPY_SYNCHRONIZED);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	ck_assert_uint_gt(whole_info(g).job, running);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	whole_teardown();
	whole_daemon("");
}
END_TEST

START_TEST(the_time_of_a_job_is_no_longer_than_the_retention)
{
	uint64_t g, job;

	whole_daemon("job_retention = 60s");
	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Clone", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	job = whole_info(g).job;
	ck_assert_int_eq(info_of(job).time_before_removal_ms, 60 * 1000);
	ck_assert_int_eq(ask(job, JOB_DELETE_ON_COMPLETION, "true\n").outcome.error, 0);
	ck_assert_int_eq(info_of(job).time_before_removal_ms, 60 * 1000);
	whole_teardown();
	whole_daemon("");
}
END_TEST

/* Synchronized as it is, the write that goes on waiting neither waits for the job of
 * another operation nor takes it away. */
START_TEST(a_further_write_of_a_spec_leaves_the_jobs_of_others)
{
	struct engine_command cmd = { .verb = ENGINE_WRITE,
				      .class = ENGINE_GROUP,
				      .file = GROUP_SPEC,
				      .again = true };
	struct job_info job;
	uint64_t g, id;

	whole_setup();
	whole_until(whole_is_ready("f"));
	cmd.text = "SourceElement=f SyncType=Clone WaitForCopyState=Synchronized\n";
	cmd.len = strlen(cmd.text);
	g = cmd.id = whole_replica(
		"g", "SourceElement=f SyncType=Clone WaitForCopyState=Synchronized", 0);
	ck_assert_uint_eq(whole_info(g).job, 0);
	ck_assert_uint_eq(whole_run(cmd, NULL), 0);
	whole_rules(slow_rules);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	id = whole_info(g).job;
	ck_assert_uint_ne(id, 0);
	ck_assert_uint_eq(whole_run(cmd, NULL), CIM_RETURN_JOB_STARTED);
	ck_assert_uint_eq(whole_info(g).job, id);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_rules("");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_uint_eq(whole_run(cmd, NULL), 0);
	ck_assert_int_eq(engine_job_info(engine, id, &job), 0);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		every_request_from_every_state_of_a_job_that_copies,
		a_job_that_takes_an_instant_or_restores_is_busy,
		the_job_of_a_verify_can_be_ended_and_nothing_else_changes,
		a_detach_takes_the_place_of_a_verify,
		a_resync_that_was_lost_is_no_success,
		what_is_no_request_is_refused,
		control_suspends_resumes_and_aborts_with_the_job,
		an_aborted_snapshot_breaks_with_its_member,
		a_suspended_snapshot_that_is_written_is_skewed_afterwards,
		members_that_are_complete_have_the_fate_of_the_others_or_not,
		the_end_of_a_job_says_why_and_lasts,
		a_finished_job_goes_when_its_time_has_come,
		the_time_of_a_job_is_no_longer_than_the_retention,
		a_further_write_of_a_spec_leaves_the_jobs_of_others,
	};

	return unit_main("job", tests, ROWS(tests));
}
