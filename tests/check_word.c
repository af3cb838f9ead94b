/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "engine/word.h"

START_TEST(words_are_parted_by_blanks_and_newlines)
{
	static const char text[] = "  db0\tlog0\n\n+x ";
	const char *at = text, *end = text + sizeof(text) - 1;
	static const char *const words[] = { "db0", "log0", "+x" };
	char word[8];
	size_t len;

	for (size_t i = 0; i < 3; i++) {
		ck_assert(word_next(&at, end, word, sizeof(word), &len));
		ck_assert_str_eq(word, words[i]);
		ck_assert_uint_eq(len, strlen(words[i]));
	}
	ck_assert(!word_next(&at, end, word, sizeof(word), &len));
}
END_TEST

START_TEST(a_word_that_is_cut_tells_its_length)
{
	static const char text[] = "0123456789";
	const char *at = text;
	char word[5];
	size_t len;

	ck_assert(word_next(&at, text + 10, word, sizeof(word), &len));
	ck_assert_str_eq(word, "0123");
	ck_assert_uint_eq(len, 10);
}
END_TEST

START_TEST(a_line_has_no_newline_and_no_nul_inside)
{
	char line[8];

	ck_assert(word_line(" Detach \n", 9, line, sizeof(line)));
	ck_assert_str_eq(line, "Detach");
	ck_assert(word_line("", 0, line, sizeof(line)));
	ck_assert_str_eq(line, "");
	ck_assert(!word_line("a\nb", 3, line, sizeof(line)));
	ck_assert(!word_line("a\0b", 3, line, sizeof(line)));
	ck_assert(!word_line("12345678", 8, line, sizeof(line)));
	ck_assert(word_line("1234567", 7, line, sizeof(line)));
}
END_TEST

START_TEST(booleans_have_four_spellings)
{
	static const struct {
		const char *text;
		int value; /* -1: none */
	} rows[] = {
		{ "true\n", 1 }, { "YES", 1 },	 { "1\n", 1 },	{ "on", 1 },
		{ "false", 0 },	 { " no \n", 0 }, { "0", 0 },	{ "Off\n", 0 },
		{ "", -1 },	 { "2", -1 },	 { "tru", -1 }, { "true false", -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool value = rows[i].value != 1;
		int r = word_bool(rows[i].text, strlen(rows[i].text), &value);

		ROW_EQ(rows[i].text, r, rows[i].value < 0 ? -EINVAL : 0);
		if (!r)
			ROW_EQ(rows[i].text, value, rows[i].value);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		words_are_parted_by_blanks_and_newlines,
		a_word_that_is_cut_tells_its_length,
		a_line_has_no_newline_and_no_nul_inside,
		booleans_have_four_spellings,
	};

	return unit_main("word", tests, ROWS(tests));
}
