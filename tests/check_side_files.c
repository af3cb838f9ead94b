/* SPDX-License-Identifier: BSD-2-Clause */

/* pairs/N/map and pairs/N/digest, through the whole engine over files. */

#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>

#include "conf/cim.h"
#include "tests/whole.h"

/* Holds up the copy of element f. */
static const char slow_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				 "length = 65536\nstall = yes\n";

static bool is_ready(const char *element)
{
	struct element_info info;

	engine_element_info(engine, whole_element(element), &info);
	return info.operational_status == CIM_STATUS_OK;
}

static const char *text_of(uint64_t g, unsigned n, unsigned file)
{
	return whole_list(ENGINE_PAIR, whole_pair(g, n).id, file);
}

/* ---- map ----------------------------------------------------------------------------- */

/* The status of each byte's sector, from the text. */
static char sectors[WHOLE_LUN / 512];

static void read_map(uint64_t g)
{
	const char *text = text_of(g, 1, PAIR_MAP);
	uint64_t at = 0, offset, length;
	unsigned lines = 0;
	char status;

	for (; *text; text += strcspn(text, "\n") + 1) {
		if (*text == '#' || lines++ == 0)
			continue;
		ck_assert_int_eq(sscanf(text, "0x%" SCNx64 " 0x%" SCNx64 " %c\n", &offset,
					&length, &status),
				 3);
		ck_assert_uint_eq(offset, at);
		at += length;
		ck_assert_uint_le(at, WHOLE_LUN);
		memset(sectors + offset / 512, status, length / 512);
	}
	ck_assert_uint_eq(at, WHOLE_LUN);
}

static unsigned count(uint64_t g, char status)
{
	unsigned n = 0;

	read_map(g);
	for (size_t i = 0; i < sizeof(sectors); i++)
		n += sectors[i] == status;
	return n;
}

static char chunk_of(uint64_t g, uint64_t chunk)
{
	read_map(g);
	return sectors[chunk * WHOLE_CHUNK / 512];
}

START_TEST(a_map_follows_the_copy)
{
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Clone WaitForCopyState=Inactive",
			  0);
	ck_assert_uint_eq(count(g, '?'), sizeof(sectors));
	whole_rules(slow_rules);
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_UNSYNCHRONIZED);
	whole_until(chunk_of(g, 0) == '+' && chunk_of(g, 63) == '+');
	ck_assert_int_eq(sectors[32 * WHOLE_CHUNK / 512], '?');
	whole_fill("g_1", 2, 9);
	whole_control(g, "Suspend", 0);
	whole_stop();
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_int_eq(chunk_of(g, 0), '+');
	ck_assert_int_eq(chunk_of(g, 32), '?');
	whole_forget();
	whole_control(g, "Resume", 0);
	whole_wait_state(g, CIM_COPY_SKEWED);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	ck_assert_uint_gt(whole_events(ENGINE_PAIR, whole_pair(g, 1).id, PAIR_MAP), 0);
	/* A complete image is not open. */
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	whole_teardown();
}
END_TEST

START_TEST(a_map_of_a_snapshot_has_what_its_file_holds)
{
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Snapshot", 0);
	whole_fill("a", 3, 3);
	ck_assert_uint_eq(count(g, '?'), sizeof(sectors));
	whole_fill("g_1", 5, 5);
	ck_assert_int_eq(chunk_of(g, 5), '+');
	ck_assert_uint_eq(count(g, '+'), WHOLE_CHUNK / 512);
	whole_control(g, "Deactivate", 0);
	ck_assert_uint_eq(count(g, '?'), sizeof(sectors));
	whole_teardown();
}
END_TEST

START_TEST(a_map_of_a_lun_has_the_size_of_the_source)
{
	uint64_t g;

	whole_setup();
	ck_assert_int_eq(truncate(whole_path("c"), 2 * WHOLE_LUN), 0);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_until(is_ready("f") && is_ready("c"));
	whole_group("to", "c");
	whole_rules(slow_rules);
	g = whole_replica("g", "SourceElement=f TargetGroup=to SyncType=Clone",
			  CIM_RETURN_JOB_STARTED);
	whole_until(chunk_of(g, 0) == '+');
	ck_assert_int_eq(chunk_of(g, 32), '?');
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	whole_teardown();
}
END_TEST

