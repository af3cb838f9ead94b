/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/reqloop.h"

#include <fuse_lowlevel.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/log.h"

enum {
	MIN_THREADS = 2,
	MAX_THREADS = 4,
	KICK_SIGNAL = SIGUSR1, /* ends a read of /dev/fuse */
	KICK_MS = 10,
};

struct reqloop {
	struct fuse_session *session;
	int ended_fd;
	atomic_uint n_running;
	unsigned n_threads;
	pthread_t threads[MAX_THREADS];
};

/* One request: 1, 0 at the end of the session, or -errno. */
static int handle_one(struct fuse_session *session, struct fuse_buf *buf)
{
	int r = fuse_session_receive_buf(session, buf);

	if (r == -EINTR || r == -EAGAIN)
		return 1;
	if (r <= 0)
		return r;
	fuse_session_process_buf(session, buf);
	return 1;
}

static void thread_ended(struct reqloop *loop)
{
	uint64_t one = 1;

	if (atomic_fetch_sub(&loop->n_running, 1) != 1)
		return;
	if (write(loop->ended_fd, &one, sizeof(one)) < 0)
		log_error("telling the end of the mount: %s", strerror(errno));
}

static void *thread_main(void *opaque)
{
	struct reqloop *loop = opaque;
	struct fuse_buf buf = { 0 };
	sigset_t kick;
	int r = 1;

	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	while (r > 0 && !fuse_session_exited(loop->session))
		r = handle_one(loop->session, &buf);
	pthread_sigmask(SIG_BLOCK, &kick, NULL);
	if (r < 0)
		log_error("reading /dev/fuse: %s", strerror(-r));
	free(buf.mem);
	thread_ended(loop);
	return NULL;
}

static void on_kick(int signal)
{
	(void)signal;
}

/* Without SA_RESTART: the read that it hits returns EINTR. */
static int install_kick(void)
{
	struct sigaction action = { .sa_handler = on_kick };

	sigemptyset(&action.sa_mask);
	return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

static unsigned thread_count(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < MIN_THREADS ? MIN_THREADS :
	       n > MAX_THREADS ? MAX_THREADS :
				 (unsigned)n;
}

int reqloop_start(struct fuse_session *session, int ended_fd, struct reqloop **ret_loop)
{
	struct reqloop *loop = calloc(1, sizeof(*loop));
	unsigned n = thread_count();
	int r;

	if (!loop)
		return -ENOMEM;
	loop->session = session;
	loop->ended_fd = ended_fd;
	atomic_init(&loop->n_running, n);
	r = install_kick();
	while (r == 0 && loop->n_threads < n) {
		r = -pthread_create(&loop->threads[loop->n_threads], NULL, thread_main,
				    loop);
		if (r == 0)
			loop->n_threads++;
	}
	if (r < 0) {
		reqloop_stop(loop);
		return r;
	}
	*ret_loop = loop;
	return 0;
}

/* A signal that comes just before the read is lost, hence more than one. */
static void kick_and_join(pthread_t thread)
{
	struct timespec until;
	int r;

	do {
		pthread_kill(thread, KICK_SIGNAL);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += KICK_MS * 1000000L;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_nsec -= 1000000000L;
			until.tv_sec++;
		}
		r = pthread_timedjoin_np(thread, NULL, &until);
	} while (r == ETIMEDOUT || r == EINTR);
}

void reqloop_stop(struct reqloop *loop)
{
	if (!loop)
		return;
	fuse_session_exit(loop->session);
	for (unsigned i = 0; i < loop->n_threads; i++)
		kick_and_join(loop->threads[i]);
	free(loop);
}
