/* SPDX-License-Identifier: BSD-2-Clause */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/chunkmap.h"

#define TIB (UINT64_C(1) << 40)

enum { PAGE_CHUNKS = 32768, PAGES_OFFSET = 8192 };

static char dir[] = "/tmp/check_chunkmap.XXXXXX";
static int dirfd_;

static void setup(void)
{
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY);
	ck_assert_int_ge(dirfd_, 0);
}

static void teardown(void)
{
	unlinkat(dirfd_, "map", 0);
	unlinkat(dirfd_, "map2", 0);
	close(dirfd_);
	rmdir(dir);
}

static struct chunkmap_params params_of(uint64_t n_chunks)
{
	return (struct chunkmap_params){
		.id = 7, .generation = 3, .size = n_chunks * 4096, .chunk_size = 4096
	};
}

static struct chunkmap *open_file(const char *file, const struct chunkmap_params *params)
{
	struct chunkmap *map = NULL;

	ck_assert_int_eq(chunkmap_open(dirfd_, file, params, &map), 0);
	return map;
}

static struct chunkmap *make(const struct chunkmap_params *params)
{
	ck_assert_int_eq(chunkmap_create(dirfd_, "map", params), 0);
	return open_file("map", params);
}

/* The calls that may say -EAGAIN, with the loading. */
static int test_bit(struct chunkmap *map, uint64_t chunk)
{
	int r;

	while ((r = chunkmap_test(map, chunk)) == -EAGAIN)
		ck_assert_int_eq(chunkmap_load(map, chunk, 1), 0);
	return r;
}

static void set_bits(struct chunkmap *map, uint64_t chunk, uint64_t n)
{
	int r;

	while ((r = chunkmap_set(map, chunk, n)) == -EAGAIN)
		ck_assert_int_eq(chunkmap_load(map, chunk, n), 0);
	ck_assert_int_eq(r, 0);
}

static int64_t run_of(struct chunkmap *map, uint64_t chunk, uint64_t max, bool *ret_set)
{
	int64_t n;

	while ((n = chunkmap_run(map, chunk, max, ret_set)) == -EAGAIN)
		ck_assert_int_eq(chunkmap_load(map, chunk, 1), 0);
	return n;
}

static int sync_nothing(void *opaque)
{
	if (opaque)
		++*(unsigned *)opaque;
	return 0;
}

static int sync_fails(void *opaque)
{
	++*(unsigned *)opaque;
	return -EIO;
}

START_TEST(a_new_map_is_empty_and_sparse)
{
	struct chunkmap_params params = params_of(100);
	struct chunkmap *map;
	struct stat st;
	bool set;

	params.size -= 4095;
	map = make(&params);
	ck_assert_uint_eq(chunkmap_n_chunks(map), 100);
	ck_assert_uint_eq(chunkmap_chunk_size(map), 4096);
	ck_assert_uint_eq(chunkmap_n_set(map), 0);
	ck_assert_int_eq(chunkmap_test(map, 99), 0);
	ck_assert_int_eq(chunkmap_run(map, 3, 1000, &set), 97);
	ck_assert(!set);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_fails, NULL), 0);
	chunkmap_close(map);
	chunkmap_close(NULL);
	ck_assert_int_eq(fstatat(dirfd_, "map", &st, 0), 0);
	ck_assert_int_eq(st.st_size, PAGES_OFFSET + 4096);
	ck_assert_int_eq(chunkmap_create(dirfd_, "map", &params), -EEXIST);
}
END_TEST

START_TEST(params_are_checked)
{
	struct chunkmap_params params = params_of(100);
	struct chunkmap *map;

	params.chunk_size = 2048;
	ck_assert_int_eq(chunkmap_create(dirfd_, "map", &params), -EINVAL);
	params.chunk_size = 12288;
	ck_assert_int_eq(chunkmap_create(dirfd_, "map", &params), -EINVAL);
	params.chunk_size = 8 << 20;
	ck_assert_int_eq(chunkmap_new_full(&params, &map), -EINVAL);
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &params, &map), -EINVAL);
	params.chunk_size = 4096;
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &params, &map), -ENOENT);
}
END_TEST

START_TEST(a_map_of_no_data_is_full_and_empty)
{
	struct chunkmap_params params = params_of(0);
	struct chunkmap *map = make(&params);

	ck_assert_uint_eq(chunkmap_n_chunks(map), 0);
	ck_assert_int_eq(chunkmap_set(map, 0, 0), 0);
	ck_assert_int_eq(chunkmap_load(map, 0, 0), 0);
	chunkmap_close(map);
}
END_TEST

