/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * RestoreFromReplica of Snapshots and Clones through the whole engine over files: states,
 * jobs, what is allowed meanwhile, restarts.
 *
 * What these lines are for shows when they are broken; then these tests fail:
 *   operation_restore.c, take_plan(): without is_overtaken()   a_snapshot_taken_at_...
 *   load.c, is_moving(): restores not looked at                a_restart_goes_on
 *   operation_restore.c, open_target(): always 0               a_clone_is_restored
 *   restore_unit.c, compare_work(): memcmp() taken for 0       a_clone_is_restored
 *   restore_unit.c, compare_work(): memcmp() taken for 1       a_clone_is_restored
 */

#include "tests/unit.h"

#include <errno.h>
#include <sys/stat.h>

#include "conf/cim.h"
#include "tests/whole.h"

static unsigned char before[WHOLE_LUN], after[WHOLE_LUN], now[WHOLE_LUN];

/* Holds up the writing of chunk 40 of element f. */
static const char stuck_rules[] = "[stuck]\nevent = write\noffset = 2621440\n"
				  "length = 65536\nstall = yes\n";
enum { STUCK = 40 };

static void set_chunk(unsigned char *buf, uint64_t chunk, unsigned char byte)
{
	memset(buf + chunk * WHOLE_CHUNK, byte, WHOLE_CHUNK);
}

static void write_job(uint64_t job, const char *request, unsigned code)
{
	struct engine_command cmd = { .verb = ENGINE_WRITE,
				      .class = ENGINE_JOB,
				      .id = job,
				      .file = JOB_CONTROL,
				      .text = request,
				      .len = strlen(request) };

	ck_assert_uint_eq(whole_run(cmd, NULL), code);
}

static void check_chunk(const char *element, uint64_t chunk, const unsigned char *want)
{
	unsigned char buf[WHOLE_CHUNK];
	struct engine_handle *h = whole_open(element, false);

	ck_assert_int_eq(whole_read(h, chunk, buf), 0);
	ck_assert_mem_eq(buf, want + chunk * WHOLE_CHUNK, WHOLE_CHUNK);
	engine_data_close(h);
}

static void wait_restored(uint64_t g)
{
	whole_until(whole_job(g).state != CIM_JOB_RUNNING &&
		    whole_info(g).progress_status != CIM_PROGRESS_RESTORING);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_COMPLETED);
	ck_assert_uint_eq(whole_job(g).error_code, 0);
	ck_assert_uint_eq(whole_job(g).percent_complete, 100);
	ck_assert_uint_eq(whole_info(g).progress_status, CIM_PROGRESS_COMPLETED);
	whole_until(whole_files("r") == 0);
}

/* A snapshot "s" of f, of which chunk 5 was written; then f changes, and is restored; it
 * stays in its middle.  `before` is what it becomes, `after` what another snapshot, "o",
 * which is newer, has. */
static uint64_t restore_halfway(uint64_t *ret_other)
{
	uint64_t g;

	whole_setup();
	whole_rules("");
	g = whole_replica("s", "SourceElement=f SyncType=Snapshot", 0);
	whole_fill("s_1", 5, 5);
	whole_content("s_1", before);
	for (unsigned i = 0; i < 20; i++)
		whole_fill("f", 2 * i, 0x80 + i);
	whole_fill("f", STUCK, 0x40);
	*ret_other = whole_replica("o", "SourceElement=f SyncType=Snapshot", 0);
	whole_content("o_1", after);
	whole_rules(stuck_rules);
	whole_control(g, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_info(g).progress_status == CIM_PROGRESS_RESTORING);
	return g;
}

