/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/render.h"

#include <errno.h>

#include "conf/cim.h"
#include "tests/unit.h"

#define TIME_MS INT64_C(1767323045678) /* 2026-01-02T03:04:05.678Z */

static struct strbuf text = STRBUF_INIT;

#define RENDER(kind, info, file)                  \
	({                                        \
		strbuf_reset(&text);              \
		render_##kind(&text, info, file); \
		text.s;                           \
	})

#define RENDER_RESULT(result)                 \
	({                                    \
		strbuf_reset(&text);          \
		render_result(&text, result); \
		text.s;                       \
	})

START_TEST(every_text_ends_with_a_newline_or_is_empty)
{
	struct element_info element = { .known = true, .url = "file:///x", .error = "e" };
	struct group_info group = { .has_relationship = true, .last_progress = TIME_MS };
	struct pair_info pair = { .copy_state = CIM_COPY_SYNCHRONIZED };
	struct job_info job = { .state = CIM_JOB_RUNNING, .start_time = TIME_MS };
	struct pool_info pool = { .path = "/pool" };

	for (int f = 0; f < ELEMENT_N_FILES; f++)
		if (*RENDER(element, &element, (enum element_file)f))
			ck_assert_int_eq(text.s[text.len - 1], '\n');
	for (int f = 0; f < GROUP_N_FILES; f++)
		if (*RENDER(group, &group, (enum group_file)f))
			ck_assert_int_eq(text.s[text.len - 1], '\n');
	for (int f = 0; f < PAIR_N_FILES; f++)
		if (*RENDER(pair, &pair, (enum pair_file)f))
			ck_assert_int_eq(text.s[text.len - 1], '\n');
	for (int f = 0; f < JOB_N_FILES; f++)
		if (*RENDER(job, &job, (enum job_file)f))
			ck_assert_int_eq(text.s[text.len - 1], '\n');
	for (int f = 0; f < POOL_N_FILES; f++)
		if (*RENDER(pool, &pool, (enum pool_file)f))
			ck_assert_int_eq(text.s[text.len - 1], '\n');
}
END_TEST

START_TEST(access_says_what_proves_it)
{
	struct element_info info = { 0 };

	ck_assert_str_eq(RENDER(element, &info, ELEMENT_ACCESS), "shared\n");
	info.exclusive = true;
	ck_assert_str_eq(RENDER(element, &info, ELEMENT_ACCESS),
			 "exclusive (unchecked)\n");
	info.reserved = true;
	ck_assert_str_eq(RENDER(element, &info, ELEMENT_ACCESS),
			 "exclusive (reserved)\n");
	info = (struct element_info){ .is_image = true, .exclusive = true };
	ck_assert_str_eq(RENDER(element, &info, ELEMENT_ACCESS), "exclusive\n");
}
END_TEST

START_TEST(what_no_login_has_told_is_empty)
{
	static const enum element_file files[] = {
		ELEMENT_SIZE,	ELEMENT_BLOCK_SIZE, ELEMENT_ALLOCATED, ELEMENT_THIN,
		ELEMENT_VENDOR, ELEMENT_WWN,	    ELEMENT_ERROR,     ELEMENT_RESULT,
	};
	struct element_info info = { .size = 5,
				     .operational_status = CIM_STATUS_DORMANT };

	for (size_t i = 0; i < ROWS(files); i++)
		ck_assert_str_eq(RENDER(element, &info, files[i]), "");
	ck_assert_str_eq(RENDER(element, &info, ELEMENT_OPERATIONAL_STATUS), "Dormant\n");
	info.known = true;
	ck_assert_str_eq(RENDER(element, &info, ELEMENT_SIZE), "5\n");
	ck_assert_str_eq(RENDER(element, &info, ELEMENT_THIN), "false\n");
}
END_TEST

START_TEST(a_group_without_relationship_has_few_texts)
{
	struct group_info info = { .copy_state = CIM_COPY_NOT_APPLICABLE,
				   .persistent = true };

	for (int f = 0; f < GROUP_N_FILES; f++) {
		const char *s = RENDER(group, &info, (enum group_file)f);

		if (f == GROUP_COPY_STATE)
			ck_assert_str_eq(s, "Not Applicable\n");
		else if (f == GROUP_PERSISTENT)
			ck_assert_str_eq(s, "true\n");
		else if (f == GROUP_DELETE_ON_EMPTY || f == GROUP_DELETE_ON_UNASSOCIATED)
			ck_assert_str_eq(s, "false\n");
		else
			ck_assert_str_eq(s, "");
	}
}
END_TEST

