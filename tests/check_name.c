/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/name.h"

#define A32 "abcdefghijklmnopqrstuvwxyz012345"

START_TEST(names_have_the_right_letters_and_lengths)
{
	static const struct {
		const char *name;
		int r;
	} rows[] = {
		{ "a", 0 },
		{ "_", 0 },
		{ "Prod-1.db_0", 0 },
		{ "0", 0 },
		{ A32, 0 },
		{ A32 "x", -ENAMETOOLONG },
		{ A32 " ", -EINVAL },
		{ "", -EINVAL },
		{ ".", -EINVAL },
		{ "..", -EINVAL },
		{ ".a", -EINVAL },
		{ "-a", -EINVAL },
		{ "a b", -EINVAL },
		{ "a/b", -EINVAL },
		{ "a\nb", -EINVAL },
		{ "a\x7f", -EINVAL },
		{ "\xc3\xa4", -EINVAL },
		{ "a;b", -EINVAL },
		{ "a=b", -EINVAL },
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		ROW_EQ(rows[i].name, name_check(rows[i].name, NAME_MAX_LEN), rows[i].r);
	ck_assert_int_eq(name_check(A32 "_1234567", NAME_ELEMENT_MAX_LEN), 0);
	ck_assert_int_eq(name_check(A32 "_12345678", NAME_ELEMENT_MAX_LEN),
			 -ENAMETOOLONG);
}
END_TEST

static const char *const words[] = {
	"SourceGroup", "SyncType", "state_dir", "Synchronized", "Clone", "db0", "x"
};

START_TEST(nearest_is_the_word_that_was_meant)
{
	static const struct {
		const char *name;
		const char *nearest; /* NULL: none */
	} rows[] = {
		{ "SyncType", "SyncType" },
		{ "SyncTyp", "SyncType" },
		{ "synctype", "SyncType" },
		{ "Sync_Type", "SyncType" },
		{ "SnycType", "SyncType" },
		{ "statedir", "state_dir" },
		{ "state_dri", "state_dir" },
		{ "Synchronised", "Synchronized" },
		{ "SourceGruop", "SourceGroup" },
		{ "Source", "SourceGroup" },
		{ "Klone", "Clone" },
		{ "db1", "db0" },
		{ "prod", NULL },
		{ "zzzzzzzz", NULL },
		{ "", NULL },
		{ "-_ ", NULL },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		const char *nearest = name_nearest(rows[i].name, words, ROWS(words));

		ROW_STR_EQ(rows[i].name, nearest ? nearest : "none",
			   rows[i].nearest ? rows[i].nearest : "none");
	}
	ck_assert_ptr_null(name_nearest("x", NULL, 0));
	ck_assert_ptr_eq(name_nearest("CLONE", words, ROWS(words)), words[4]);
}
END_TEST

START_TEST(very_long_texts_are_near_to_nothing)
{
	char text[1000];
	const char *const candidates[] = { text, "Clone" };

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	ck_assert_ptr_null(name_nearest(text, words, ROWS(words)));
	ck_assert_str_eq(name_nearest("Clon", candidates, 2), "Clone");
}
END_TEST

START_TEST(a_hint_names_the_nearest_or_all)
{
	static const char *const few[] = { "back", "through" };
	const char *many[200];
	struct name_hint hint;

	ck_assert_str_eq(name_hint("bakc", few, 2).s, "did you mean \"back\"?");
	ck_assert_str_eq(name_hint("write-none", few, 2).s, "valid: back, through");
	ck_assert_str_eq(name_hint("x", few, 0).s, "there is none");
	for (size_t i = 0; i < ROWS(many); i++)
		many[i] = "candidate";
	hint = name_hint("", many, ROWS(many));
	ROW_HAS("many", hint.s, "candidate, candidate, ...");
}
END_TEST

START_TEST(quoted_texts_are_short_printable_ascii)
{
	char text[500];
	struct name_quoted quoted;

	ck_assert_str_eq(name_quote("").s, "\"\"");
	ck_assert_str_eq(name_quote("a b").s, "\"a b\"");
	ck_assert_str_eq(name_quote("a\n\x01\xc3").s, "\"a\\x0a\\x01\\xc3\"");
	for (size_t len = 0; len < sizeof(text); len++)
		for (int c = 0; c < 2; c++) {
			memset(text, c ? '\xff' : 'x', len);
			text[len] = '\0';
			quoted = name_quote(text);
			ck_assert_uint_lt(strlen(quoted.s), sizeof(quoted.s));
			ck_assert_int_eq(quoted.s[strlen(quoted.s) - 1], '"');
			if (len > 100)
				ROW_HAS("long", quoted.s, "...\"");
		}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		names_have_the_right_letters_and_lengths,
		nearest_is_the_word_that_was_meant,
		very_long_texts_are_near_to_nothing,
		a_hint_names_the_nearest_or_all,
		quoted_texts_are_short_printable_ascii,
	};

	return unit_main("name", tests, ROWS(tests));
}