START_TEST(a_restore_is_a_job_and_others_wait_for_its_end)
{
	static const char *const refused[] = {
		"RestoreFromReplica",
		"ResyncReplica",
		"Detach",
		"Deactivate",
		"ReturnToResourcePool",
		"ReturnToResourcePool Force",
	};
	uint64_t other, x, g = restore_halfway(&other);
	struct job_info job;
	struct pair_info pair;

	check_chunk("f", 5, before);
	check_chunk("f", 10, before);
	whole_until(whole_job(g).bytes_copied > 0);
	job = whole_job(g);
	ck_assert_uint_eq(job.state, CIM_JOB_RUNNING);
	ck_assert_str_eq(job.name, "RestoreFromReplica s");
	ck_assert_uint_eq(job.bytes_total, 22 * WHOLE_CHUNK);
	ck_assert_uint_lt(job.bytes_copied, job.bytes_total);
	ck_assert_uint_lt(job.percent_complete, 100);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	pair = whole_pair(g, 1);
	ck_assert_uint_eq(pair.progress_status, CIM_PROGRESS_RESTORING);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_CONTROL), "");
	for (size_t i = 0; i < ROWS(refused); i++)
		whole_control(g, refused[i], CIM_RETURN_IN_USE);
	whole_control(other, "RestoreFromReplica", CIM_RETURN_IN_USE);
	write_job(job.id, "Terminate\n", CIM_RETURN_BUSY);
	write_job(job.id, "Kill\n", CIM_RETURN_BUSY);
	write_job(job.id, "Suspend\n", CIM_RETURN_BUSY);
	/* A new point sees the restored content; an older one stays. */
	x = whole_replica("x", "SourceElement=f SyncType=Snapshot", 0);
	check_chunk("x_1", 4, before);
	check_chunk("o_1", 4, after);
	whole_rules("");
	wait_restored(g);
	whole_is("f", before);
	whole_is("x_1", before);
	whole_is("o_1", after);
	whole_is("s_1", before);
	ck_assert_uint_eq(whole_job(g).bytes_copied, 22 * WHOLE_CHUNK);
	/* Back, and forth, and to the end. */
	whole_control(other, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_info(other).progress_status == CIM_PROGRESS_RESTORING ||
		    whole_job(other).state == CIM_JOB_COMPLETED);
	whole_is("f", after);
	wait_restored(other);
	whole_is("x_1", before);
	whole_control(x, "ReturnToResourcePool", 0);
	whole_control(other, "Deactivate", 0);
	whole_control(g, "ReturnToResourcePool", 0);
	whole_until(whole_files("p") == 0 && whole_files("r") == 0);
	whole_is("f", after);
	whole_teardown();
}
END_TEST

START_TEST(a_restart_goes_on)
{
	uint64_t other, job, g = restore_halfway(&other);

	job = whole_job(g).id;
	whole_fill("f", 50, 0x50);
	set_chunk(before, 50, 0x50);
	for (unsigned i = 0; i < 3; i++) {
		whole_stop();
		ck_assert_int_eq(whole_start(), 0);
		ck_assert_uint_eq(whole_info(g).progress_status, CIM_PROGRESS_RESTORING);
		ck_assert_uint_eq(whole_job(g).id, job);
		ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
		whole_control(g, "Detach", CIM_RETURN_IN_USE);
		check_chunk("f", 5, before);
		check_chunk("f", 36, before);
	}
	whole_rules("");
	wait_restored(g);
	whole_is("f", before);
	whole_is("o_1", after);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_is("f", before);
	whole_is("o_1", after);
	whole_teardown();
}
END_TEST

static void move(const char *from, const char *to)
{
	char a[160], b[160];

	snprintf(a, sizeof(a), "%s", whole_path("%s", from));
	snprintf(b, sizeof(b), "%s", whole_path("%s", to));
	ck_assert_int_eq(rename(a, b), 0);
}

