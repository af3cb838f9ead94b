/* SPDX-License-Identifier: BSD-2-Clause */

/* Instants that cannot be taken: a fence that does not drain, files that cannot be
 * made, a state store that does not commit, an engine that stops.  Nothing is left of
 * them, and writes go on. */

#include "tests/unit.h"

#include <errno.h>
#include <sys/stat.h>

#include "conf/cim.h"
#include "conf/timefmt.h"
#include "tests/whole.h"

static unsigned char before[WHOLE_LUN];

static const char stalled[] = "[w]\nevent = write\nstall = yes\n";

static struct whole_io stuck;

static bool is_ready(const char *element)
{
	struct element_info info;

	engine_element_info(engine, whole_element(element), &info);
	return info.operational_status == CIM_STATUS_OK;
}

static void setup(const char *daemon)
{
	whole_daemon(daemon);
	whole_setup();
	whole_until(is_ready("a") && is_ready("b") && is_ready("f"));
}

/* A write to f that the device does not answer. */
static struct engine_handle *write_stuck(void)
{
	struct engine_handle *h = whole_open("f", true);

	whole_rules(stalled);
	whole_write_begin(&stuck, h, 2, 2);
	return h;
}

static void let_it_go(struct engine_handle *h)
{
	whole_rules("");
	ck_assert_int_eq(whole_write_end(&stuck), 0);
	engine_data_close(h);
}

/* What a call leaves that made nothing. */
static void nothing_is_there(uint64_t g)
{
	ck_assert_uint_eq(whole_state(g), CIM_COPY_NOT_APPLICABLE);
	ck_assert_uint_eq(whole_files("e"), 0);
	/* One that was armed on its own is handed over first. */
	whole_until(whole_files("p") == 0);
	ck_assert_uint_eq(whole_element("g_1"), 0);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_MEMBERS), "");
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_RELATIONSHIPS), "");
	ck_assert_str_eq(
		whole_list(ENGINE_ELEMENT, whole_element("f"), ELEMENT_RELATIONSHIPS),
		"");
	ck_assert_uint_eq(whole_info(g).job, 0);
}

static void timed_out(const char *more)
{
	struct engine_command cmd;
	struct engine_handle *h;
	char spec[128];
	uint64_t g, began;

	setup("fence_timeout = 0.2");
	whole_group("prod", "a f b");
	g = whole_make(ENGINE_GROUP, "g");
	h = write_stuck();
	began = timefmt_monotonic_ns();
	snprintf(spec, sizeof(spec), "SourceGroup=prod SyncType=%s\n", more);
	whole_put(g, GROUP_SPEC, spec, &cmd);
	/* In time: not at some tick. */
	ck_assert_uint_lt(timefmt_monotonic_ns() - began, UINT64_C(1800000000));
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_TIMEOUT);
	ck_assert_int_eq(cmd.outcome.error, ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, "fence_timeout"));
	nothing_is_there(g);
	/* Others are written, and so is this one. */
	whole_fill("a", 1, 1);
	whole_fill("b", 1, 1);
	let_it_go(h);
	whole_fill("f", 3, 3);
	/* The names are free, and an instant can be taken. */
	whole_content("f", before);
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, spec, &cmd),
			  strstr(more, "Clone") ? CIM_RETURN_JOB_STARTED : 0);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_fill("f", 4, 4);
	whole_is("g_2", before);
	/* Nothing comes back at a start. */
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_is("g_2", before);
	whole_teardown();
}

START_TEST(a_fence_that_does_not_drain_is_a_timeout)
{
	timed_out("Snapshot");
}
END_TEST

START_TEST(so_it_is_for_a_clone)
{
	timed_out("Clone");
}
END_TEST

START_TEST(each_on_its_own_is_all_or_none_too)
{
	timed_out("Snapshot Consistency=2");
}
END_TEST

/* A member armed on its own keeps what is written, which an older snapshot needs, and
 * then the next member's fence fails. */
