/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include "conf/strbuf.h"

START_TEST(is_an_empty_string_before_the_first_addition)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	ck_assert_str_eq(b.s, "");
	ck_assert_uint_eq(b.len, 0);
	strbuf_adds(&b, "");
	strbuf_addf(&b, "%s", "");
	strbuf_reset(&b);
	ck_assert_str_eq(b.s, "");
}
END_TEST

START_TEST(additions_follow_each_other)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	strbuf_adds(&b, "a");
	strbuf_addc(&b, 'b');
	strbuf_addf(&b, "%d-%s", 12, "cd");
	strbuf_add(&b, "e\0f", 3);
	ck_assert_uint_eq(b.len, 10);
	ck_assert_mem_eq(b.s, "ab12-cde\0f", 11);
	strbuf_reset(&b);
	ck_assert_str_eq(b.s, "");
	strbuf_adds(&b, "again");
	ck_assert_str_eq(b.s, "again");
}
END_TEST

START_TEST(grows_at_every_length)
{
	for (size_t len = 0; len < 300; len++) {
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
		char text[301];

		memset(text, 'x', len);
		text[len] = '\0';
		strbuf_addf(&b, "%s", text);
		strbuf_adds(&b, text);
		ck_assert_uint_eq(b.len, 2 * len);
		ck_assert_uint_eq(strlen(b.s), 2 * len);
		ck_assert(!b.failed);
	}
}
END_TEST

START_TEST(steal_hands_the_text_out)
{
	struct strbuf b = STRBUF_INIT;
	char *s = strbuf_steal(&b);

	ck_assert_str_eq(s, "");
	free(s);
	strbuf_adds(&b, "text");
	s = strbuf_steal(&b);
	ck_assert_str_eq(s, "text");
	ck_assert_str_eq(b.s, "");
	free(s);
	strbuf_done(&b);
}
END_TEST

START_TEST(a_failed_buffer_gives_nothing)
{
	struct strbuf b = STRBUF_INIT;

	strbuf_adds(&b, "kept");
	b.failed = true;
	strbuf_adds(&b, "dropped");
	ck_assert_str_eq(b.s, "kept");
	ck_assert_ptr_null(strbuf_steal(&b));
	ck_assert(!b.failed);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		is_an_empty_string_before_the_first_addition,
		additions_follow_each_other,
		grows_at_every_length,
		steal_hands_the_text_out,
		a_failed_buffer_gives_nothing,
	};

	return unit_main("strbuf", tests, ROWS(tests));
}
