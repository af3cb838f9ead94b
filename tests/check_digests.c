/* SPDX-License-Identifier: BSD-2-Clause */

/* The file of digests: what it keeps, and what it does not believe. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/digests.h"
#include "tests/unit.h"

static char dir[] = "/tmp/check_digests.XXXXXX";
static int dirfd_;
static const struct digests_params params = { 7, 3, 100 * 65536 + 512, 65536 };
enum { N = 101 };

static struct digests *d;

static void open_again(void)
{
	digests_unref(d);
	ck_assert_int_eq(digests_open(dirfd_, "f", &params, &d), 0);
}

static void setup(void)
{
	strcpy(dir, "/tmp/check_digests.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY);
	ck_assert_int_eq(digests_create(dirfd_, "f", &params), 0);
	ck_assert_int_eq(digests_create(dirfd_, "f", &params), -EEXIST);
	d = NULL;
	open_again();
}

static void teardown(void)
{
	digests_unref(d);
	ck_assert_int_eq(unlinkat(dirfd_, "f", 0), 0);
	close(dirfd_);
	ck_assert_int_eq(rmdir(dir), 0);
}

static struct digest made_of(unsigned i)
{
	struct digest digest;

	digest_make(&i, sizeof(i), &digest);
	return digest;
}

static void note(uint64_t chunk, unsigned n)
{
	struct digest list[N];

	for (unsigned i = 0; i < n; i++)
		list[i] = made_of((unsigned)chunk + i);
	digests_note(d, chunk, n, list);
}

/* The number that are known, and right. */
static unsigned n_known(void)
{
	struct digest list[N];
	unsigned n = 0;

	digests_get(d, 0, N, list);
	for (unsigned i = 0; i < N; i++) {
		struct digest right = made_of(i);

		if (!digest_is_known(&list[i]))
			continue;
		ck_assert(digest_is_same(&list[i], &right));
		n++;
	}
	return n;
}

START_TEST(a_digest_is_xxh3_of_128_bits)
{
	/* As xxhsum -H2 prints it. */
	static const unsigned char of_nothing[16] = { 0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47,
						      0x98, 0xd8, 0x60, 0x01, 0xc3, 0x24,
						      0x46, 0x8d, 0x49, 0x7f };
	static char buf[65536 + 64];
	struct digest digest, other;

	digest_make(NULL, 0, &digest);
	ck_assert_mem_eq(digest.bytes, of_nothing, 16);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * i / 7);
	digest_make(buf, 65536, &digest);
	memmove(buf + 3, buf, 65536);
	digest_make(buf + 3, 65536, &other);
	ck_assert(digest_is_same(&digest, &other));
	buf[40000] ^= 1;
	digest_make(buf + 3, 65536, &other);
	ck_assert(!digest_is_same(&digest, &other));
}
END_TEST

START_TEST(what_was_noted_is_kept_once_it_is_written)
{
	struct digests_batch *batch;

	setup();
	note(0, N);
	batch = digests_take(d);
	note(5, 1);
	ck_assert_uint_eq(n_known(), 0);
	digests_write(d, batch);
	ck_assert_uint_eq(n_known(), N);
	open_again();
	ck_assert_uint_eq(n_known(), N);
	ck_assert_ptr_null(digests_take(d));
	digests_write(d, NULL);
	teardown();
}
END_TEST

START_TEST(void_regions_are_not_believed_for_ever)
{
	setup();
	note(0, N);
	digests_write(d, digests_take(d));
	ck_assert(!digests_is_void(d, 40, 1));
	digests_want_void(d, 40, 1);
	ck_assert(!digests_is_void(d, 40, 1));
	ck_assert_int_eq(digests_void(d), 0);
	ck_assert(digests_is_void(d, 32, 16));
	ck_assert(!digests_is_void(d, 31, 2));
	ck_assert_uint_eq(n_known(), N - 16);
	note(32, 16);
	digests_write(d, digests_take(d));
	open_again();
	ck_assert(digests_is_void(d, 32, 16));
	ck_assert_uint_eq(n_known(), N - 16);
	/* The last, which is no whole one. */
	digests_want_void(d, 100, 50);
	ck_assert_int_eq(digests_void(d), 0);
	ck_assert_int_eq(digests_void(d), 0);
	ck_assert_uint_eq(n_known(), N - 16 - 5);
	teardown();
}
END_TEST

