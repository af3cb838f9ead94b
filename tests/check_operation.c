/* SPDX-License-Identifier: BSD-2-Clause */

/* What the operations of ModifyReplicaSynchronization do to Snapshots and Clones, through
 * the whole engine over files.  check_transition has each from every CopyState. */

#include "tests/unit.h"

#include <errno.h>

#include "conf/cim.h"
#include "tests/whole.h"

static unsigned char before[WHOLE_LUN], after[WHOLE_LUN];

/* Holds up the copy of element f. */
static const char slow_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				 "length = 65536\nstall = yes\n";

static void set_chunk(unsigned char *buf, uint64_t chunk, unsigned char byte)
{
	memset(buf + chunk * WHOLE_CHUNK, byte, WHOLE_CHUNK);
}

static bool is_ready(const char *element)
{
	struct element_info info;

	engine_element_info(engine, whole_element(element), &info);
	return info.operational_status == CIM_STATUS_OK;
}

/* ---- instants ---------------------------------------------------------------------- */

START_TEST(deactivate_discards_and_activate_takes_a_new_instant)
{
	unsigned char buf[WHOLE_CHUNK];
	struct engine_handle *h;
	struct group_info info;
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Snapshot", 0);
	whole_fill("g_1", 5, 5);
	whole_forget();
	whole_control(g, "Deactivate", 0);
	info = whole_info(g);
	ck_assert_uint_eq(info.copy_state, CIM_COPY_INACTIVE);
	ck_assert_uint_eq(info.progress_status, CIM_PROGRESS_REQUIRES_ACTIVATE);
	ck_assert_uint_eq(info.percent_synced, 0);
	ck_assert_int_eq(info.when_synced, 0);
	ck_assert_int_eq(info.when_synchronized, 0);
	ck_assert_int_ne(info.when_deactivated, 0);
	ck_assert_uint_ge(whole_events(ENGINE_GROUP, g, GROUP_COPY_STATE), 1);
	ck_assert_uint_ge(whole_events(ENGINE_GROUP, g, GROUP_WHEN_DEACTIVATED), 1);
	ck_assert_uint_ge(whole_events(ENGINE_GROUP, g, GROUP_WHEN_SYNCED), 1);
	ck_assert_uint_eq(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_CONTENT), 1);
	whole_until(whole_files("p") == 0);
	h = whole_open("g_1", true);
	ck_assert_int_eq(whole_read(h, 5, buf), -EIO);
	ck_assert_int_eq(whole_read(h, 6, buf), -EIO);
	ck_assert_int_eq(whole_write(h, 6, 1), -EIO);
	engine_data_close(h);

	/* Also after a restart. */
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_INACTIVE);
	h = whole_open("g_1", false);
	ck_assert_int_eq(whole_read(h, 5, buf), -EIO);
	whole_fill("a", 7, 0x70);
	whole_content("a", after);
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	info = whole_info(g);
	ck_assert_int_eq(info.when_synced, info.when_synchronized);
	ck_assert_int_eq(info.when_synced, info.when_activated);
	/* The handle of before shows it. */
	ck_assert_int_eq(whole_read(h, 7, buf), 0);
	ck_assert_uint_eq(buf[0], 0x70);
	engine_data_close(h);
	whole_fill("a", 8, 0x80);
	whole_is("g_1", after);
	whole_teardown();
}
END_TEST

