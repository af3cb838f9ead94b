/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/value.h"

struct row {
	const char *text;
	int r;
	uint64_t value;
};

static void check_rows(int (*read)(const char *text, uint64_t *ret_value),
		       const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t value = 4711;

		ROW_EQ(rows[i].text, read(rows[i].text, &value), rows[i].r);
		ROW_EQ(rows[i].text, value, rows[i].r ? 4711 : rows[i].value);
	}
}

START_TEST(numbers)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "007", 0, 7 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "184467440737095516150", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1.0", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "one", -EINVAL, 0 },
	};

	check_rows(value_number, rows, ROWS(rows));
}
END_TEST

START_TEST(sizes)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "512", 0, 512 },
		{ "4K", 0, 4096 },
		{ "4k", 0, 4096 },
		{ "64M", 0, 64ull << 20 },
		{ "3G", 0, 3ull << 30 },
		{ "16777215T", 0, 16777215ull << 40 },
		{ "16777216T", -ERANGE, 0 },
		{ "1P", -EINVAL, 0 },
		{ "1KiB", -EINVAL, 0 },
		{ "1 K", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "-1K", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
	};

	check_rows(value_size, rows, ROWS(rows));
}
END_TEST

START_TEST(durations)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "7", 0, 7000 },
		{ "7s", 0, 7000 },
		{ "7S", 0, 7000 },
		{ "0.5", 0, 500 },
		{ "1.25s", 0, 1250 },
		{ "1.125", 0, 1125 },
		{ "500ms", 0, 500 },
		{ "2m", 0, 120000 },
		{ "1.5m", 0, 90000 },
		{ "24h", 0, 86400000 },
		{ "1d", 0, 86400000 },
		{ "18446744073709551615ms", 0, UINT64_MAX },
		{ "18446744073709551615s", -ERANGE, 0 },
		{ "18446744073709551.999", -ERANGE, 0 },
		{ "1.1234", -EINVAL, 0 },
		{ "1.", -EINVAL, 0 },
		{ ".5", -EINVAL, 0 },
		{ "1.5ms", -EINVAL, 0 },
		{ "5 s", -EINVAL, 0 },
		{ "5 parsecs", -EINVAL, 0 },
		{ "1w", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
	};

	check_rows(value_duration, rows, ROWS(rows));
}
END_TEST

START_TEST(booleans)
{
	static const struct {
		const char *text;
		int r;
		bool value;
	} rows[] = {
		{ "yes", 0, true },	   { "Yes", 0, true },	   { "true", 0, true },
		{ "on", 0, true },	   { "1", 0, true },	   { "no", 0, false },
		{ "FALSE", 0, false },	   { "off", 0, false },	   { "0", 0, false },
		{ "", -EINVAL, true },	   { "2", -EINVAL, true }, { "y", -EINVAL, true },
		{ "yes ", -EINVAL, true },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		bool value = true;

		ROW_EQ(rows[i].text, value_bool(rows[i].text, &value), rows[i].r);
		ROW_EQ(rows[i].text, value, rows[i].value);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { numbers, sizes, durations, booleans };

	return unit_main("value", tests, ROWS(tests));
}
