/* SPDX-License-Identifier: BSD-2-Clause */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "conf/timefmt.h"
#include "engine/fault_rules.h"
#include "engine/workers.h"
#include "tests/bd.h"

#define MIB (UINT64_C(1) << 20)

static char dir[32];
static char path[64]; /* of the rules */
static char error[512];
static struct owner owner;
static struct workers *workers;

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/check_bd_fault.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/rules", dir);
	ck_assert_int_eq(workers_new("w", 2, &workers), 0);
	owner_init(&owner);
}

static void teardown(void)
{
	if (owner.bd)
		owner_close(&owner);
	workers_free(workers);
	unlink(path);
	rmdir(dir);
}

static void write_rules(const char *text)
{
	char name[80];
	FILE *f;

	snprintf(name, sizeof(name), "%s.new", path);
	f = fopen(name, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(rename(name, path), 0);
}

static int open_fault(const char *inner)
{
	char url[256];

	snprintf(url, sizeof(url), "fault:%s:%s", path, inner);
	return owner_open(&owner, (struct bd_params){ .workers = workers }, url, error,
			  sizeof(error));
}

static void open_ready(const char *rules)
{
	if (rules)
		write_rules(rules);
	ck_assert_int_eq(open_fault("null:8M"), 0);
	ck_assert(owner_wait_state(&owner, BD_READY));
}

static int read_at(uint64_t offset)
{
	char buf[4096];

	return call(owner.bd, BD_READ, offset, sizeof(buf), buf);
}

static int write_at(uint64_t offset)
{
	char buf[4096] = "";

	return call(owner.bd, BD_WRITE, offset, sizeof(buf), buf);
}

START_TEST(without_rules_it_is_the_inner_device)
{
	struct bd_extent extents[BD_MAX_EXTENTS];
	struct bd_info info;
	struct call c;

	open_ready(NULL);
	ck_assert(bd_get_info(owner.bd, &info));
	ck_assert_uint_eq(info.size, 8 * MIB);
	ck_assert_int_eq(read_at(0), 0);
	ck_assert_int_eq(write_at(0), 0);
	call_start(&c, owner.bd, BD_EXTENTS, 0, 0, MIB, extents);
	ck_assert_int_eq(call_wait(&c), 0);
	ck_assert_uint_eq(c.req.n_extents, 1);
}
END_TEST

START_TEST(an_error_hits_its_event_and_range_only)
{
	open_ready("[bad]\nevent = read\noffset = 65536\nlength = 4096\nerrno = EIO\n");
	ck_assert_int_eq(read_at(65536), -EIO);
	ck_assert_int_eq(read_at(65535), -EIO);
	ck_assert_int_eq(read_at(65536 + 4095), -EIO);
	ck_assert_int_eq(read_at(65536 + 4096), 0);
	ck_assert_int_eq(read_at(65536 - 4096), 0);
	ck_assert_int_eq(write_at(65536), 0);
}
END_TEST

START_TEST(a_medium_error_tells_its_range)
{
	struct call c;
	char *buf = malloc(MIB);

	open_ready("[bad]\nevent = read\noffset = 100000\nlength = 1000\n"
		   "errno = ENODATA\n");
	call_start(&c, owner.bd, BD_READ, 0, 65536, MIB, buf);
	ck_assert_int_eq(call_wait(&c), -ENODATA);
	ck_assert_uint_eq(c.req.bad_offset, 100000);
	ck_assert_uint_eq(c.req.bad_length, 1000);
	call_start(&c, owner.bd, BD_READ, 0, 100500, MIB, buf);
	ck_assert_int_eq(call_wait(&c), -ENODATA);
	ck_assert_uint_eq(c.req.bad_offset, 100500);
	ck_assert_uint_eq(c.req.bad_length, 500);
	free(buf);
}
END_TEST

START_TEST(a_rule_fires_once_or_as_often_as_it_says)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	int i;

	open_ready("[one]\nevent = write\nonce = yes\nerrno = ENOSPC\n"
		   "[three]\nevent = flush\ncount = 3\nerrno = EIO\n");
	ck_assert_int_eq(write_at(0), -ENOSPC);
	ck_assert_int_eq(write_at(0), 0);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(call(owner.bd, BD_FLUSH, 0, 0, NULL), i < 3 ? -EIO : 0);
	bd_sessions(owner.bd, &b);
	ck_assert_ptr_nonnull(strstr(b.s, "rule one: fired 1 times\n"));
	ck_assert_ptr_nonnull(strstr(b.s, "rule three: fired 3 times\n"));
}
END_TEST