static void resync_open(const char *spec)
{
	unsigned char buf[WHOLE_CHUNK];
	struct engine_command cmd;
	struct engine_handle *h;
	char pid[32];
	uint64_t g;

	whole_setup();
	g = whole_replica("g", spec, 0);
	whole_fill("a", 7, 0x70);
	h = whole_open("g_1", true);
	ck_assert_int_eq(whole_write(h, 9, 9), 0);
	whole_put(g, GROUP_CONTROL, "ResyncReplica\n", &cmd);
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_IN_USE);
	ck_assert_int_eq(cmd.outcome.error, EBUSY);
	snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, "1 open handle"));
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, pid));
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, "ResyncReplica Force"));
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	whole_content("a", after);
	whole_forget();
	whole_control(g, "ResyncReplica Force", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_int_eq(whole_read(h, 7, buf), 0);
	ck_assert_uint_eq(buf[0], 0x70);
	ck_assert_int_eq(whole_read(h, 9, buf), 0);
	ck_assert_mem_eq(buf, after + 9 * WHOLE_CHUNK, WHOLE_CHUNK);
	whole_until(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_CONTENT) >= 1 &&
		    whole_events(ENGINE_GROUP, g, GROUP_WHEN_SYNCED) >= 1 &&
		    whole_events(ENGINE_GROUP, g, GROUP_WHEN_ACTIVATED) >= 1 &&
		    whole_events(ENGINE_GROUP, g, GROUP_COPY_STATE) >= 1);
	/* What is written now is Skewed again. */
	ck_assert_int_eq(whole_write(h, 10, 10), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	engine_data_close(h);
	set_chunk(after, 10, 10);
	whole_is("g_1", after);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	whole_is("g_1", after);
	/* A Clone's file and its digests, or a Snapshot's file and its map. */
	ck_assert_uint_eq(whole_files("e"), 2);
	whole_teardown();
}

/* Between the answer and the instant; the try counts if it came before the instant. */
START_TEST(an_image_that_is_opened_meanwhile_is_in_use)
{
	struct engine_handle *h;
	struct job_info job;
	unsigned hits = 0;
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Snapshot", 0);
	whole_content("g_1", before);
	whole_fill("a", 7, 0x70);
	whole_content("a", after);
	for (unsigned i = 0; i < 50 && !hits; i++) {
		whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
		h = whole_open("g_1", true);
		whole_until(whole_job(g).state != CIM_JOB_RUNNING);
		job = whole_job(g);
		if (job.state == CIM_JOB_EXCEPTION) {
			hits++;
			ck_assert_uint_eq(job.error_code, CIM_RETURN_IN_USE);
			ck_assert_ptr_nonnull(
				strstr(job.error_description, "1 open handle"));
			ck_assert_ptr_nonnull(
				strstr(job.error_description, "ResyncReplica Force"));
			if (i == 0)
				whole_is("g_1", before);
		} else {
			ck_assert_uint_eq(job.state, CIM_JOB_COMPLETED);
		}
		engine_data_close(h);
	}
	ck_assert_uint_eq(hits, 1);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	whole_is("g_1", after);
	whole_teardown();
}
END_TEST

START_TEST(a_snapshot_is_resynced_under_open_handles_by_force_only)
{
	resync_open("SourceElement=a SyncType=Snapshot");
}
END_TEST

START_TEST(a_clone_is_resynced_under_open_handles_by_force_only)
{
	resync_open("SourceElement=a SyncType=Clone WaitForCopyState=Synchronized");
}
END_TEST

START_TEST(a_wait_after_resync_is_for_the_new_instant)
{
	uint64_t g, since;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica(
		"g", "SourceElement=f SyncType=Clone WaitForCopyState=Synchronized", 0);
	whole_rules(slow_rules);
	whole_forget();
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	since = engine_sequence(engine);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SYNCHRONIZED, since), 0);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_CONTROL), "");
	whole_wait_state(g, CIM_COPY_UNSYNCHRONIZED);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SYNCHRONIZED, since), 0);
	ck_assert_int_eq(whole_info(g).when_synchronized, 0);
	ck_assert_uint_eq(whole_info(g).progress_status, CIM_PROGRESS_RESYNCING);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SYNCHRONIZED, since), 1);
	whole_teardown();
}
END_TEST

START_TEST(a_resync_while_it_is_copied_takes_the_place_of_the_job)
{
	struct job_info job;
	uint64_t g, first;

	whole_setup();
	whole_until(is_ready("f"));
	whole_content("f", after);
	whole_rules(slow_rules);
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	first = whole_info(g).job;
	whole_fill("f", 60, 60);
	set_chunk(after, 60, 60);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	ck_assert_uint_ne(whole_info(g).job, first);
	ck_assert_int_eq(engine_job_info(engine, first, &job), 0);
	ck_assert_uint_eq(job.state, CIM_JOB_TERMINATED);
	/* The copy before it may end before the instant; the job is of what comes after. */
	whole_rules("");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", after);
	whole_teardown();
}
END_TEST

