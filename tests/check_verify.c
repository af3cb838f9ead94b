/* SPDX-License-Identifier: BSD-2-Clause */

/* Verify through the whole engine over files: what it finds against a model, how it
 * ends, and that many at once get by with little memory. */

#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/strbuf.h"
#include "tests/whole.h"

/* Holds up what reads there of element f. */
static const char stalled[] = "[slow]\nevent = read\noffset = 2097152\n"
			      "length = 65536\nstall = yes\n";

static const char *verified(uint64_t g)
{
	return whole_list(ENGINE_PAIR, whole_pair(g, 1).id, PAIR_VERIFIED);
}

static void job_request(uint64_t job, const char *request, unsigned code)
{
	struct engine_command cmd = { .verb = ENGINE_WRITE,
				      .class = ENGINE_JOB,
				      .id = job,
				      .file = JOB_CONTROL,
				      .text = request,
				      .len = strlen(request) };

	ck_assert_uint_eq(whole_run(cmd, NULL), code);
}

static void verify(uint64_t g)
{
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_COMPLETED);
	ck_assert_uint_eq(whole_job(g).error_code, 0);
}

/* What the text says after the times, from two contents of `a` and of the image. */
static void expect(struct strbuf *b, const unsigned char *x, const unsigned char *y)
{
	CLEANUP_STRBUF struct strbuf lines = STRBUF_INIT;
	uint64_t begin = 0, different = 0;
	unsigned ranges = 0;
	bool within = false;

	for (uint64_t at = 0; at <= WHOLE_LUN; at += 4096) {
		bool differs = at < WHOLE_LUN && memcmp(x + at, y + at, 4096);

		if (differs && !within)
			begin = at;
		if (!differs && within && ++ranges <= 64)
			strbuf_addf(&lines, "%" PRIu64 " %" PRIu64 "\n", begin, at - begin);
		within = differs;
		different += differs ? 4096 : 0;
	}
	strbuf_addf(b, "bytes_total %d\nbytes_compared %d\nbytes_different %" PRIu64
		       "\nranges %u\n%s", WHOLE_LUN, WHOLE_LUN, different, ranges, lines.s ? lines.s : "");
}

static void finds_what_differs(const char *spec)
{
	static unsigned char source[WHOLE_LUN], image[WHOLE_LUN];
	struct unit_random random = unit_random_start(__func__);
	struct engine_handle *h;
	uint64_t g;

	whole_setup();
	g = whole_replica("g", spec, 0);
	ck_assert_str_eq(verified(g), "");
	for (unsigned round = 0; round < 20; round++) {
		CLEANUP_STRBUF struct strbuf want = STRBUF_INIT;
		const char *text;

		verify(g);
		whole_content("a", source);
		whole_content("g_1", image);
		expect(&want, source, image);
		text = strstr(verified(g), "bytes_total");
		ck_assert_ptr_nonnull(text);
		ck_assert_str_eq(text, want.s);
		h = whole_open(unit_random_below(&random, 2) ? "a" : "g_1", true);
		for (unsigned i = 0; i < 3; i++) {
			uint64_t chunk = unit_random_below(&random, 64);
			unsigned char byte = (unsigned char)unit_random_below(&random, 3);

			ck_assert_int_eq(whole_write(h, chunk, byte), 0);
		}
		engine_data_close(h);
	}
	whole_teardown();
}

START_TEST(it_finds_what_a_clone_and_its_source_differ_in)
{
	finds_what_differs("SourceElement=a SyncType=Clone WaitForCopyState=Synchronized");
}
END_TEST

START_TEST(it_finds_what_a_snapshot_and_its_source_differ_in)
{
	finds_what_differs("SourceElement=a SyncType=Snapshot");
}
END_TEST

static void zeroed(struct engine_io *io, int error, const void *buf, size_t n)
{
	(void)buf;
	(void)n;
	ck_assert_int_eq(error, 0);
	__atomic_store_n((bool *)io->opaque, true, __ATOMIC_RELEASE);
}

START_TEST(what_is_a_hole_on_one_side_only_is_compared)
{
	static unsigned char source[WHOLE_LUN], image[WHOLE_LUN];
	CLEANUP_STRBUF struct strbuf want = STRBUF_INIT;
	struct engine_io io = { .op = ENGINE_IO_ZERO,
				.len = 8 * WHOLE_CHUNK,
				.done = zeroed };
	bool done = false;
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Clone "
			       "WaitForCopyState=Synchronized", 0);
	io.handle = whole_open("g_1", true);
	io.opaque = &done;
	engine_data_submit(&io);
	whole_until(__atomic_load_n(&done, __ATOMIC_ACQUIRE));
	engine_data_close(io.handle);
	verify(g);
	whole_content("a", source);
	whole_content("g_1", image);
	ck_assert_mem_ne(source, image, 8 * WHOLE_CHUNK);
	expect(&want, source, image);
	ck_assert_str_eq(strstr(verified(g), "bytes_total"), want.s);
	whole_teardown();
}
END_TEST

/* ---- the end --------------------------------------------------------------------- */