START_TEST(a_medium_error_is_bad_sectors)
{
	enum { BAD = 32 * WHOLE_CHUNK + 4096 };
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	whole_rules("[bad]\nevent = read\noffset = 2101248\nlength = 1024\n"
		    "errno = ENODATA\n");
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_BROKEN);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_uint_eq(count(g, '-'), 2);
		ck_assert_int_eq(sectors[BAD / 512 - 1], '?');
		ck_assert_int_eq(sectors[BAD / 512], '-');
		ck_assert_int_eq(sectors[BAD / 512 + 1], '-');
		ck_assert_int_eq(sectors[BAD / 512 + 2], '?');
		whole_stop();
		ck_assert_int_eq(whole_start(), 0);
	}
	whole_rules("");
	whole_until(is_ready("f"));
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	whole_teardown();
}
END_TEST

/* ---- digest -------------------------------------------------------------------------- */

static unsigned char content[WHOLE_LUN];

static struct engine_command put_digest(uint64_t g, unsigned n, const char *text)
{
	struct engine_command cmd = { .verb = ENGINE_WRITE,
				      .class = ENGINE_PAIR,
				      .id = whole_pair(g, n).id,
				      .file = PAIR_DIGEST,
				      .text = text,
				      .len = strlen(text) };

	whole_run(cmd, &cmd);
	return cmd;
}

static void begin(uint64_t g, unsigned n)
{
	struct engine_command cmd = put_digest(g, n, "sha256\n");

	ck_assert_msg(cmd.outcome.code == CIM_RETURN_JOB_STARTED, "%u: %s",
		      cmd.outcome.code, cmd.outcome.sentence);
}

static const char *digest_of(uint64_t g, unsigned n)
{
	return text_of(g, n, PAIR_DIGEST);
}

/* Until the job has ended; it has to be Completed. */
static void end_well(uint64_t g)
{
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	ck_assert_msg(whole_job(g).state == CIM_JOB_COMPLETED, "%s",
		      whole_job(g).error_description);
	ck_assert_uint_eq(whole_job(g).percent_complete, 100);
}

/* Of the files in whole_dir. */
static void check_sum(const char *line)
{
	FILE *f = fopen(whole_path("line"), "w");
	char command[256];

	ck_assert_ptr_nonnull(f);
	fputs(line, f);
	fclose(f);
	snprintf(command, sizeof(command), "cd %s && sha256sum --quiet --strict -c line",
		 whole_dir);
	ck_assert_int_eq(system(command), 0);
}

