/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/timefmt.h"
#include "tests/unit.h"

static sem_t ended;

static void on_done(struct hook *h)
{
	(void)h;
	sem_post(&ended);
}

static void run(const char *command, unsigned timeout_ms, struct hook *h)
{
	*h = (struct hook){
		.command = command,
		.group = "prod",
		.members = "db0 log0",
		.timeout_ms = timeout_ms,
		.done = on_done,
	};
	sem_init(&ended, 0, 0);
	ck_assert_int_eq(hook_start(h), 0);
	while (sem_wait(&ended) < 0)
		;
}

START_TEST(its_end_is_told_with_its_last_line)
{
	static const struct {
		const char *command;
		int error;
		const char *failure;
	} rows[] = {
		{ "true", 0, "" },
		{ "echo loud >&2", 0, "" },
		{ "exit 3", -EIO, "exit code 3" },
		{ "echo one; echo two >&2; exit 4", -EIO, "exit code 4: \"two\"" },
		{ "echo one; printf two; exit 5", -EIO, "exit code 5: \"two\"" },
		{ "printf 'a\\tb\\n\\n'; exit 6", -EIO, "exit code 6: \"a?b\"" },
		{ "kill -TERM $$", -EIO, "ended by signal 15" },
		{ "no-such-command-at-all", -EIO, "not found" },
		{ "[ \"$LUNFS_GROUP:$LUNFS_MEMBERS\" = 'prod:db0 log0' ]", 0, "" },
		{ "read x", -EIO, "exit code 1" }, /* nothing to read */
		/* SIGPIPE is as usual, though this process ignores it. */
		{ "yes | head -n 1 > /dev/null; kill -PIPE $$", -EIO,
		  "ended by signal 13" },
	};
	struct hook h;

	signal(SIGPIPE, SIG_IGN);
	setenv("LUNFS_GROUP", "another", 1);
	for (size_t i = 0; i < ROWS(rows); i++) {
		run(rows[i].command, 20000, &h);
		ROW_EQ(rows[i].command, h.error, rows[i].error);
		ROW_HAS(rows[i].command, h.failure, rows[i].failure);
	}
}
END_TEST

START_TEST(it_has_no_descriptor_of_ours)
{
	char command[64];
	struct hook h;
	int fd = open("/dev/null", O_RDONLY);

	ck_assert_int_ge(fd, 3);
	snprintf(command, sizeof(command), "! [ -e /proc/$$/fd/%d ]", fd);
	run(command, 20000, &h);
	ck_assert_int_eq(h.error, 0);
	close(fd);
}
END_TEST

START_TEST(past_its_time_it_is_killed_with_its_children)
{
	char dir[] = "/tmp/check_hook.XXXXXX", command[256];
	uint64_t until;
	struct hook h;
	ssize_t n;
	char c;
	int fd;

	/* The child holds the only writing end: reading ends with it. */
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(command, sizeof(command),
		 "mkfifo %s/f; sh -c 'sleep 1000' > %s/f & echo waiting; sleep 1000", dir,
		 dir);
	run(command, 300, &h);
	ck_assert_int_eq(h.error, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(h.failure, "fence_timeout (300 ms)"));
	ck_assert_ptr_nonnull(strstr(h.failure, "\"waiting\""));
	snprintf(command, sizeof(command), "%s/f", dir);
	fd = open(command, O_RDONLY | O_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	/* What was killed closes its files a moment later. */
	until = timefmt_monotonic_ns() + UINT64_C(20000000000);
	while ((n = read(fd, &c, 1)) < 0 && errno == EAGAIN &&
	       timefmt_monotonic_ns() < until)
		usleep(1000);
	ck_assert_int_eq(n, 0);
	close(fd);
	unlink(command);
	rmdir(dir);
}
END_TEST

START_TEST(what_it_leaves_running_does_not_keep_it)
{
	struct hook h;

	run("sleep 5 & exit 0", 4000, &h);
	ck_assert_int_eq(h.error, 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		its_end_is_told_with_its_last_line,
		it_has_no_descriptor_of_ours,
		past_its_time_it_is_killed_with_its_children,
		what_it_leaves_running_does_not_keep_it,
	};

	return unit_main("hook", tests, ROWS(tests));
}
