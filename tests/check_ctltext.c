/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/ctltext.h"

#include "tests/unit.h"

static void set_snapshot(struct ctltext *t, const char *text)
{
	ctltext_set_snapshot(t, strdup(text), strlen(text));
}

static void set_own(struct ctltext *t, const char *text)
{
	ctltext_set_own(t, strdup(text), strlen(text));
}

/* A read as the handler makes it; `anew` is what a new rendering would give. */
static const char *read_at(struct ctltext *t, uint64_t offset, size_t size,
			   const char *anew)
{
	static char buf[256];
	const char *bytes;
	size_t n;

	if (ctltext_wants_snapshot(t, offset))
		set_snapshot(t, anew);
	n = ctltext_read(t, offset, size, &bytes);
	memcpy(buf, bytes, n);
	buf[n] = '\0';
	return buf;
}

START_TEST(reads_go_on_in_the_snapshot)
{
	struct ctltext t = { 0 };

	ck_assert_str_eq(read_at(&t, 0, 4, "abcdefgh\n"), "abcd");
	ck_assert_str_eq(read_at(&t, 4, 100, "ABCDEFGH\n"), "efgh\n");
	ck_assert_str_eq(read_at(&t, 9, 100, "ABCDEFGH\n"), "");
	ck_assert_str_eq(read_at(&t, 900, 100, "ABCDEFGH\n"), "");
	ctltext_done(&t);
}
END_TEST

START_TEST(a_read_at_0_renders_anew)
{
	struct ctltext t = { 0 };

	ck_assert_str_eq(read_at(&t, 0, 100, "old\n"), "old\n");
	ck_assert_str_eq(read_at(&t, 0, 100, "new\n"), "new\n");
	ctltext_done(&t);
}
END_TEST

START_TEST(the_first_read_may_be_anywhere)
{
	struct ctltext t = { 0 };

	ck_assert_str_eq(read_at(&t, 2, 100, "text\n"), "xt\n");
	ctltext_done(&t);
}
END_TEST

START_TEST(the_first_read_after_a_write_gives_its_result)
{
	static const uint64_t offsets[] = { 0, 5, 70000 };

	for (size_t i = 0; i < ROWS(offsets); i++) {
		struct ctltext t = { 0 };
		uint64_t at = offsets[i];

		set_snapshot(&t, "content\n");
		set_own(&t, "5 Invalid\n");
		ck_assert_str_eq(read_at(&t, at, 2, "x"), "5 ");
		ck_assert_str_eq(read_at(&t, at + 2, 100, "x"), "Invalid\n");
		ck_assert_str_eq(read_at(&t, at + 10, 100, "x"), "");
		ctltext_done(&t);
	}
}
END_TEST

START_TEST(the_result_is_over_with_a_read_elsewhere)
{
	struct ctltext t = { 0 };

	set_own(&t, "result\n");
	ck_assert_str_eq(read_at(&t, 50, 100, "x"), "result\n");
	ck_assert_str_eq(read_at(&t, 0, 100, "content\n"), "content\n");
	ck_assert_str_eq(read_at(&t, 51, 100, "x"), "");
	ck_assert_ptr_null(t.own);
	ctltext_done(&t);
}
END_TEST

START_TEST(the_result_at_0_is_read_once)
{
	struct ctltext t = { 0 };

	set_own(&t, "result\n");
	ck_assert_str_eq(read_at(&t, 0, 100, "content\n"), "result\n");
	ck_assert_str_eq(read_at(&t, 0, 100, "content\n"), "content\n");
	ctltext_done(&t);
}
END_TEST

START_TEST(a_second_write_replaces_the_result)
{
	struct ctltext t = { 0 };

	set_own(&t, "first\n");
	ck_assert_str_eq(read_at(&t, 4, 3, "x"), "fir");
	set_own(&t, "second\n");
	ck_assert_str_eq(read_at(&t, 7, 100, "x"), "second\n");
	ctltext_done(&t);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		reads_go_on_in_the_snapshot,
		a_read_at_0_renders_anew,
		the_first_read_may_be_anywhere,
		the_first_read_after_a_write_gives_its_result,
		the_result_is_over_with_a_read_elsewhere,
		the_result_at_0_is_read_once,
		a_second_write_replaces_the_result,
	};

	return unit_main("ctltext", tests, ROWS(tests));
}