/* The copy before a ResyncReplica ends while that waits for its fence: what ends is not
 * the job. */
START_TEST(the_end_of_the_copy_before_is_not_the_end_of_a_resync)
{
	static const char stalled[] = "[w]\nevent = write\nstall = yes\n";
	char rules[256];
	struct engine_handle *h;
	struct whole_io w;
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	whole_content("f", after);
	snprintf(rules, sizeof(rules), "%s%s", slow_rules, stalled);
	whole_rules(rules);
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	h = whole_open("f", true);
	whole_write_begin(&w, h, 60, 60);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_rules(stalled);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_rules("");
	ck_assert_int_eq(whole_write_end(&w), 0);
	engine_data_close(h);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	set_chunk(after, 60, 60);
	whole_is("g_1", after);
	whole_teardown();
}
END_TEST

/* ---- what fails ---------------------------------------------------------------------- */

static const char break_store[] = "CREATE TRIGGER broken BEFORE UPDATE ON pair "
				  "BEGIN SELECT RAISE(ABORT, 'broken'); END";
static const char break_jobs[] =
	"CREATE TRIGGER broken_job BEFORE UPDATE OF state ON job "
	"BEGIN SELECT RAISE(ABORT, 'broken'); END";

/* What cannot be committed cannot be said in its job either, as long as that lasts. */
static void fails_and_says_so(const char *operation, const char *end)
{
	struct job_info job;
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Snapshot", 0);
	whole_fill("a", 7, 7);
	whole_content("a", after);
	whole_sql(break_store);
	whole_sql(break_jobs);
	whole_forget();
	whole_control(g, operation, CIM_RETURN_JOB_STARTED);
	/* It has ended: nothing of it is left. */
	whole_until(whole_events(ENGINE_GROUP, g, GROUP_CONTROL) >= 2);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_sql("DROP TRIGGER broken_job");
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	job = whole_job(g);
	ck_assert_uint_eq(job.state, CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(job.error_code, CIM_RETURN_FAILED);
	ck_assert_ptr_nonnull(strstr(job.error_description, end));
	whole_is("a", after);
	whole_sql("DROP TRIGGER broken");
	whole_control(g, operation, CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	whole_teardown();
}

START_TEST(an_instant_that_fails_stands_in_its_job_once_that_can_be_written)
{
	fails_and_says_so("ResyncReplica", "state store");
}
END_TEST

/* A ResyncReplica of a Clone that is held up fails, which cannot be recorded yet. */
static uint64_t fail_resync(void)
{
	static const char stalled[] = "[w]\nevent = write\nstall = yes\n";
	char rules[256];
	struct engine_handle *h;
	struct whole_io w;
	uint64_t g;

	whole_until(is_ready("f"));
	snprintf(rules, sizeof(rules), "%s%s", slow_rules, stalled);
	whole_rules(rules);
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	h = whole_open("f", true);
	whole_write_begin(&w, h, 60, 60);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_sql(break_store);
	whole_sql(break_jobs);
	whole_forget();
	whole_rules(slow_rules);
	ck_assert_int_eq(whole_write_end(&w), 0);
	engine_data_close(h);
	whole_until(whole_events(ENGINE_GROUP, g, GROUP_CONTROL) >= 1);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_UNSYNCHRONIZED);
	whole_sql("DROP TRIGGER broken_job");
	whole_sql("DROP TRIGGER broken");
	return g;
}

static void has_failed(uint64_t id)
{
	struct job_info job;

	ck_assert_int_eq(engine_job_info(engine, id, &job), 0);
	ck_assert_uint_eq(job.state, CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(job.error_code, CIM_RETURN_FAILED);
	ck_assert_ptr_nonnull(strstr(job.error_description, "state store"));
}

/* Whatever ends before that, the job has ended as it has. */
START_TEST(a_resync_that_fails_is_no_copy_that_was_completed)
{
	uint64_t g;

	whole_setup();
	g = fail_resync();
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	has_failed(whole_info(g).job);
	whole_teardown();
}
END_TEST

START_TEST(a_detach_after_a_resync_that_fails_has_its_own_job)
{
	struct job_info job;
	uint64_t g, id;

	whole_setup();
	g = fail_resync();
	id = whole_info(g).job;
	whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	has_failed(id);
	id = whole_info(g).job;
	whole_rules("");
	whole_until(!whole_info(g).has_relationship);
	ck_assert_int_eq(engine_job_info(engine, id, &job), 0);
	ck_assert_str_eq(job.name, "Detach g");
	ck_assert_uint_eq(job.state, CIM_JOB_COMPLETED);
	whole_teardown();
}
END_TEST

START_TEST(what_ends_a_relationship_records_that_a_resync_has_failed)
{
	uint64_t g, id;

	whole_setup();
	g = fail_resync();
	id = whole_info(g).job;
	whole_control(g, "ReturnToResourcePool", 0);
	has_failed(id);
	whole_rules("");
	whole_teardown();
}
END_TEST

START_TEST(an_image_whose_file_is_gone_is_named_by_its_pool)
{
	char file[64];
	uint64_t g;

	whole_setup();
	g = whole_replica(
		"g", "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized", 0);
	snprintf(file, sizeof(file), "pool/e%llu.raw",
		 (unsigned long long)whole_element("g_1"));
	ck_assert_int_eq(unlink(whole_path("%s", file)), 0);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	ck_assert_ptr_nonnull(strstr(whole_job(g).error_description,
				     "pool p: the files of the images cannot be made or "
				     "opened: No such file"));
	/* The next start finds it. */
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_BROKEN);
	ck_assert_ptr_nonnull(strstr(whole_pair(g, 1).error, ".raw, is gone"));
	whole_control(g, "ReturnToResourcePool", 0);
	whole_until(whole_files("e") == 0 && whole_files("p") == 0);
	whole_teardown();
}
END_TEST

START_TEST(so_does_a_restore_that_fails)
{
	fails_and_says_so("RestoreFromReplica", "nothing was restored");
}
END_TEST

/* ---- Detach ------------------------------------------------------------------------- */

START_TEST(a_detached_snapshot_fills_itself_over_a_restart)
{
	struct job_info job;
	uint64_t g, id;

	whole_setup();
	whole_until(is_ready("f"));
	whole_content("f", before);
	whole_group("prod", "f b");
	g = whole_replica("g", "SourceGroup=prod SyncType=Snapshot", 0);
	whole_fill("f", 3, 3);
	whole_fill("g_1", 5, 5);
	set_chunk(before, 5, 5);
	whole_rules(slow_rules);
	whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	id = whole_info(g).job;
	ck_assert_uint_eq(whole_info(g).progress_status, CIM_PROGRESS_DETACHING);
	ck_assert_uint_eq(whole_pair(g, 1).progress_status, CIM_PROGRESS_DETACHING);
	ck_assert_uint_eq(whole_pair(g, 1).sync_state, CIM_SYNC_STATE_COPY_IN_PROGRESS);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_CONTROL),
			 "Detach\nDissolve\nSuspend\nAbort\nReturn To ResourcePool\n");
	whole_control(g, "ResyncReplica", CIM_RETURN_IN_USE);
	whole_control(g, "Deactivate", CIM_RETURN_IN_USE);
	whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), CIM_RETURN_IN_USE);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_info(g).progress_status, CIM_PROGRESS_DETACHING);
	ck_assert_int_eq(engine_job_info(engine, id, &job), 0);
	ck_assert_uint_eq(job.state, CIM_JOB_RUNNING);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_NOT_APPLICABLE);
	ck_assert_int_eq(engine_job_info(engine, id, &job), 0);
	ck_assert_uint_eq(job.state, CIM_JOB_COMPLETED);
	ck_assert_uint_eq(job.percent_complete, 100);
	whole_until(whole_files("p") == 0);
	whole_is("g_1", before);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_MEMBERS), "g_1\ng_2\n");
	ck_assert_str_eq(
		whole_list(ENGINE_ELEMENT, whole_element("f"), ELEMENT_RELATIONSHIPS),
		"");
	/* It is a source by now, also of Snapshots. */
	whole_replica("h", "SourceGroup=g SyncType=Snapshot", 0);
	whole_fill("g_1", 6, 6);
	whole_is("h_1", before);
	whole_teardown();
}
END_TEST

