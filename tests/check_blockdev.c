/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/blockdev.h"

#include <errno.h>
#include <string.h>

#include "tests/unit.h"

/* Back ends that only say that they were asked for. */

static const char *opened;
static struct blockdev fake;

#define FAKE_OPEN(scheme)                                                        \
	int bd_##scheme##_open(const struct bd_params *p, struct blockdev **ret, \
			       char *err, size_t n)                              \
	{                                                                        \
		(void)p;                                                         \
		(void)err;                                                       \
		(void)n;                                                         \
		opened = #scheme;                                                \
		*ret = &fake;                                                    \
		return 0;                                                        \
	}

FAKE_OPEN(iscsi)
FAKE_OPEN(file)
FAKE_OPEN(null)
FAKE_OPEN(fault)

static unsigned n_submitted, n_changed, n_done, n_closed;
static int done_error, identify_result;

static void fake_submit(struct blockdev *bd, struct bd_req *req)
{
	ck_assert_ptr_eq(bd, &fake);
	ck_assert_ptr_eq(req->bd, &fake);
	n_submitted++;
	req->done(req, 0);
}

static void fake_close(struct blockdev *bd, bool release, void (*closed)(void *),
		       void *opaque)
{
	ck_assert(release);
	bd_set_state(bd, BD_READY, NULL);
	closed(opaque);
}

static const struct blockdev_ops fake_ops = {
	.name = "fake",
	.submit = fake_submit,
	.close = fake_close,
};

static void on_changed(void *opaque)
{
	struct bd_status status;

	(void)opaque;
	bd_get_status(&fake, &status); /* no lock is held */
	n_changed++;
}

static int on_identify(void *opaque, const struct bd_info *info, char *error, size_t size)
{
	(void)opaque;
	(void)info;
	snprintf(error, size, "not this one");
	return identify_result;
}

static void on_done(struct bd_req *req, int error)
{
	(void)req;
	n_done++;
	done_error = error;
}

static void on_closed(void *opaque)
{
	(void)opaque;
	n_closed++;
}

static const struct bd_info info = {
	.size = 1 << 20,
	.block_size = 512,
	.max_transfer = 65536,
};

static void open_fake(void)
{
	const struct bd_params p = {
		.name = "db0",
		.watcher = { .identify = on_identify, .changed = on_changed },
	};

	n_submitted = n_changed = n_done = n_closed = 0;
	identify_result = 0;
	ck_assert_int_eq(bd_init(&fake, &fake_ops, &p), 0);
}

static int submit(enum bd_op op, uint64_t offset, uint64_t length)
{
	struct bd_req req = { .op = op,
			      .offset = offset,
			      .length = length,
			      .done = on_done,
			      .bad_offset = 7,
			      .n_extents = 9 };
	unsigned before = n_done;

	bd_submit(&fake, &req);
	ck_assert_uint_eq(n_done, before + 1);
	ck_assert_uint_eq(req.bad_offset, 0);
	ck_assert_uint_eq(req.n_extents, 0);
	return done_error;
}

