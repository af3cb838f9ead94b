/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Restores in a storm, of processes that die: threads write and read the source, the
 * image and points in time, points come and leave, the device loses connections, and
 * again and again the source is restored from the image.  A process dies at a random
 * moment, and with it what the device had in its cache, cell by cell as chance will have
 * it; the next one opens what is there, goes on with the restore, and first finds
 *   - in each cell of the source and the image what was there when it was last flushed,
 *     or what was written later; where a restore has begun since, what it brings counts
 *     as flushed,
 *   - in each point all that it had at its instant.
 * The last process lives until everything has ended.
 *
 * What the bytes should be is in memory that the processes share: each cell has a stamp
 * (0: zeros), and a few that may be found in it after the end of the process, the last of
 * which is what it has.  A thread works on cells of its own, beside those of others in
 * the same chunk, and waits for each request.
 *
 * The image reads through its point, or is complete (a Clone's), and the point is one as
 * others are.
 *
 * LUNFS_TEST_SEED repeats a run as far as time allows; LUNFS_TEST_RUNS: processes (12).
 *
 * What these lines are for shows when they are broken; then this fails (and, in brackets,
 * a test of check_restore.c):
 *   restore_unit.c, sync_next(): no BD_FLUSH before the bits
 *   restore_unit.c, read_work(): the bits set before the data is written
 *   restore_unit.c, unit_prepare(): `before` UINT64_MAX, or no chain_prepare() at all
 *   volume_read.c, send_restored(): restore_prepare() left out
 *   volume_change.c, prepare(): the same
 *   chain.c, is_restored(): the same
 *   image_write.c, is_copied_back(): the same
 *   restore.c, restore_plan(): no image_flush()       (what_the_images_users_wrote_...)
 */

#include "tests/device.h"

#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "conf/cleanup.h"
#include "engine/image.h"
#include "engine/restore.h"

enum {
	MAX_SIZE = 20 * POOL_CHUNK_SIZE + 3 * 4096,
	MAX_CELLS = 2700,
	N_CAND = 8,
	N_POINTS = 6, /* the first is the image's, and stays */
	N_THREADS = 4,
	IMAGE_ID = 1,
	MAX_RUN = 24, /* cells of one request */
};
#define STORE_ID "00000000-0000-4000-8000-00000000000a"

enum state { FREE, NEEDED, LEAVING, GONE };

struct cell {
	uint32_t n, may[N_CAND];
};

static struct shared {
	bool clone;
	uint64_t size;
	uint32_t cell_size, n_cells;
	uint32_t last_stamp; /* atomic */
	struct cell source[MAX_CELLS], image[MAX_CELLS];
	uint64_t last_sequence, restore_sequence; /* the second: 0 = none */
	struct {
		enum state state; /* atomic */
		uint64_t id;	  /* and sequence */
		uint32_t stamps[MAX_CELLS];
	} points[N_POINTS];
	unsigned n_restores, n_resumed, n_points, n_left, n_checked;
	char bytes[MAX_SIZE], durable[MAX_SIZE];
} * shared;

static struct device d;
static struct point *points[N_POINTS];
static struct image *image;
static struct restore *restore;
static bool restored; /* atomic: its watcher was called */
static bool over;     /* atomic */
static unsigned run;  /* cells that are a thread's, one after another */

/* Who works holds it shared, who needs all to stand still, exclusively. */
static pthread_rwlock_t still = PTHREAD_RWLOCK_INITIALIZER;
/* The model of shared; who dies holds it. */
static pthread_mutex_t model = PTHREAD_MUTEX_INITIALIZER;

/* In a child; the parent sees the exit status. */
static void wrong(const char *what, uint64_t where)
{
	printf("%s: %llu\n", what, (unsigned long long)where);
	fflush(stdout);
	_exit(1);
}

static uint64_t byte_of(uint32_t stamp)
{
	return stamp * UINT64_C(0x9e3779b97f4a7c15);
}

/* Of a cell, from its first byte on. */
static void fill(char *buf, uint32_t stamp)
{
	uint64_t x = byte_of(stamp);

	for (uint32_t i = 0; i < shared->cell_size; i++)
		buf[i] = stamp ? (char)(x >> 8 * (i % 8)) : 0;
}

static bool has_stamp(const char *buf, uint32_t stamp)
{
	uint64_t x = byte_of(stamp);

	for (uint32_t i = 0; i < shared->cell_size; i++)
		if (buf[i] != (stamp ? (char)(x >> 8 * (i % 8)) : 0))
			return false;
	return true;
}

static uint32_t newest(const struct cell *c)
{
	return c->may[c->n - 1];
}

static void settle(struct cell *c, uint32_t stamp)
{
	c->n = 1;
	c->may[0] = stamp;
}

/* ---- requests -------------------------------------------------------------------- */

struct request {
	struct engine_io io;
	sem_t done;
	int error;
	char *to;
};

static void answered(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct request *r = (struct request *)io;

	if (buf && r->to)
		memcpy(r->to, buf, n);
	r->error = error;
	sem_post(&r->done);
}

static void do_io(bool of_image, enum engine_io_op op, char *buf, uint64_t offset,
		  uint64_t len)
{
	struct request r = { .io = { .op = op,
				     .offset = offset,
				     .len = len,
				     .data = op == ENGINE_IO_WRITE ? buf : NULL,
				     .done = answered },
			     .to = op == ENGINE_IO_READ ? buf : NULL };

	sem_init(&r.done, 0, 0);
	if (of_image)
		image_io(image, &r.io, 60000);
	else
		volume_io(d.volume, &r.io, 60000);
	while (sem_wait(&r.done) < 0)
		;
	sem_destroy(&r.done);
	if (r.error)
		wrong(of_image ? "a request of the image failed" :
				 "a request of the source failed",
		      offset);
}

struct reading {
	struct point_req req;
	sem_t done;
	int error;
};

static void have_read(struct point_req *req, int error)
{
	struct reading *r = (struct reading *)req;

	r->error = error;
	sem_post(&r->done);
}

static void read_point(unsigned i, char *buf, uint64_t offset, uint64_t len)
{
	struct reading r = { .error = -ENOTCONN };

	while (r.error == -ENOTCONN) {
		r = (struct reading){ .req = { .point = points[i],
					       .offset = offset,
					       .length = len,
					       .buf = buf,
					       .done = have_read } };
		sem_init(&r.done, 0, 0);
		point_read(&r.req);
		while (sem_wait(&r.done) < 0)
			;
		sem_destroy(&r.done);
		if (r.error == -ENOTCONN)
			usleep(200);
	}
	if (r.error)
		wrong("a point cannot be read", i);
}

/* ---- the threads ------------------------------------------------------------------ */

static void check_cells(const struct cell *cells, const char *buf, unsigned first,
			unsigned n, const char *what)
{
	for (unsigned i = 0; i < n; i++)
		if (!has_stamp(buf + i * shared->cell_size, newest(&cells[first + i])))
			wrong(what, first + i);
	ADD(shared->n_checked, n);
}

static void check_point(unsigned i, unsigned first, unsigned n)
{
	uint32_t cs = shared->cell_size;
	char *buf = aligned_alloc(4096, (n * cs + 4095) / 4096 * 4096);

	read_point(i, buf, first * cs, n * cs);
	for (unsigned k = 0; k < n; k++)
		if (!has_stamp(buf + k * cs, shared->points[i].stamps[first + k])) {
			printf("point %u of sequence %llu: ", i,
			       (unsigned long long)shared->points[i].id);
			wrong("a cell is not what it was at the instant", first + k);
		}
	ADD(shared->n_checked, n);
	free(buf);
}

static void flush_own(bool of_image, unsigned thread)
{
	struct cell *cells = of_image ? shared->image : shared->source;

	do_io(of_image, ENGINE_IO_FLUSH, NULL, 0, 0);
	pthread_mutex_lock(&model);
	for (unsigned i = 0; i < shared->n_cells; i++)
		if (i / run % N_THREADS == thread)
			settle(&cells[i], newest(&cells[i]));
	pthread_mutex_unlock(&model);
}

/* From now on it may be found there. */
static void note_change(struct cell *c, uint32_t stamp)
{
	pthread_mutex_lock(&model);
	c->may[c->n++] = stamp;
	pthread_mutex_unlock(&model);
}

static void change(bool of_image, unsigned first, unsigned n, unsigned thread)
{
	struct cell *cells = of_image ? shared->image : shared->source;
	uint32_t cs = shared->cell_size;
	char *buf = malloc(n * cs);
	bool zero = one_in(4);

	for (unsigned i = 0; i < n; i++)
		if (cells[first + i].n == N_CAND)
			flush_own(of_image, thread);
	for (unsigned i = 0; i < n; i++) {
		uint32_t stamp = zero ? 0 : ADD(shared->last_stamp, 1) + 1;

		fill(buf + i * cs, stamp);
		note_change(&cells[first + i], stamp);
	}
	do_io(of_image, zero ? ENGINE_IO_ZERO : ENGINE_IO_WRITE, buf, first * cs, n * cs);
	free(buf);
}

static void read_cells(bool of_image, unsigned first, unsigned n)
{
	uint32_t cs = shared->cell_size;
	char *buf = malloc(n * cs);

	do_io(of_image, ENGINE_IO_READ, buf, first * cs, n * cs);
	check_cells(of_image ? shared->image : shared->source, buf, first, n,
		    of_image ? "a cell of the image" : "a cell of the source");
	free(buf);
}

/* A run of a thread's own cells. */
static void own_run(unsigned thread, unsigned *ret_first, unsigned *ret_n)
{
	unsigned n_runs = shared->n_cells / (run * N_THREADS);
	unsigned first = (rnd(n_runs) * N_THREADS + thread) * run, at = rnd(run);

	*ret_first = first + at;
	*ret_n = 1 + rnd(run - at < MAX_RUN ? run - at : MAX_RUN);
}

static void any_run(unsigned *ret_first, unsigned *ret_n)
{
	*ret_n = 1 + rnd(MAX_RUN);
	*ret_first = rnd(shared->n_cells - *ret_n + 1);
}

static void act(unsigned thread)
{
	unsigned kind = rnd(20), first, n, i = rnd(N_POINTS);

	own_run(thread, &first, &n);
	if (kind < 6)
		change(false, first, n, thread);
	else if (kind < 9)
		read_cells(false, first, n);
	else if (kind < 12)
		change(true, first, n, thread);
	else if (kind < 14)
		read_cells(true, first, n);
	else if (kind < 15)
		flush_own(one_in(2), thread);
	else if (NOW(shared->points[i].state) == NEEDED) {
		any_run(&first, &n);
		check_point(i, first, n);
	}
}

static void *thread_main(void *opaque)
{
	unsigned thread = (unsigned)(uintptr_t)opaque;

	while (!NOW(over)) {
		pthread_rwlock_rdlock(&still);
		act(thread);
		pthread_rwlock_unlock(&still);
		if (one_in(10))
			usleep(rnd(1000));
	}
	return NULL;
}

static void *weather_main(void *opaque)
{
	(void)opaque;
	while (!NOW(over)) {
		SET(d.lose_before, one_in(2) ? rnd(40) : 0);
		SET(d.lose_after, one_in(2) ? rnd(40) : 0);
		SET(d.within, one_in(3) ? rnd(1000) : 0);
		SET(d.late_us, one_in(4) ? rnd(3000) : rnd(300));
		SET(d.no_zero, one_in(2));
		usleep(rnd(20000));
		if (!one_in(3))
			continue;
		device_away(&d);
		usleep(rnd(3000));
		device_back(&d);
	}
	SET(d.lose_before, 0);
	SET(d.lose_after, 0);
	device_back(&d);
	return NULL;
}

/* ---- while all stand still ---------------------------------------------------------- */

static void broken(void *opaque, uint64_t id, int error, const char *reason)
{
	(void)opaque;
	(void)error;
	printf("%s: ", reason);
	wrong("a point broke", id);
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
		.size = shared->size,
		.pool = world.pool,
		.source_name = "lun",
		.watcher = { broken, handed_over, NULL },
	};
	struct point *point;

	if (point_open(d.volume, &params, &point) < 0)
		wrong("a point cannot be opened", id);
	return point;
}