START_TEST(an_image_is_a_source_again_after_a_restart)
{
	uint64_t g;

	whole_setup();
	whole_control(whole_replica("i",
				    "SourceElement=a SyncType=Clone "
				    "WaitForCopyState=Synchronized",
				    0),
		      "Detach", 0);
	whole_content("i_1", before);
	g = whole_replica(
		"g", "SourceElement=i_1 SyncType=Snapshot WaitForCopyState=Inactive", 0);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_fill("i_1", 1, 1);
	whole_is("g_1", before);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_is("g_1", before);
	whole_fill("i_1", 2, 2);
	whole_is("g_1", before);
	whole_teardown();
}
END_TEST

/* ---- what is in use ------------------------------------------------------------------ */

START_TEST(what_is_in_use_is_not_removed)
{
	uint64_t prod, g, el;

	whole_setup();
	whole_control(whole_replica("i",
				    "SourceElement=a SyncType=Clone "
				    "WaitForCopyState=Synchronized",
				    0),
		      "Detach", 0);
	el = whole_element("i_1");
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, el), CIM_RETURN_IN_USE);
	whole_put(engine_find(engine, ENGINE_GROUP, 0, "i"), GROUP_MEMBERS, "\n", NULL);
	prod = whole_group("prod", "i_1");
	g = whole_replica("g", "SourceGroup=prod SyncType=Snapshot", 0);
	for (uint64_t c = 0; c < WHOLE_LUN / WHOLE_CHUNK; c++)
		whole_fill("i_1", c, 0x33);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, prod), CIM_RETURN_IN_USE);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), CIM_RETURN_IN_USE);
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, el), CIM_RETURN_IN_USE);
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, whole_element("g_1")),
			  CIM_RETURN_IN_USE);
	ck_assert_uint_eq(whole_put(prod, GROUP_MEMBERS, "-i_1\n", NULL),
			  CIM_RETURN_IN_USE);
	ck_assert_uint_eq(whole_put(g, GROUP_MEMBERS, "\n", NULL), CIM_RETURN_IN_USE);
	/* Its point may still be leaving when the element goes. */
	whole_control(g, "ReturnToResourcePool", 0);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, prod), 0);
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, el), 0);
	ck_assert_uint_eq(whole_element("i_1"), 0);
	whole_until(whole_files("e") == 0 && whole_files("p") == 0);
	whole_teardown();
}
END_TEST