START_TEST(a_rate_is_about_kept_and_repeats_with_its_seed)
{
	int i, round, n[2] = { 0 };

	open_ready(NULL);
	for (round = 0; round < 2; round++) {
		write_rules(round ? "[some]\nrate = 25%\nseed = 7\nerrno = EIO\n" :
				    "[some]\nrate = 0.25\nseed = 7\nerrno = EIO\n");
		for (i = 0; i < 400; i++)
			n[round] += read_at(0) == -EIO;
	}
	ck_assert_int_gt(n[0], 60);
	ck_assert_int_lt(n[0], 140);
	ck_assert_int_eq(n[0], n[1]);
}
END_TEST

START_TEST(a_rule_counts_from_the_moment_it_is_there)
{
	int i;

	open_ready(NULL);
	for (i = 0; i < 20; i++) {
		write_rules("[x]\nerrno = EIO\n");
		ck_assert_int_eq(read_at(0), -EIO);
		write_rules("");
		ck_assert_int_eq(read_at(0), 0);
	}
}
END_TEST

START_TEST(rules_that_cannot_be_read_change_nothing)
{
	open_ready("[x]\nerrno = EIO\n");
	write_rules("[x]\nerrno = EWRONG\n");
	ck_assert_int_eq(read_at(0), -EIO);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(read_at(0), 0);
}
END_TEST

START_TEST(a_delayed_request_comes_late)
{
	uint64_t start;

	open_ready("[slow]\nevent = read\ndelay_ms = 60\n");
	start = timefmt_monotonic_ns();
	ck_assert_int_eq(read_at(0), 0);
	ck_assert_uint_ge(timefmt_monotonic_ns() - start, 60000000);
	write_rules("[slow]\nevent = read\ndelay_ms = 20\nerrno = EIO\n");
	ck_assert_int_eq(read_at(0), -EIO);
	ck_assert_int_eq(write_at(0), 0);
}
END_TEST

/* Waits until `sessions` has the text. */
static bool wait_sessions(const char *text)
{
	uint64_t deadline =
		timefmt_monotonic_ns() + BD_TEST_DEADLINE_S * UINT64_C(1000000000);
	bool found = false;

	while (!found && timefmt_monotonic_ns() < deadline) {
		struct strbuf b = STRBUF_INIT;

		bd_sessions(owner.bd, &b);
		found = strstr(b.s, text) != NULL;
		strbuf_done(&b);
	}
	return found;
}

START_TEST(a_stalled_request_waits_until_the_rule_is_gone)
{
	struct call calls[3];
	char buf[3][16] = { "" };
	int i;

	open_ready("[stuck]\nevent = write\nstall = yes\n");
	for (i = 0; i < 3; i++)
		call_start(&calls[i], owner.bd, BD_WRITE, 0, i * 100, 16, buf[i]);
	ck_assert_int_eq(read_at(0), 0);
	ck_assert(wait_sessions("3 parked"));
	/* Rules that stall it still. */
	write_rules("[other]\nevent = write\noffset = 100\nlength = 1\nstall = yes\n"
		    "[bad]\nevent = write\noffset = 200\nlength = 1\nerrno = EIO\n");
	ck_assert_int_eq(call_wait(&calls[0]), 0);
	ck_assert_int_eq(call_wait(&calls[2]), -EIO);
	ck_assert(wait_sessions("1 parked"));
	ck_assert(!call_is_done(&calls[1]));
	write_rules("");
	ck_assert_int_eq(call_wait(&calls[1]), 0);
	ck_assert(wait_sessions("0 parked"));
}
END_TEST

START_TEST(after_carries_out_and_fails)
{
	char url[128], file[80], buf[4] = "", data[] = "data";
	int fd;

	snprintf(file, sizeof(file), "%s/image", dir);
	fd = open(file, O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(fd, MIB), 0);
	snprintf(url, sizeof(url), "file://%s", file);
	write_rules("[lost]\nevent = write\nafter = yes\nonce = yes\nerrno = ENOTCONN\n");
	ck_assert_int_eq(open_fault(url), 0);
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert_int_eq(call(owner.bd, BD_WRITE, 7, 4, data), -ENOTCONN);
	ck_assert_int_eq(pread(fd, buf, 4, 7), 4);
	ck_assert_mem_eq(buf, "data", 4);
	close(fd);
	unlink(file);
}
END_TEST