START_TEST(another_id_or_generation_is_stale)
{
	struct chunkmap_params params = params_of(100), other;
	struct chunkmap *map = make(&params);

	chunkmap_close(map);
	other = params;
	other.id++;
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &other, &map), -ESTALE);
	other = params;
	other.generation++;
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &other, &map), -ESTALE);
}
END_TEST

static void overwrite(off_t offset, const void *data, size_t size)
{
	int fd = openat(dirfd_, "map", O_WRONLY);

	ck_assert_int_eq(pwrite(fd, data, size, offset), size);
	close(fd);
}

START_TEST(damage_and_another_geometry_are_unclean)
{
	struct chunkmap_params params = params_of(100), other;
	struct chunkmap *map = make(&params);

	chunkmap_close(map);
	other = params;
	other.size += 4096;
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &other, &map), -EUCLEAN);
	other = params;
	other.chunk_size *= 2;
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &other, &map), -EUCLEAN);
	/* A bit of no chunk. */
	overwrite(PAGES_OFFSET + 13, "\x80", 1);
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &params, &map), -EUCLEAN);
	overwrite(PAGES_OFFSET + 13, "\0", 1);
	map = open_file("map", &params);
	chunkmap_close(map);
	overwrite(20, "x", 1);
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &params, &map), -EUCLEAN);
	truncate("map", 0);
	ck_assert_int_eq(unlinkat(dirfd_, "map", 0), 0);
	ck_assert_int_eq(chunkmap_create(dirfd_, "map", &params), 0);
	close(openat(dirfd_, "map", O_WRONLY | O_TRUNC));
	ck_assert_int_eq(chunkmap_open(dirfd_, "map", &params, &map), -EUCLEAN);
}
END_TEST

START_TEST(bits_are_volatile_until_a_checkpoint)
{
	struct chunkmap_params params = params_of(5 * PAGE_CHUNKS);
	struct chunkmap *map = make(&params), *second;
	unsigned syncs = 0;

	set_bits(map, 10, 5);
	set_bits(map, PAGE_CHUNKS, PAGE_CHUNKS);
	ck_assert_uint_eq(chunkmap_n_set(map), 5 + PAGE_CHUNKS);
	second = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(second), 0);
	chunkmap_close(second);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, &syncs), 0);
	second = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(second), 5 + PAGE_CHUNKS);
	ck_assert_int_eq(test_bit(second, 9), 0);
	ck_assert_int_eq(test_bit(second, 10), 1);
	chunkmap_close(second);
	/* Nothing new: no sync. */
	set_bits(map, 11, 3);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, &syncs), 0);
	ck_assert_uint_eq(syncs, 1);
	chunkmap_close(map);
}
END_TEST

START_TEST(a_failed_sync_leaves_the_bits_volatile)
{
	struct chunkmap_params params = params_of(1000);
	struct chunkmap *map = make(&params), *second;
	unsigned syncs = 0;

	set_bits(map, 0, 10);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_fails, &syncs), -EIO);
	ck_assert_int_eq(chunkmap_test(map, 9), 1);
	second = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(second), 0);
	chunkmap_close(second);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, &syncs), 0);
	ck_assert_uint_eq(syncs, 2);
	second = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(second), 10);
	chunkmap_close(second);
	chunkmap_close(map);
}
END_TEST

static int sync_sets_more(void *opaque)
{
	struct chunkmap *map = opaque;

	set_bits(map, 20, 1);
	set_bits(map, 3 * PAGE_CHUNKS, 2);
	return 0;
}

START_TEST(bits_set_during_a_checkpoint_wait_for_the_next)
{
	struct chunkmap_params params = params_of(5 * PAGE_CHUNKS);
	struct chunkmap *map = make(&params), *second;

	set_bits(map, 10, 1);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_sets_more, map), 0);
	second = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(second), 1);
	ck_assert_int_eq(test_bit(second, 20), 0);
	chunkmap_close(second);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, NULL), 0);
	second = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(second), 4);
	chunkmap_close(second);
	chunkmap_close(map);
}
END_TEST