static bool lists(uint64_t g, const char *operation)
{
	return strstr(whole_list(ENGINE_GROUP, g, GROUP_CONTROL), operation);
}

START_TEST(a_restore_that_is_not_to_be_had_is_not_listed)
{
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Clone WaitForCopyState=4", 0);
	ck_assert(lists(g, "Restore from Replica"));
	whole_control(g, "ReturnToResourcePool", 0);
	g = whole_replica("h",
			  "SourceElement=a SyncType=Clone WaitForCopyState=4 "
			  "TargetElementCount=2",
			  0);
	ck_assert(lists(g, "Resync Replica"));
	ck_assert(!lists(g, "Restore from Replica"));
	whole_control(g, "RestoreFromReplica", CIM_RETURN_NOT_SUPPORTED);
	whole_teardown();
}
END_TEST

/* Over writes, a Verify, a restart and a restore, until it is copied anew. */
START_TEST(a_fractured_clone_stays_so_when_it_is_written)
{
	struct pair_info pair;
	uint64_t g, since;

	whole_setup();
	g = whole_replica(
		"g", "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized", 0);
	whole_content("a", after);
	since = engine_sequence(engine);
	whole_forget();
	whole_control(g, "Fracture", 0);
	pair = whole_pair(g, 1);
	ck_assert_uint_eq(pair.copy_state, CIM_COPY_FRACTURED);
	ck_assert_uint_eq(pair.sync_state, CIM_SYNC_STATE_FRACTURED);
	ck_assert_uint_eq(pair.percent_synced, 100);
	ck_assert_uint_eq(whole_info(g).progress_status, CIM_PROGRESS_COMPLETED);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_FRACTURED, since), 1);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SYNCHRONIZED, since), 1);
	whole_until(whole_events(ENGINE_GROUP, g, GROUP_COPY_STATE) >= 1 &&
		    whole_events(ENGINE_GROUP, g, GROUP_CONTROL) >= 1 &&
		    whole_events(ENGINE_PAIR, pair.id, PAIR_COPY_STATE) >= 1);

	whole_fill("g_1", 9, 9);
	set_chunk(after, 9, 9);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_FRACTURED);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_ptr_nonnull(strstr(whole_job(g).error_description, "differ"));
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_FRACTURED);
	whole_is("g_1", after);
	whole_fill("g_1", 10, 10);
	set_chunk(after, 10, 10);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_FRACTURED);

	whole_control(g, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_FRACTURED);
	whole_is("a", after);
	whole_fill("a", 11, 11);
	set_chunk(after, 11, 11);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_is("g_1", after);
	whole_fill("g_1", 9, 19);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	ck_assert(lists(g, "Fracture"));
	whole_control(g, "Fracture", 0);
	ck_assert(!lists(g, "Fracture"));
	whole_control(g, "Detach", 0);
	ck_assert(!whole_info(g).has_relationship);
	set_chunk(after, 9, 19);
	whole_is("g_1", after);
	whole_teardown();
}
END_TEST

