/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>
#include <stdbool.h>

#include "conf/inifile.h"
#include "conf/strbuf.h"

#define X10 "xxxxxxxxxx"
#define X50 X10 X10 X10 X10 X10
#define X190 X50 X50 X50 X10 X10 X10 X10

/* What was read, as `line section|key|value` lines. */
struct seen {
	struct strbuf b;
	unsigned stop_at; /* the line at which the handler returns 42 */
	unsigned last_line;
};

static int see(void *opaque, const char *section, const char *key, const char *value,
	       unsigned line)
{
	struct seen *seen = opaque;

	ck_assert_uint_gt(line, seen->last_line);
	seen->last_line = line;
	ck_assert_ptr_nonnull(section);
	ck_assert(!key == !value);
	if (line == seen->stop_at)
		return 42;
	if (key)
		strbuf_addf(&seen->b, "%u %s|%s|%s\n", line, section, key, value);
	else
		strbuf_addf(&seen->b, "%u [%s]\n", line, section);
	return 0;
}

START_TEST(reads_sections_keys_and_values_with_their_lines)
{
	static const struct {
		const char *text;
		const char *seen;
	} rows[] = {
		{ "", "" },
		{ "\n\n  \n\t\n", "" },
		{ "# c\n; c\n#\n;", "" },
		{ "[a]\nk=v\n", "1 [a]\n2 a|k|v\n" },
		{ "[a]\nk=v", "1 [a]\n2 a|k|v\n" },
		{ "k=v\n", "1 |k|v\n" },
		{ "\n[a]\n\n# c\nk = v\n[b]\nk = w\n[a]\n",
		  "2 [a]\n5 a|k|v\n6 [b]\n7 b|k|w\n8 [a]\n" },
		{ "[pool a]  \n", "1 [pool a]\n" },
		{ "[a[b]\n", "1 [a[b]\n" },
		{ "k\t =\t v w \t\n", "1 |k|v w\n" },
		{ "k=\n", "1 |k|\n" },
		{ "k =  \n", "1 |k|\n" },
		{ "a b = c\n", "1 |a b|c\n" },
		{ "k = a=b:c\n", "1 |k|a=b:c\n" },
		{ "k = [v]\n", "1 |k|[v]\n" },
		{ "k = \"v\"\n", "1 |k|\"v\"\n" },
		{ "k = \xc3\xa4\n", "1 |k|\xc3\xa4\n" },
		/* A `;` belongs to the value; inih would cut all but the first. */
		{ "k = v;w\n", "1 |k|v;w\n" },
		{ "k = v ;w\nl = x\n", "1 |k|v ;w\n2 |l|x\n" },
		{ "k = v ; w ;\n", "1 |k|v ; w ;\n" },
		{ "k = ;v\n", "1 |k|;v\n" },
		{ "k = ; v\n", "1 |k|; v\n" },
		{ "k =; v\n", "1 |k|; v\n" },
		{ "k = v\t;w\n", "1 |k|v\t;w\n" },
		{ "k = iscsi://h/iqn.2026-01.a:b;c ;d/0\n",
		  "1 |k|iscsi://h/iqn.2026-01.a:b;c ;d/0\n" },
		{ "k = v # w\n", "1 |k|v # w\n" },
		{ "[" X10 X10 X10 X10 "xxxxxxxxx]\nk=v\n",
		  "1 [" X10 X10 X10 X10 "xxxxxxxxx]\n2 " X10 X10 X10 X10
		  "xxxxxxxxx|k|v\n" },
		/* 199 bytes, as the last line and before another. */
		{ "k = 12345" X190, "1 |k|12345" X190 "\n" },
		{ "k = 12345" X190 "\nl=w\n", "1 |k|12345" X190 "\n2 |l|w\n" },
		{ "#2345678 " X190 "\nl=w\n", "2 |l|w\n" },
		{ X190 "1234567=v\n", "1 |" X190 "1234567|v\n" },
		{ "k=\nk=\n", "1 |k|\n2 |k|\n" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct seen seen = { .b = STRBUF_INIT };
		unsigned line = 77;
		char error[256] = "not set";

		ROW_EQ(rows[i].text,
		       inifile_parse(rows[i].text, strlen(rows[i].text), see, &seen,
				     &line, error, sizeof(error)),
		       0);
		ROW_STR_EQ(rows[i].text, seen.b.s, rows[i].seen);
		ROW_STR_EQ(rows[i].text, error, "");
		ROW_EQ(rows[i].text, line, 77);
		strbuf_done(&seen.b);
	}
}
END_TEST

START_TEST(refuses_what_inih_would_misread)
{
	static const struct {
		const char *text;
		unsigned line;
		const char *error; /* part of it */
	} rows[] = {
		{ "[a]\nk = 123456" X190 "\n", 2, "200 bytes; 199 is the limit" },
		{ "#23456789 " X190 "\n", 1, "200 bytes" },
		{ "\n\n" X190 X190 "=v\n", 3, "382 bytes" },
		{ "[" X50 "]\nk=v\n", 1, "50 bytes; 49 is the limit" },
		{ "k=v\n w\n", 2, "begins with a blank" },
		{ "k=v\n\tl=w\n", 2, "begins with a blank" },
		{ " [a]\n", 1, "begins with a blank" },
		{ "k=v\n # c\n", 2, "begins with a blank" },
		{ " k=v\n", 1, "begins with a blank" },
		{ "[a\nk=v\n", 1, "no closing ]" },
		{ "[\n", 1, "no closing ]" },
		{ "[a ;b\n", 1, "no closing ]" },
		{ "[a ;b]\n", 1, "a ; in a section" },
		{ "[;a]\n", 1, "a ; in a section" },
		{ "[]\n", 1, "empty" },
		{ "[ ]\n", 1, "empty" },
		{ "[ a]\n", 1, "empty or has blanks" },
		{ "[a ]\n", 1, "empty or has blanks" },
		{ "[a] k=v\n", 1, "text after the ]" },
		{ "[a]]\n", 1, "text after the ]" },
		{ "[a] ; c\n", 1, "text after the ]" },
		{ "[a] # c\n", 1, "text after the ]" },
		{ "key\n", 1, "no =" },
		{ "key value\n", 1, "no =" },
		{ "=v\n", 1, "no key" },
		{ "k: v\n", 1, "a : before" },
		{ "k:l = v\n", 1, "a : before" },
		{ "k ;l = v\n", 1, "a ; before" },
		{ "k;l = v\n", 1, "a ; before" },
		{ "k = v\r\n", 1, "carriage return" },
		{ "# c\r\n", 1, "carriage return" },
		{ "\r\n", 1, "carriage return" },
		{ "k = v\rl = w\n", 1, "control character (0x0d)" },
		{ "k = v\x1b[0m\n", 1, "control character (0x1b)" },
		{ "k = v\x7f\n", 1, "control character (0x7f)" },
		{ "k = v\vw\n", 1, "control character (0x0b)" },
		{ "\xef\xbb\xbfk = v\n", 1, "byte order mark" },
		{ "k = v\n\xef\xbb\xbf[a]\n", 2, "byte order mark" },
		/* The first problem is told, and no handler is called before it. */
		{ "[a]\nk=v\nbad\nworse\n", 3, "no =" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct seen seen = { .b = STRBUF_INIT };
		unsigned line = 0;
		char error[256] = "";

		ROW_EQ(rows[i].text,
		       inifile_parse(rows[i].text, strlen(rows[i].text), see, &seen,
				     &line, error, sizeof(error)),
		       -EINVAL);
		ROW_EQ(rows[i].text, line, rows[i].line);
		ROW_HAS(rows[i].text, error, rows[i].error);
		ROW_STR_EQ(rows[i].text, seen.b.s, "");
		strbuf_done(&seen.b);
	}
}
END_TEST

START_TEST(refuses_a_nul_wherever_it_stands)
{
	const char text[] = "[a]\nk = v\n# c\n";

	for (size_t at = 0; at < sizeof(text) - 1; at++) {
		struct seen seen = { .b = STRBUF_INIT };
		unsigned line = 0, wanted = 1;
		char copy[sizeof(text)];
		char error[256] = "";

		for (size_t i = 0; i < at; i++)
			wanted += text[i] == '\n';
		memcpy(copy, text, sizeof(text));
		copy[at] = '\0';
		ck_assert_int_eq(inifile_parse(copy, sizeof(copy) - 1, see, &seen, &line,
					       error, sizeof(error)),
				 -EINVAL);
		ck_assert_uint_eq(line, wanted);
		ROW_HAS("NUL", error, "NUL");
		strbuf_done(&seen.b);
	}
}
END_TEST

START_TEST(the_handler_can_end_the_reading)
{
	const char text[] = "[a]\nk=v\n[b]\nl=w\nm=x\n";
	const char *const seen_before[] = { "", "1 [a]\n", "1 [a]\n2 a|k|v\n",
					    "1 [a]\n2 a|k|v\n3 [b]\n" };

	for (unsigned stop = 1; stop <= 4; stop++) {
		struct seen seen = { .b = STRBUF_INIT, .stop_at = stop };
		unsigned line = 0;
		char error[256] = "not set";

		ck_assert_int_eq(inifile_parse(text, sizeof(text) - 1, see, &seen, &line,
					       error, sizeof(error)),
				 42);
		ck_assert_uint_eq(line, stop);
		ck_assert_str_eq(error, "");
		ck_assert_str_eq(seen.b.s, seen_before[stop - 1]);
		strbuf_done(&seen.b);
	}
}
END_TEST

START_TEST(reads_many_lines)
{
	CLEANUP_STRBUF struct strbuf text = STRBUF_INIT, wanted = STRBUF_INIT;
	struct seen seen = { .b = STRBUF_INIT };
	unsigned line = 0;
	char error[256];

	for (unsigned i = 0; i < 100000; i++) {
		strbuf_addf(&text, i % 10 ? "key%u = value%u\n" : "[s%u]\n", i, i);
		if (i % 10)
			strbuf_addf(&wanted, "%u s%u|key%u|value%u\n", i + 1, i - i % 10,
				    i, i);
		else
			strbuf_addf(&wanted, "%u [s%u]\n", i + 1, i);
	}
	ck_assert_int_eq(
		inifile_parse(text.s, text.len, see, &seen, &line, error, sizeof(error)),
		0);
	ck_assert(!strcmp(seen.b.s, wanted.s));
	strbuf_done(&seen.b);
}
END_TEST

/* What was read, as INI text that reads the same. */
static int see_as_text(void *opaque, const char *section, const char *key,
		       const char *value, unsigned line)
{
	struct seen *seen = opaque;

	(void)line;
	if (key)
		strbuf_addf(&seen->b, "%s=%s\n", key, value);
	else
		strbuf_addf(&seen->b, "[%s]\n", section);
	return 0;
}

START_TEST(fuzz_random_texts_read_the_same_again)
{
	static const char valid[] =
		"# comment\n[daemon]\nstate_dir = /a b ;c\n\n[element db0]\n"
		"url=iscsi://h/iqn.2026-01.a:b/0\n; x\naccess = exclusive\n[x]\na=b\n";
	struct unit_random random = unit_random_start("inifile");
	unsigned n_valid = 0;

	for (unsigned round = 0; round < 20000; round++) {
		struct seen first = { .b = STRBUF_INIT }, second = { .b = STRBUF_INIT };
		char text[512], error[256];
		unsigned line = 0;
		size_t len = sizeof(valid) - 1;

		memcpy(text, valid, len);
		len = unit_mutate(&random, text, len, sizeof(text));
		if (!inifile_parse(text, len, see_as_text, &first, &line, error,
				   sizeof(error))) {
			n_valid++;
			ck_assert_int_eq(inifile_parse(first.b.s, first.b.len,
						       see_as_text, &second, &line, error,
						       sizeof(error)),
					 0);
			ck_assert_str_eq(first.b.s, second.b.s);
		} else {
			ck_assert_uint_gt(line, 0);
			ck_assert_str_ne(error, "");
			ck_assert_str_eq(first.b.s, "");
		}
		strbuf_done(&first.b);
		strbuf_done(&second.b);
	}
	ck_assert_uint_gt(n_valid, 100);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		reads_sections_keys_and_values_with_their_lines,
		refuses_what_inih_would_misread,
		refuses_a_nul_wherever_it_stands,
		the_handler_can_end_the_reading,
		reads_many_lines,
		fuzz_random_texts_read_the_same_again,
	};

	return unit_main("inifile", tests, ROWS(tests));
}