START_TEST(a_device_goes_away_and_comes_back_by_a_new_login)
{
	struct bd_status status;
	struct call c;
	char buf[16];

	open_ready("[stuck]\nevent = read\nstall = yes\n");
	call_start(&c, owner.bd, BD_READ, 0, 0, 16, buf);
	write_rules("[gone]\nstate = away\n");
	/* What was under way is lost. */
	ck_assert_int_eq(call_wait(&c), -ENOTCONN);
	ck_assert_int_eq(read_at(0), -ENOTCONN);
	ck_assert(owner_wait_state(&owner, BD_AWAY));
	write_rules("[no]\nstate = refused\n");
	ck_assert(owner_wait_state(&owner, BD_REFUSED));
	ck_assert_int_eq(read_at(0), -ENOTCONN);
	write_rules("[yes]\nstate = ready\n");
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert_int_eq(read_at(0), 0);
	bd_get_status(owner.bd, &status);
	ck_assert_uint_eq(status.logins, 2);
	ck_assert_str_eq(status.error, "");
	ck_assert_uint_eq(owner.n_identified, 2);
}
END_TEST

START_TEST(a_lie_about_the_size_shows_at_the_next_login)
{
	struct bd_status status;
	struct bd_info info;

	owner.size_wanted = 8 * MIB;
	open_ready(NULL);
	write_rules("[lie]\nsize = 4096\nserial = other\n");
	ck_assert_int_eq(read_at(4096), 0);
	write_rules("[lie]\nsize = 4096\nstate = away\n");
	ck_assert(owner_wait_state(&owner, BD_AWAY));
	write_rules("[lie]\nsize = 4096\n");
	ck_assert(owner_wait_state(&owner, BD_REFUSED));
	bd_get_status(owner.bd, &status);
	ck_assert_str_eq(status.error, "db0: size changed to 4096");
	ck_assert_int_eq(read_at(0), -ENOTCONN);
	write_rules("[lie]\nserial = A B\nwwn = naa.5\n");
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert(bd_get_info(owner.bd, &info));
	ck_assert_str_eq(info.serial, "A B");
	ck_assert_str_eq(info.wwn, "naa.5");
	ck_assert_uint_eq(info.size, 8 * MIB);
}
END_TEST

START_TEST(a_size_that_is_too_large_ends_in_errors)
{
	struct bd_info info;

	open_ready("[lie]\nsize = 0x1000000\nread_only = no\n");
	ck_assert(bd_get_info(owner.bd, &info));
	ck_assert_uint_eq(info.size, 16 * MIB);
	ck_assert_int_eq(read_at(8 * MIB - 4096), 0);
	ck_assert_int_eq(read_at(8 * MIB), -EIO);
}
END_TEST

START_TEST(the_inner_state_shows)
{
	char url[128];
	struct bd_status status;

	snprintf(url, sizeof(url), "file://%s/none", dir);
	ck_assert_int_eq(open_fault(url), 0);
	ck_assert(owner_wait_state(&owner, BD_AWAY));
	bd_get_status(owner.bd, &status);
	ck_assert_ptr_nonnull(strstr(status.error, "No such file"));
}
END_TEST

START_TEST(devices_of_faults_nest)
{
	char url[256], second[80];

	snprintf(second, sizeof(second), "%s/none", dir);
	snprintf(url, sizeof(url), "fault:%s:null:1M", second);
	write_rules("[x]\nevent = write\nerrno = EACCES\n");
	ck_assert_int_eq(open_fault(url), 0);
	ck_assert(owner_wait_state(&owner, BD_READY));
	ck_assert_int_eq(read_at(0), 0);
	ck_assert_int_eq(write_at(0), -EACCES);
}
END_TEST

START_TEST(what_is_parked_is_answered_when_it_closes)
{
	struct call c;
	char buf[16];

	open_ready("[stuck]\nstall = yes\n");
	call_start(&c, owner.bd, BD_READ, 0, 0, 16, buf);
	ck_assert(wait_sessions("1 parked"));
	owner_close(&owner);
	ck_assert(call_is_done(&c));
	ck_assert_int_eq(c.error, -ENOTCONN);
}
END_TEST