START_TEST(what_one_of_them_kept_stays_with_older_snapshots)
{
	struct engine_handle *h;
	struct whole_call call;
	uint64_t g;

	setup("fence_timeout = 0.5");
	whole_replica("o", "SourceElement=a SyncType=Snapshot", 0);
	whole_content("a", before);
	whole_group("prod", "a f");
	g = whole_make(ENGINE_GROUP, "g");
	h = write_stuck();
	call = (struct whole_call){
		.cmd = { .verb = ENGINE_WRITE,
			 .class = ENGINE_GROUP,
			 .id = g,
			 .file = GROUP_SPEC,
			 .text = "SourceGroup=prod SyncType=Snapshot Consistency=2\n" }
	};
	call.cmd.len = strlen(call.cmd.text);
	whole_send(&call);
	/* It is armed some time meanwhile. */
	for (unsigned i = 0; !__atomic_load_n(&call.done, __ATOMIC_ACQUIRE); i++)
		whole_fill("a", i % (WHOLE_LUN / WHOLE_CHUNK), (unsigned char)(i + 1));
	whole_wait(&call);
	ck_assert_uint_eq(call.cmd.outcome.code, CIM_RETURN_TIMEOUT);
	whole_is("o_1", before);
	let_it_go(h);
	whole_until(whole_files("p") == 2);
	whole_is("o_1", before);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_is("o_1", before);
	whole_teardown();
}
END_TEST

START_TEST(a_resync_that_times_out_leaves_all_as_it_was)
{
	struct engine_handle *h;
	struct group_info info;
	uint64_t g, since;

	setup("fence_timeout = 0.2");
	whole_content("f", before);
	g = whole_replica("g", "SourceElement=f SyncType=Snapshot", 0);
	whole_fill("g_1", 7, 7);
	memset(before + 7 * WHOLE_CHUNK, 7, WHOLE_CHUNK);
	info = whole_info(g);
	h = write_stuck();
	since = engine_sequence(engine);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_control(g, "ReturnToResourcePool", CIM_RETURN_IN_USE);
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(whole_job(g).error_code, CIM_RETURN_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(whole_job(g).error_description, "fence_timeout"));
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	ck_assert_int_eq(whole_info(g).when_synced, info.when_synced);
	ck_assert_int_eq(whole_info(g).when_activated, info.when_activated);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SKEWED, since), 1);
	ck_assert_uint_eq(whole_files("p"), 2);
	ck_assert_uint_eq(whole_files("e"), 2);
	let_it_go(h);
	whole_is("g_1", before);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_content("f", before);
	whole_is("g_1", before);
	whole_teardown();
}
END_TEST

START_TEST(an_activate_that_times_out_can_be_written_again)
{
	struct engine_handle *h;
	uint64_t g;

	setup("fence_timeout = 0.2");
	g = whole_replica("g", "SourceElement=f SyncType=Clone WaitForCopyState=Prepared",
			  0);
	h = write_stuck();
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_PREPARED);
	let_it_go(h);
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_COMPLETED);
	whole_content("f", before);
	whole_is("g_1", before);
	whole_teardown();
}
END_TEST

/* Writes that come while the fence is closed wait, and go on. */
START_TEST(writes_wait_behind_the_fence_and_go_on)
{
	static struct whole_io behind;
	struct whole_call call = { { 0 }, false };
	struct engine_handle *h, *h2;
	uint64_t g;

	setup("fence_timeout = 20");
	whole_group("prod", "a f");
	g = whole_make(ENGINE_GROUP, "g");
	whole_content("a", before);
	h = write_stuck();
	call.cmd = (struct engine_command){ .verb = ENGINE_WRITE,
					    .class = ENGINE_GROUP,
					    .id = g,
					    .file = GROUP_SPEC,
					    .text = "SourceGroup=prod SyncType=7\n",
					    .len = 28 };
	whole_send(&call);
	h2 = whole_open("a", true);
	/* Until one is caught by the fence. */
	do {
		whole_write_begin(&behind, h2, 5, before[5 * WHOLE_CHUNK]);
		for (int i = 0; i < 200 && !whole_write_is_done(&behind); i++)
			usleep(1000);
	} while (whole_write_is_done(&behind));
	let_it_go(h);
	whole_wait(&call);
	ck_assert_uint_eq(call.cmd.outcome.code, 0);
	ck_assert_int_eq(whole_write_end(&behind), 0);
	engine_data_close(h2);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_teardown();
}
END_TEST