START_TEST(the_scheme_picks_the_back_end)
{
	static const struct {
		enum config_url_scheme scheme;
		const char *name;
	} rows[] = {
		{ CONFIG_URL_ISCSI, "iscsi" },
		{ CONFIG_URL_FILE, "file" },
		{ CONFIG_URL_NULL, "null" },
		{ CONFIG_URL_FAULT, "fault" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		static struct config_url url;
		struct bd_params p = { .name = "db0", .url = &url };
		struct blockdev *bd;
		char error[80];

		url.scheme = rows[i].scheme;
		ck_assert_int_eq(bd_open(&p, &bd, error, sizeof(error)), 0);
		ROW_STR_EQ(rows[i].name, opened, rows[i].name);
	}
}
END_TEST

START_TEST(what_is_not_ready_answers_at_once)
{
	struct bd_info seen;
	char error[80];

	open_fake();
	ck_assert(!bd_get_info(&fake, &seen));
	ck_assert_int_eq(submit(BD_READ, 0, 512), -ENOTCONN);
	ck_assert_int_eq(bd_identify(&fake, &info, error, sizeof(error)), 0);
	ck_assert(!bd_get_info(&fake, &seen));
	bd_set_state(&fake, BD_READY, NULL);
	ck_assert(bd_get_info(&fake, &seen));
	ck_assert_uint_eq(seen.size, info.size);
	ck_assert_int_eq(submit(BD_READ, 0, 512), 0);
	bd_set_state(&fake, BD_AWAY, "db0: gone");
	ck_assert_int_eq(submit(BD_READ, 0, 512), -ENOTCONN);
	ck_assert_int_eq(submit(BD_FLUSH, 0, 0), -ENOTCONN);
	ck_assert_uint_eq(n_submitted, 1);
	ck_assert(bd_get_info(&fake, &seen));
	bd_done(&fake);
}
END_TEST

START_TEST(ranges_are_checked)
{
	static const struct {
		const char *name;
		enum bd_op op;
		uint64_t offset, length;
		int error;
	} rows[] = {
		{ "all it may", BD_READ, 0, 65536, 0 },
		{ "the end", BD_WRITE, (1 << 20) - 512, 512, 0 },
		{ "too much", BD_READ, 0, 65536 + 512, -EINVAL },
		{ "any length of extents", BD_EXTENTS, 0, 1 << 20, 0 },
		{ "any length of zeros", BD_ZERO, 512, (1 << 20) - 512, 0 },
		{ "past the end", BD_ZERO, 512, 1 << 20, -EINVAL },
		{ "overflow", BD_READ, UINT64_MAX - 511, 512, -EINVAL },
		{ "long overflow", BD_DISCARD, 512, UINT64_MAX - 511, -EINVAL },
		{ "nothing", BD_READ, 0, 0, -EINVAL },
		{ "offset unaligned", BD_READ, 1, 512, -EINVAL },
		{ "length unaligned", BD_READ, 0, 513, -EINVAL },
		{ "flush", BD_FLUSH, 0, 0, 0 },
	};
	char error[80];

	open_fake();
	ck_assert_int_eq(bd_identify(&fake, &info, error, sizeof(error)), 0);
	bd_set_state(&fake, BD_READY, NULL);
	for (size_t i = 0; i < ROWS(rows); i++)
		ROW_EQ(rows[i].name, submit(rows[i].op, rows[i].offset, rows[i].length),
		       rows[i].error);
	bd_done(&fake);
}
END_TEST

START_TEST(a_read_only_device_is_not_changed)
{
	struct bd_info ro = info;
	char error[80];

	ro.read_only = true;
	ro.block_size = 1;
	open_fake();
	ck_assert_int_eq(bd_identify(&fake, &ro, error, sizeof(error)), 0);
	bd_set_state(&fake, BD_READY, NULL);
	ck_assert_int_eq(submit(BD_READ, 1, 3), 0);
	ck_assert_int_eq(submit(BD_WRITE, 0, 512), -EROFS);
	ck_assert_int_eq(submit(BD_ZERO, 0, 512), -EROFS);
	ck_assert_int_eq(submit(BD_DISCARD, 0, 512), -EROFS);
	ck_assert_int_eq(submit(BD_FLUSH, 0, 0), 0);
	bd_done(&fake);
}
END_TEST

START_TEST(the_watcher_hears_each_change_once)
{
	struct bd_status status;

	open_fake();
	bd_set_state(&fake, BD_AWAY, "db0: %s", "gone");
	ck_assert_uint_eq(n_changed, 1);
	bd_set_state(&fake, BD_AWAY, "db0: %s", "gone");
	ck_assert_uint_eq(n_changed, 1);
	bd_set_state(&fake, BD_AWAY, "db0: %s", "really gone");
	ck_assert_uint_eq(n_changed, 2);
	bd_get_status(&fake, &status);
	ck_assert_str_eq(status.error, "db0: really gone");
	ck_assert_int_eq(status.state, BD_AWAY);
	bd_set_state(&fake, BD_READY, NULL);
	ck_assert_uint_eq(n_changed, 3);
	bd_get_status(&fake, &status);
	ck_assert_str_eq(status.error, "");
	bd_set_reserved(&fake, true);
	bd_set_reserved(&fake, true);
	ck_assert_uint_eq(n_changed, 4);
	bd_count_login(&fake);
	bd_get_status(&fake, &status);
	ck_assert(status.reserved && status.logins == 1);
	bd_done(&fake);
}
END_TEST

START_TEST(an_identity_that_is_refused_is_not_taken)
{
	struct bd_info seen;
	char error[80] = "";

	open_fake();
	identify_result = -EXDEV;
	ck_assert_int_eq(bd_identify(&fake, &info, error, sizeof(error)), -EXDEV);
	ck_assert_str_eq(error, "not this one");
	bd_set_state(&fake, BD_READY, NULL);
	ck_assert(bd_get_info(&fake, &seen));
	ck_assert_uint_eq(seen.size, 0);
	bd_done(&fake);
}
END_TEST

static void on_reserved(struct bd_reserve *reserve, int error)
{
	(void)reserve;
	n_done++;
	done_error = error;
}

START_TEST(a_back_end_without_reservations_says_so)
{
	struct bd_reserve reserve = { .op = BD_RESERVE_TAKE,
				      .key = 1,
				      .done = on_reserved };

	open_fake();
	bd_reserve(&fake, &reserve);
	ck_assert_uint_eq(n_done, 1);
	ck_assert_int_eq(done_error, -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(reserve.error, "scheme fake:"));
	fake.closing = true;
	bd_reserve(&fake, &reserve);
	ck_assert_uint_eq(n_done, 2);
	ck_assert_int_eq(done_error, -ENOTCONN);
	bd_done(&fake);
}
END_TEST

START_TEST(after_close_nothing_is_taken_and_nothing_told)
{
	char error[80] = "";

	open_fake();
	ck_assert_int_eq(bd_identify(&fake, &info, error, sizeof(error)), 0);
	bd_set_state(&fake, BD_READY, NULL);
	n_changed = 0;
	bd_close(&fake, true, on_closed, NULL);
	ck_assert_uint_eq(n_closed, 1);
	ck_assert_int_eq(submit(BD_READ, 0, 512), -ENOTCONN);
	ck_assert_int_lt(bd_identify(&fake, &info, error, sizeof(error)), 0);
	ck_assert_uint_eq(n_changed, 0);
	ck_assert_uint_eq(n_submitted, 0);
	bd_done(&fake);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		the_scheme_picks_the_back_end,
		what_is_not_ready_answers_at_once,
		ranges_are_checked,
		a_read_only_device_is_not_changed,
		the_watcher_hears_each_change_once,
		an_identity_that_is_refused_is_not_taken,
		a_back_end_without_reservations_says_so,
		after_close_nothing_is_taken_and_nothing_told,
	};

	return unit_main("blockdev", tests, ROWS(tests));
}