START_TEST(a_verify_goes_on_over_a_fracture)
{
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica(
		"g", "SourceElement=f SyncType=Clone WaitForCopyState=Synchronized", 0);
	whole_rules(slow_rules);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	whole_control(g, "Fracture", 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_FRACTURED);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_rules("");
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_COMPLETED);
	ck_assert_str_eq(whole_job(g).error_description, "");
	whole_teardown();
}
END_TEST

/* A Fracture that is not recorded has not been. */
START_TEST(a_fracture_that_the_store_does_not_take_is_none)
{
	struct engine_command cmd;
	uint64_t g;

	whole_setup();
	g = whole_replica(
		"g", "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized", 0);
	whole_sql(break_store);
	whole_put(g, GROUP_CONTROL, "Fracture\n", &cmd);
	whole_sql("DROP TRIGGER broken");
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_FAILED);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_fill("g_1", 9, 9);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		deactivate_discards_and_activate_takes_a_new_instant,
		an_image_that_is_opened_meanwhile_is_in_use,
		a_snapshot_is_resynced_under_open_handles_by_force_only,
		a_clone_is_resynced_under_open_handles_by_force_only,
		a_wait_after_resync_is_for_the_new_instant,
		a_resync_while_it_is_copied_takes_the_place_of_the_job,
		the_end_of_the_copy_before_is_not_the_end_of_a_resync,
		an_instant_that_fails_stands_in_its_job_once_that_can_be_written,
		a_resync_that_fails_is_no_copy_that_was_completed,
		a_detach_after_a_resync_that_fails_has_its_own_job,
		what_ends_a_relationship_records_that_a_resync_has_failed,
		an_image_whose_file_is_gone_is_named_by_its_pool,
		so_does_a_restore_that_fails,
		a_detached_snapshot_fills_itself_over_a_restart,
		an_image_is_a_source_again_after_a_restart,
		what_is_in_use_is_not_removed,
		a_restore_that_is_not_to_be_had_is_not_listed,
		a_fractured_clone_stays_so_when_it_is_written,
		a_verify_goes_on_over_a_fracture,
		a_fracture_that_the_store_does_not_take_is_none,
	};

	return unit_main("operation", tests, ROWS(tests));
}
