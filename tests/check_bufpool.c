/* SPDX-License-Identifier: BSD-2-Clause */

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "conf/cleanup.h"
#include "engine/bufpool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct bufpool *pool_of(uint64_t limit)
{
	struct bufpool *pool = NULL;

	ck_assert_int_eq(bufpool_new(limit, &pool), 0);
	return pool;
}

START_TEST(refuses_a_limit_without_room_for_a_copy)
{
	struct bufpool *pool;

	ck_assert_int_eq(bufpool_new(MIB, &pool), -EINVAL);
	bufpool_free(NULL);
}
END_TEST

START_TEST(buffers_are_aligned_and_their_own)
{
	static const size_t sizes[] = {
		1, 4096, 64 * KIB, 64 * KIB + 1, 256 * KIB, 300 * KIB, BUFPOOL_MAX_BUFFER
	};
	struct bufpool *pool = pool_of(8 * MIB);
	uint8_t *buf[7];
	size_t i, j;

	for (i = 0; i < 7; i++) {
		buf[i] = bufpool_get(pool, BUFPOOL_REQUEST, sizes[i]);
		ck_assert_ptr_nonnull(buf[i]);
		ck_assert_uint_eq((uintptr_t)buf[i] % 4096, 0);
		memset(buf[i], (int)i + 1, sizes[i]);
	}
	for (i = 0; i < 7; i++) {
		for (j = 0; j < sizes[i]; j++)
			ck_assert_uint_eq(buf[i][j], i + 1);
		bufpool_put(pool, BUFPOOL_REQUEST, buf[i], sizes[i]);
	}
	ck_assert_uint_eq(bufpool_used(pool), 0);
	ck_assert_uint_ge(bufpool_peak(pool), 2 * MIB);
	bufpool_free(pool);
}
END_TEST

START_TEST(the_limit_holds_for_each_size)
{
	static const size_t sizes[] = { 64 * KIB, 256 * KIB, MIB };
	const uint64_t limit = 5 * MIB + 320 * KIB;
	size_t s, n;

	for (s = 0; s < 3; s++) {
		struct bufpool *pool = pool_of(limit);
		void *buf[100];

		for (n = 0; (buf[n] = bufpool_get(pool, BUFPOOL_REQUEST, sizes[s])); n++)
			memset(buf[n], 1, sizes[s]);
		ck_assert_uint_eq(n, limit / sizes[s]);
		ck_assert_uint_eq(bufpool_used(pool), n * sizes[s]);
		while (n-- > 0)
			bufpool_put(pool, BUFPOOL_REQUEST, buf[n], sizes[s]);
		bufpool_free(pool);
	}
}
END_TEST

START_TEST(copiers_get_three_quarters)
{
	struct bufpool *pool = pool_of(8 * MIB);
	void *copy[32], *request[32];
	size_t n, m;

	for (n = 0; (copy[n] = bufpool_get(pool, BUFPOOL_COPY, 256 * KIB)); n++)
		;
	ck_assert_uint_eq(n, 24);
	for (m = 0; (request[m] = bufpool_get(pool, BUFPOOL_REQUEST, 256 * KIB)); m++)
		;
	ck_assert_uint_eq(m, 8);
	while (n-- > 0)
		bufpool_put(pool, BUFPOOL_COPY, copy[n], 256 * KIB);
	while (m-- > 0)
		bufpool_put(pool, BUFPOOL_REQUEST, request[m], 256 * KIB);
	bufpool_free(pool);
}
END_TEST

START_TEST(small_buffers_leave_whole_blocks_free)
{
	struct bufpool *pool = pool_of(4 * MIB);
	void *small[32], *large[2];
	size_t i;

	for (i = 0; i < 32; i++)
		ck_assert_ptr_nonnull(
			small[i] = bufpool_get(pool, BUFPOOL_REQUEST, 4 * KIB));
	for (i = 0; i < 2; i++)
		ck_assert_ptr_nonnull(large[i] = bufpool_get(pool, BUFPOOL_REQUEST, MIB));
	ck_assert_ptr_null(bufpool_get(pool, BUFPOOL_REQUEST, 1));
	for (i = 0; i < 32; i++)
		bufpool_put(pool, BUFPOOL_REQUEST, small[i], 4 * KIB);
	for (i = 0; i < 2; i++)
		bufpool_put(pool, BUFPOOL_REQUEST, large[i], MIB);
	bufpool_free(pool);
}
END_TEST