START_TEST(what_needs_an_absent_page_asks_for_a_load)
{
	struct chunkmap_params params = params_of(3 * PAGE_CHUNKS);
	struct chunkmap *map = make(&params);
	bool set;

	set_bits(map, PAGE_CHUNKS + 5, 10);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, NULL), 0);
	chunkmap_close(map);
	map = open_file("map", &params);
	ck_assert_int_eq(chunkmap_test(map, 0), 0);
	ck_assert_int_eq(chunkmap_test(map, PAGE_CHUNKS), -EAGAIN);
	ck_assert_int_eq(chunkmap_run(map, PAGE_CHUNKS, 1, &set), -EAGAIN);
	/* What is known is answered. */
	ck_assert_int_eq(chunkmap_run(map, 0, PAGE_CHUNKS * 2, &set), PAGE_CHUNKS);
	ck_assert_int_eq(chunkmap_set(map, PAGE_CHUNKS - 1, 2), -EAGAIN);
	ck_assert_int_eq(chunkmap_test(map, PAGE_CHUNKS - 1), 0);
	/* What becomes full needs no load. */
	ck_assert_int_eq(chunkmap_set(map, PAGE_CHUNKS, PAGE_CHUNKS), 0);
	ck_assert_uint_eq(chunkmap_n_set(map), PAGE_CHUNKS);
	ck_assert_int_eq(chunkmap_test(map, PAGE_CHUNKS), 1);
	ck_assert_int_eq(chunkmap_run(map, 2, 3 * PAGE_CHUNKS, &set), PAGE_CHUNKS - 2);
	ck_assert(!set);
	ck_assert_int_eq(chunkmap_run(map, PAGE_CHUNKS, 3 * PAGE_CHUNKS, &set),
			 PAGE_CHUNKS);
	ck_assert(set);
	chunkmap_close(map);
}
END_TEST

START_TEST(a_full_map_needs_no_file)
{
	struct chunkmap_params params = params_of(1000);
	struct chunkmap *map;
	char mark[512];
	bool set;

	ck_assert_int_eq(chunkmap_new_full(&params, &map), 0);
	ck_assert_uint_eq(chunkmap_n_set(map), 1000);
	ck_assert_int_eq(chunkmap_test(map, 999), 1);
	ck_assert_int_eq(chunkmap_run(map, 1, 5000, &set), 999);
	ck_assert(set);
	ck_assert_int_eq(chunkmap_set(map, 0, 1000), 0);
	ck_assert_int_eq(chunkmap_load(map, 0, 1000), 0);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_fails, NULL), 0);
	ck_assert_int_eq(chunkmap_write_mark(map, "x"), -EOPNOTSUPP);
	ck_assert_int_eq(chunkmap_read_mark(map, mark, sizeof(mark)), 0);
	ck_assert_str_eq(mark, "");
	chunkmap_close(map);
}
END_TEST