/* What sha256sum says of the same bytes in a file of that name. */
static void check_line(uint64_t g, unsigned n, const char *name)
{
	const char *line = digest_of(g, n);
	FILE *f;

	whole_content(name, content);
	ck_assert_uint_eq(strlen(line), 64 + 2 + strlen(name) + 1);
	f = fopen(whole_path("%s", name), "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(content, 1, sizeof(content), f), sizeof(content));
	fclose(f);
	check_sum(line);
	ck_assert_int_eq(unlink(whole_path("%s", name)), 0);
}

static void digest_once(const char *spec)
{
	struct job_info job;
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", spec, 0);
	ck_assert_str_eq(digest_of(g, 1), "");
	whole_forget();
	begin(g, 1);
	end_well(g);
	job = whole_job(g);
	ck_assert_str_eq(job.name, "Digest g");
	ck_assert_uint_eq(job.bytes_total, WHOLE_LUN);
	ck_assert_uint_eq(job.bytes_copied, WHOLE_LUN);
	ck_assert_uint_ge(whole_events(ENGINE_PAIR, whole_pair(g, 1).id, PAIR_DIGEST), 1);
	check_line(g, 1, "g_1");
	/* It is there: nothing is to be done. */
	ck_assert_uint_eq(put_digest(g, 1, "SHA-256\n").outcome.code, CIM_RETURN_OK);
	ck_assert_uint_eq(whole_info(g).job, job.id);
	/* Others may look. */
	engine_data_close(whole_open("g_1", true));
	check_line(g, 1, "g_1");
	ck_assert_uint_eq(put_digest(g, 1, "no\n").outcome.code, CIM_RETURN_OK);
	ck_assert_str_eq(digest_of(g, 1), "");
	whole_teardown();
}

START_TEST(a_digest_of_a_clone_is_what_sha256sum_says)
{
	digest_once("SourceElement=f SyncType=Clone WaitForCopyState=Synchronized");
}
END_TEST

START_TEST(a_fractured_clone_has_a_digest_until_it_is_written)
{
	uint64_t g;

	whole_setup();
	g = whole_replica(
		"g", "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized", 0);
	begin(g, 1);
	end_well(g);
	whole_control(g, "Fracture", 0);
	check_line(g, 1, "g_1");
	whole_fill("g_1", 9, 9);
	ck_assert_str_eq(digest_of(g, 1), "");
	begin(g, 1);
	end_well(g);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

START_TEST(a_digest_of_a_snapshot_is_what_sha256sum_says)
{
	digest_once("SourceElement=f SyncType=Snapshot");
}
END_TEST

START_TEST(a_snapshot_keeps_its_digest_when_the_source_is_written)
{
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Snapshot", 0);
	begin(g, 1);
	end_well(g);
	whole_fill("a", 3, 3);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

static bool is_told(uint64_t g)
{
	return whole_events(ENGINE_PAIR, whole_pair(g, 1).id, PAIR_DIGEST);
}

static void digest_again(uint64_t g)
{
	begin(g, 1);
	end_well(g);
	check_line(g, 1, "g_1");
	whole_forget();
}

static void empties(const char *spec)
{
	struct engine_handle *h;
	uint64_t g;

	whole_setup();
	g = whole_replica("g", spec, 0);
	digest_again(g);
	whole_fill("g_1", 3, 3);
	ck_assert_str_eq(digest_of(g, 1), "");
	/* With the new state. */
	whole_until(is_told(g));
	/* Not only the first write; by a handle that stays open, too. */
	digest_again(g);
	h = whole_open("g_1", true);
	ck_assert_int_eq(whole_write(h, 4, 4), 0);
	ck_assert_str_eq(digest_of(g, 1), "");
	digest_again(g);
	ck_assert_int_eq(whole_write(h, 4, 4), 0);
	ck_assert_str_eq(digest_of(g, 1), "");
	engine_data_close(h);
	ck_assert_str_eq(digest_of(g, 1), "");
	/* By the tick. */
	whole_until(is_told(g));
	/* By an open of its own: the image is closed before and after. */
	digest_again(g);
	whole_fill("g_1", 5, 5);
	ck_assert_str_eq(digest_of(g, 1), "");
	digest_again(g);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_str_eq(digest_of(g, 1), "");
	ck_assert(is_told(g));
	digest_again(g);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_str_eq(digest_of(g, 1), "");
	digest_again(g);
	whole_teardown();
}

START_TEST(what_changes_a_clone_empties_its_digest)
{
	empties("SourceElement=a SyncType=Clone WaitForCopyState=Synchronized");
}
END_TEST

START_TEST(what_changes_a_snapshot_empties_its_digest)
{
	empties("SourceElement=a SyncType=Snapshot");
}
END_TEST

/* A Snapshot of f whose digest stands still in the midst. */
static uint64_t stalled(void)
{
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Snapshot", 0);
	whole_rules(slow_rules);
	begin(g, 1);
	whole_until(whole_job(g).bytes_copied >= 1 << 20);
	ck_assert_uint_lt(whole_job(g).percent_complete, 100);
	ck_assert_str_eq(whole_info(g).doing, "Hashing");
	return g;
}

START_TEST(what_is_written_meanwhile_has_no_digest)
{
	struct job_info job;
	uint64_t g = stalled();

	whole_fill("g_1", 1, 1);
	whole_rules("");
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	job = whole_job(g);
	ck_assert_uint_eq(job.state, CIM_JOB_EXCEPTION);
	ck_assert_uint_eq(job.error_code, CIM_RETURN_IN_USE);
	ck_assert_ptr_nonnull(strstr(job.error_description, "g_1 was written"));
	ck_assert_str_eq(digest_of(g, 1), "");
	begin(g, 1);
	end_well(g);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

static void request(uint64_t job, const char *text, unsigned code)
{
	struct engine_command cmd = { .verb = ENGINE_WRITE,
				      .class = ENGINE_JOB,
				      .id = job,
				      .file = JOB_CONTROL,
				      .text = text,
				      .len = strlen(text) };

	ck_assert_uint_eq(whole_run(cmd, NULL), code);
}

START_TEST(a_digest_is_stopped_by_its_job_or_by_no)
{
	uint64_t g = stalled();

	/* It is under way already. */
	begin(g, 1);
	request(whole_info(g).job, "Suspend\n", CIM_RETURN_NOT_SUPPORTED);
	request(whole_info(g).job, "Terminate\n", CIM_RETURN_OK);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_TERMINATED);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	begin(g, 1);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	ck_assert_uint_eq(put_digest(g, 1, "no\n").outcome.code, CIM_RETURN_OK);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_TERMINATED);
	whole_rules("");
	begin(g, 1);
	end_well(g);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

START_TEST(a_digest_ends_with_its_relationship)
{
	uint64_t g = stalled();

	whole_control(g, "ReturnToResourcePool", 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_NOT_APPLICABLE);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
	whole_rules("");
	whole_until(whole_files("e") == 0 && whole_files("p") == 0);
	whole_teardown();
}
END_TEST

START_TEST(another_operation_takes_the_place_of_a_digest)
{
	struct job_info job;
	uint64_t g = stalled(), id = whole_info(g).job;

	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	ck_assert_int_eq(engine_job_info(engine, id, &job), 0);
	ck_assert_uint_eq(job.state, CIM_JOB_TERMINATED);
	whole_rules("");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_str_eq(digest_of(g, 1), "");
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	begin(g, 1);
	end_well(g);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

START_TEST(a_stop_ends_a_digest_and_the_start_its_job)
{
	struct job_info job;
	uint64_t g = stalled(), id = whole_info(g).job;

	whole_stop();
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_int_eq(engine_job_info(engine, id, &job), 0);
	ck_assert_uint_eq(job.state, CIM_JOB_EXCEPTION);
	ck_assert_str_eq(digest_of(g, 1), "");
	begin(g, 1);
	end_well(g);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

START_TEST(a_device_that_is_away_is_waited_for)
{
	uint64_t g = stalled();

	whole_rules("[it]\nstate = away\n");
	whole_until(!is_ready("f"));
	whole_rules("");
	end_well(g);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

START_TEST(what_cannot_be_read_ends_it_with_the_reason)
{
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Snapshot", 0);
	whole_rules("[bad]\nevent = read\noffset = 2097152\nlength = 512\nerrno = EIO\n");
	begin(g, 1);
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_EXCEPTION);
	ck_assert_ptr_nonnull(
		strstr(whole_job(g).error_description, "g_1: bytes 2097152 to "));
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	ck_assert_str_eq(digest_of(g, 1), "");
	whole_teardown();
}
END_TEST

static const char break_store[] = "CREATE TRIGGER broken BEFORE UPDATE OF state ON job "
				  "BEGIN SELECT RAISE(ABORT, 'broken'); END";

START_TEST(an_end_that_cannot_be_recorded_is_tried_again)
{
	uint64_t g = stalled();

	whole_sql(break_store);
	whole_rules("");
	/* It is there, and its job goes on. */
	whole_until(*digest_of(g, 1));
	request(whole_info(g).job, "Terminate\n", CIM_RETURN_FAILED);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_sql("DROP TRIGGER broken");
	end_well(g);
	check_line(g, 1, "g_1");
	/* The same when it is taken back. */
	put_digest(g, 1, "no\n");
	whole_rules(slow_rules);
	begin(g, 1);
	whole_sql(break_store);
	ck_assert_uint_eq(put_digest(g, 1, "no\n").outcome.code, CIM_RETURN_OK);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_sql("DROP TRIGGER broken");
	whole_until(whole_job(g).state == CIM_JOB_TERMINATED);
	ck_assert_ptr_nonnull(strstr(whole_job(g).error_description, "taken back"));
	whole_rules("");
	begin(g, 1);
	end_well(g);
	check_line(g, 1, "g_1");
	whole_teardown();
}
END_TEST

/* One buffer has to do for both. */
START_TEST(the_digests_of_a_group_are_one_job)
{
	uint64_t g, job;

	whole_daemon("copy_memory = 4M\n");
	whole_setup();
	whole_until(is_ready("f"));
	whole_group("prod", "a f");
	g = whole_replica("g", "SourceGroup=prod SyncType=Snapshot", 0);
	whole_rules(slow_rules);
	begin(g, 2);
	job = whole_info(g).job;
	begin(g, 1);
	ck_assert_uint_eq(whole_info(g).job, job);
	ck_assert_uint_eq(whole_job(g).bytes_total, 2 * WHOLE_LUN);
	whole_rules("");
	end_well(g);
	ck_assert_uint_eq(whole_job(g).bytes_copied, 2 * WHOLE_LUN);
	check_line(g, 1, "g_1");
	check_line(g, 2, "g_2");
	whole_daemon("");
	whole_teardown();
}
END_TEST

/* Also of what lies behind the copy. */
START_TEST(a_digest_of_a_lun_is_of_all_of_it)
{
	uint64_t g;

	whole_setup();
	ck_assert_int_eq(truncate(whole_path("c"), 2 * WHOLE_LUN), 0);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_group("to", "c");
	g = whole_replica("g",
			  "SourceElement=a TargetGroup=to SyncType=Clone "
			  "WaitForCopyState=Synchronized",
			  0);
	begin(g, 1);
	end_well(g);
	ck_assert_uint_eq(whole_job(g).bytes_copied, 2 * WHOLE_LUN);
	/* The target is that file. */
	check_sum(digest_of(g, 1));
	whole_fill("c", 100, 3);
	ck_assert_str_eq(digest_of(g, 1), "");
	begin(g, 1);
	end_well(g);
	check_sum(digest_of(g, 1));
	whole_teardown();
}
END_TEST

START_TEST(what_is_not_there_has_no_digest)
{
	static const struct {
		const char *text;
		unsigned code;
		int error;
		const char *sentence;
	} rows[] = {
		{ "sha256\n", CIM_RETURN_FAILED, EIO, "Synchronized, Fractured, Skewed" },
		{ "1\n", CIM_RETURN_FAILED, EIO, "Synchronized, Fractured, Skewed" },
		{ "md5\n", CIM_RETURN_INVALID_PARAMETER, EINVAL,
		  "\"md5\"; write sha256" },
		{ "\n", CIM_RETURN_INVALID_PARAMETER, EINVAL, "write sha256" },
		{ "no\n", CIM_RETURN_OK, 0, "" },
	};
	struct engine_command cmd;
	struct pair_info info;
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Clone WaitForCopyState=Inactive",
			  0);
	for (size_t i = 0; i < ROWS(rows); i++) {
		cmd = put_digest(g, 1, rows[i].text);
		ROW_EQ(rows[i].text, cmd.outcome.code, rows[i].code);
		ROW_EQ(rows[i].text, cmd.outcome.error, rows[i].error);
		ROW_HAS(rows[i].text, cmd.outcome.sentence, rows[i].sentence);
		info = whole_pair(g, 1);
		ROW_STR_EQ(rows[i].text, info.result.outcome.sentence,
			   cmd.outcome.sentence);
		ck_assert_int_eq(info.result.pid, getpid());
	}
	whole_rules(slow_rules);
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_UNSYNCHRONIZED);
	cmd = put_digest(g, 1, "sha256\n");
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_IN_USE);
	ck_assert_int_eq(cmd.outcome.error, EBUSY);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_map_follows_the_copy,
		a_map_of_a_snapshot_has_what_its_file_holds,
		a_map_of_a_lun_has_the_size_of_the_source,
		a_medium_error_is_bad_sectors,
		a_digest_of_a_clone_is_what_sha256sum_says,
		a_fractured_clone_has_a_digest_until_it_is_written,
		a_digest_of_a_snapshot_is_what_sha256sum_says,
		a_snapshot_keeps_its_digest_when_the_source_is_written,
		what_changes_a_clone_empties_its_digest,
		what_changes_a_snapshot_empties_its_digest,
		what_is_written_meanwhile_has_no_digest,
		a_digest_is_stopped_by_its_job_or_by_no,
		a_digest_ends_with_its_relationship,
		another_operation_takes_the_place_of_a_digest,
		a_stop_ends_a_digest_and_the_start_its_job,
		a_device_that_is_away_is_waited_for,
		what_cannot_be_read_ends_it_with_the_reason,
		an_end_that_cannot_be_recorded_is_tried_again,
		the_digests_of_a_group_are_one_job,
		a_digest_of_a_lun_is_of_all_of_it,
		what_is_not_there_has_no_digest,
	};

	return unit_main("side_files", tests, ROWS(tests));
}