static uint64_t stalled_verify(void)
{
	uint64_t g;

	whole_rules("");
	whole_until(whole_element("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Clone "
			       "WaitForCopyState=Synchronized", 0);
	whole_rules(stalled);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	whole_until(strstr(verified(g), "bytes_compared 2097152"));
	return g;
}

START_TEST(other_operations_end_it)
{
	static const char *const operations[] = { "ResyncReplica", "Detach",
						  "ReturnToResourcePool" };

	whole_setup();
	for (size_t i = 0; i < ROWS(operations); i++) {
		uint64_t g = stalled_verify();
		struct job_info before = whole_job(g), job;

		whole_put(g, GROUP_CONTROL, "Verify\n", NULL);
		ck_assert_uint_eq(whole_info(g).result.outcome.code, CIM_RETURN_IN_USE);
		whole_control(g, operations[i], i ? 0 : CIM_RETURN_JOB_STARTED);
		ck_assert_int_eq(engine_job_info(engine, before.id, &job), 0);
		ck_assert_uint_eq(job.state, CIM_JOB_TERMINATED);
		whole_rules("");
		if (!i) {
			whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
			whole_control(g, "ReturnToResourcePool", 0);
		}
		if (i == 1)
			ck_assert_uint_eq(whole_put(g, GROUP_MEMBERS, "\n", NULL), 0);
		ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
		if (i == 1)
			ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, whole_element("g_1")),
					  0);
		whole_until(whole_files("e") == 0);
	}
	whole_teardown();
}
END_TEST

START_TEST(its_job_is_terminated_and_nothing_else_changes)
{
	uint64_t g;

	whole_setup();
	g = stalled_verify();
	job_request(whole_job(g).id, "Suspend\n", CIM_RETURN_NOT_SUPPORTED);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	job_request(whole_job(g).id, "Terminate\n", 0);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_TERMINATED);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_rules("");
	verify(g);
	ck_assert_ptr_nonnull(strstr(verified(g), "bytes_different 0"));
	whole_teardown();
}
END_TEST

START_TEST(a_stop_ends_it_and_the_next_start_says_so)
{
	uint64_t g;

	whole_setup();
	g = stalled_verify();
	whole_stop();
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_EXCEPTION);
	ck_assert_ptr_nonnull(strstr(whole_job(g).error_description, "write it to control"));
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	ck_assert_str_eq(verified(g), "");
	verify(g);
	whole_teardown();
}
END_TEST

START_TEST(it_waits_for_a_device_that_is_away)
{
	uint64_t g;

	whole_daemon("io_timeout = 1s\n");
	whole_setup();
	g = stalled_verify();
	whole_rules("[away]\nstate = away\n");
	whole_until(strstr(whole_info(g).waiting_for, "no connection"));
	/* Its reads end, and are begun again. */
	whole_until(strstr(whole_info(g).waiting_for, "for 2 s"));
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_rules("");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ck_assert_ptr_nonnull(strstr(verified(g), "bytes_different 0"));
	whole_teardown();
}
END_TEST

START_TEST(a_read_that_fails_is_tried_again_later)
{
	struct job_info job;
	uint64_t g;

	whole_setup();
	g = stalled_verify();
	job_request(whole_job(g).id, "Terminate\n", 0);
	whole_rules("[bad]\nevent = read\noffset = 2097152\nlength = 65536\n"
		    "errno = EIO\n");
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(g).state == CIM_JOB_EXCEPTION);
	job = whole_job(g);
	ck_assert_ptr_nonnull(strstr(job.error_description, "f: bytes 2097152 to "));
	/* Three tries, and the retries are 200 ms from each other. */
	ck_assert_int_ge(job.elapsed_ms, 200);
	ck_assert_ptr_nonnull(strstr(verified(g), "error f: bytes 2097152 to "));
	whole_teardown();
}
END_TEST

static const char break_store[] = "CREATE TRIGGER broken BEFORE UPDATE OF state ON job "
				  "BEGIN SELECT RAISE(ABORT, 'broken'); END";

START_TEST(an_end_that_cannot_be_recorded_is_tried_again)
{
	uint64_t g;

	whole_setup();
	g = stalled_verify();
	whole_sql(break_store);
	whole_rules("");
	whole_until(strstr(verified(g), "ended "));
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	job_request(whole_job(g).id, "Terminate\n", CIM_RETURN_FAILED);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_RUNNING);
	whole_sql("DROP TRIGGER broken");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	/* A stop waits for no such end. */
	whole_rules(stalled);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	whole_sql(break_store);
	whole_rules("");
	whole_until(strstr(verified(g), "ended "));
	whole_stop();
	whole_sql("DROP TRIGGER broken");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_job(g).state, CIM_JOB_EXCEPTION);
	whole_teardown();
}
END_TEST

/* ---- many ------------------------------------------------------------------------ */

START_TEST(many_at_once_get_by_with_little_memory)
{
	static const char *const of[] = { "a", "b", "c", "a", "b", "c" };
	uint64_t groups[ROWS(of)];
	char name[8], spec[96];

	whole_daemon("copy_memory = 4M\n");
	whole_setup();
	for (size_t i = 0; i < ROWS(of); i++) {
		snprintf(name, sizeof(name), "g%zu", i);
		snprintf(spec, sizeof(spec),
			 "SourceElement=%s SyncType=Clone WaitForCopyState=Synchronized",
			 of[i]);
		groups[i] = whole_replica(name, spec, 0);
	}
	for (size_t i = 0; i < ROWS(of); i++)
		whole_control(groups[i], "Verify", CIM_RETURN_JOB_STARTED);
	for (size_t i = 0; i < ROWS(of); i++) {
		whole_until(whole_job(groups[i]).state == CIM_JOB_COMPLETED);
		ck_assert_ptr_nonnull(strstr(verified(groups[i]), "bytes_different 0"));
	}
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		it_finds_what_a_clone_and_its_source_differ_in,
		it_finds_what_a_snapshot_and_its_source_differ_in,
		what_is_a_hole_on_one_side_only_is_compared,
		other_operations_end_it,
		its_job_is_terminated_and_nothing_else_changes,
		a_stop_ends_it_and_the_next_start_says_so,
		it_waits_for_a_device_that_is_away,
		a_read_that_fails_is_tried_again_later,
		an_end_that_cannot_be_recorded_is_tried_again,
		many_at_once_get_by_with_little_memory,
	};

	return unit_main("verify", tests, ROWS(tests));
}
