/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/watchdog.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "conf/log.h"

/* The caller's, but for the thread's reads after its start. */
static struct {
	bool running;
	pthread_t thread;
	int stop_fd;
	int timeout_ms;
	const char *message;
} dog;

static void *watch(void *opaque)
{
	struct pollfd pfd = { .fd = dog.stop_fd, .events = POLLIN };
	sigset_t all;

	(void)opaque;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	if (poll(&pfd, 1, dog.timeout_ms) == 0) {
		log_error("%s", dog.message);
		_exit(1);
	}
	return NULL;
}

int watchdog_start(unsigned seconds, const char *message)
{
	int r;

	dog.stop_fd = eventfd(0, EFD_CLOEXEC);
	if (dog.stop_fd < 0)
		return -errno;
	dog.timeout_ms = (int)seconds * 1000;
	dog.message = message;
	r = pthread_create(&dog.thread, NULL, watch, NULL);
	if (r != 0) {
		close(dog.stop_fd);
		return -r;
	}
	dog.running = true;
	return 0;
}

void watchdog_stop(void)
{
	uint64_t one = 1;

	if (!dog.running)
		return;
	if (write(dog.stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(dog.thread, NULL);
	close(dog.stop_fd);
	dog.running = false;
}