static void on_drained(struct volume_fence *fence)
{
	SET(*(bool *)fence->opaque, true);
}

static void close_fence(struct volume_fence *fence, bool *drained)
{
	*drained = false;
	*fence = (struct volume_fence){ .drained = on_drained, .opaque = drained };
	volume_close_fence(d.volume, fence);
	while (!NOW(*drained))
		usleep(20);
}

/* The device's cache may be lost with the process: an instant is of what is durable. */
static void flush_source(void)
{
	do_io(false, ENGINE_IO_FLUSH, NULL, 0, 0);
	pthread_mutex_lock(&model);
	for (unsigned i = 0; i < shared->n_cells; i++)
		settle(&shared->source[i], newest(&shared->source[i]));
	pthread_mutex_unlock(&model);
}

static void take_point(unsigned i)
{
	uint64_t id = ++shared->last_sequence;
	struct volume_fence fence;
	bool drained;

	flush_source();
	if (pool_create_point(world.pool, id, shared->size) < 0)
		wrong("a point cannot be made", id);
	points[i] = open_point(id);
	close_fence(&fence, &drained);
	pthread_mutex_lock(&model);
	for (unsigned k = 0; k < shared->n_cells; k++)
		shared->points[i].stamps[k] = newest(&shared->source[k]);
	SET(shared->points[i].id, id);
	point_arm(points[i], true);
	SET(shared->points[i].state, NEEDED);
	pthread_mutex_unlock(&model);
	volume_open_fence(d.volume, &fence);
	shared->n_points++;
}