START_TEST(the_mark_lasts_and_can_be_taken_back)
{
	struct chunkmap_params params = params_of(1000);
	struct chunkmap *map = make(&params);
	char buf[512], text[502];

	ck_assert_int_eq(chunkmap_read_mark(map, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "");
	memset(text, 'x', sizeof(text));
	text[501] = '\0';
	ck_assert_int_eq(chunkmap_write_mark(map, text), -E2BIG);
	text[500] = '\0';
	ck_assert_int_eq(chunkmap_write_mark(map, text), 0);
	chunkmap_close(map);
	map = open_file("map", &params);
	ck_assert_int_eq(chunkmap_read_mark(map, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, text);
	ck_assert_int_eq(chunkmap_read_mark(map, buf, 4), 0);
	ck_assert_str_eq(buf, "xxx");
	overwrite(4096 + 100, "y", 1);
	ck_assert_int_eq(chunkmap_read_mark(map, buf, sizeof(buf)), -EUCLEAN);
	ck_assert_int_eq(chunkmap_write_mark(map, ""), 0);
	ck_assert_int_eq(chunkmap_read_mark(map, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "");
	chunkmap_close(map);
}
END_TEST

START_TEST(the_mark_block_is_allocated_at_creation)
{
	struct chunkmap_params params = params_of(1000);
	int fd;

	ck_assert_int_eq(chunkmap_create(dirfd_, "map", &params), 0);
	fd = openat(dirfd_, "map", O_RDONLY);
	ck_assert_int_eq(lseek(fd, 4096, SEEK_DATA), 4096);
	close(fd);
}
END_TEST

/* The model: a byte a chunk. */
struct model {
	uint64_t n;
	uint8_t *bits;
	uint64_t n_set;
};

static void model_set(struct model *m, uint64_t chunk, uint64_t n)
{
	for (; n > 0; chunk++, n--) {
		m->n_set += !m->bits[chunk];
		m->bits[chunk] = 1;
	}
}

static uint64_t model_run(const struct model *m, uint64_t chunk, uint64_t max)
{
	uint64_t n = 1;

	while (n < max && chunk + n < m->n && m->bits[chunk + n] == m->bits[chunk])
		n++;
	return n;
}

static void compare_all(struct chunkmap *map, const struct model *m)
{
	uint64_t chunk, n;
	bool set;

	ck_assert_uint_eq(chunkmap_n_set(map), m->n_set);
	for (chunk = 0; chunk < m->n; chunk += n) {
		n = run_of(map, chunk, UINT64_MAX, &set);
		ck_assert_uint_gt(n, 0);
		ck_assert_uint_le(n, model_run(m, chunk, UINT64_MAX));
		ck_assert_int_eq(set, m->bits[chunk]);
	}
}

static uint64_t pick(unsigned *seed, uint64_t below)
{
	return ((uint64_t)rand_r(seed) << 31 | (unsigned)rand_r(seed)) % below;
}

static void model_step(struct chunkmap *map, struct model *m, unsigned *seed)
{
	static const uint64_t lengths[] = {
		1, 7, 64, 1000, PAGE_CHUNKS, 3 * PAGE_CHUNKS
	};
	uint64_t chunk = pick(seed, m->n);
	uint64_t n = 1 + pick(seed, lengths[pick(seed, 6)]);
	bool set;

	if (n > m->n - chunk)
		n = m->n - chunk;
	switch (pick(seed, 3)) {
	case 0:
		/* Large runs are rare, or the map is full soon. */
		if (n > 1000 && pick(seed, 20))
			n = 10;
		if (pick(seed, 10) == 0) {
			chunk -= chunk % PAGE_CHUNKS;
			n = n < m->n - chunk ? n : m->n - chunk;
		}
		set_bits(map, chunk, n);
		model_set(m, chunk, n);
		break;
	case 1:
		ck_assert_int_eq(test_bit(map, chunk), m->bits[chunk]);
		break;
	case 2:
		ck_assert_int_ge(run_of(map, chunk, n, &set), 1);
		ck_assert_int_eq(set, m->bits[chunk]);
		ck_assert_int_eq(chunkmap_load(map, chunk, n), 0);
		ck_assert_uint_eq(run_of(map, chunk, n, &set), model_run(m, chunk, n));
		break;
	}
}

START_TEST(random_calls_match_a_plain_array)
{
	unsigned seed = _i + 1, round, step;
	struct model m = { .n = 8 * PAGE_CHUNKS + 77 };
	struct chunkmap_params params = params_of(m.n);
	struct chunkmap *map = make(&params);

	m.bits = calloc(m.n, 1);
	for (round = 0; round < 12; round++) {
		for (step = 0; step < 150; step++)
			model_step(map, &m, &seed);
		ck_assert_uint_eq(chunkmap_n_set(map), m.n_set);
		ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, NULL), 0);
		chunkmap_close(map);
		map = open_file("map", &params);
		compare_all(map, &m);
	}
	set_bits(map, 0, m.n);
	ck_assert_uint_eq(chunkmap_n_set(map), m.n);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, NULL), 0);
	chunkmap_close(map);
	map = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(map), m.n);
	chunkmap_close(map);
	free(m.bits);
}
END_TEST

/* Sets bits and ends in the middle of a checkpoint. */
static int sync_and_die(void *opaque)
{
	_exit(17);
}

static int sync_more_and_die(void *opaque)
{
	set_bits(opaque, 500, 20);
	_exit(17);
}

static void kill_in_checkpoint(const struct chunkmap_params *params,
			       int (*sync_data)(void *opaque))
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct chunkmap *map = open_file("map", params);

		set_bits(map, 0, 10);
		if (chunkmap_checkpoint(map, sync_nothing, NULL) < 0)
			_exit(1);
		set_bits(map, 10, 10);
		set_bits(map, PAGE_CHUNKS, PAGE_CHUNKS);
		chunkmap_checkpoint(map, sync_data, map);
		_exit(2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 17);
}

START_TEST(a_kill_in_a_checkpoint_leaves_only_bits_of_synced_data)
{
	struct chunkmap_params params = params_of(3 * PAGE_CHUNKS);
	struct chunkmap *map = make(&params);
	bool set;

	chunkmap_close(map);
	kill_in_checkpoint(&params, _i ? sync_more_and_die : sync_and_die);
	map = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(map), 10);
	ck_assert_int_eq(run_of(map, 0, 100, &set), 10);
	ck_assert(set);
	chunkmap_close(map);
}
END_TEST

