/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Points in time of processes that die: each process opens the points that the one
 * before has left, finds every byte of them as it was at their instant, changes the
 * source for a while, takes new points, lets some go, and dies at a random moment.  The
 * device's bytes, and what is known of the points, are in memory that they share.
 * (What a loss of power leaves: check_chain_disk.c.)  LUNFS_TEST_RUNS: processes (25).
 */

#include "tests/device.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "conf/cleanup.h"
#include "engine/chain.h"

enum { SIZE = 9 * POOL_CHUNK_SIZE + 4096, N_POINTS = 6 };
#define STORE_ID "00000000-0000-4000-8000-00000000000a"

/* The owner's state store, so to speak: each field counts at once. */
enum state { FREE, NEEDED, LEAVING, GONE };

static struct shared {
	uint64_t last_id;
	struct {
		enum state state; /* atomic */
		uint64_t id;
		char instant[SIZE];
	} points[N_POINTS];
	char bytes[SIZE];
	unsigned n_points, n_left; /* in all */
} * shared;

static struct device d;
static struct point *open_points[N_POINTS];

/* In a child; the parent sees the exit status. */
static void wrong(const char *what, uint64_t id)
{
	printf("point %llu: %s\n", (unsigned long long)id, what);
	fflush(stdout);
	_exit(1);
}

static void broken(void *opaque, uint64_t id, int error, const char *reason)
{
	(void)opaque;
	(void)error;
	wrong(reason, id);
}

static void handed_over(void *opaque, uint64_t id)
{
	(void)opaque;
	for (unsigned i = 0; i < N_POINTS; i++)
		if (NOW(shared->points[i].id) == id)
			SET(shared->points[i].state, GONE);
}

static struct point *open_point(uint64_t id)
{
	const struct point_params params = {
		.id = id,
		.sequence = id,
		.size = SIZE,
		.pool = world.pool,
		.source_name = "lun",
		.watcher = { broken, handed_over, NULL },
	};
	struct point *point;

	if (point_open(d.volume, &params, &point) < 0)
		wrong("cannot be opened", id);
	return point;
}

struct reading {
	struct point_req req;
	int error;
	bool done; /* atomic */
};

static void have_read(struct point_req *req, int error)
{
	struct reading *r = (struct reading *)req;

	r->error = error;
	SET(r->done, true);
}

static void check_point(unsigned i)
{
	static char buf[SIZE];
	struct reading r = { .error = -ENOTCONN };

	while (r.error == -ENOTCONN) {
		r = (struct reading){ .req = { .point = open_points[i],
					       .length = SIZE,
					       .buf = buf,
					       .done = have_read } };
		point_read(&r.req);
		while (!NOW(r.done))
			usleep(20);
	}
	if (r.error)
		wrong("cannot be read", shared->points[i].id);
	if (memcmp(buf, shared->points[i].instant, SIZE) != 0)
		wrong("has other bytes than at its instant", shared->points[i].id);
}

static void on_drained(struct volume_fence *fence)
{
	SET(*(bool *)fence->opaque, true);
}

static void take_point(unsigned i)
{
	bool drained = false;
	struct volume_fence fence = { .drained = on_drained, .opaque = &drained };
	uint64_t id = ++shared->last_id;

	if (pool_create_point(world.pool, id, SIZE) < 0)
		wrong("cannot be made", id);
	open_points[i] = open_point(id);
	volume_close_fence(d.volume, &fence);
	while (!NOW(drained))
		usleep(20);
	memcpy(shared->points[i].instant, d.bytes, SIZE);
	SET(shared->points[i].id, id);
	point_arm(open_points[i], true);
	SET(shared->points[i].state, NEEDED);
	volume_open_fence(d.volume, &fence);
	shared->n_points++;
}

static void remove_point(unsigned i)
{
	point_remove(open_points[i]);
	point_unref(move_ptr(open_points[i]));
	pool_remove_point(world.pool, shared->points[i].id);
	SET(shared->points[i].state, FREE);
	shared->n_left++;
}