static void remove_point(unsigned i)
{
	point_remove(points[i]);
	point_unref(move_ptr(points[i]));
	pool_remove_point(world.pool, shared->points[i].id);
	SET(shared->points[i].state, FREE);
	shared->n_left++;
}

static void done(void *opaque)
{
	(void)opaque;
	SET(restored, true);
}

static void open_restore(uint64_t sequence)
{
	const struct restore_params params = {
		.volume = d.volume,
		.point = shared->clone ? NULL : points[0],
		.image = image,
		.pool = world.pool,
		.sequence = sequence,
		.size = shared->size,
		.watcher = { done, NULL },
	};

	SET(restored, false);
	if (restore_open(&params, &restore) < 0)
		wrong("a restore cannot be opened", sequence);
}

static void begin_restore(void)
{
	uint64_t sequence = ++shared->last_sequence;
	struct volume_fence fence;
	bool drained;

	flush_source();
	if (pool_create_restore(world.pool, sequence, shared->size) < 0)
		wrong("a restore cannot be made", sequence);
	open_restore(sequence);
	close_fence(&fence, &drained);
	if (restore_plan(restore) < 0)
		wrong("a restore has no plan", sequence);
	pthread_mutex_lock(&model);
	for (unsigned k = 0; k < shared->n_cells; k++) {
		settle(&shared->image[k], newest(&shared->image[k]));
		settle(&shared->source[k], newest(&shared->image[k]));
	}
	shared->restore_sequence = sequence;
	pthread_mutex_unlock(&model);
	restore_attach(restore);
	volume_open_fence(d.volume, &fence);
	shared->n_restores++;
}

