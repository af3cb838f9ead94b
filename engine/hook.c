/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

/* The last line of what it says, as it comes. */
struct line {
	char text[HOOK_LINE_MAX];
	size_t len;
	bool ended; /* by a newline: the next byte begins another */
};

static void add_byte(struct line *l, unsigned char c)
{
	if (c == '\n') {
		l->ended = l->len > 0;
		return;
	}
	if (l->ended)
		l->len = 0;
	l->ended = false;
	/* It ends up in a sentence of one line. */
	if (l->len < sizeof(l->text) - 1)
		l->text[l->len++] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
	l->text[l->len] = '\0';
}

/* Takes what is there; false at the end of it. */
static bool read_some(int fd, struct line *l)
{
	unsigned char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	for (ssize_t i = 0; i < n; i++)
		add_byte(l, buf[i]);
	return n > 0 || (n < 0 && errno == EINTR);
}

/* ---- starting ----------------------------------------------------------------- */

extern char **environ;

static bool is_ours(const char *variable)
{
	return !strncmp(variable, "LUNFS_GROUP=", 12) ||
	       !strncmp(variable, "LUNFS_MEMBERS=", 14);
}

/* The environment; the strings are not its own. */
static char **make_environment(char *group, char *members)
{
	size_t n = 0, at = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 3, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (!is_ours(environ[i]))
			env[at++] = environ[i];
	env[at++] = group;
	env[at] = members;
	return env;
}

static int spawn_with(const struct hook *h, int output, char **env, pid_t *ret_pid)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)h->command, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawn_file_actions_init(&files);
	r = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&files, output, 1);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&files, output, 2);
	if (!r)
		r = posix_spawn_file_actions_addclosefrom_np(&files, 3);
	if (!r)
		r = posix_spawn(ret_pid, "/bin/sh", &files, &attr, argv, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -r;
}

static int spawn(const struct hook *h, int output, pid_t *ret_pid)
{
	CLEANUP_FREE char *group = NULL;
	CLEANUP_FREE char *members = NULL;
	CLEANUP_FREE char **env = NULL;

	if (asprintf(&group, "LUNFS_GROUP=%s", h->group) < 0) {
		group = NULL;
		return -ENOMEM;
	}
	if (asprintf(&members, "LUNFS_MEMBERS=%s", h->members) < 0) {
		members = NULL;
		return -ENOMEM;
	}
	env = make_environment(group, members);
	return env ? spawn_with(h, output, env, ret_pid) : -ENOMEM;
}

/* ---- waiting -------------------------------------------------------------------- */

static int ms_left(uint64_t deadline_ns)
{
	uint64_t now = timefmt_monotonic_ns();

	return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
}

/* True when the process has ended before the deadline. */
static bool wait_for_end(int pidfd, int output, uint64_t deadline_ns, struct line *l)
{
	struct pollfd fds[2] = { { .fd = pidfd, .events = POLLIN },
				 { .fd = output, .events = POLLIN } };

	for (;;) {
		int left = ms_left(deadline_ns);
		int n = poll(fds, 2, left);

		if (n > 0 && fds[1].revents && !read_some(output, l))
			fds[1].fd = -1;
		if (n > 0 && fds[0].revents)
			return true;
		if (!left)
			return false;
	}
}

static void add_line(struct hook *h, const struct line *l)
{
	size_t len = strlen(h->failure);

	if (l->len && len < sizeof(h->failure))
		snprintf(h->failure + len, sizeof(h->failure) - len, ": \"%s\"", l->text);
}

static void judge(struct hook *h, bool in_time, int status, const struct line *l)
{
	if (in_time && WIFEXITED(status) && !WEXITSTATUS(status)) {
		h->error = 0;
		return;
	}
	h->error = in_time ? -EIO : -ETIMEDOUT;
	if (!in_time)
		snprintf(h->failure, sizeof(h->failure),
			 "not done within fence_timeout (%u ms), and killed",
			 h->timeout_ms);
	else if (WIFEXITED(status))
		snprintf(h->failure, sizeof(h->failure), "exit code %d",
			 WEXITSTATUS(status));
	else
		snprintf(h->failure, sizeof(h->failure), "ended by signal %d (%s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
	add_line(h, l);
}

static void could_not(struct hook *h, int error)
{
	h->error = -EIO;
	snprintf(h->failure, sizeof(h->failure), "it cannot be run: %s",
		 strerror(-error));
}

static void run_command(struct hook *h)
{
	uint64_t deadline_ns = timefmt_monotonic_ns() + h->timeout_ms * UINT64_C(1000000);
	CLEANUP_CLOSE int output = -1, input = -1, pidfd = -1;
	struct line line = { .len = 0 };
	int fds[2], status = 0, r;
	bool in_time;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		could_not(h, -errno);
		return;
	}
	output = fds[0];
	input = fds[1];
	fcntl(output, F_SETFL, O_NONBLOCK);
	r = spawn(h, input, &pid);
	close(move_fd(input));
	if (r < 0) {
		could_not(h, r);
		return;
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	r = pidfd < 0 ? -errno : 0;
	in_time = r >= 0 && wait_for_end(pidfd, output, deadline_ns, &line);
	/* Not waited for yet, so that its number is still its own. */
	if (!in_time)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	while (read_some(output, &line))
		;
	if (r < 0)
		could_not(h, r);
	else
		judge(h, in_time, status, &line);
}

static void *run(void *opaque)
{
	struct hook *h = opaque;

	run_command(h);
	h->done(h);
	return NULL;
}

int hook_start(struct hook *h)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	int r;

	h->error = 0;
	*h->failure = '\0';
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&thread, &attr, run, h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return r;
}