/* As restore_halfway(), of a Clone: 22 chunks differ. */
static uint64_t clone_halfway(uint64_t *ret_other)
{
	uint64_t g;

	whole_setup();
	whole_rules("");
	g = whole_replica("s", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_fill("s_1", 5, 5);
	whole_content("s_1", before);
	for (unsigned i = 0; i < 20; i++)
		whole_fill("f", 2 * i, 0x80 + i);
	whole_fill("f", STUCK, 0x40);
	*ret_other = whole_replica("o", "SourceElement=f SyncType=Snapshot", 0);
	whole_content("o_1", after);
	whole_rules(stuck_rules);
	whole_control(g, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_info(g).progress_status == CIM_PROGRESS_RESTORING);
	return g;
}

START_TEST(a_clone_is_restored)
{
	uint64_t other, x, g = clone_halfway(&other);
	struct engine_handle *h;
	struct job_info job;

	check_chunk("f", 5, before);
	check_chunk("f", 10, before);
	whole_until(whole_job(g).bytes_copied > 0);
	job = whole_job(g);
	ck_assert_uint_eq(job.state, CIM_JOB_RUNNING);
	ck_assert_str_eq(job.name, "RestoreFromReplica s");
	ck_assert_uint_eq(job.bytes_total, WHOLE_LUN);
	ck_assert_uint_lt(job.percent_complete, 100);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	whole_control(g, "Detach", CIM_RETURN_IN_USE);
	whole_control(g, "ResyncReplica Force", CIM_RETURN_IN_USE);
	whole_control(other, "RestoreFromReplica", CIM_RETURN_IN_USE);
	write_job(job.id, "Terminate\n", CIM_RETURN_BUSY);
	/* What is written to the image now is not of its instant. */
	h = whole_open("s_1", true);
	ck_assert_int_eq(whole_write(h, 58, 0x58), 0);
	engine_data_close(h);
	check_chunk("f", 58, before);
	x = whole_replica("x", "SourceElement=f SyncType=Snapshot", 0);
	check_chunk("x_1", 4, before);
	check_chunk("o_1", 4, after);
	whole_rules("");
	wait_restored(g);
	ck_assert_uint_eq(whole_job(g).bytes_copied, 22 * WHOLE_CHUNK);
	ck_assert_uint_eq(whole_job(g).bytes_skipped, WHOLE_LUN - 22 * WHOLE_CHUNK);
	whole_is("f", before);
	whole_is("x_1", before);
	whole_is("o_1", after);
	/* And its image goes on as that of a Clone. */
	check_chunk("s_1", 5, before);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_uint_eq(whole_pair(g, 1).bytes_copied, WHOLE_CHUNK);
	whole_is("s_1", before);
	whole_control(x, "ReturnToResourcePool", 0);
	whole_control(other, "ReturnToResourcePool", 0);
	whole_control(g, "ReturnToResourcePool", 0);
	whole_until(whole_files("p") == 0 && whole_files("r") == 0 &&
		    whole_files("e") == 0);
	whole_teardown();
}
END_TEST

START_TEST(the_restore_of_a_clone_goes_on_after_restarts)
{
	uint64_t other, job, g = clone_halfway(&other);

	job = whole_job(g).id;
	whole_fill("f", 50, 0x50);
	set_chunk(before, 50, 0x50);
	for (unsigned i = 0; i < 3; i++) {
		whole_stop();
		ck_assert_int_eq(whole_start(), 0);
		ck_assert_uint_eq(whole_info(g).progress_status, CIM_PROGRESS_RESTORING);
		ck_assert_uint_eq(whole_job(g).id, job);
		ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
		whole_control(g, "Detach", CIM_RETURN_IN_USE);
		check_chunk("f", 5, before);
		/* Not among the 16 chunks around the one that is stuck. */
		check_chunk("f", 20, before);
	}
	whole_rules("");
	wait_restored(g);
	whole_is("f", before);
	whole_is("o_1", after);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_is("f", before);
	whole_teardown();
}
END_TEST

/* Half a restore is shown to nobody. */
START_TEST(a_start_without_its_files_shows_nothing_and_the_next_one_goes_on)
{
	uint64_t other, g = restore_halfway(&other);
	struct element_info info;

	whole_stop();
	move("pool", "elsewhere");
	/* As where its file system is not mounted. */
	ck_assert_int_eq(whole_start(), -ENOENT);
	/* A pool, but of nothing. */
	ck_assert_int_eq(mkdir(whole_path("pool"), 0700), 0);
	ck_assert_int_eq(mknod(whole_path("pool/lunfs.pool"), S_IFREG | 0600, 0), 0);
	ck_assert_int_eq(whole_start(), 0);
	engine_element_info(engine, whole_element("f"), &info);
	ck_assert_uint_eq(info.operational_status, CIM_STATUS_ERROR);
	ck_assert_ptr_nonnull(strstr(info.error, "restore"));
	ck_assert_uint_eq(whole_state(g), CIM_COPY_BROKEN);
	whole_control(g, "ReturnToResourcePool", CIM_RETURN_IN_USE);
	whole_stop();
	move("pool", "empty");
	move("elsewhere", "pool");
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	whole_is("f", before);
	whole_teardown();
}
END_TEST

START_TEST(an_open_source_is_in_use)
{
	struct engine_command cmd;
	struct engine_handle *h;
	unsigned char buf[WHOLE_CHUNK];
	int64_t modified;
	struct element_info info;
	uint64_t g;

	whole_setup();
	g = whole_replica("s", "SourceElement=a SyncType=Snapshot", 0);
	whole_content("a", before);
	h = whole_open("a", true);
	ck_assert_int_eq(whole_write(h, 7, 7), 0);
	engine_element_info(engine, whole_element("a"), &info);
	modified = info.modified_ms;
	whole_put(g, GROUP_CONTROL, "RestoreFromReplica\n", &cmd);
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_IN_USE);
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, "1 open handle"));
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, "RestoreFromReplica Force"));
	usleep(5000);
	whole_forget();
	whole_control(g, "RestoreFromReplica Force", CIM_RETURN_JOB_STARTED);
	wait_restored(g);
	ck_assert_int_eq(whole_read(h, 7, buf), 0);
	ck_assert_mem_eq(buf, before + 7 * WHOLE_CHUNK, WHOLE_CHUNK);
	engine_data_close(h);
	ck_assert_uint_ge(whole_n_events(ENGINE_ELEMENT, ENGINE_EVENT_CONTENT), 1);
	ck_assert_uint_ge(whole_events(ENGINE_GROUP, g, GROUP_CONTROL), 1);
	engine_element_info(engine, whole_element("a"), &info);
	ck_assert_int_gt(info.modified_ms, modified);
	whole_is("a", before);
	whole_teardown();
}
END_TEST