START_TEST(a_relationship_shows_names_numbers_and_times)
{
	struct group_info info = {
		.has_relationship = true,
		.relationship_name = "nightly",
		.sync_type = CIM_SYNC_CLONE,
		.mode = CIM_MODE_ASYNCHRONOUS,
		.copy_state = CIM_COPY_UNSYNCHRONIZED,
		.percent_synced = 37,
		.consistency = CIM_CONSISTENCY_SEQUENTIAL,
		.when_synced = TIME_MS,
		.copy_priority = CIM_PRIORITY_NOT_MANAGED,
	};
	static const struct {
		enum group_file file;
		const char *text;
	} rows[] = {
		{ GROUP_RELATIONSHIP_NAME, "nightly\n" },
		{ GROUP_SYNC_TYPE, "Clone\n" },
		{ GROUP_MODE, "Asynchronous\n" },
		{ GROUP_COPY_STATE, "Unsynchronized\n" },
		{ GROUP_PERCENT_SYNCED, "37\n" },
		{ GROUP_CONSISTENCY, "Sequential Consistency\n" },
		{ GROUP_CONSISTENCY_TYPE, "Sequentially Consistent\n" },
		{ GROUP_WHEN_SYNCED, "2026-01-02T03:04:05.678Z\n" },
		{ GROUP_WHEN_SUSPENDED, "" },
		{ GROUP_COPY_PRIORITY, "Not Managed\n" },
		{ GROUP_WAITING_FOR, "" },
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		ck_assert_str_eq(RENDER(group, &info, rows[i].file), rows[i].text);
}
END_TEST

START_TEST(a_job_shows_durations_and_unknown_is_empty)
{
	struct job_info info = {
		.state = CIM_JOB_COMPLETED,
		.operational_status = { CIM_STATUS_OK, CIM_STATUS_COMPLETED },
		.elapsed_ms = 61005,
		.seconds_left = -1,
	};

	ck_assert_str_eq(RENDER(job, &info, JOB_STATE), "Completed\n");
	ck_assert_str_eq(RENDER(job, &info, JOB_OPERATIONAL_STATUS), "OK\nCompleted\n");
	ck_assert_str_eq(RENDER(job, &info, JOB_ELAPSED_TIME), "61.005\n");
	ck_assert_str_eq(RENDER(job, &info, JOB_SECONDS_LEFT), "");
	ck_assert_str_eq(RENDER(job, &info, JOB_ERROR_CODE), "0\n");
	info.operational_status[1] = 0;
	info.seconds_left = 0;
	ck_assert_str_eq(RENDER(job, &info, JOB_OPERATIONAL_STATUS), "OK\n");
	ck_assert_str_eq(RENDER(job, &info, JOB_SECONDS_LEFT), "0\n");
}
END_TEST

START_TEST(result_has_code_sentence_and_writer)
{
	struct engine_result result = { .when_ms = TIME_MS, .pid = 42 };

	outcome_job_started(&result.outcome);
	ck_assert_str_eq(RENDER_RESULT(&result),
			 "4096 Method Parameters Checked - Job Started\n"
			 "2026-01-02T03:04:05.678Z pid 42\n");
	outcome_fail(&result.outcome, CIM_RETURN_INVALID_PARAMETER, ENOENT,
		     "SourceGroup: there is no group \"%s\"", "prud");
	ck_assert_str_eq(RENDER_RESULT(&result),
			 "5 Invalid Parameter\n"
			 "SourceGroup: there is no group \"prud\"\n"
			 "2026-01-02T03:04:05.678Z pid 42\n");
	result.when_ms = 0;
	ck_assert_str_eq(RENDER_RESULT(&result), "");
}
END_TEST

START_TEST(links_lead_through_the_tree)
{
	struct group_info group = { .source = "../prod", .job = 17 };
	struct pair_info pair = { .source = "db0", .target = "nightly_1" };
	struct job_info job = { .group = "nightly" };
	struct element_info element = { .backing = "/pool/3.img" };

	ck_assert_str_eq(RENDER(group_link, &group, GROUP_SOURCE), "../prod");
	ck_assert_str_eq(RENDER(group_link, &group, GROUP_JOB), "../../jobs/17");
	ck_assert_str_eq(RENDER(pair_link, &pair, PAIR_SOURCE),
			 "../../../../elements/db0");
	ck_assert_str_eq(RENDER(pair_link, &pair, PAIR_TARGET),
			 "../../../../elements/nightly_1");
	ck_assert_str_eq(RENDER(job_link, &job, JOB_GROUP), "../../groups/nightly");
	ck_assert_str_eq(RENDER(element_link, &element, ELEMENT_BACKING), "/pool/3.img");
	group.job = 0;
	*pair.source = *job.group = '\0';
	ck_assert_str_eq(RENDER(group_link, &group, GROUP_JOB), "");
	ck_assert_str_eq(RENDER(pair_link, &pair, PAIR_SOURCE), "");
	ck_assert_str_eq(RENDER(job_link, &job, JOB_GROUP), "");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		every_text_ends_with_a_newline_or_is_empty,
		access_says_what_proves_it,
		what_no_login_has_told_is_empty,
		a_group_without_relationship_has_few_texts,
		a_relationship_shows_names_numbers_and_times,
		a_job_shows_durations_and_unknown_is_empty,
		result_has_code_sentence_and_writer,
		links_lead_through_the_tree,
	};

	return unit_main("render", tests, ROWS(tests));
}