START_TEST(files_that_cannot_be_made_are_named)
{
	struct engine_command cmd;
	uint64_t g;

	setup("");
	whole_group("prod", "a f");
	g = whole_make(ENGINE_GROUP, "g");
	ck_assert_int_eq(mkdir(whole_path("pool/p2.raw"), 0700), 0);
	whole_put(g, GROUP_SPEC, "SourceGroup=prod SyncType=Snapshot\n", &cmd);
	/* EISDIR, which has no code. */
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_UNKNOWN);
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, "pool p: "));
	ck_assert_int_eq(rmdir(whole_path("pool/p2.raw")), 0);
	nothing_is_there(g);
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, "SourceGroup=prod SyncType=7\n", NULL),
			  0);
	whole_fill("a", 1, 1);
	/* Nor is a new instant. */
	whole_content("g_1", before);
	ck_assert_int_eq(mkdir(whole_path("pool/p6.raw"), 0700), 0);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
	ck_assert_int_eq(rmdir(whole_path("pool/p6.raw")), 0);
	ck_assert_uint_eq(whole_files("p"), 4);
	ck_assert_uint_eq(whole_files("e"), 4);
	whole_teardown();
}
END_TEST

/* ---- a state store that does not commit --------------------------------------------- */

/* An instant is counted by the sequence of its points. */
static const char break_store[] =
	"CREATE TRIGGER broken BEFORE UPDATE OF sequence ON point "
	"BEGIN SELECT RAISE(ABORT, 'broken'); END";

START_TEST(a_commit_that_fails_in_the_fence_leaves_nothing)
{
	struct engine_command cmd;
	uint64_t g;

	setup("");
	whole_group("prod", "a f");
	g = whole_make(ENGINE_GROUP, "g");
	whole_sql(break_store);
	whole_put(g, GROUP_SPEC, "SourceGroup=prod SyncType=Snapshot\n", &cmd);
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_FAILED);
	nothing_is_there(g);
	whole_fill("a", 1, 1);
	whole_fill("f", 1, 1);
	whole_sql("DROP TRIGGER broken");
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, "SourceGroup=prod SyncType=7\n", NULL),
			  0);
	/* The same for a new instant, with an image that is open. */
	whole_content("g_1", before);
	whole_sql(break_store);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_fill("a", 2, 2);
	whole_is("g_1", before);
	whole_sql("DROP TRIGGER broken");
	whole_fill("g_1", 3, 3);
	ck_assert_uint_eq(whole_pair(g, 1).copy_state, CIM_COPY_SKEWED);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_content("a", before);
	whole_is("g_1", before);
	whole_teardown();
}
END_TEST

START_TEST(a_clone_whose_resync_fails_is_what_it_was)
{
	struct engine_handle *h;
	unsigned char buf[WHOLE_CHUNK];
	uint64_t g;

	setup("");
	whole_content("a", before);
	g = whole_replica(
		"g", "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized", 0);
	h = whole_open("g_1", true);
	whole_sql(break_store);
	whole_fill("a", 2, 2);
	whole_control(g, "ResyncReplica Force", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", before);
	/* Its users go on writing, and that counts. */
	whole_sql("DROP TRIGGER broken");
	ck_assert_int_eq(whole_write(h, 3, 3), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	ck_assert_int_eq(whole_read(h, 3, buf), 0);
	ck_assert_uint_eq(buf[0], 3);
	engine_data_close(h);
	whole_teardown();
}
END_TEST

/* ---- a stop ------------------------------------------------------------------------------ */

START_TEST(a_stop_while_the_fence_is_closed_leaves_nothing)
{
	struct whole_call call = { { 0 }, false };
	struct engine_handle *h;
	uint64_t g;

	setup("fence_timeout = 20");
	whole_group("prod", "a f");
	g = whole_make(ENGINE_GROUP, "g");
	h = whole_open("f", true);
	whole_rules("[w]\nevent = write\ndelay_ms = 3000\n");
	whole_write_begin(&stuck, h, 2, 2);
	call.cmd = (struct engine_command){ .verb = ENGINE_WRITE,
					    .class = ENGINE_GROUP,
					    .id = g,
					    .file = GROUP_SPEC,
					    .text = "SourceGroup=prod SyncType=7\n",
					    .len = 28 };
	whole_send(&call);
	whole_until(whole_files("p") == 4);
	whole_stop();
	ck_assert_int_eq(call.cmd.outcome.error, ENOTCONN);
	ck_assert(whole_write_is_done(&stuck));
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	nothing_is_there(g);
	whole_until(is_ready("f") && is_ready("a"));
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, "SourceGroup=prod SyncType=7\n", NULL),
			  0);
	whole_teardown();
}
END_TEST

