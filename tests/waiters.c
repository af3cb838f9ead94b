/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * waiters FILE N: N threads read a file of wait/, each through an open of its
 * own.  Prints "waiting N" when all have begun, and at the end how many had an
 * answer and how long the last took after the first.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static atomic_int begun, answered;
static _Atomic double first, last;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void *wait_main(void *opaque)
{
	double none = 0;
	char buf[64];

	atomic_fetch_add(&begun, 1);
	if (read((int)(long)opaque, buf, sizeof(buf)) <= 0)
		return NULL;
	atomic_compare_exchange_strong(&first, &none, now());
	atomic_store(&last, now());
	atomic_fetch_add(&answered, 1);
	return NULL;
}

int main(int argc, char **argv)
{
	const struct timespec step = { .tv_nsec = 10000000 };
	int n = argc == 3 ? atoi(argv[2]) : 0, started = 0;
	pthread_t *threads = calloc((size_t)n + 1, sizeof(*threads));
	struct rlimit limit;
	pthread_attr_t attr;

	if (n <= 0 || !threads)
		return 2;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (; started < n; started++) {
		int fd = open(argv[1], O_RDONLY);

		/* A limit of this machine: fewer have to do. */
		if (fd < 0 ||
		    pthread_create(&threads[started], &attr, wait_main, (void *)(long)fd))
			break;
	}
	while (atomic_load(&begun) < started)
		nanosleep(&step, NULL);
	printf("waiting %d\n", started);
	fflush(stdout);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	printf("answered %d %.3f\n", atomic_load(&answered), last - first);
	free(threads);
	return 0;
}
