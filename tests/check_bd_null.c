/* SPDX-License-Identifier: BSD-2-Clause */

#include <errno.h>

#include "engine/workers.h"
#include "tests/bd.h"

static struct owner owner;
static struct workers *workers;
static char error[512];

/* _i: with workers or without. */
static void open_null(int with_workers, bool read_only)
{
	owner_init(&owner);
	workers = NULL;
	if (with_workers)
		ck_assert_int_eq(workers_new("w", 2, &workers), 0);
	ck_assert_int_eq(owner_open(&owner,
				    (struct bd_params){ .workers = workers,
							.read_only = read_only },
				    "null:1M", error, sizeof(error)),
			 0);
}

static void close_null(void)
{
	owner_close(&owner);
	workers_free(workers);
}

START_TEST(reads_are_zeros_and_writes_vanish)
{
	char buf[4096];
	struct bd_extent extents[BD_MAX_EXTENTS];
	struct bd_info info;
	struct call c;
	size_t i;

	open_null(_i, false);
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert(bd_get_info(owner.bd, &info));
	ck_assert_uint_eq(info.size, 1 << 20);
	ck_assert_uint_eq(info.block_size, 1);
	memset(buf, 'x', sizeof(buf));
	ck_assert_int_eq(call(owner.bd, BD_WRITE, 100, 4096, buf), 0);
	ck_assert_int_eq(call(owner.bd, BD_READ, 100, 4096, buf), 0);
	for (i = 0; i < sizeof(buf); i++)
		ck_assert_int_eq(buf[i], 0);
	ck_assert_int_eq(call(owner.bd, BD_FLUSH, 0, 0, NULL), 0);
	ck_assert_int_eq(call(owner.bd, BD_ZERO, 0, 1 << 20, NULL), 0);
	ck_assert_int_eq(call(owner.bd, BD_DISCARD, 0, 1 << 20, NULL), 0);
	call_start(&c, owner.bd, BD_EXTENTS, 0, 10, 20, extents);
	ck_assert_int_eq(call_wait(&c), 0);
	ck_assert_uint_eq(c.req.n_extents, 1);
	ck_assert_uint_eq(extents[0].offset, 10);
	ck_assert_uint_eq(extents[0].length, 20);
	ck_assert(!extents[0].mapped);
	close_null();
}
END_TEST

START_TEST(requests_past_the_end_are_refused)
{
	char buf[16];

	open_null(_i, false);
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert_int_lt(call(owner.bd, BD_READ, (1 << 20) - 8, 16, buf), 0);
	close_null();
}
END_TEST

START_TEST(a_read_only_device_takes_no_write)
{
	char buf[16] = "";

	open_null(_i, true);
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert_int_eq(call(owner.bd, BD_WRITE, 0, 16, buf), -EROFS);
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 16, buf), 0);
	close_null();
}
END_TEST

START_TEST(an_owner_that_refuses_gets_no_device)
{
	char buf[16];
	struct bd_status status;

	owner_init(&owner);
	owner.size_wanted = 5;
	ck_assert_int_eq(workers_new("w", 1, &workers), 0);
	ck_assert_int_eq(owner_open(&owner, (struct bd_params){ .workers = workers },
				    "null:1M", error, sizeof(error)),
			 0);
	ck_assert(owner_wait_state(&owner, BD_REFUSED));
	bd_get_status(owner.bd, &status);
	ck_assert_str_eq(status.error, "size changed to 1048576");
	ck_assert_int_eq(call(owner.bd, BD_READ, 0, 16, buf), -ENOTCONN);
	close_null();
}
END_TEST

START_TEST(closing_right_after_opening_is_fine)
{
	int i;

	for (i = 0; i < 50; i++) {
		open_null(1, false);
		close_null();
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bd_null");
	TCase *tc = tcase_create("bd_null");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, reads_are_zeros_and_writes_vanish, 0, 2);
	tcase_add_loop_test(tc, requests_past_the_end_are_refused, 0, 2);
	tcase_add_loop_test(tc, a_read_only_device_takes_no_write, 0, 2);
	tcase_add_test(tc, an_owner_that_refuses_gets_no_device);
	tcase_add_test(tc, closing_right_after_opening_is_fine);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