START_TEST(a_stop_in_a_resync_ends_its_job_at_the_next_start)
{
	struct engine_handle *h;
	uint64_t g;

	setup("fence_timeout = 20");
	whole_content("f", before);
	g = whole_replica("g", "SourceElement=f SyncType=Snapshot", 0);
	whole_fill("f", 2, 1);
	h = whole_open("f", true);
	whole_rules("[w]\nevent = write\ndelay_ms = 3000\n");
	whole_write_begin(&stuck, h, 2, 2);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_files("p") == 4);
	whole_stop();
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	whole_until(is_ready("f"));
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(whole_files("p"), 2);
	ck_assert_uint_eq(whole_files("e"), 2);
	/* A write that the stop gave up before it was sent is no reason to wait for:
	 * then the instant is there, else nothing of it. */
	if (whole_job(g).state == CIM_JOB_COMPLETED) {
		whole_content("f", before);
	} else {
		ck_assert_uint_eq(whole_job(g).state, CIM_JOB_EXCEPTION);
		ck_assert_ptr_nonnull(strstr(whole_job(g).error_description, "again"));
	}
	whole_is("g_1", before);
	whole_teardown();
}
END_TEST

/* ---- at the same time ------------------------------------------------------------------ */

enum { N_CALLS = 8 };

START_TEST(several_specs_over_the_same_members_are_all_taken)
{
	static struct whole_call calls[N_CALLS];
	static struct whole_io writes[N_CALLS];
	struct engine_handle *h;
	uint64_t groups[N_CALLS];
	char name[16], image[16];

	setup("");
	whole_group("prod", "a f");
	whole_group("back", "f b a");
	whole_content("a", before);
	h = whole_open("f", true);
	for (unsigned i = 0; i < N_CALLS; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		groups[i] = whole_make(ENGINE_GROUP, name);
		calls[i].cmd = (struct engine_command){
			.verb = ENGINE_WRITE,
			.class = ENGINE_GROUP,
			.id = groups[i],
			.file = GROUP_SPEC,
			.text = i % 2 ? "SourceGroup=prod SyncType=7\n" :
					"SourceGroup=back SyncType=7\n",
			.len = 28
		};
	}
	for (unsigned i = 0; i < N_CALLS; i++) {
		whole_send(&calls[i]);
		whole_write_begin(&writes[i], h, i, (unsigned char)i);
	}
	for (unsigned i = 0; i < N_CALLS; i++) {
		whole_wait(&calls[i]);
		ck_assert_uint_eq(calls[i].cmd.outcome.code, 0);
		ck_assert_int_eq(whole_write_end(&writes[i]), 0);
	}
	engine_data_close(h);
	whole_fill("a", 0, 0xaa);
	for (unsigned i = 0; i < N_CALLS; i++) {
		ck_assert_uint_eq(whole_state(groups[i]), CIM_COPY_SYNCHRONIZED);
		snprintf(image, sizeof(image), "g%u_%u", i, i % 2 ? 1 : 3);
		whole_is(image, before);
	}
	for (unsigned i = 0; i < N_CALLS; i++)
		whole_control(groups[i], "ReturnToResourcePool", 0);
	whole_until(whole_files("p") == 0 && whole_files("e") == 0);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_fence_that_does_not_drain_is_a_timeout,
		so_it_is_for_a_clone,
		each_on_its_own_is_all_or_none_too,
		what_one_of_them_kept_stays_with_older_snapshots,
		a_resync_that_times_out_leaves_all_as_it_was,
		an_activate_that_times_out_can_be_written_again,
		writes_wait_behind_the_fence_and_go_on,
		files_that_cannot_be_made_are_named,
		a_commit_that_fails_in_the_fence_leaves_nothing,
		a_clone_whose_resync_fails_is_what_it_was,
		a_stop_while_the_fence_is_closed_leaves_nothing,
		a_stop_in_a_resync_ends_its_job_at_the_next_start,
		several_specs_over_the_same_members_are_all_taken,
	};

	return unit_main("fence", tests, ROWS(tests));
}