START_TEST(the_steady_state_faults_no_page)
{
	struct bufpool *pool = pool_of(16 * MIB);
	struct rusage before, after;
	size_t i, j;

	for (i = 0; i < 200; i++) {
		void *buf[8];

		if (i == 100)
			getrusage(RUSAGE_SELF, &before);
		for (j = 0; j < 8; j++) {
			buf[j] = bufpool_get(pool, BUFPOOL_COPY,
					     (64 * KIB) << (j % 3) * 2);
			memset(buf[j], (int)i, (64 * KIB) << (j % 3) * 2);
		}
		for (j = 0; j < 8; j++)
			bufpool_put(pool, BUFPOOL_COPY, buf[j],
				    (64 * KIB) << (j % 3) * 2);
	}
	getrusage(RUSAGE_SELF, &after);
	/* 100 rounds touch 300 MiB, which are 78,000 pages. */
	if (!getenv("LUNFS_TEST_SLOW"))
		ck_assert_int_lt(after.ru_minflt - before.ru_minflt, 5000);
	bufpool_free(pool);
}
END_TEST

/* A waiter that takes its buffer and writes down when. */
struct taker {
	struct bufpool_waiter waiter;
	struct bufpool *pool;
	void *buf;
	unsigned *next_order;
	unsigned order;
};

static void taker_called(struct bufpool_waiter *waiter)
{
	struct taker *taker = (struct taker *)waiter;

	taker->buf = bufpool_get(taker->pool, waiter->class, waiter->size);
	taker->order = ++*taker->next_order;
}

static void taker_init(struct taker *taker, struct bufpool *pool,
		       enum bufpool_class class, size_t size, unsigned *next_order)
{
	*taker = (struct taker){
		.waiter = { .fn = taker_called, .class = class, .size = size },
		.pool = pool,
		.next_order = next_order
	};
}

START_TEST(requests_are_woken_before_copies_each_in_order)
{
	struct bufpool *pool = pool_of(4 * MIB);
	struct taker takers[4];
	unsigned order = 0;
	void *buf[4];
	size_t i;

	for (i = 0; i < 4; i++)
		buf[i] = bufpool_get(pool, i ? BUFPOOL_COPY : BUFPOOL_REQUEST, MIB);
	taker_init(&takers[0], pool, BUFPOOL_COPY, MIB, &order);
	taker_init(&takers[1], pool, BUFPOOL_REQUEST, MIB, &order);
	taker_init(&takers[2], pool, BUFPOOL_COPY, MIB, &order);
	taker_init(&takers[3], pool, BUFPOOL_REQUEST, MIB, &order);
	for (i = 0; i < 4; i++) {
		bufpool_wait(pool, &takers[i].waiter);
		bufpool_wait(pool, &takers[i].waiter);
	}
	for (i = 0; i < 4; i++)
		bufpool_put(pool, i ? BUFPOOL_COPY : BUFPOOL_REQUEST, buf[i], MIB);
	ck_assert_uint_eq(takers[1].order, 1);
	ck_assert_uint_eq(takers[3].order, 2);
	ck_assert_uint_eq(takers[0].order, 3);
	ck_assert_uint_eq(takers[2].order, 4);
	for (i = 0; i < 4; i++) {
		ck_assert_ptr_nonnull(takers[i].buf);
		bufpool_put(pool, takers[i].waiter.class, takers[i].buf, MIB);
	}
	bufpool_free(pool);
}
END_TEST

START_TEST(nobody_overtakes_a_waiter)
{
	struct bufpool *pool = pool_of(2 * MIB);
	void *small = bufpool_get(pool, BUFPOOL_REQUEST, 64 * KIB);
	void *large = bufpool_get(pool, BUFPOOL_REQUEST, MIB);
	struct taker taker;
	unsigned order = 0;

	taker_init(&taker, pool, BUFPOOL_REQUEST, MIB, &order);
	bufpool_wait(pool, &taker.waiter);
	ck_assert_ptr_null(bufpool_get(pool, BUFPOOL_REQUEST, 64 * KIB));
	ck_assert_ptr_null(bufpool_get(pool, BUFPOOL_COPY, 64 * KIB));
	bufpool_put(pool, BUFPOOL_REQUEST, large, MIB);
	ck_assert_ptr_nonnull(taker.buf);
	bufpool_put(pool, BUFPOOL_REQUEST, small, 64 * KIB);
	bufpool_put(pool, BUFPOOL_REQUEST, taker.buf, MIB);
	bufpool_free(pool);
}
END_TEST

START_TEST(memory_that_is_back_calls_from_within_wait)
{
	struct bufpool *pool = pool_of(2 * MIB);
	struct taker taker;
	unsigned order = 0;

	taker_init(&taker, pool, BUFPOOL_COPY, MIB, &order);
	bufpool_wait(pool, &taker.waiter);
	ck_assert_ptr_nonnull(taker.buf);
	bufpool_put(pool, BUFPOOL_COPY, taker.buf, MIB);
	bufpool_free(pool);
}
END_TEST

