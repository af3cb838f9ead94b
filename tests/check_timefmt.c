/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include "conf/timefmt.h"

START_TEST(times_are_rfc_3339_in_utc_with_milliseconds)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 1, "1970-01-01T00:00:00.001Z" },
		{ 951782400000, "2000-02-29T00:00:00.000Z" },
		{ 1769862896789, "2026-01-31T12:34:56.789Z" },
		{ 253402300799999, "9999-12-31T23:59:59.999Z" },
	};

	setenv("TZ", "Asia/Kathmandu", 1);
	tzset();
	for (size_t i = 0; i < ROWS(rows); i++) {
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

		timefmt_add(&b, rows[i].ms);
		ROW_STR_EQ(rows[i].text, b.s, rows[i].text);
	}
}
END_TEST

START_TEST(durations_are_seconds_with_three_decimals)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = {
		{ 0, "0.000" },
		{ 7, "0.007" },
		{ 12345, "12.345" },
		{ 86400000, "86400.000" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

		timefmt_add_duration(&b, rows[i].ms);
		ROW_STR_EQ(rows[i].text, b.s, rows[i].text);
	}
}
END_TEST

START_TEST(the_clocks_run)
{
	uint64_t before = timefmt_monotonic_ns();
	int64_t seconds = time(NULL);
	int64_t ms = timefmt_now_ms();

	ck_assert_int_ge(ms, seconds * 1000 - 1000);
	ck_assert_int_lt(ms, seconds * 1000 + 60000);
	ck_assert_uint_ge(timefmt_monotonic_ns(), before);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		times_are_rfc_3339_in_utc_with_milliseconds,
		durations_are_seconds_with_three_decimals,
		the_clocks_run,
	};

	return unit_main("timefmt", tests, ROWS(tests));
}