static void toss(unsigned i)
{
	enum state state = NOW(shared->points[i].state);

	if (state == LEAVING) {
		point_tick(open_points[i]);
	} else if (state == GONE) {
		remove_point(i);
	} else if (state == FREE) {
		take_point(i);
	} else if (state == NEEDED && one_in(3)) {
		SET(shared->points[i].state, LEAVING);
		point_leave(open_points[i]);
	} else if (state == NEEDED) {
		check_point(i);
	}
}

static bool is_known(void *opaque, const struct pool_entry *file)
{
	(void)opaque;
	for (unsigned i = 0; i < N_POINTS; i++)
		if (shared->points[i].id == file->id &&
		    (shared->points[i].state == NEEDED ||
		     shared->points[i].state == LEAVING))
			return true;
	return false;
}

/* As a daemon does at its start: what is gone, is; all others are armed; then users. */
static void open_all(void)
{
	for (unsigned i = 0; i < N_POINTS; i++)
		if (shared->points[i].state == GONE)
			shared->points[i].state = FREE;
	pool_sweep(world.pool, is_known, NULL);
	for (unsigned i = 0; i < N_POINTS; i++)
		if (shared->points[i].state != FREE)
			open_points[i] = open_point(shared->points[i].id);
	for (unsigned i = 0; i < N_POINTS; i++)
		if (open_points[i])
			point_arm(open_points[i], shared->points[i].state == NEEDED);
	for (unsigned i = 0; i < N_POINTS; i++)
		if (shared->points[i].state == NEEDED)
			check_point(i);
}

static void *die(void *opaque)
{
	usleep(1000 + rnd(*(unsigned *)opaque));
	_exit(0);
}

static void live(const char *path, unsigned us)
{
	static struct tally tally;
	char error[512];
	pthread_t thread;

	world_start(NULL, 4);
	if (pool_open("p", path, STORE_ID, &world.pool, error, sizeof(error)) < 0)
		wrong(error, 0);
	device_start(&d, SIZE, 512, false, shared->bytes);
	d.late_us = 200;
	d.lose_before = d.lose_after = rnd(20);
	open_all();
	pthread_create(&thread, NULL, die, &us);
	for (;;) {
		uint64_t len = 1 + rnd(one_in(4) ? 100000 : 5000);

		if (tally_open(&tally) < 30)
			tally_io(&tally, d.volume,
				 one_in(3) ? ENGINE_IO_ZERO : ENGINE_IO_WRITE,
				 rnd(SIZE - len), len, 60000);
		else
			usleep(100);
		if (one_in(30))
			toss(rnd(N_POINTS));
	}
}

START_TEST(points_outlive_processes_that_die)
{
	const char *given = getenv("LUNFS_TEST_RUNS");
	unsigned n = given ? (unsigned)strtoul(given, NULL, 0) : 25;
	char dir[] = "/tmp/lunfs-check.XXXXXX", path[64], command[64];

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_ANONYMOUS | MAP_SHARED, -1, 0);
	ck_assert(shared != MAP_FAILED);
	for (unsigned i = 0; i < SIZE; i++)
		shared->bytes[i] = (char)(i * 7 + i / 1000 + 1);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pool", dir);
	for (unsigned i = 0; i < n; i++) {
		pid_t pid = fork();
		int status;

		ck_assert_int_ge(pid, 0);
		if (!pid)
			live(path, i % 3 ? 400000 : 60000);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFEXITED(status) && !WEXITSTATUS(status),
			      "process %u ended with %d", i, status);
	}
	printf("%u points, %u left\n", shared->n_points, shared->n_left);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
	munmap(shared, sizeof(*shared));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { points_outlive_processes_that_die };

	return unit_main("chain_crash", tests, ROWS(tests));
}