static void end_restore(void)
{
	uint64_t sequence = shared->restore_sequence;

	pthread_mutex_lock(&model);
	shared->restore_sequence = 0;
	pthread_mutex_unlock(&model);
	restore_detach(restore);
	restore_unref(move_ptr(restore));
	pool_remove_restore(world.pool, sequence);
}

static void toss(void)
{
	unsigned i = 1 + rnd(N_POINTS - 1);
	enum state state = NOW(shared->points[i].state);

	if (restore && NOW(restored))
		end_restore();
	else if (!restore && one_in(2))
		begin_restore();
	if (state == LEAVING) {
		point_tick(points[i]);
	} else if (state == GONE) {
		remove_point(i);
	} else if (state == FREE) {
		take_point(i);
	} else if (one_in(3)) {
		SET(shared->points[i].state, LEAVING);
		point_leave(points[i]);
	}
}

static void act_still(void)
{
	pthread_rwlock_wrlock(&still);
	toss();
	pthread_rwlock_unlock(&still);
	usleep(rnd(15000));
}

/* ---- start ----------------------------------------------------------------------- */

/* After a start: one of those that may be there is. */
static void find_cells(bool of_image)
{
	struct cell *cells = of_image ? shared->image : shared->source;
	uint32_t cs = shared->cell_size;
	char *buf = malloc(shared->n_cells * cs);

	do_io(of_image, ENGINE_IO_READ, buf, 0, shared->n_cells * cs);
	for (unsigned i = 0; i < shared->n_cells; i++) {
		unsigned k = cells[i].n;

		while (k > 0 && !has_stamp(buf + i * cs, cells[i].may[k - 1]))
			k--;
		if (!k)
			wrong(of_image ? "after a start, a cell of the image" :
					 "after a start, a cell of the source",
			      i);
		pthread_mutex_lock(&model);
		settle(&cells[i], cells[i].may[k - 1]);
		pthread_mutex_unlock(&model);
	}
	free(buf);
}