START_TEST(wrong_urls_and_rules_are_refused_at_the_opening)
{
	write_rules("[x]\nerrno = EWRONG\n");
	ck_assert_int_eq(open_fault("null:1M"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error, "rules:2: wrong value: errno = EWRONG"));
	write_rules("");
	ck_assert_int_eq(open_fault("nonsense"), -EINVAL);
	ck_assert_int_eq(open_fault("fault:/none/at/all:nonsense"), -EINVAL);
}
END_TEST

static int parse(const char *text)
{
	static struct fault_rules rules;

	return fault_rules_parse("rules", text, strlen(text), &rules, error,
				 sizeof(error));
}

START_TEST(rules_are_checked)
{
	static const char *const bad[] = {
		"event = read\n",
		"[x]\nevent =\n",
		"[x]\nevent = reed\n",
		"[x]\nevent = read, rite\n",
		"[x]\nerrno = 5\n",
		"[x]\noffset = -1\n",
		"[x]\nlength = 1x\n",
		"[x]\nonce = 1\n",
		"[x]\nrate = 2\n",
		"[x]\nrate = 200%\n",
		"[x]\nrate = x\n",
		"[x]\ndelay_ms = 99999999\n",
		"[x]\nstate = off\n",
		"[x]\nno_such_key = 1\n",
		"[x]\nstall = yes\nsize = x",
		"[x\n",
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(parse(bad[i]) == -EINVAL, "%s", bad[i]);
		ck_assert_ptr_nonnull(strstr(error, "rules:"));
	}
	ck_assert_int_eq(parse(""), 0);
	ck_assert_int_eq(parse("# a comment\n[x]\nevent = read, write flush\n"
			       "errno = EIO\noffset = 0x10\nrate = 100%\n"),
			 0);
}
END_TEST

START_TEST(requests_from_threads_and_changing_rules_get_along)
{
	enum { N = 32 };
	struct call *calls = calloc(N, sizeof(*calls));
	static char buf[N][512];
	int round, i, r;

	open_ready(NULL);
	for (round = 0; round < 60; round++) {
		static const char *const rules[] = {
			"",
			"[a]\nrate = 50%\ndelay_ms = 3\nerrno = EIO\n",
			"[b]\nrate = 50%\nstall = yes\n",
			"[c]\nstate = away\n",
			"[d]\nrate = 50%\nafter = yes\nerrno = ENODATA\n",
		};

		write_rules(rules[round % 5]);
		for (i = 0; i < N; i++)
			call_start(&calls[i], owner.bd, i % 2 ? BD_READ : BD_WRITE, 0,
				   i * 512, 512, buf[i]);
		write_rules("");
		for (i = 0; i < N; i++) {
			r = call_wait(&calls[i]);
			ck_assert(r == 0 || r == -EIO || r == -ENOTCONN || r == -ENODATA);
		}
	}
	ck_assert(owner_wait_state(&owner, BD_READY));
	free(calls);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bd_fault");
	TCase *tc = tcase_create("bd_fault");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, without_rules_it_is_the_inner_device);
	tcase_add_test(tc, an_error_hits_its_event_and_range_only);
	tcase_add_test(tc, a_medium_error_tells_its_range);
	tcase_add_test(tc, a_rule_fires_once_or_as_often_as_it_says);
	tcase_add_test(tc, a_rate_is_about_kept_and_repeats_with_its_seed);
	tcase_add_test(tc, a_rule_counts_from_the_moment_it_is_there);
	tcase_add_test(tc, rules_that_cannot_be_read_change_nothing);
	tcase_add_test(tc, a_delayed_request_comes_late);
	tcase_add_test(tc, a_stalled_request_waits_until_the_rule_is_gone);
	tcase_add_test(tc, after_carries_out_and_fails);
	tcase_add_test(tc, a_device_goes_away_and_comes_back_by_a_new_login);
	tcase_add_test(tc, a_lie_about_the_size_shows_at_the_next_login);
	tcase_add_test(tc, a_size_that_is_too_large_ends_in_errors);
	tcase_add_test(tc, the_inner_state_shows);
	tcase_add_test(tc, devices_of_faults_nest);
	tcase_add_test(tc, what_is_parked_is_answered_when_it_closes);
	tcase_add_test(tc, wrong_urls_and_rules_are_refused_at_the_opening);
	tcase_add_test(tc, rules_are_checked);
	tcase_add_test(tc, requests_from_threads_and_changing_rules_get_along);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