static int sync_then_fail_writes(void *opaque)
{
	return 0;
}

START_TEST(a_failed_write_is_repeated_by_the_next_checkpoint)
{
	struct chunkmap_params params = params_of(3 * PAGE_CHUNKS);
	pid_t pid;
	int status;
	struct chunkmap *map = make(&params);

	chunkmap_close(map);
	pid = fork();
	if (pid == 0) {
		/* A descriptor that cannot be written: the map's own, which is the
		 * lowest free one, is exchanged for a read-only one. */
		int fd = dup(0), r1, r2, saved, bad;

		close(fd);
		map = open_file("map", &params);
		saved = dup(fd);
		set_bits(map, 0, 10);
		bad = openat(dirfd_, "map", O_RDONLY);
		dup2(bad, fd);
		r1 = chunkmap_checkpoint(map, sync_then_fail_writes, NULL);
		dup2(saved, fd);
		r2 = chunkmap_checkpoint(map, sync_nothing, NULL);
		chunkmap_close(map);
		_exit(r1 == -EBADF && r2 == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	map = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(map), 10);
	chunkmap_close(map);
}
END_TEST

static long resident_kib(void)
{
	long size, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%ld %ld", &size, &pages), 2);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

START_TEST(a_map_of_64_tib_is_cheap)
{
	struct chunkmap_params params = {
		.id = 1, .generation = 1, .size = 64 * TIB, .chunk_size = 65536
	};
	uint64_t start = timefmt_monotonic_ns(), n, at;
	long before = resident_kib();
	struct chunkmap *map = make(&params);
	struct stat st;
	bool set;

	n = chunkmap_n_chunks(map);
	ck_assert_uint_eq(n, UINT64_C(1) << 30);
	set_bits(map, 100, n - 200);
	ck_assert_uint_eq(chunkmap_n_set(map), n - 200);
	for (at = 100; at < n - 100; at += run_of(map, at, n, &set))
		ck_assert_int_eq(test_bit(map, at), 1);
	chunkmap_close(map);
	ck_assert_int_eq(fstatat(dirfd_, "map", &st, 0), 0);
	ck_assert_int_eq(st.st_size, PAGES_OFFSET + (128 << 20));
	ck_assert_int_lt(st.st_blocks, 2048);
	/* Far apart: every page is mixed. */
	map = open_file("map", &params);
	for (at = 0; at < n; at += 64 * PAGE_CHUNKS)
		set_bits(map, at, 1);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, NULL), 0);
	chunkmap_close(map);
	map = open_file("map", &params);
	ck_assert_uint_eq(chunkmap_n_set(map), n / 64 / PAGE_CHUNKS);
	chunkmap_close(map);
#ifdef LUNFS_SANITIZERS
	return;
#endif
	if (getenv("LUNFS_TEST_SLOW"))
		return;
	ck_assert_int_lt(resident_kib() - before, 8 << 10);
	ck_assert_uint_lt(timefmt_monotonic_ns() - start, UINT64_C(10000000000));
}
END_TEST

/* How many of the pages answer without a load. */
static unsigned n_present(struct chunkmap *map)
{
	uint64_t chunk;
	unsigned n = 0;

	for (chunk = 0; chunk < chunkmap_n_chunks(map); chunk += PAGE_CHUNKS)
		n += chunkmap_test(map, chunk) >= 0;
	return n;
}

START_TEST(clean_pages_of_all_maps_are_bounded_and_dirty_ones_stay)
{
	enum { N = 2000 };
	struct chunkmap_params params = params_of((uint64_t)N * PAGE_CHUNKS);
	struct chunkmap *map = make(&params), *second;
	uint64_t i;

	ck_assert_int_eq(chunkmap_create(dirfd_, "map2", &params), 0);
	second = open_file("map2", &params);
	for (i = 0; i < N; i++) {
		set_bits(map, i * PAGE_CHUNKS + i, 1);
		set_bits(second, i * PAGE_CHUNKS + i, 1);
	}
	/* 4000 dirty ones: all there. */
	ck_assert_uint_eq(n_present(map), N);
	ck_assert_uint_eq(n_present(second), N);
	ck_assert_int_eq(chunkmap_checkpoint(map, sync_nothing, NULL), 0);
	ck_assert_uint_eq(n_present(second), N);
	ck_assert_uint_le(n_present(map), CHUNKMAP_RESIDENT_PAGES / 8);
	ck_assert_int_eq(chunkmap_checkpoint(second, sync_nothing, NULL), 0);
	ck_assert_uint_le(n_present(map) + n_present(second), CHUNKMAP_RESIDENT_PAGES);
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(test_bit(map, i * PAGE_CHUNKS + i), 1);
		ck_assert_int_eq(
			test_bit(second, i * PAGE_CHUNKS + (i + 1) % PAGE_CHUNKS), 0);
	}
	ck_assert_uint_le(n_present(map) + n_present(second), CHUNKMAP_RESIDENT_PAGES);
	ck_assert_uint_ge(n_present(map) + n_present(second),
			  CHUNKMAP_RESIDENT_PAGES * 3 / 4);
	chunkmap_close(map);
	chunkmap_close(second);
}
END_TEST

