/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_UNIT_H
#define LUNFS_TESTS_UNIT_H

/* What the unit tests of conf/ share: main(), rows of a table, random numbers
 * and mutation of texts. */

#include <check.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* The row that failed is named by its text. */
#define ROW_EQ(row, a, b)                                                               \
	do {                                                                            \
		long long is_ = (long long)(a), wanted_ = (long long)(b);               \
                                                                                        \
		ck_assert_msg(is_ == wanted_, "%s: %s is %lld, not %lld", row, #a, is_, \
			      wanted_);                                                 \
	} while (0)
#define ROW_STR_EQ(row, a, b)                                                        \
	do {                                                                         \
		const char *is_ = (a), *wanted_ = (b);                               \
                                                                                     \
		ck_assert_msg(!strcmp(is_, wanted_), "%s: %s is \"%s\", not \"%s\"", \
			      row, #a, is_, wanted_);                                \
	} while (0)
#define ROW_HAS(row, text, part)                                                        \
	do {                                                                            \
		const char *text_ = (text), *part_ = (part);                            \
                                                                                        \
		ck_assert_msg(strstr(text_, part_), "%s: \"%s\" is not in \"%s\"", row, \
			      part_, text_);                                            \
	} while (0)

static inline int unit_main(const char *name, const TTest *const tests[], size_t n)
{
	Suite *s = suite_create(name);
	TCase *tc = tcase_create(name);
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 300);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

struct unit_random {
	uint64_t state;
};

/* Seeded by LUNFS_TEST_SEED or the clock; the seed is printed. */
static inline struct unit_random unit_random_start(const char *what)
{
	const char *given = getenv("LUNFS_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) :
				(uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();

	printf("%s: LUNFS_TEST_SEED=%llu\n", what, (unsigned long long)seed);
	fflush(stdout);
	return (struct unit_random){ seed * 2 + 1 };
}

/* A number below n (xorshift64*). */
static inline size_t unit_random_below(struct unit_random *random, size_t n)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return (size_t)(random->state * 0x2545f4914f6cdd1dull >> 32) % n;
}

/* Changes text[0..len) in a few random places; the new length, at most size. */
static inline size_t unit_mutate(struct unit_random *random, char *text, size_t len,
				 size_t size)
{
	static const char bytes[] = "\n\n[];:#==\"  \t\r\\-_.aZ09/\x01\x7f\xff";

	for (size_t n = 1 + unit_random_below(random, 6); n && len; n--) {
		size_t at = unit_random_below(random, len);
		size_t run = 1 + unit_random_below(random, 40);
		char byte = bytes[unit_random_below(random, sizeof(bytes))];

		if (run > len - at)
			run = len - at;
		switch (unit_random_below(random, 5)) {
		case 0: /* another byte */
			text[at] = byte;
			break;
		case 1: /* one byte more */
			if (len == size)
				break;
			memmove(text + at + 1, text + at, len - at);
			text[at] = byte;
			len++;
			break;
		case 2: /* some less */
			memmove(text + at, text + at + run, len - at - run);
			len -= run;
			break;
		case 3: /* some twice */
			if (len + run > size)
				break;
			memmove(text + at + run, text + at, len - at);
			len += run;
			break;
		default: /* cut */
			if (unit_random_below(random, 8) == 0)
				len = at;
			break;
		}
	}
	return len;
}

#endif