static void image_news(void *opaque)
{
	(void)opaque;
}

static void image_broken(void *opaque, int error, const char *reason)
{
	(void)opaque;
	(void)error;
	printf("%s: ", reason);
	wrong("the image broke", 0);
}

static void open_image(void)
{
	const struct image_params params = {
		.id = IMAGE_ID,
		.size = shared->size,
		.generation = 1,
		.complete = shared->clone,
		.written = true,
	};

	if (image_open(&world.dataops, world.pool, &params, &image) < 0)
		wrong("the image cannot be opened", 0);
}

static void connect_image(void)
{
	const struct image_watcher watcher = { image_news, image_broken, image_news,
					       NULL };

	image_set_source(image, shared->clone ? NULL : points[0], "lun", false, &watcher);
}

/* A Clone's, that is complete. */
static void fill_image(void)
{
	char *buf = malloc(shared->size);
	int fd = pool_open_image(world.pool, IMAGE_ID, O_WRONLY);

	for (unsigned k = 0; k < shared->n_cells; k++)
		fill(buf + k * shared->cell_size, shared->points[0].stamps[k]);
	if (pwrite(fd, buf, shared->size, 0) != (ssize_t)shared->size)
		wrong("the image cannot be filled", 0);
	close(fd);
	free(buf);
}

static void make_image(void)
{
	take_point(0);
	for (unsigned k = 0; k < shared->n_cells; k++)
		settle(&shared->image[k], shared->points[0].stamps[k]);
	if (pool_create_image(world.pool, IMAGE_ID, shared->size, 1, false) < 0)
		wrong("the image cannot be made", 0);
	if (shared->clone)
		fill_image();
	open_image();
	connect_image();
}

/* As the engine does at its start. */
static void open_all(void)
{
	for (unsigned i = 0; i < N_POINTS; i++)
		if (shared->points[i].state == GONE)
			shared->points[i].state = FREE;
	for (unsigned i = 0; i < N_POINTS; i++)
		if (shared->points[i].state != FREE)
			points[i] = open_point(shared->points[i].id);
	if (shared->restore_sequence && !shared->clone)
		chain_keep(volume_chain(d.volume), shared->points[0].id,
			   shared->restore_sequence);
	for (unsigned i = 0; i < N_POINTS; i++)
		if (points[i])
			point_arm(points[i], shared->points[i].state == NEEDED);
	open_image();
	if (shared->restore_sequence) {
		open_restore(shared->restore_sequence);
		restore_resume(restore);
		restore_attach(restore);
		shared->n_resumed++;
	}
	connect_image();
	find_cells(true);
	find_cells(false);
	for (unsigned i = 0; i < N_POINTS; i++)
		if (shared->points[i].state == NEEDED)
			check_point(i, 0, shared->n_cells);
}

/* ---- life and death ---------------------------------------------------------------- */

static void *die(void *opaque)
{
	usleep(1000 + rnd(*(unsigned *)opaque));
	/* No cell is half written. */
	pthread_mutex_lock(&model);
	pthread_mutex_lock(&d.lock);
	_exit(0);
}

static void end_all(void)
{
	struct pool *pool;

	for (unsigned i = 0; restore && i < 60000 && !NOW(restored); i++)
		usleep(1000);
	if (restore && !NOW(restored))
		wrong("a restore does not end", shared->restore_sequence);
	if (restore)
		end_restore();
	read_cells(false, 0, shared->n_cells);
	read_cells(true, 0, shared->n_cells);
	for (unsigned i = 0; i < N_POINTS; i++)
		if (NOW(shared->points[i].state) == NEEDED)
			check_point(i, 0, shared->n_cells);
	image_cut_off(image);
	image_unref(image);
	for (unsigned i = 0; i < N_POINTS; i++)
		if (points[i]) {
			point_remove(points[i]);
			point_unref(points[i]);
		}
	device_stop(&d);
	pool = move_ptr(world.pool);
	world_end();
	pool_close(pool);
	device_free(&d);
}

