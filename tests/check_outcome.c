/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/outcome.h"

START_TEST(codes_have_their_names_and_usual_errnos)
{
	static const struct {
		uint32_t code;
		int error;
		const char *name;
	} rows[] = {
		{ 1, EOPNOTSUPP, "Not Supported" },
		{ 2, EIO, "Unknown" },
		{ 3, ETIMEDOUT, "Timeout" },
		{ 4, EIO, "Failed" },
		{ 5, EINVAL, "Invalid Parameter" },
		{ 6, EBUSY, "In Use" },
		{ 4097, EPERM, "Invalid State Transition" },
		{ 4098, EINVAL, "Use of Timeout Parameter Not Supported" },
		{ 4099, EBUSY, "Busy" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct outcome o;

		ROW_EQ(rows[i].name, outcome_fail(&o, rows[i].code, 0, "x: %d", 7),
		       -rows[i].error);
		ROW_EQ(rows[i].name, o.code, rows[i].code);
		ROW_EQ(rows[i].name, o.error, rows[i].error);
		ROW_STR_EQ(rows[i].name, o.sentence, "x: 7");
		ROW_STR_EQ(rows[i].name, outcome_code_name(rows[i].code), rows[i].name);
		ck_assert(!outcome_is_success(&o));
	}
	ck_assert_str_eq(outcome_code_name(0), "Completed with No Error");
	ck_assert_str_eq(outcome_code_name(4096),
			 "Method Parameters Checked - Job Started");
	ck_assert_ptr_null(outcome_code_name(7));
}
END_TEST

START_TEST(success_clears_the_sentence)
{
	struct outcome o;

	outcome_fail(&o, 5, ENOENT, "there is no group");
	ck_assert_int_eq(o.error, ENOENT);
	outcome_ok(&o);
	ck_assert(outcome_is_success(&o));
	ck_assert_uint_eq(o.code, 0);
	ck_assert_str_eq(o.sentence, "");
	outcome_fail(&o, 4, ENOSPC, "full");
	outcome_job_started(&o);
	ck_assert(outcome_is_success(&o));
	ck_assert_uint_eq(o.code, 4096);
	ck_assert_str_eq(o.sentence, "");
}
END_TEST

START_TEST(a_sentence_is_one_line_and_ends)
{
	char text[2 * OUTCOME_SENTENCE_MAX];
	struct outcome o;

	outcome_fail(&o, 5, 0, "%s", "two\nlines\n");
	ck_assert_str_eq(o.sentence, "two lines ");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	outcome_fail(&o, 5, 0, "%s", text);
	ck_assert_uint_eq(strlen(o.sentence), OUTCOME_SENTENCE_MAX - 1);
}
END_TEST

START_TEST(errnos_map_to_codes_and_others_to_unknown)
{
	static const struct {
		const char *name;
		int error;
		uint32_t code;
	} rows[] = {
		{ "EOPNOTSUPP", EOPNOTSUPP, 1 },
		{ "ETIMEDOUT", ETIMEDOUT, 3 },
		{ "EIO", EIO, 4 },
		{ "ENOSPC", ENOSPC, 4 },
		{ "ENOMEM", ENOMEM, 4 },
		{ "EROFS", EROFS, 4 },
		{ "EINVAL", EINVAL, 5 },
		{ "ENOENT", ENOENT, 5 },
		{ "ENAMETOOLONG", ENAMETOOLONG, 5 },
		{ "E2BIG", E2BIG, 5 },
		{ "EBUSY", EBUSY, 6 },
		{ "EXDEV", EXDEV, 2 },
		{ "EAGAIN", EAGAIN, 2 },
		{ "99999", 99999, 2 },
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		ROW_EQ(rows[i].name, outcome_code_of_errno(rows[i].error), rows[i].code);
}
END_TEST

START_TEST(a_failure_is_never_the_callers_mistake)
{
	static const struct {
		const char *name;
		int error;
		uint32_t code;
		int ret_error;
	} rows[] = {
		{ "EIO", EIO, 4, EIO },		 { "ENOSPC", ENOSPC, 4, ENOSPC },
		{ "ENOMEM", ENOMEM, 4, ENOMEM }, { "EROFS", EROFS, 4, EROFS },
		{ "EINVAL", EINVAL, 4, 0 },	 { "ENOENT", ENOENT, 4, 0 },
		{ "EBUSY", EBUSY, 4, 0 },	 { "EOPNOTSUPP", EOPNOTSUPP, 4, 0 },
		{ "EACCES", EACCES, 2, 0 },	 { "99999", 99999, 2, 0 },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		int error = -1;

		ROW_EQ(rows[i].name, outcome_code_of_failure(rows[i].error, &error),
		       rows[i].code);
		ROW_EQ(rows[i].name, error, rows[i].ret_error);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		codes_have_their_names_and_usual_errnos,
		success_clears_the_sentence,
		a_sentence_is_one_line_and_ends,
		errnos_map_to_codes_and_others_to_unknown,
		a_failure_is_never_the_callers_mistake,
	};

	return unit_main("outcome", tests, ROWS(tests));
}
