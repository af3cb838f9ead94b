/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/toucher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	END_TRIES = 200, /* to see the helper's end, 10 ms apart */
};

/* Shared memory of daemon and helper. */
struct shared {
	atomic_int was_opened;
};

struct toucher {
	pid_t pid;
	int fd; /* a message is a path, one byte its answer */
	struct shared *shared;
};

/* ---- the helper ---------------------------------------------------------------- */

/* So that nobody takes it for the daemon who looks for the daemon's command line. */
static void change_title(void)
{
	char *start = program_invocation_name;
	char *end = environ && environ[0] ? environ[0] : NULL;

	prctl(PR_SET_NAME, "lunfs-touch");
	if (!start || end <= start)
		return;
	memset(start, 0, (size_t)(end - start));
	strncpy(start, "lunfs-touch", (size_t)(end - start) - 1);
}

static void touch_file(const char *path, struct shared *shared)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return;
	if (atomic_load(&shared->was_opened)) {
		/* Nobody misses a touch that fails. */
		ssize_t n __attribute__((unused)) = write(fd, "\n", 1);
	}
	close(fd);
}

static void serve(int fd, struct shared *shared) __attribute__((noreturn));

static void serve(int fd, struct shared *shared)
{
	char path[PATH_MAX];
	ssize_t n;

	while ((n = recv(fd, path, sizeof(path) - 1, 0)) > 0) {
		path[n] = '\0';
		touch_file(path, shared);
		if (send(fd, "", 1, MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/* Keeps its socket, as descriptor 0, and nothing else. */
static void helper_main(int fd, struct shared *shared) __attribute__((noreturn));

static void helper_main(int fd, struct shared *shared)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (dup2(fd, 0) < 0 || close_range(1, ~0u, 0) < 0)
		_exit(1);
	change_title();
	serve(0, shared);
}

/* ---- the daemon ---------------------------------------------------------------- */

/* With the helper's end of the socket in *ret_fd. */
static int prepare(struct toucher *t, int *ret_fd)
{
	int fds[2];

	t->shared = mmap(NULL, sizeof(*t->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t->shared == MAP_FAILED) {
		t->shared = NULL;
		return -errno;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	t->fd = fds[0];
	*ret_fd = fds[1];
	return 0;
}

int toucher_new(struct toucher **ret_toucher)
{
	struct toucher *t = calloc(1, sizeof(*t));
	int fd = -1, r;

	if (!t)
		return -ENOMEM;
	t->fd = -1;
	r = prepare(t, &fd);
	if (r < 0) {
		toucher_free(t);
		return r;
	}
	t->pid = fork();
	if (!t->pid)
		helper_main(fd, t->shared);
	r = t->pid < 0 ? -errno : 0;
	close(fd);
	if (r < 0) {
		toucher_free(t);
		return r;
	}
	*ret_toucher = t;
	return 0;
}

static void wait_for_end(pid_t pid)
{
	const struct timespec step = { .tv_nsec = 10000000 };

	for (unsigned i = 0; i < END_TRIES && !waitpid(pid, NULL, WNOHANG); i++)
		nanosleep(&step, NULL);
}

void toucher_free(struct toucher *t)
{
	if (!t)
		return;
	if (t->fd >= 0)
		close(t->fd);
	if (t->pid > 0)
		wait_for_end(t->pid);
	if (t->shared)
		munmap(t->shared, sizeof(*t->shared));
	free(t);
}

pid_t toucher_pid(const struct toucher *t)
{
	return t->pid;
}

void toucher_was_opened(struct toucher *t)
{
	atomic_store(&t->shared->was_opened, 1);
}

int toucher_touch(struct toucher *t, const char *path)
{
	size_t len = strlen(path);
	char byte;

	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	atomic_store(&t->shared->was_opened, 0);
	if (send(t->fd, path, len, MSG_NOSIGNAL) < 0)
		return -EPIPE;
	return recv(t->fd, &byte, 1, 0) == 1 ? 0 : -EPIPE;
}

void toucher_stop(struct toucher *t)
{
	shutdown(t->fd, SHUT_RDWR);
}