static void live(const char *path, unsigned us, bool dies, uint32_t block_size,
		 size_t seed)
{
	pthread_t threads[N_THREADS + 1], death;
	uint64_t until;
	char error[512];

	snprintf(error, sizeof(error), "%zu", seed);
	setenv("LUNFS_TEST_SEED", error, 1);
	world_start(NULL, 4);
	if (pool_open("p", path, STORE_ID, &world.pool, error, sizeof(error)) < 0)
		wrong(error, 0);
	run = one_in(2) ? 5 : 40;
	device_start(&d, shared->size, block_size, one_in(2), shared->bytes);
	d.durable = shared->durable;
	if (shared->points[0].state == FREE)
		make_image();
	else
		open_all();
	if (dies)
		pthread_create(&death, NULL, die, &us);
	for (uintptr_t i = 0; i < N_THREADS; i++)
		pthread_create(&threads[i], NULL, thread_main, (void *)i);
	pthread_create(&threads[N_THREADS], NULL, weather_main, NULL);
	until = timefmt_monotonic_ns() + us * UINT64_C(1000);
	while (dies || timefmt_monotonic_ns() < until)
		act_still();
	SET(over, true);
	for (unsigned i = 0; i < N_THREADS + 1; i++)
		pthread_join(threads[i], NULL);
	end_all();
	_exit(0);
}

/* Of what the device had not made durable, some cells are lost. */
static void lose_cache(struct unit_random *random)
{
	size_t of = 1 + unit_random_below(random, 3);

	for (uint64_t at = 0; at < shared->size; at += shared->cell_size)
		if (!unit_random_below(random, of))
			memcpy(shared->bytes + at, shared->durable + at,
			       shared->cell_size);
	memcpy(shared->durable, shared->bytes, shared->size);
}

static void storm(uint32_t block_size, uint32_t cell_size, unsigned runs, bool clone)
{
	char dir[] = "/tmp/lunfs-check.XXXXXX", path[64], command[64];
	struct unit_random random = unit_random_start("storm");

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_ANONYMOUS | MAP_SHARED, -1, 0);
	ck_assert(shared != MAP_FAILED);
	shared->clone = clone;
	shared->cell_size = cell_size;
	shared->n_cells = MAX_SIZE / cell_size;
	shared->size = (uint64_t)shared->n_cells * cell_size;
	for (unsigned i = 0; i < shared->n_cells; i++) {
		uint32_t stamp = i / 40 % 5 == 3 ? 0 : ++shared->last_stamp;

		settle(&shared->source[i], stamp);
		fill(shared->bytes + i * cell_size, stamp);
	}
	memcpy(shared->durable, shared->bytes, shared->size);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pool", dir);
	for (unsigned i = 0; i < runs; i++) {
		size_t seed = unit_random_below(&random, 1u << 31);
		bool dies = i + 1 < runs;
		pid_t pid = fork();
		int status;

		ck_assert_int_ge(pid, 0);
		if (!pid)
			live(path, i % 3 ? 250000 : 500000, dies, block_size, seed);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFEXITED(status) && !WEXITSTATUS(status),
			      "block size %u: process %u ended with %d", block_size, i,
			      status);
		lose_cache(&random);
	}
	printf("%u restores, gone on with %u times; %u points, %u left; %u cells compared\n",
	       shared->n_restores, shared->n_resumed, shared->n_points, shared->n_left,
	       shared->n_checked);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
	munmap(shared, sizeof(*shared));
}

static unsigned n_runs(void)
{
	const char *given = getenv("LUNFS_TEST_RUNS");

	return given ? (unsigned)strtoul(given, NULL, 0) : 12;
}

START_TEST(blocks_of_512_and_processes_that_die)
{
	storm(512, 512, n_runs(), false);
}
END_TEST

START_TEST(blocks_of_4096_and_processes_that_die)
{
	storm(4096, 4096, n_runs(), false);
}
END_TEST

/* A cell lies over the edges of chunks, and of pages of the image. */
START_TEST(any_alignment_and_a_process_that_lives)
{
	storm(1, 1000, 1, false);
}
END_TEST

START_TEST(a_clone_and_processes_that_die)
{
	storm(512, 512, n_runs(), true);
}
END_TEST

START_TEST(a_clone_of_any_alignment)
{
	storm(1, 1000, 1, true);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		blocks_of_512_and_processes_that_die,
		blocks_of_4096_and_processes_that_die,
		any_alignment_and_a_process_that_lives,
		a_clone_and_processes_that_die,
		a_clone_of_any_alignment,
	};

	return unit_main("restore_storm", tests, ROWS(tests));
}