START_TEST(who_writes_on_and_on_finds_void_regions)
{
	unsigned n = 0;

	setup();
	for (unsigned c = 0; c < N; c++) {
		if (digests_is_void(d, c, 1))
			continue;
		digests_want_void(d, c, 1);
		ck_assert_int_eq(digests_void(d), 0);
		n++;
	}
	ck_assert_uint_eq(n, 5);
	teardown();
}
END_TEST

START_TEST(the_seal_and_the_base_are_kept)
{
	setup();
	ck_assert(!digests_is_sealed(d, 0));
	ck_assert_uint_eq(digests_base(d), 0);
	digests_seal(d, 1000);
	digests_seal(d, 999); /* by one who was late */
	digests_set_base(d, 2);
	digests_set_skipped(d, 77);
	open_again();
	ck_assert(digests_is_sealed(d, 1000));
	ck_assert(!digests_is_sealed(d, 999));
	ck_assert_uint_eq(digests_base(d), 2);
	ck_assert_uint_eq(digests_skipped(d), 77);
	note(0, N);
	digests_write(d, digests_take(d));
	digests_distrust(d);
	ck_assert(!digests_is_sealed(d, 1000));
	ck_assert_uint_eq(n_known(), 0);
	digests_seal(d, 2000);
	teardown();
}
END_TEST

START_TEST(what_is_distrusted_stays_so)
{
	setup();
	digests_seal(d, 1000);
	note(0, N);
	digests_write(d, digests_take(d));
	digests_distrust(d);
	/* What changes is void all the same. */
	ck_assert(!digests_is_void(d, 0, 1));
	digests_want_void(d, 0, 1);
	ck_assert_int_eq(digests_void(d), 0);
	ck_assert(digests_is_void(d, 0, 1));
	ck_assert(!digests_is_void(d, 0, N));
	open_again();
	ck_assert(digests_is_distrusted(d));
	ck_assert(!digests_is_sealed(d, 1000));
	ck_assert_uint_eq(n_known(), 0);
	ck_assert(digests_is_void(d, 0, 1));
	digests_abandon(d);
	ck_assert(digests_is_void(d, 0, N));
	teardown();
}
END_TEST

static void damage(off_t offset)
{
	int fd = openat(dirfd_, "f", O_RDWR);
	char c;

	ck_assert_int_eq(pread(fd, &c, 1, offset), 1);
	c ^= 1;
	ck_assert_int_eq(pwrite(fd, &c, 1, offset), 1);
	close(fd);
}

START_TEST(another_file_is_refused)
{
	struct digests_params other = params;
	struct digests *none;

	setup();
	other.generation = 4;
	ck_assert_int_eq(digests_open(dirfd_, "f", &other, &none), -ESTALE);
	other = params;
	other.size += 65536;
	ck_assert_int_eq(digests_open(dirfd_, "f", &other, &none), -EUCLEAN);
	ck_assert_int_eq(digests_open(dirfd_, "none", &params, &none), -ENOENT);
	/* Half of a state is none. */
	digests_seal(d, 1000);
	digests_set_base(d, 2);
	damage(512 + 9);
	open_again();
	ck_assert(!digests_is_sealed(d, 1000));
	ck_assert_uint_eq(digests_base(d), 0);
	damage(20);
	ck_assert_int_eq(digests_open(dirfd_, "f", &params, &none), -EUCLEAN);
	teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_digest_is_xxh3_of_128_bits,
		what_was_noted_is_kept_once_it_is_written,
		void_regions_are_not_believed_for_ever,
		who_writes_on_and_on_finds_void_regions,
		the_seal_and_the_base_are_kept,
		what_is_distrusted_stays_so,
		another_file_is_refused,
	};

	return unit_main("digests", tests, ROWS(tests));
}