/* Between the answer and the instant; the try counts if it came before the instant. */
START_TEST(a_source_that_is_opened_meanwhile_is_in_use)
{
	struct engine_handle *h;
	struct job_info job;
	unsigned hits = 0;
	uint64_t g;

	whole_setup();
	g = whole_replica("s", "SourceElement=a SyncType=Snapshot", 0);
	whole_content("a", before);
	whole_fill("a", 7, 7);
	whole_content("a", after);
	for (unsigned i = 0; i < 50 && !hits; i++) {
		whole_control(g, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
		h = whole_open("a", true);
		whole_until(whole_job(g).state != CIM_JOB_RUNNING);
		job = whole_job(g);
		if (job.state == CIM_JOB_COMPLETED) {
			ck_assert_int_eq(whole_write(h, 7, 7), 0);
		} else {
			hits++;
			ck_assert_uint_eq(job.state, CIM_JOB_EXCEPTION);
			ck_assert_uint_eq(job.error_code, CIM_RETURN_IN_USE);
			ck_assert_ptr_nonnull(strstr(job.error_description, "1 open handle"));
			ck_assert_ptr_nonnull(
				strstr(job.error_description, "RestoreFromReplica Force"));
			whole_is("a", after);
			whole_until(whole_files("r") == 0);
		}
		engine_data_close(h);
	}
	ck_assert_uint_eq(hits, 1);
	whole_control(g, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
	wait_restored(g);
	whole_is("a", before);
	whole_teardown();
}
END_TEST

static void begin(struct whole_call *call, uint64_t group, unsigned file,
		  const char *text)
{
	*call = (struct whole_call){ .cmd = { .verb = ENGINE_WRITE,
					      .class = ENGINE_GROUP,
					      .id = group,
					      .file = file,
					      .text = text,
					      .len = strlen(text) } };
	whole_send(call);
}

/* Whichever comes first, its content does not change any more. */
START_TEST(a_snapshot_taken_at_the_same_time_is_of_before_or_after)
{
	const char *spec = "SourceElement=a SyncType=Snapshot\n";
	unsigned n_before = 0;
	uint64_t g;

	whole_setup();
	g = whole_replica("s", "SourceElement=a SyncType=Snapshot", 0);
	whole_content("a", before);
	for (unsigned i = 0; i < 40; i++) {
		struct whole_call snapshot, restore;
		uint64_t x = whole_make(ENGINE_GROUP, "x");
		bool restored;

		whole_fill("a", 3, 0x30 + i);
		whole_content("a", after);
		if (i % 2)
			begin(&snapshot, x, GROUP_SPEC, spec);
		begin(&restore, g, GROUP_CONTROL, "RestoreFromReplica\n");
		if (i % 2 == 0) {
			usleep(i * 50);
			begin(&snapshot, x, GROUP_SPEC, spec);
		}
		whole_wait(&restore);
		whole_wait(&snapshot);
		ck_assert_uint_eq(restore.cmd.outcome.code, CIM_RETURN_JOB_STARTED);
		ck_assert_uint_eq(snapshot.cmd.outcome.code, 0);
		whole_content("x_1", now);
		restored = !memcmp(now, before, WHOLE_LUN);
		ck_assert(restored || !memcmp(now, after, WHOLE_LUN));
		n_before += !restored;
		wait_restored(g);
		whole_is("x_1", restored ? before : after);
		whole_is("a", before);
		whole_control(x, "ReturnToResourcePool", 0);
		ck_assert_uint_eq(whole_remove(ENGINE_GROUP, x), 0);
	}
	printf("%u of 40 snapshots are of before\n", n_before);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_restore_is_a_job_and_others_wait_for_its_end,
		a_restart_goes_on,
		a_clone_is_restored,
		the_restore_of_a_clone_goes_on_after_restarts,
		a_start_without_its_files_shows_nothing_and_the_next_one_goes_on,
		an_open_source_is_in_use,
		a_source_that_is_opened_meanwhile_is_in_use,
		a_snapshot_taken_at_the_same_time_is_of_before_or_after,
	};

	return unit_main("restore_job", tests, ROWS(tests));
}