/* Threads on two maps: setters, a reader, a checkpointer each. */
struct player {
	struct chunkmap *map;
	unsigned seed;
	uint64_t base; /* it sets chunk base + k * 4 */
	bool checkpoints;
	unsigned steps;
};

static void *play(void *opaque)
{
	struct player *p = opaque;
	uint64_t n = chunkmap_n_chunks(p->map);

	while (p->steps-- > 0) {
		uint64_t chunk = pick(&p->seed, n / 4) * 4 + p->base;

		if (p->checkpoints) {
			ck_assert_int_eq(chunkmap_checkpoint(p->map, sync_nothing, NULL),
					 0);
			continue;
		}
		set_bits(p->map, chunk, 1);
		ck_assert_int_eq(test_bit(p->map, chunk), 1);
		/* Nobody sets this one. */
		ck_assert_int_eq(test_bit(p->map, chunk / 4 * 4 + 3), 0);
	}
	return NULL;
}

START_TEST(threads_set_load_and_checkpoint_together)
{
	enum { PAGES = 1500, N = 8 };
	struct chunkmap_params params = params_of((uint64_t)PAGES * PAGE_CHUNKS);
	struct chunkmap *maps[2];
	struct player players[N];
	pthread_t threads[N];
	uint64_t n_set[2];
	unsigned i;

	maps[0] = make(&params);
	ck_assert_int_eq(chunkmap_create(dirfd_, "map2", &params), 0);
	maps[1] = open_file("map2", &params);
	for (i = 0; i < N; i++) {
		players[i] = (struct player){ .map = maps[i % 2],
					      .seed = i + 1,
					      .base = i / 2,
					      .checkpoints = i / 2 == 3,
					      .steps = i / 2 == 3 ? 20 : 4000 };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, play, &players[i]), 0);
	}
	for (i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < 2; i++) {
		n_set[i] = chunkmap_n_set(maps[i]);
		ck_assert_int_eq(chunkmap_checkpoint(maps[i], sync_nothing, NULL), 0);
		chunkmap_close(maps[i]);
		maps[i] = open_file(i ? "map2" : "map", &params);
		ck_assert_uint_eq(chunkmap_n_set(maps[i]), n_set[i]);
		chunkmap_close(maps[i]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("chunkmap");
	TCase *tc = tcase_create("chunkmap");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 300);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_new_map_is_empty_and_sparse);
	tcase_add_test(tc, params_are_checked);
	tcase_add_test(tc, a_map_of_no_data_is_full_and_empty);
	tcase_add_test(tc, another_id_or_generation_is_stale);
	tcase_add_test(tc, damage_and_another_geometry_are_unclean);
	tcase_add_test(tc, bits_are_volatile_until_a_checkpoint);
	tcase_add_test(tc, a_failed_sync_leaves_the_bits_volatile);
	tcase_add_test(tc, bits_set_during_a_checkpoint_wait_for_the_next);
	tcase_add_test(tc, what_needs_an_absent_page_asks_for_a_load);
	tcase_add_test(tc, a_full_map_needs_no_file);
	tcase_add_test(tc, the_mark_lasts_and_can_be_taken_back);
	tcase_add_test(tc, the_mark_block_is_allocated_at_creation);
	tcase_add_loop_test(tc, random_calls_match_a_plain_array, 0, 4);
	tcase_add_loop_test(tc, a_kill_in_a_checkpoint_leaves_only_bits_of_synced_data, 0,
			    2);
	tcase_add_test(tc, a_failed_write_is_repeated_by_the_next_checkpoint);
	tcase_add_test(tc, a_map_of_64_tib_is_cheap);
	tcase_add_test(tc, clean_pages_of_all_maps_are_bounded_and_dirty_ones_stay);
	tcase_add_test(tc, threads_set_load_and_checkpoint_together);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