START_TEST(a_cancelled_waiter_is_not_called_and_lets_the_next_go)
{
	struct bufpool *pool = pool_of(2 * MIB);
	void *large = bufpool_get(pool, BUFPOOL_REQUEST, MIB);
	void *small = bufpool_get(pool, BUFPOOL_REQUEST, 64 * KIB);
	struct taker first, second;
	unsigned order = 0;

	taker_init(&first, pool, BUFPOOL_REQUEST, MIB, &order);
	taker_init(&second, pool, BUFPOOL_REQUEST, 64 * KIB, &order);
	bufpool_wait(pool, &first.waiter);
	bufpool_wait(pool, &second.waiter);
	ck_assert_uint_eq(order, 0);
	bufpool_cancel(pool, &first.waiter);
	bufpool_cancel(pool, &first.waiter);
	ck_assert_uint_eq(first.order, 0);
	ck_assert_ptr_nonnull(second.buf);
	bufpool_put(pool, BUFPOOL_REQUEST, large, MIB);
	bufpool_put(pool, BUFPOOL_REQUEST, small, 64 * KIB);
	bufpool_put(pool, BUFPOOL_REQUEST, second.buf, 64 * KIB);
	bufpool_free(pool);
}
END_TEST

/* Threads that get and put at random, waiting when there is nothing. */
struct churner {
	struct bufpool_waiter waiter;
	struct bufpool *pool;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	void *buf;
	bool called;
	unsigned seed;
	unsigned rounds;
	bool starved;
};

static void churner_called(struct bufpool_waiter *waiter)
{
	struct churner *c = (struct churner *)waiter;
	void *buf = bufpool_get(c->pool, waiter->class, waiter->size);

	if (!buf) {
		bufpool_wait(c->pool, waiter);
		return;
	}

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	c->buf = buf;
	c->called = true;
	pthread_cond_signal(&c->changed);
}

static void churner_wait(struct churner *c)
{
	struct timespec deadline;

	bufpool_wait(c->pool, &c->waiter);
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 60;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);

	while (!c->called && !c->starved) {
		if (pthread_cond_timedwait(&c->changed, &c->lock, &deadline))
			c->starved = true;
	}
	c->called = false;
}

static void churn_once(struct churner *c)
{
	static const size_t sizes[] = { 4096, 64 << 10, 200 << 10, 1 << 20 };

	c->waiter.size = sizes[rand_r(&c->seed) % 4];
	c->waiter.class = rand_r(&c->seed) % 2 ? BUFPOOL_COPY : BUFPOOL_REQUEST;
	c->buf = bufpool_get(c->pool, c->waiter.class, c->waiter.size);
	if (!c->buf && rand_r(&c->seed) % 4 == 0) {
		/* One that gives up; it may have got its buffer all the same. */
		bufpool_wait(c->pool, &c->waiter);
		bufpool_cancel(c->pool, &c->waiter);
		c->called = false;
	} else if (!c->buf) {
		churner_wait(c);
	}
	if (!c->buf)
		return;
	memset(c->buf, (int)c->seed, c->waiter.size);
	bufpool_put(c->pool, c->waiter.class, c->buf, c->waiter.size);
	c->buf = NULL;
}

static void *churn(void *opaque)
{
	struct churner *c = opaque;

	while (c->rounds-- > 0 && !c->starved)
		churn_once(c);
	return NULL;
}

START_TEST(threads_share_a_small_pool_and_none_starves)
{
	enum { N = 6 };
	struct bufpool *pool = pool_of(2 * MIB + 64 * KIB);
	struct churner churners[N];
	pthread_t threads[N];
	size_t i;

	for (i = 0; i < N; i++) {
		churners[i] = (struct churner){
			.waiter = { .fn = churner_called },
			.pool = pool,
			.lock = PTHREAD_MUTEX_INITIALIZER,
			.changed = PTHREAD_COND_INITIALIZER,
			.seed = i + 1,
			.rounds = 3000,
		};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, &churners[i]),
				 0);
	}
	for (i = 0; i < N; i++) {
		pthread_join(threads[i], NULL);
		ck_assert(!churners[i].starved);
	}
	ck_assert_uint_eq(bufpool_used(pool), 0);
	ck_assert_uint_le(bufpool_peak(pool), 2 * MIB + 64 * KIB);
	bufpool_free(pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bufpool");
	TCase *tc = tcase_create("bufpool");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, refuses_a_limit_without_room_for_a_copy);
	tcase_add_test(tc, buffers_are_aligned_and_their_own);
	tcase_add_test(tc, the_limit_holds_for_each_size);
	tcase_add_test(tc, copiers_get_three_quarters);
	tcase_add_test(tc, small_buffers_leave_whole_blocks_free);
	tcase_add_test(tc, the_steady_state_faults_no_page);
	tcase_add_test(tc, requests_are_woken_before_copies_each_in_order);
	tcase_add_test(tc, nobody_overtakes_a_waiter);
	tcase_add_test(tc, memory_that_is_back_calls_from_within_wait);
	tcase_add_test(tc, a_cancelled_waiter_is_not_called_and_lets_the_next_go);
	tcase_add_test(tc, threads_share_a_small_pool_and_none_starves);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
